"""Bundles and gifts: bought once, drawn down in order before money, given back where they came from, expired."""

from datetime import timedelta

import pytest
from django.db import IntegrityError, connection, transaction

from billing.actions import credits
from billing.actions.price_books import publish_price_book
from billing.credit_audit import bundle_liability_is_unexpired, credits_are_their_transfers
from billing.credit_queries import left_micro, usable_credits
from billing.domain.accounts import available, promotion, revenue
from billing.models import Charge, Credit
from billing.queries import account_balance
from billing.tasks import expire_credits
from exchange.models import DeliveryContract
from metering_ingest.actions.settlement import settle_contract
from metering_ingest.rerating import latest, rerate
from tests.billing.given import given_deposit
from tests.given import NOW, given_api, given_organization, given_user
from tests.metering.test_settlement import DUE, Delivery, mine

pytestmark = pytest.mark.django_db
LATER = NOW + timedelta(days=30)
YESTERDAY = NOW - timedelta(days=1)


def offer(**fields):
    values = {"name": "summer", "price_micro": 400_000, "worth_micro": 500_000, "valid_days": 30, "now": YESTERDAY}
    with transaction.atomic():
        return credits.offer_bundle(**values | fields)


def bought(buyer, made=None, now=YESTERDAY):
    with transaction.atomic():
        return credits.buy_bundle(organization=buyer, offer_id=(made or offer()).pk, now=now)


def gift(buyer, amount_micro=100_000, expires_at=LATER, now=YESTERDAY):
    with transaction.atomic():
        return credits.give(
            organization_id=buyer.pk, amount_micro=amount_micro, name="welcome", expires_at=expires_at, now=now
        )


def audit():
    assert list(credits_are_their_transfers()) == []
    from io import StringIO

    from django.core.management import call_command

    out = StringIO()
    try:
        call_command("audit", stdout=out)
    except SystemExit:
        raise AssertionError(out.getvalue()) from None


def micro(account):
    return account_balance(account).posted_micro


def test_a_bundle_turns_free_money_into_a_liability_and_a_gift_is_the_operators_promotion():
    buyer = given_organization()
    given_deposit(buyer, 1_000_000)
    bundle, present = bought(buyer), gift(buyer)
    assert micro(available(buyer.pk)) == 600_000
    assert (micro(bundle.account), micro(present.account)) == (500_000, 100_000)
    assert micro(promotion()) == -200_000
    assert usable_credits([buyer.pk], at=NOW) == {buyer.pk: [present.account, bundle.account]}
    with pytest.raises(Exception, match=r"needs ¥0\.40"):
        [bought(buyer, offer(name=str(n))) for n in range(2)]
    with pytest.raises(IntegrityError), transaction.atomic():
        Credit.objects.update(worth_micro=1)
    audit()


def test_what_expires_is_breakage_once_and_a_gift_goes_back(monkeypatch):
    buyer = given_organization()
    given_deposit(buyer, 1_000_000)
    bundle, present = bought(buyer, offer(valid_days=1)), gift(buyer, expires_at=NOW + timedelta(hours=1))
    monkeypatch.setattr("core.clock.now", lambda: NOW - timedelta(seconds=1))
    assert expire_credits() == 0
    monkeypatch.setattr("core.clock.now", lambda: NOW + timedelta(hours=3))
    assert [finding.subject.split()[0] for finding in bundle_liability_is_unexpired()] == ["bundle", "gift"]
    assert (expire_credits(), expire_credits()) == (2, 0)
    assert (micro(bundle.account), micro(present.account)) == (0, 0)
    assert (micro(revenue()), micro(promotion())) == (500_000, -100_000)
    audit()


@pytest.fixture
def delivery():
    made = Delivery()
    rules = [{"class": name, "steps": [{"price": "0.00001"}]}
             for name in ("input.text", "input.text.cache_read", "output.text", "output.reasoning")]  # fmt: skip
    with transaction.atomic():
        at = NOW - timedelta(days=3)
        publish_price_book(name="list", effective_from=at, terms={"rules": rules}, now=at)
    given_deposit(made.buyer, 1_000_000)
    return made


def settle(now=DUE):
    standing = DeliveryContract.objects.get(kind="list")
    with transaction.atomic():
        return settle_contract(contract_id=standing.pk, at=YESTERDAY, now=now)


