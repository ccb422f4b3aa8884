"""Events reach the endpoints of those whom they concern: signed, again until they arrive, and nowhere they must not."""

import json
import time
from datetime import timedelta

import pytest
from ciyuan.webhooks import WebhookRefused, verify
from django.db import transaction

from billing.actions.invoices import issue_invoices
from core import clock
from identity import sending, tasks
from identity.actions.deliveries import LEASE, take_due
from identity.actions.events import emit, emit_all, forget_old_events
from identity.domain.addresses import AddressRefused, check_url, is_reachable
from identity.domain.webhooks import EVENT_TYPES, RETRY_AFTER
from identity.models import WebhookDelivery, WebhookEndpoint, WebhookEvent
from tests.billing.given import charge_input, given_charges, given_deposit
from tests.given import (
    NOW,
    advanced,
    given_api,
    given_market,
    given_money,
    given_orders,
    given_organization,
    given_seller,
)
from tests.identity.given import Receiver, given_webhook, given_webhook_delivery

pytestmark = pytest.mark.django_db


def emitted(organization, type="invoice.issued", key="invoice:1", **data):
    with transaction.atomic():
        emit(organization_id=organization.pk, type=type, key=key, data=data, now=NOW)


def later(delivery, **fields):
    """As if its next attempt were due now."""
    WebhookDelivery.objects.filter(pk=delivery.pk).update(next_try_at=clock.real_now(), **fields)


def test_an_event_arrives_signed_and_once():
    buyer = given_organization()
    with Receiver() as receiver:
        endpoint = given_webhook(buyer, receiver.url)
        emitted(buyer, total="12.34", 名="词元")
        emitted(buyer, total="12.34", 名="词元")  # its action was repeated
        assert tasks.deliver_webhooks() == 1
        assert tasks.deliver_webhooks() == 0
    [(path, headers, body)] = receiver.got
    event = verify(body, headers, endpoint.secret)
    assert path == "/hook" and event["type"] == "invoice.issued" and event["organization"] == buyer.pk
    assert event["data"] == {"total": "12.34", "名": "词元"} and event["id"] == headers["webhook-id"]
    delivery = WebhookDelivery.objects.get()
    assert (delivery.state, delivery.tries) == ("delivered", 1)
    assert delivery.attempts.get().status == 200 and delivery.attempts.get().answer == "done"


def test_the_sdk_refuses_what_the_exchange_did_not_sign_as_it_is():
    buyer = given_organization()
    with Receiver() as receiver:
        endpoint = given_webhook(buyer, receiver.url)
        emitted(buyer)
        tasks.deliver_webhooks()
    _, headers, body = receiver.got[0]
    sent = int(headers["webhook-timestamp"])
    for changed in (
        {"body": body + b" "},
        {"headers": headers | {"webhook-id": "other"}},
        {"headers": headers | {"webhook-timestamp": str(sent + 1)}},
        {"headers": {name: value for name, value in headers.items() if name != "webhook-signature"}},
        {"headers": headers | {"webhook-signature": "v1,AAAA v2," + headers["webhook-signature"][3:]}},
        {"secret": "whsec_" + "A" * 44},
        {"now": sent + 301},
        {"now": sent - 301},
    ):
        with pytest.raises(WebhookRefused):
            verify(**{"body": body, "headers": headers, "secret": endpoint.secret, "now": sent} | changed)


def test_a_failed_attempt_is_made_again_with_the_same_id_and_later_each_time():
    buyer = given_organization()
    with Receiver(500, 302, 200) as receiver:
        given_webhook(buyer, receiver.url)
        emitted(buyer)
        waits = []
        for _ in range(3):
            tasks.deliver_webhooks()
            delivery = WebhookDelivery.objects.get()
            waits.append((delivery.next_try_at - clock.real_now()).total_seconds())
            assert tasks.deliver_webhooks() == 0  # not due yet
            later(delivery)
    assert WebhookDelivery.objects.get().state == "delivered"
    assert [attempt.status for attempt in delivery.attempts.order_by("id")] == [500, 302, 200]
    assert 4 < waits[0] <= 6 and 28 < waits[1] <= 36
    assert len({headers["webhook-id"] for _, headers, _ in receiver.got}) == 1
    assert WebhookEndpoint.objects.get().failing_since is None


