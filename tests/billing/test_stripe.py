"""
Card, Alipay and WeChat Pay through the real `stripe` library, against a Stripe of our own in another process.

What has never met Stripe itself is told in docs/PAYMENTS.md; tests/billing/test_stripe_live.py asks Stripe.
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from stripe import WebhookSignature

from billing import stripe_door, stripe_sweeps
from billing.domain.accounts import available, bank, payable, revenue
from billing.domain.payouts import on_its_way
from billing.domain.postings import Posting, Stage
from billing.models import Deposit, Payout, StripeCustomer, StripeEvent, StripePayment
from billing.queries import account_balance, available_micro
from billing.stripe_door import StripeDoor, StripeRefused, StripeUnavailable
from billing.tasks import reconcile_stripe, talk_with_stripe
from tests import servers
from tests.billing.given import post
from tests.billing.payments import clean_books
from tests.given import Api, given_api, given_organization

pytestmark = pytest.mark.django_db
FULL = pytest.mark.proof
SECRET, OLD = "whsec_new", "whsec_old"
ROOT = Path(__file__).resolve().parents[2]


class Fake:
    """The other side, as a test moves it."""

    def __init__(self, port):
        self.url = f"http://127.0.0.1:{port}"
        self.told = 0

    def control(self, what, **given):
        request = urllib.request.Request(f"{self.url}/control/{what}", json.dumps(given).encode())
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def events(self):
        """The events since this was asked last."""
        found = self.control("events")["events"]
        fresh, self.told = found[self.told :], len(found)
        return fresh


@pytest.fixture(scope="module")
def process():
    with subprocess.Popen(
        [sys.executable, "-m", "tests.stripe_fake.server"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as running:
        yield int(running.stdout.readline())
        running.kill()


@pytest.fixture
def stripe(process, settings):
    fake = Fake(process)
    settings.STRIPE_API_KEY, settings.STRIPE_BASE_URL = "sk_test_1", fake.url
    settings.STRIPE_WEBHOOK_SECRETS = [SECRET, OLD]
    # ids begin anew in each test's database; keys at the other side do not, so each test has its own
    fake.tag = str(time.time_ns())
    original = stripe_door._call
    stripe_door._call = lambda method, argument=None, key="": original(method, argument, key and f"{fake.tag}-{key}")
    fake.events()
    yield fake
    fake.control("trouble", next=[])
    stripe_door._call = original


def announce(events, *, secret=SECRET, at=None, change=None):
    """Post webhooks as Stripe does; returns the last status."""
    status = None
    for event in events if isinstance(events, list) else [events]:
        body = json.dumps(event)
        header = WebhookSignature.generate_signature_header(body, secret, at or int(time.time()))
        answer = Api().generic("POST", "/v1/stripe/webhook", change(body) if change else body,
                               content_type="application/json", headers={"Stripe-Signature": header})  # fmt: skip
        status = answer.status_code
    return status


def given_checkout(buyer, amount="100.00", **fields):
    made = given_api(buyer).post("/v1/stripe/payments", fields or {"amount": amount})
    assert made.status_code == 201, made.json()
    return StripePayment.objects.get(pk=made.json()["id"])


def test_a_card_payment_becomes_a_deposit_once_however_often_it_is_announced(stripe):
    buyer = given_organization()
    payment = given_checkout(buyer)
    assert payment.url.startswith("https://checkout.stripe.example/")
    stripe.control("pay", session=payment.session, method="card")
    events = stripe.events()
    assert {event["type"] for event in events} == {"payment_intent.succeeded", "checkout.session.completed"}
    assert available_micro(buyer.pk) == 0  # a redirect or a message alone moves no money
    for batch in (events, list(reversed(events))):
        assert announce(batch) == 200
        talk_with_stripe()
    assert available_micro(buyer.pk) == 100_000_000 and Deposit.objects.get().method == "stripe"
    assert StripeEvent.objects.count() == 2
    shown = given_api(buyer).get(f"/v1/stripe/payments/{payment.pk}").json()
    assert (shown["state"], shown["amount"]) == ("succeeded", "100.00")
    assert account_balance(bank("stripe")).posted_micro == -100_000_000
    assert clean_books()
    sent = [call for call in stripe.control("calls")["calls"] if call["method"] == "POST"]
    assert all(call["key"] for call in sent)
    assert {call["version"] for call in sent} == {stripe_door.API_VERSION}


@pytest.mark.parametrize(
    ("method", "ok"), [("alipay", True), ("alipay", False), pytest.param("wechat_pay", True, marks=FULL)]
)
def test_a_wallet_that_settles_later(stripe, method, ok):
    buyer = given_organization()
    payment = given_checkout(buyer)
    stripe.control("pay", session=payment.session, method=method)
    announce(stripe.events())
    talk_with_stripe()
    payment.refresh_from_db()
    assert payment.state == "pending" and available_micro(buyer.pk) == 0
    stripe.control("settle", session=payment.session, ok=ok)
    announce(list(reversed(stripe.events())))
    talk_with_stripe()
    payment.refresh_from_db()
    assert payment.state == ("succeeded" if ok else "failed")
    assert available_micro(buyer.pk) == (100_000_000 if ok else 0)
    assert clean_books()


@pytest.mark.parametrize("changed", [{"amount": 10_001}, {"amount": 1}, {"currency": "usd"}])
def test_another_amount_or_currency_credits_nothing(stripe, changed):
    buyer = given_organization()
    payment = given_checkout(buyer)
    stripe.control("pay", session=payment.session, method="card", **changed)
    announce(stripe.events())
    talk_with_stripe()
    payment.refresh_from_db()
    assert payment.state == "mismatch" and "in place of cny 10000" in payment.reason
    assert available_micro(buyer.pk) == 0 and clean_books()


def test_webhooks_that_stripe_did_not_sign_so_or_not_now_are_refused(stripe):
    payment = given_checkout(given_organization())
    stripe.control("pay", session=payment.session, method="card")
    [*_, event] = stripe.events()
    now = int(time.time())
    assert announce(event, secret="whsec_wrong") == 400
    assert announce(event, at=now - 301) == 400
    # The SDK's own check lets the future pass. A minute more than the tolerance: the clock goes on meanwhile.
    assert announce(event, at=int(time.time()) + 360) == 400
    assert announce(event, change=lambda body: body.replace("10000", "99999")) == 400
    assert Api().generic("POST", "/v1/stripe/webhook", "{}", content_type="application/json").status_code == 400
    assert Api().get("/v1/stripe/webhook").status_code == 405
    assert not StripeEvent.objects.exists()
    assert announce(event, secret=OLD) == 200  # while one secret replaces another
    django_settings.STRIPE_WEBHOOK_SECRETS = [SECRET]
    assert announce(event, secret=OLD) == 400


def test_what_is_not_ours_and_unknown_types_are_kept_and_do_no_harm(stripe):
    given_checkout(given_organization())
    strange = {"id": "evt_x1", "object": "event", "type": "moon.phase_changed", "created": int(time.time()),
               "data": {"object": {"id": "moon_1", "object": "moon"}}}  # fmt: skip
    gone = strange | {"id": "evt_x2", "type": "payment_intent.succeeded",
                      "data": {"object": {"id": "pi_nowhere", "object": "payment_intent"}}}  # fmt: skip
    assert announce([strange, gone]) == 200
    assert announce({"id": "evt_x3"}) == 400
    talk_with_stripe()
    outcomes = dict(StripeEvent.objects.values_list("event", "outcome"))
    assert outcomes["evt_x1"] == "not ours to handle" and "refused" in outcomes["evt_x2"]
    assert not StripeEvent.objects.filter(handled_at=None).exists()


def test_a_webhook_that_never_came_is_healed(stripe):
    buyer = given_organization()
    payment = given_checkout(buyer)
    stripe.control("pay", session=payment.session, method="card")
    assert reconcile_stripe() > 0
    assert available_micro(buyer.pk) == 100_000_000
    assert StripeEvent.objects.filter(healed=True).exists()
    announce(stripe.events())  # late, after all
    talk_with_stripe()
    assert reconcile_stripe() == 0 and Deposit.objects.count() == 1
    expired = given_checkout(buyer)
    stripe.control("expire", session=expired.session)
    reconcile_stripe()
    expired.refresh_from_db()
    assert (expired.state, expired.reason) == ("failed", "the page expired")
    assert clean_books()


def test_a_payment_known_from_balance_transactions_alone_is_healed(stripe, monkeypatch):
    buyer = given_organization()
    payment = given_checkout(buyer)
    stripe.control("pay", session=payment.session, method="card")
    StripePayment.objects.update(session="", intent="")  # neither an event nor the session is known any more
    monkeypatch.setattr(StripeDoor, "events", lambda self, since: iter(()))
    assert reconcile_stripe() == 1 and available_micro(buyer.pk) == 100_000_000
    assert clean_books()


@pytest.mark.parametrize("trouble", ["lost", *(pytest.param(one, marks=FULL) for one in ("429", "500", "hang"))])
def test_trouble_on_the_way_costs_time_alone(stripe, trouble, monkeypatch):
    monkeypatch.setattr(stripe_door, "TIMEOUT_SECONDS", 1)
    buyer = given_organization()
    api = given_api(buyer)
    given_checkout(buyer)  # the customer is there
    stripe.control("trouble", next=[trouble])
    refused = api.post("/v1/stripe/payments", {"amount": "50"}, key="same")
    assert (refused.status_code, refused.json()["code"]) == (503, "payment-service-unavailable")
    made = api.post("/v1/stripe/payments", {"amount": "50"}, key="same")
    assert made.status_code == 201 and StripePayment.objects.count() == 2
    assert api.post("/v1/stripe/payments", {"amount": "50"}, key="same").json() == made.json()
    stripe.control("pay", session=StripePayment.objects.latest("id").session, method="card")
    announce(stripe.events())
    stripe.control("trouble", next=[trouble])
    talk_with_stripe()
    talk_with_stripe()
    assert available_micro(buyer.pk) == 50_000_000 and clean_books()


@pytest.mark.parametrize("amount", ["0", "-5", "9.99", "10.001", "1000000.01", "1e30", "abc"])
def test_amounts_that_are_not_taken(stripe, amount):
    answer = given_api(given_organization()).post("/v1/stripe/payments", {"amount": amount})
    assert (answer.status_code, answer.json()["field"]) == (400, "amount")
    assert not StripePayment.objects.exists()


def test_without_an_account_there_the_door_is_closed(settings):
    settings.STRIPE_API_KEY, settings.STRIPE_WEBHOOK_SECRETS = "", []
    assert given_api(given_organization()).post("/v1/stripe/payments", {"amount": "50"}).json()["code"] == "no-stripe"
    assert announce({"id": "evt_1"}) == 404
    assert (talk_with_stripe(), reconcile_stripe()) == (0, 0)


def spent(buyer, micro):
    post(Posting(f"spent:{micro}:{time.time_ns()}", "test", Stage.POSTED, available(buyer.pk), revenue(), micro))


def test_a_saved_card_tops_up_below_the_threshold_once_at_a_time(stripe):
    buyer = given_organization()
    api = given_api(buyer)
    assert api.patch("/v1/stripe/top-up", {"below": "50", "amount": "200"}).json()["field"] == "payment_method"
    payment = given_checkout(buyer)
    stripe.control("pay", session=payment.session, method="card")
    announce(stripe.events())
    talk_with_stripe()
    assert api.patch("/v1/stripe/top-up", {"below": "50"}).json()["field"] == "amount"
    shown = api.patch("/v1/stripe/top-up", {"below": "50", "amount": "200"}).json()
    assert shown["cards"][0]["name"] == "visa …4242"
    talk_with_stripe()
    assert available_micro(buyer.pk) == 100_000_000  # not low yet
    spent(buyer, 60_000_000)
    stripe.control("trouble", next=["lost"])
    talk_with_stripe()  # charged, and the answer is lost
    assert StripePayment.objects.get(kind="auto").state == "pending"
    talk_with_stripe()
    talk_with_stripe()
    assert available_micro(buyer.pk) == 240_000_000
    paid = stripe.control("things", object="payment_intent")["things"]
    mine = [one for one in paid if one["customer"] == StripeCustomer.objects.get().customer]
    assert len(mine) == 2 and clean_books()


def test_a_declined_card_stops_top_ups_until_it_is_set_again(stripe):
    buyer = given_organization()
    payment = given_checkout(buyer)
    stripe.control("pay", session=payment.session, method="card", suffix="declined")
    announce(stripe.events())
    talk_with_stripe()
    api = given_api(buyer)
    api.patch("/v1/stripe/top-up", {"below": "500", "amount": "200"})
    talk_with_stripe()
    announce(stripe.events())
    for _ in range(3):
        talk_with_stripe()
    auto = StripePayment.objects.get(kind="auto")
    assert (auto.state, auto.reason) == ("failed", "Your card was declined.")
    assert api.get("/v1/stripe/top-up").json()["paused_reason"] == "Your card was declined."
    assert available_micro(buyer.pk) == 100_000_000 and clean_books()


def given_stripe_deposit(stripe, buyer, method="card"):
    payment = given_checkout(buyer)
    stripe.control("pay", session=payment.session, method=method)
    if method != "card":
        stripe.control("settle", session=payment.session, ok=True)
    announce(stripe.events())
    talk_with_stripe()
    payment.refresh_from_db()
    return payment.deposit


@pytest.mark.parametrize("trouble", ["lost", *(pytest.param(one, marks=FULL) for one in ("", "500"))])
def test_a_refund_goes_back_to_the_card(stripe, trouble):
    buyer = given_organization()
    deposit = given_stripe_deposit(stripe, buyer)
    operator = given_api(given_organization("operator"))
    made = operator.post(f"/v1/deposits/{deposit.pk}/refund", {"amount": "30"}).json()
    assert (made["method"], available_micro(buyer.pk)) == ("stripe", 70_000_000)
    stripe.control("trouble", next=[trouble] if trouble else [])
    for _ in range(3):
        talk_with_stripe()
    assert Payout.objects.get().state == "paid"
    assert account_balance(bank("stripe")).posted_micro == -70_000_000
    refunds = [one for one in stripe.control("things", object="refund")["things"]
               if one["payment_intent"] == deposit.reference]  # fmt: skip
    assert len(refunds) == 1
    assert operator.post(f"/v1/deposits/{deposit.pk}/refund", {"amount": "70.01"}).json()["code"] == "bad-refund"
    assert clean_books()


@pytest.mark.parametrize(("status", "left"), [("succeeded", 70_000_000), ("failed", 100_000_000)])
def test_a_wallets_refund_ends_later(stripe, status, left):
    buyer = given_organization()
    deposit = given_stripe_deposit(stripe, buyer, "alipay")
    given_api(given_organization("operator")).post(f"/v1/deposits/{deposit.pk}/refund", {"amount": "30"})
    talk_with_stripe()
    payout = Payout.objects.get()
    assert payout.state == "sent" and payout.outside_reference
    stripe.control("refund", refund=payout.outside_reference, status=status, reason="expired_or_canceled_card")
    announce(stripe.events())
    talk_with_stripe()
    payout.refresh_from_db()
    assert payout.state == ("paid" if status == "succeeded" else "failed")
    assert available_micro(buyer.pk) == left and clean_books()


@pytest.mark.parametrize(("account", "state"), [("acct_good", "paid"), ("acct_closed", "failed")])
def test_a_provider_is_paid_by_transfer(stripe, account, state):
    from tests.billing.test_payouts import Cast

    cast = Cast()
    cast.invoice()
    owed = account_balance(payable(cast.provider.pk)).posted_micro
    body = {"organization": cast.provider.pk, "account": account}
    assert cast.theirs.post("/v1/stripe/connect", body).status_code == 404
    assert cast.theirs.post("/v1/payouts", {"method": "stripe"}).json()["why"] == "no-bank-account"
    assert cast.api.post("/v1/stripe/connect", body).status_code == 201
    assert cast.theirs.post("/v1/payouts", {"method": "stripe"}).json()["state"] == "approved"
    assert cast.api.post("/v1/payout-batches").json()["code"] == "payout-refused"
    stripe.control("trouble", next=["lost"])
    for _ in range(3):
        talk_with_stripe()
    assert Payout.objects.get().state == state
    assert account_balance(payable(cast.provider.pk)).posted_micro == (0 if state == "paid" else owed)
    assert account_balance(on_its_way(cast.provider.pk)).posted_micro == 0
    assert clean_books()


def test_a_stranger_sees_no_payment(stripe):
    payment = given_checkout(given_organization())
    assert given_api(given_organization()).get(f"/v1/stripe/payments/{payment.pk}").status_code == 404
    assert given_api(given_organization(), scopes=["read"]).post(
        "/v1/stripe/payments", {"amount": "50"}).json()["code"] == "scope-missing"  # fmt: skip


def test_the_other_side_refuses_what_stripe_does_not_know(stripe):
    door = StripeDoor("sk_test_1", stripe.url)
    for name, params in (
        ("customers", {"nickname": "x"}), ("payment_intents", {"amount": 1000, "currency": "cny", "colour": "red"}),
        ("payment_intents", {"amount": 1000}), ("payment_intents", {"amount": 1, "currency": "cny"}),
    ):  # fmt: skip
        with pytest.raises(StripeRefused):
            stripe_door._call(getattr(door._client.v1, name).create, params, f"k{time.time_ns()}")
    session = {"mode": "payment", "line_items": [{"quantity": 1, "price_data": {"currency": "cny", "unit": 5}}]}
    with pytest.raises(StripeRefused, match="unknown parameter"):
        stripe_door._call(door._client.v1.checkout.sessions.create, session, "k-nested")
    stripe.control("trouble", next=["500"])
    with pytest.raises(StripeUnavailable):
        door.payment("pi_1")
    stripe_door._call(door._client.v1.customers.create, {"name": "a"}, "k-same")
    with pytest.raises(StripeRefused, match="same parameters"):
        stripe_door._call(door._client.v1.customers.create, {"name": "b"}, "k-same")


@pytest.mark.django_db(transaction=True)
def test_the_same_webhook_on_ten_connections_and_ten_workers(stripe, race):
    buyer = given_organization()
    payment = given_checkout(buyer)
    stripe.control("pay", session=payment.session, method="card")
    events = stripe.events()
    assert race(*[lambda: announce(events)] * 10) == [200] * 10
    assert StripeEvent.objects.count() == len(events)
    race(*[talk_with_stripe] * 10)
    assert Deposit.objects.count() == 1 and available_micro(buyer.pk) == 100_000_000
    assert clean_books()


@pytest.mark.proof
@pytest.mark.processes
@pytest.mark.django_db(transaction=True)
def test_a_worker_killed_between_payment_and_posting(stripe):
    """The money is at Stripe and the event stored; the worker dies while it books. The next one books it, once."""
    from django.db import connection, transaction

    buyer = given_organization()
    payment = given_checkout(buyer)
    stripe.control("pay", session=payment.session, method="card")
    announce(stripe.events())
    database = f"/{django_settings.DATABASES['default']['NAME']}?"
    environment = os.environ | {
        "DATABASE_URL": os.environ["DATABASE_URL"].replace(f"/{servers.TEMPLATE}?", database),
        "STRIPE_API_KEY": "sk_test_1", "CIYUAN_STRIPE_BASE_URL": stripe.url,
        "DJANGO_SETTINGS_MODULE": "config.settings",
    }  # fmt: skip
    code = "import django; django.setup(); from billing.tasks import talk_with_stripe; print('up', flush=True); " \
           "talk_with_stripe()"  # fmt: skip
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("LOCK TABLE billing_account IN EXCLUSIVE MODE")
        process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment, stdout=subprocess.PIPE)
        assert process.stdout.readline() == b"up\n"
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with connection.cursor() as cursor:
                cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
                if cursor.fetchone()[0]:
                    break
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(20)
    assert not Deposit.objects.exists() and available_micro(buyer.pk) == 0
    talk_with_stripe()
    assert Deposit.objects.count() == 1 and available_micro(buyer.pk) == 100_000_000
    assert clean_books()


def test_an_invoice_is_paid_by_checkout(stripe):
    from tests.billing.test_banking import given_open_invoice

    buyer = given_organization()
    given_open_invoice(buyer, 88_000_000)
    invoice = given_api(buyer).get("/v1/invoices").json()["items"][0]["id"]
    payment = given_checkout(buyer, invoice=invoice)
    assert payment.amount_micro == 88_000_000
    stripe.control("pay", session=payment.session, method="card")
    announce(stripe.events())
    stripe_sweeps.handle_events(stripe_sweeps.door(), now=payment.created_at)
    assert given_api(buyer).get(f"/v1/invoices/{invoice}").json()["state"] == "paid"
    assert given_api(buyer).post("/v1/stripe/payments", {"invoice": invoice}).json()["code"] == "payment-not-found"
    both = given_api(buyer).post("/v1/stripe/payments", {"invoice": invoice, "amount": "50"})
    assert both.json()["field"] == "amount"
