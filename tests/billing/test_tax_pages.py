"""The page of tax invoices: a title, then a request, once; nothing of anybody else."""

import pytest

from billing.models import InvoiceTitle, TaxInvoice
from tests.billing.test_tax_invoices import CODE, Cast
from tests.given import NOW, given_organization, given_user

pytestmark = pytest.mark.django_db
EN = {"Accept-Language": "en"}


def test_a_clerk_adds_a_title_and_asks_for_a_tax_invoice_once(client):
    cast = Cast()
    client.force_login(given_user(cast.buyer, role="billing"))
    page = client.get("/tax-invoices", headers=EN).content.decode()
    assert cast.invoice.number in page and "No tax invoice yet" in page
    wrong = client.post("/tax-invoices/titles", {"key": "a", "name": "灯笼", "tax_number": "12"}, headers=EN)
    assert wrong.status_code == 422 and "taxpayer" in wrong.content.decode()
    title = {"key": "b", "name": "灯笼", "tax_number": CODE}
    assert [client.post("/tax-invoices/titles", title).status_code for _ in range(2)] == [302, 302]
    own = InvoiceTitle.objects.get()
    theirs = InvoiceTitle.objects.create(organization=given_organization(), name="x", created_at=NOW)
    ask = {"key": "c", "title": own.pk, "kind": "81", "invoices": [cast.invoice.pk]}
    assert client.post("/tax-invoices/request", ask | {"title": theirs.pk, "key": "d"}).status_code == 422
    assert [client.post("/tax-invoices/request", ask).status_code for _ in range(2)] == [302, 302]
    assert TaxInvoice.objects.get().total_micro == 3_000_000_000
    assert "TI0000" in client.get("/tax-invoices").content.decode()
    client.force_login(given_user(cast.buyer, role="viewer"))
    assert client.post("/tax-invoices/request", ask).status_code == 403
    assert client.get("/tax-invoices").status_code == 200
    client.logout()
    assert client.get("/tax-invoices").status_code == 302