def test_after_the_last_attempt_it_has_failed_and_can_be_replayed():
    buyer = given_organization()
    api = given_api(buyer)
    with Receiver(503) as receiver:
        endpoint = given_webhook(buyer, receiver.url)
        emitted(buyer)
        later(WebhookDelivery.objects.get(), tries=len(RETRY_AFTER))
        tasks.deliver_webhooks()
        delivery = WebhookDelivery.objects.get()
        assert delivery.state == "failed"
        receiver.answers = [204]
        assert api.post(f"/v1/webhook-deliveries/{delivery.pk}/replay").json()["state"] == "pending"
        tasks.deliver_webhooks()
        assert api.get(f"/v1/webhook-deliveries/{delivery.pk}").json()["state"] == "delivered"
        again = {"since": NOW.isoformat(), "only_failed": False}
        assert api.post(f"/v1/webhooks/{endpoint.pk}/replay", again).json() == {"replayed": 1}
        tasks.deliver_webhooks()
    assert len(receiver.got) == 3


@pytest.mark.parametrize(
    ("answer", "failing_for", "reason"),
    [(410, timedelta(0), "it answered 410 Gone"), (500, timedelta(days=6), "nothing arrived for 5 days")],
)
def test_an_endpoint_that_is_gone_is_switched_off(answer, failing_for, reason):
    buyer = given_organization()
    with Receiver(answer) as receiver:
        endpoint = given_webhook(buyer, receiver.url)
        WebhookEndpoint.objects.update(failing_since=clock.real_now() - failing_for if failing_for else None)
        emitted(buyer)
        tasks.deliver_webhooks()
    endpoint.refresh_from_db()
    assert endpoint.disabled_reason == reason
    emitted(buyer, key="invoice:2")
    assert not WebhookEvent.objects.filter(key="invoice:2").exists()
    api = given_api(buyer)
    assert api.post(f"/v1/webhooks/{endpoint.pk}/test").json()["code"] == "webhook-disabled"
    assert api.patch(f"/v1/webhooks/{endpoint.pk}", {"enabled": True}).json()["enabled"] is True


def test_a_slow_or_endless_answer_takes_a_bounded_time(monkeypatch):
    monkeypatch.setattr(sending, "SECONDS_IN_ALL", 0.4)

    def drip(handler):
        handler.send_response(200)
        handler.end_headers()
        for _ in range(100):
            handler.wfile.write(b"x")
            handler.wfile.flush()
            time.sleep(0.05)

    def flood(handler):
        handler.send_response(200)
        handler.end_headers()
        for _ in range(200):
            handler.wfile.write(b"y" * 65_536)

    buyer = given_organization()
    with Receiver(drip) as slow, Receiver(flood) as endless, Receiver() as good:
        for receiver in (slow, endless, good):
            given_webhook(buyer, receiver.url)
        emitted(buyer)
        started = time.monotonic()
        assert tasks.deliver_webhooks() == 3
        assert time.monotonic() - started < 2
    by_url = {row.endpoint.url: row for row in WebhookDelivery.objects.select_related("endpoint")}
    assert by_url[good.url].state == "delivered"
    assert by_url[endless.url].attempts.get().answer == "y" * 1000
    assert "within" in by_url[slow.url].attempts.get().error


def test_a_worker_that_dies_with_a_delivery_in_hand_loses_nothing():
    buyer = given_organization()
    with Receiver() as receiver:
        given_webhook(buyer, receiver.url)
        emitted(buyer)
        with transaction.atomic():
            assert len(take_due(real_now=clock.real_now())) == 1  # and it is never heard of again
        assert tasks.deliver_webhooks() == 0
        with transaction.atomic():
            assert len(take_due(real_now=clock.real_now() + LEASE + timedelta(seconds=1))) == 1


def test_one_endpoint_with_many_events_does_not_fill_the_batch():
    busy, calm = given_organization(), given_organization()
    given_webhook(busy), given_webhook(calm)
    for number in range(150):
        emitted(busy, key=f"invoice:{number}")
    emitted(calm)
    with transaction.atomic():
        taken = take_due(real_now=clock.real_now())
    assert len(taken) == 11


