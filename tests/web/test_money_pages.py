"""Pages of money: top-up tells where to pay, payouts what is in the way; webhooks are made, tested and replayed."""

import re
from datetime import timedelta
from uuid import uuid4

import pytest

from billing.models import BankAccount, Payout
from core import clock
from core.periods import shanghai_date
from identity.models import WebhookDelivery, WebhookEndpoint
from tests.billing.given import charge_input, given_charges
from tests.given import given_money, given_organization, given_user
from tests.identity.given import given_webhook_delivery

pytestmark = pytest.mark.django_db
EN = {"Accept-Language": "en"}


def post(client, path, **fields):
    return client.post(path, {"key": str(uuid4()), **fields}, headers=EN)


@pytest.fixture
def provider(client):
    provider = given_organization("provider", name="Yanshan")
    client.force_login(given_user(provider))
    return provider


def test_top_up_shows_the_account_and_what_arrived(client, settings):
    settings.BANK_ACCOUNT = {"holder": "词元交易所", "number": "6222 0000 1111", "bank": "示例银行"}
    client.force_login(given_user(given_money(given_organization("buyer"), yuan=1_000)))
    page = client.get("/top-up", headers=EN).content.decode()
    assert "6222 0000 1111" in page and "词元交易所" in page and "¥1,000.00" in page
    assert post(client, "/top-up/card", amount="100")["Location"] == "/top-up"  # no payment service here
    assert "pay by bank transfer" in client.get("/top-up", headers=EN).content.decode()


def test_a_provider_names_an_account_and_sees_what_is_in_the_way(client, provider):
    given_charges(charge_input(given_money(given_organization("buyer")), provider))
    page = client.get("/payouts", headers=EN).content.decode()
    assert "There is no verified bank account" in page and "Pay out" not in page
    wrong = post(client, "/payouts/accounts", holder="Somebody else", number="6222 0001", bank="ICBC")
    assert wrong.status_code == 422 and b"must be the organization itself" in wrong.content
    for _ in range(2):
        answer = client.post(
            "/payouts/accounts", {"key": "twice", "holder": "Yanshan", "number": "6222 0001 0002", "bank": "ICBC"}
        )
        assert answer["Location"] == "/payouts"
    account = BankAccount.objects.get()
    assert "to be verified" in client.get("/payouts", headers=EN).content.decode()
    post(client, "/payouts/request")
    assert not Payout.objects.exists()
    assert b"no verified bank account" in client.get("/payouts", headers=EN).content
    post(client, f"/payouts/accounts/{account.pk}/close")
    account.refresh_from_db()
    assert account.closed_at is not None


def test_a_webhook_is_made_tested_switched_and_replayed(client, provider):
    wrong = post(client, "/webhooks/new", url="http://10.0.0.1/x")
    assert wrong.status_code == 422 and not WebhookEndpoint.objects.exists()
    made = client.post(
        "/webhooks/new", {"key": "one", "url": "https://hooks.example.com/c", "events": ["invoice.issued"]}, headers=EN
    )
    endpoint = WebhookEndpoint.objects.get()
    assert endpoint.secret in made.content.decode() and made["Cache-Control"] == "no-store"
    again = client.post(
        "/webhooks/new", {"key": "one", "url": "https://hooks.example.com/c", "events": ["invoice.issued"]}, headers=EN
    )
    assert again["Location"] == "/webhooks" and WebhookEndpoint.objects.count() == 1
    path = f"/webhooks/{endpoint.pk}"
    post(client, f"{path}/change", what="test")
    delivery = WebhookDelivery.objects.get()
    page = client.get(path, headers=EN).content.decode()
    assert "webhook.test" in page and 'hx-trigger="every 2s"' in page
    part = client.get(path, headers=EN | {"HX-Request": "true"}).content.decode()
    assert part.lstrip().startswith('<div id="log"')
    WebhookDelivery.objects.update(state="failed", tries=12)
    post(client, f"/webhook-deliveries/{delivery.pk}/replay")
    delivery.refresh_from_db()
    assert (delivery.state, delivery.tries) == ("pending", 0)
    post(client, f"{path}/change", what="off")
    endpoint.refresh_from_db()
    assert endpoint.disabled_at is not None
    post(client, f"{path}/change", what="test")
    assert b"switch it on first" in client.get(path, headers=EN).content
    assert post(client, f"{path}/change", what="nonsense").status_code == 404
    post(client, f"{path}/change", what="delete")
    assert not WebhookEndpoint.objects.exists()


def test_a_viewer_and_a_stranger_change_no_webhook(client, provider):
    delivery = given_webhook_delivery(provider)
    client.force_login(given_user(provider, role="viewer"))
    assert post(client, f"/webhooks/{delivery.endpoint_id}/change", what="delete").status_code == 403
    client.force_login(given_user(given_organization("both")))
    assert post(client, f"/webhooks/{delivery.endpoint_id}/change", what="delete").status_code == 404
    assert WebhookEndpoint.objects.exists()


def test_a_month_is_read_confirmed_and_printed(client):
    given_organization("operator")
    client.force_login(given_user(given_money(given_organization("buyer"), yuan=1_000)))
    this_month = shanghai_date(clock.now()).replace(day=1)
    last = f"{this_month - timedelta(days=1):%Y-%m}"
    page = client.get("/reconciliation", headers=EN).content.decode()
    assert last in page and "Nothing in this month" in page
    digest = re.search('name="digest" value="([0-9a-f]{64})"', page)[1]
    shown = client.get(f"/reconciliation?month={this_month:%Y-%m}", headers=EN).content.decode()
    assert "1,000.00" in shown and "The month is not over" in shown
    wrong = post(client, f"/reconciliation/{last}/answer", digest=digest, agrees="no")
    assert wrong.status_code == 422 and b"Say what is wrong with the statement" in wrong.content
    assert b"read it again" in post(client, f"/reconciliation/{last}/answer", digest="x", agrees="yes").content
    done = post(client, f"/reconciliation/{last}/answer", digest=digest, agrees="yes")
    assert done["Location"] == f"/reconciliation?month={last}"
    assert "Confirmed" in client.get(done["Location"], headers=EN).content.decode()
    pdf, again = (client.get(f"/reconciliation/{last}.pdf", headers=EN).content for _ in range(2))
    assert pdf.startswith(b"%PDF") and pdf == again
    assert b"opening" in client.get(f"/reconciliation/{last}.csv").content
    assert client.get("/reconciliation?month=2026-13").status_code == 404
