"""A provider's tax invoice on its statement's page: handed in, where it differs, matched, paid; the file comes back."""

from uuid import uuid4

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from billing.models import Payout, SupplierInvoice
from core import clock
from core.templatetags.ciyuan import yuan
from tests.billing.test_payouts import Cast
from tests.given import NOW, given_organization, given_user

pytestmark = pytest.mark.django_db
EN = {"Accept-Language": "en"}
XML = b'<?xml version="1.0"?><invoice/>'


@pytest.fixture
def cast(monkeypatch):
    monkeypatch.setattr(clock, "now", lambda: NOW)
    return Cast()


def given_fields(cast, **changes):
    row = cast.statement
    return {
        "key": str(uuid4()), "number": "2544 2000 0000 1234 5678", "issued_on": "2026-11-20", "seller_name": "北京算力",
        "seller_tax_number": "91110000MA000000X1", "buyer_name": "词元交易所", "buyer_tax_number": "91X",
        "total": f"{row.total_micro / 1e6:,.2f}", "tax": f"{row.tax_micro / 1e6:.2f}",
        "document": SimpleUploadedFile("fapiao.xml", XML), **changes,
    }  # fmt: skip


def page(client, cast, headers=EN):
    answer = client.get(f"/statements/{cast.statement.pk}", headers=headers)
    assert answer.status_code == 200
    return answer.content.decode()


def test_a_provider_hands_in_its_tax_invoice_and_sees_when_it_is_paid(client, cast):
    client.force_login(given_user(cast.provider, role="billing"))
    path = f"/statements/{cast.statement.pk}/tax-invoice"
    assert "Waits for your tax invoice" in page(client, cast) and 'value="北京算力"' in page(client, cast)
    assert f"<small>Due</small><strong>{yuan(cast.statement.total_micro)}</strong>" in page(client, cast)
    differs = client.post(path, given_fields(cast, tax="1.00"), headers=EN)
    assert differs.status_code == 302
    shown = page(client, cast)
    assert "Tax, ¥: 1.00" in shown and "the statement says" in shown and "Waits for your tax invoice" in shown
    fields = given_fields(cast)
    for _ in range(2):
        fields["document"] = SimpleUploadedFile("fapiao.xml", XML)
        assert client.post(path, fields, headers=EN).status_code == 302
    assert SupplierInvoice.objects.filter(differences=[]).count() == 1
    shown = page(client, cast)
    assert "Ready to be paid" in shown and "matches" in shown and "Upload a tax invoice" not in shown
    file = client.get(f"/statements/{cast.statement.pk}/tax-invoices/{SupplierInvoice.objects.latest('pk').pk}")
    assert file.content == XML and file["Content-Type"] == "application/xml"
    assert file["Content-Disposition"] == 'attachment; filename="25442000000012345678.xml"'
    cast.account()
    assert client.post("/payouts/request", {"key": "p"}).status_code == 302
    assert f"by payout {Payout.objects.get()}" in page(client, cast)
    Payout.objects.update(state="paid", ended_at=NOW)
    assert "Paid out" in page(client, cast)
    assert "已付款" in page(client, cast, {"Accept-Language": "zh-hans"})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"number": "123"}, "20 digits"),
        ({"document": SimpleUploadedFile("x.xml", b"PK\x03\x04")}, "neither XML nor PDF"),
        ({"document": SimpleUploadedFile("x.pdf", b"%PDF-" + b"0" * 1_500_000)}, "larger than"),
        ({"document": ""}, "required"),
        ({"total": "0"}, "above zero"),
        ({"issued_on": "yesterday"}, "valid date"),
    ],
)
def test_what_is_wrong_is_told_at_its_field_and_nothing_is_noted(client, cast, changes, sentence):
    client.force_login(given_user(cast.provider))
    answer = client.post(f"/statements/{cast.statement.pk}/tax-invoice", given_fields(cast, **changes), headers=EN)
    assert answer.status_code == 422 and sentence in answer.content.decode()
    assert not SupplierInvoice.objects.exists()


def test_nobody_else_hands_one_in(client, cast):
    path = f"/statements/{cast.statement.pk}/tax-invoice"
    client.force_login(given_user(given_organization("provider")))
    assert client.post(path, given_fields(cast)).status_code == 404
    client.force_login(given_user(cast.provider, role="trader"))
    assert client.post(path, given_fields(cast)).status_code == 403
    assert "Upload a tax invoice" not in page(client, cast)
    client.force_login(given_user(cast.operator))
    assert client.post(path, given_fields(cast)).status_code == 404
    assert "Upload a tax invoice" not in page(client, cast)  # the operator reads it, no more
    assert not SupplierInvoice.objects.exists()