@pytest.mark.django_db(transaction=True)
def test_ten_workers_at_once_send_each_event_once(race):
    buyer = given_organization()
    with Receiver() as receiver:
        given_webhook(buyer, receiver.url)
        for number in range(30):
            emitted(buyer, key=f"invoice:{number}")
        race(*[tasks.deliver_webhooks] * 10)
        while tasks.deliver_webhooks():
            pass
    assert len(receiver.got) == len({headers["webhook-id"] for _, headers, _ in receiver.got}) == 30


@pytest.mark.django_db(transaction=True)
def test_the_same_event_from_ten_transactions_is_stored_once(race):
    buyer = given_organization()
    given_webhook(buyer)
    assert race(*[lambda: emitted(buyer)] * 10) == [None] * 10
    assert WebhookEvent.objects.count() == WebhookDelivery.objects.count() == 1


def test_an_event_goes_with_its_transaction():
    buyer = given_organization()
    given_webhook(buyer)
    with pytest.raises(RuntimeError), transaction.atomic():
        emitted(buyer)
        raise RuntimeError("the action failed after it had emitted")
    assert not WebhookEvent.objects.exists()


def test_an_organization_without_endpoints_costs_one_query(django_assert_num_queries):
    buyer = given_organization()
    with transaction.atomic(), django_assert_num_queries(1):
        emit(organization_id=buyer.pk, type="invoice.issued", key="invoice:1", data={}, now=NOW)
    with pytest.raises(ValueError, match="no event type"), transaction.atomic():
        emit(organization_id=buyer.pk, type="invoice.lost", key="invoice:1", data={}, now=NOW)


def test_only_the_types_asked_for_are_sent():
    buyer = given_organization()
    given_webhook(buyer, events=["payment.received"])
    emitted(buyer)
    assert WebhookEvent.objects.count() == 1 and not WebhookDelivery.objects.exists()
    emitted(buyer, type="payment.received")
    assert WebhookDelivery.objects.get().event.type == "payment.received"


def test_rotation_signs_with_both_secrets_for_a_while():
    buyer = given_organization()
    api = given_api(buyer)
    with Receiver() as receiver:
        made = api.post("/v1/webhooks", {"url": receiver.url}, key="k").json()
        assert api.post("/v1/webhooks", {"url": receiver.url}, key="k").json()["secret"] is None
        new = api.post(f"/v1/webhooks/{made['id']}/rotate", {"overlap_seconds": 60}).json()
        api.post(f"/v1/webhooks/{made['id']}/test")
        tasks.deliver_webhooks()
        _, headers, body = receiver.got[0]
        assert new["secret"] != made["secret"]
        for secret in (made["secret"], new["secret"]):
            assert verify(body, headers, secret)["type"] == "webhook.test"
        WebhookEndpoint.objects.update(previous_until=clock.real_now())
        api.post(f"/v1/webhooks/{made['id']}/test")
        tasks.deliver_webhooks()
    _, headers, body = receiver.got[1]
    verify(body, headers, new["secret"])
    with pytest.raises(WebhookRefused):
        verify(body, headers, made["secret"])


@pytest.mark.parametrize(
    "url",
    [
        "https://10.0.0.5/hook", "https://192.168.1.1/", "https://169.254.169.254/latest/meta-data", "https://[::1]/",
        "https://[::ffff:10.0.0.1]/", "https://[64:ff9b::a00:1]/", "https://[2002:a00:1::]/", "https://[fe80::1]/",
        "https://[fd00::1]/", "https://100.64.0.1/", "https://0.0.0.0/", "https://224.0.0.1/", "http://example.com/",
        "ftp://example.com/", "https://user:pass@example.com/", "https:///hook", "https://example.com:99999/", "hello",
        "https://example.com/#part", "file:///etc/passwd", "http://8.8.8.8/",
    ],
)  # fmt: skip
def test_an_address_that_strangers_must_not_reach_is_refused(url):
    with pytest.raises(AddressRefused):
        check_url(url)
    answer = given_api(given_organization()).post("/v1/webhooks", {"url": url})
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (400, "bad-webhook", "url")


