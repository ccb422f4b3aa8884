"""The finance page: work that waits is done there once, by who may; what is wrong is said; nobody else sees it."""

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from billing.models import BankLine, BundleOffer, Dispute, Payout, PeriodClose
from billing.tasks import book_bank_lines
from tests.billing.payments import statement_text
from tests.billing.test_disputes import Cast as Disputing
from tests.billing.test_payouts import Cast as Paying
from tests.given import given_organization, given_user

pytestmark = pytest.mark.django_db
EN = {"Accept-Language": "en"}


def send(client, task, key="k", **fields):
    return client.post("/finance", {"task": task, "key": f"{task}-{key}", **fields}, headers=EN)


def said(client):
    return client.get("/finance", headers=EN).content.decode()


def test_strangers_and_members_have_no_finance_page(client):
    assert client.get("/finance").status_code == 302
    client.force_login(given_user(given_organization("both")))
    assert [client.get(path).status_code for path in ("/finance", "/finance/batch.csv?batch=1")] == [403, 403]
    assert send(client, "batch").status_code == 403


def test_a_bank_statement_is_imported_and_a_line_given_to_its_owner(client):
    buyer = given_organization()
    client.force_login(given_user(given_organization("operator")))
    content = statement_text(("L1", "10", "somebody", "622", "hello"), ("L2", "7", "x", "", "?")).encode()
    for _ in range(2):
        file = SimpleUploadedFile("november.csv", content)
        assert send(client, "statement", file=file).status_code == 302
    assert "2 new lines, 0 known already, 0 rejected." in said(client)
    book_bank_lines()
    line = BankLine.objects.get(reference="L1")
    assert "Back to the payer" in said(client)
    wrong = send(client, "resolve", key="0", line=line.pk, organization=999_999)
    assert wrong.status_code in (404, 422)
    assert send(client, "resolve", line=line.pk, organization=buyer.pk).status_code == 302
    line.booking.refresh_from_db()
    assert (line.booking.state, line.booking.deposit.organization) == ("resolved", buyer)
    bad = send(client, "statement", key="bad", file=SimpleUploadedFile("x.csv", b"no headings"))
    assert bad.status_code == 422 and "field-error" in bad.content.decode()
    assert send(client, "unknown").status_code == 404


def test_a_payout_is_approved_batched_and_answered(client, settings):
    settings.PAYOUT_APPROVAL_ABOVE_MICRO = 0
    cast = Paying().ready()
    cast.theirs.post("/v1/payouts")
    payout = Payout.objects.get()
    for number in range(payout.approvals_needed):
        client.force_login(given_user(cast.operator))
        assert send(client, "approve", key=str(number), payout=payout.pk).status_code == 302
    assert send(client, "batch").status_code == 302
    page = said(client)
    assert "is ready to download" in page and "batch.csv?batch=" in page
    file = client.get(f"/finance/batch.csv?batch={Payout.objects.get().batch_id}")
    assert str(payout) in file.content.decode("utf-8-sig")
    assert client.get("/finance/batch.csv?batch=x").status_code == 404
    late = send(client, "cancel", payout=payout.pk)
    assert late.status_code == 422 and "cannot be cancelled" in late.content.decode()


def test_a_dispute_is_decided_a_bundle_offered_and_a_month_needs_two(client):
    cast = Disputing()
    client.force_login(given_user(cast.operator))
    dispute = Dispute.objects.create(
        line=cast.invoice.lines.first(), invoice=cast.invoice, amount_micro=10_000_000, held_micro=0, reason="late",
        opened_at=cast.invoice.issued_at, opened_by="user:1",
    )  # fmt: skip
    assert "late" in said(client)
    over = send(client, "decide", key="0", dispute=dispute.pk, credit="11", decision="no")
    assert over.status_code == 422
    kept = over.content.decode()
    assert 'value="11"' in kept and f'id="decide{dispute.pk}_credit_error"' in kept  # what was typed, and why not
    assert send(client, "decide", dispute=dispute.pk, credit="0", decision="on time").status_code == 302
    dispute.refresh_from_db()
    assert dispute.state == "rejected"
    assert send(client, "bundle", title="s", cost="5", worth="4", valid_days=30).status_code == 422
    assert send(client, "bundle", key="2", title="s", cost="5", worth="6", valid_days=30).status_code == 302
    offer = BundleOffer.objects.get()
    assert (offer.price_micro, offer.worth_micro) == (5_000_000, 6_000_000)
    assert send(client, "withdraw", offer=offer.pk).status_code == 302
    month = PeriodClose.objects.create(month="2026-10-01", proposed_by="user:0", proposed_at=cast.invoice.issued_at)
    assert "Close this month" in said(client)
    assert send(client, "propose", month="2099-01").status_code == 422
    assert send(client, "close", month="2026-10").status_code == 302
    month.refresh_from_db()
    assert month.closed_at is not None