def test_usage_draws_gifts_then_bundles_by_priority_then_money_and_gives_back_in_reverse(delivery):
    buyer = delivery.buyer
    second = bought(buyer, offer(priority=200, price_micro=300_000, worth_micro=300_000))
    first, present = bought(buyer, offer(priority=1, price_micro=200_000, worth_micro=200_000)), gift(buyer)
    gone = gift(buyer, expires_at=NOW)
    all_of = [present, first, second, gone]

    def left():
        return [left_micro(all_of)[one.pk] for one in all_of] + [micro(available(buyer.pk))]

    assert left() == [100_000, 200_000, 300_000, 100_000, 500_000]
    sent = mine(output_tokens=14_900, time=YESTERDAY.isoformat())
    delivery.report(sent)
    settle()
    assert left() == [0, 150_000, 300_000, 100_000, 500_000]  # ¥0.15: the gift, then the bundle that goes first
    delivery.report(mine("more", output_tokens=54_900, time=YESTERDAY.isoformat()), now=DUE)
    assert settle(DUE + timedelta(minutes=1)) == 1
    assert left() == [0, 0, 0, 100_000, 400_000]  # ¥0.55 more: both bundles, the rest from money
    void = mine("v", type="ciyuan.usage.void", data={"refers_to": {"id": "e-1", "time": sent["time"]}})
    assert delivery.report(void, now=DUE + timedelta(minutes=2)) == ["accepted"]
    assert settle(DUE + timedelta(minutes=3)) == 1
    assert sum(left()) == 500_000 + 150_000  # and no gift has become money
    assert left()[-1] == 400_000
    assert sum(Charge.objects.values_list("buyer_amount_micro", flat=True)) == 550_000
    assert rerate(latest()).findings == []
    with transaction.atomic():
        assert credits.expire(credit_id=gone.pk, now=DUE) == 100_000
    audit()


def test_credit_counts_for_what_usage_may_cost(delivery):
    buyer = delivery.buyer
    with transaction.atomic():
        credits.buy_bundle(organization=buyer, offer_id=offer(price_micro=1_000_000, worth_micro=1_100_000).pk,
                           now=YESTERDAY)  # fmt: skip
    delivery.report(mine(output_tokens=200_000, time=YESTERDAY.isoformat()))
    settle()
    assert micro(available(buyer.pk)) == 0 and left_micro([Credit.objects.get()]) == {Credit.objects.get().pk: 0}
    assert sum(Charge.objects.values_list("buyer_amount_micro", flat=True)) == 1_100_000
    audit()


def test_the_audit_names_what_was_changed():
    buyer = given_organization()
    given_deposit(buyer, 1_000_000)
    bundle = bought(buyer)
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute("UPDATE billing_credit SET worth_micro = worth_micro + 1")
        cursor.execute("SET LOCAL session_replication_role = origin")
    (found,) = credits_are_their_transfers()
    assert found.subject == bundle.account.scope


def test_the_account_page_lists_them(client):
    buyer = given_organization()
    given_deposit(buyer, 1_000_000)
    bought(buyer), gift(buyer)
    client.force_login(given_user(buyer))
    page = client.get("/account", headers={"accept-language": "en"}).content.decode()
    assert "Bundles and gifts" in page and "summer" in page and "welcome" in page


def test_over_http(monkeypatch):
    monkeypatch.setattr("core.clock.now", lambda: NOW)
    buyer, stranger = given_organization("buyer"), given_api(given_organization())
    given_deposit(buyer, 1_000_000)
    own, operator = given_api(buyer), given_api(given_organization("operator"))
    terms = {"name": "summer", "price": "0.40", "worth": "0.50", "valid_days": 30}
    made = operator.post("/v1/bundle-offers", terms).json()
    assert own.post("/v1/bundle-offers", terms).status_code == 403
    refused = operator.post("/v1/bundle-offers", terms | {"worth": "0.30"})
    assert (refused.status_code, refused.json()["code"], refused.json()["field"]) == (400, "bad-bundle", "worth")
    assert [one["id"] for one in own.get("/v1/bundle-offers").json()["items"]] == [made["id"]]
    first = own.post("/v1/bundles", {"offer": made["id"]}, key="once")
    assert (first.status_code, first.json()["left"]) == (201, "0.50")
    assert own.post("/v1/bundles", {"offer": made["id"]}, key="once").json() == first.json()
    assert own.post("/v1/bundles", {"offer": 999_999}).status_code == 404
    present = {"organization": buyer.pk, "amount": "1.00", "name": "hello", "expires_at": LATER.isoformat()}
    assert operator.post("/v1/gifts", present).status_code == 201
    assert own.post("/v1/gifts", present).status_code == 403
    assert operator.post("/v1/gifts", present | {"expires_at": NOW.isoformat()}).json()["field"] == "expires_at"
    assert [one["kind"] for one in own.get("/v1/bundles").json()["items"]] == ["gift", "bundle"]
    assert stranger.get("/v1/bundles").json()["items"] == []
    assert operator.delete(f"/v1/bundle-offers/{made['id']}").status_code == 200
    gone = own.post("/v1/bundles", {"offer": made["id"]})
    assert (gone.status_code, gone.json()["code"]) == (409, "bundle-withdrawn")
    assert own.get("/v1/balance").json()["gift"] == "1.00"