def test_a_name_that_answers_with_a_private_address_is_refused_when_it_is_called(settings):
    settings.WEBHOOK_NETWORKS = []
    buyer = given_organization()
    with Receiver() as receiver:
        given_webhook(buyer, f"https://localhost:{receiver.server.server_port}/hook")
        emitted(buyer)
        tasks.deliver_webhooks()
    assert receiver.got == []
    assert "not public" in WebhookDelivery.objects.get().attempts.get().error


def test_the_operator_may_allow_networks_and_only_those():
    from ipaddress import ip_network

    allowed = [ip_network("10.1.0.0/16")]
    assert is_reachable("10.1.2.3", allowed) and is_reachable("::ffff:10.1.2.3", allowed)
    assert not is_reachable("10.2.0.1", allowed) and is_reachable("1.1.1.1", allowed)
    assert check_url("http://10.1.2.3/x", allowed) == ("10.1.2.3", 80)


def test_writing_takes_an_owner_and_names_the_field():
    buyer = given_organization()
    reader, api = given_api(buyer, scopes=["read"]), given_api(buyer)
    body = {"url": "https://hooks.example.com/"}
    assert reader.post("/v1/webhooks", body).json()["code"] == "scope-missing"
    refused = api.post("/v1/webhooks", body | {"events": ["invoice.lost"]})
    assert (refused.json()["code"], refused.json()["field"]) == ("bad-webhook", "events")
    made = api.post("/v1/webhooks", body | {"events": ["invoice.issued"]}).json()
    assert "secret" not in api.get(f"/v1/webhooks/{made['id']}").json()
    assert api.delete(f"/v1/webhooks/{made['id']}").status_code == 200
    assert api.get(f"/v1/webhooks/{made['id']}").status_code == 404
    for _ in range(20):
        api.post("/v1/webhooks", body)
    assert api.post("/v1/webhooks", body).json()["code"] == "too-many-webhooks"


def test_types_are_listed_for_everybody(client):
    items = client.get("/v1/webhook-event-types").json()["items"]
    assert {item["type"] for item in items} == set(EVENT_TYPES)


def test_a_trading_day_emits_what_happens_to_each():
    given_organization("operator")
    market = given_market()
    seller, buyer = given_seller(market), given_money(given_organization("buyer"))
    for organization in (seller, buyer):
        given_webhook(organization)
    given_deposit(buyer, reference="again")
    given_orders(seller, {"market": market, "side": "sell", "lots": 300, "price": 20})
    given_orders(buyer, {"market": market, "side": "buy", "lots": 200, "price": 30})
    advanced(market)
    given_charges(charge_input(buyer, seller, scope=f"market:{market.pk}"))
    with transaction.atomic():
        issue_invoices(organization_id=buyer.pk, now=NOW)
    got = {}
    for event in WebhookEvent.objects.order_by("id"):
        got.setdefault(event.organization_id, []).append(event.type)
        json.dumps(event.data)
    assert got[buyer.pk] == ["payment.received", "auction.cleared", "contract.assigned", "invoice.issued"]
    assert got[seller.pk] == ["auction.cleared", "contract.assigned"]


def test_old_events_are_forgotten_unless_they_wait():
    buyer = given_organization()
    given_webhook(buyer)
    emitted(buyer, key="invoice:1")
    WebhookDelivery.objects.update(state="delivered")
    emitted(buyer, key="invoice:2")
    with transaction.atomic():
        assert forget_old_events(before=NOW + timedelta(days=1)) == 1
    assert WebhookEvent.objects.get().key == "invoice:2"


def test_the_log_is_read_through_the_api():
    buyer = given_organization()
    api = given_api(buyer)
    delivery = given_webhook_delivery(buyer)
    [item] = api.get(f"/v1/webhooks/{delivery.endpoint_id}/deliveries?state=pending").json()["items"]
    assert item["type"] == "webhook.test" and item["id"] == str(delivery.pk)
    assert api.get(f"/v1/webhooks/{delivery.endpoint_id}/deliveries?state=lost").json()["field"] == "state"
    assert api.get("/v1/webhook-events").json()["items"][0]["data"] == {"webhook": delivery.endpoint_id}
    assert emit_all([], now=NOW) is None
