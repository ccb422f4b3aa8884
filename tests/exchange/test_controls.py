"""Halt, kill switches, mass cancel and leases: through the API, the command and the console, with money at the end."""

from datetime import timedelta
from functools import partial

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction
from django.urls import reverse

from billing.queries import balance
from core import clock
from exchange import tasks
from exchange.actions.accept import accept
from exchange.actions.controls import stop_trading
from exchange.domain.requests import OrderRequest
from exchange.models import Command, Intervention, JournalEntry, Lease, Market, TradingStop
from exchange.order_queries import order_states
from identity.models import AuditEntry
from tests.exchange.checking import findings
from tests.given import (
    advanced,
    given_api,
    given_grade,
    given_market,
    given_money,
    given_orders,
    given_organization,
    given_seller,
    given_user,
)

pytestmark = pytest.mark.django_db
REASON = {"reason": "the feed went wild"}


@pytest.fixture
def market():
    return given_market(given_grade(mode="exchange"), now=clock.now())


@pytest.fixture
def operator():
    return given_api(given_organization("operator"))


@pytest.fixture
def buyer():
    return given_money(given_organization("buyer"))


@pytest.fixture(autouse=True)
def books_agree():
    """After every test here the audit, which replays all journals, finds nothing."""
    yield
    assert findings() == []


def order(market, /, **fields):
    return {"market": market.pk, "side": "buy", "price": "0.003", "quantity": 10_000, **fields}


def control(api, market, action, **fields):
    answer = api.post(f"/v1/markets/{market.pk}/controls", {"action": action, **REASON, **fields})
    assert answer.status_code == 201, answer.json()
    advanced(market, clock.now())
    return answer.json()


def test_a_halt_refuses_orders_lets_cancel_and_ends(market, operator, buyer):
    api = given_api(buyer)
    mine = api.post("/v1/orders", order(market)).json()["id"]
    assert control(operator, market, "halt")["market"]["halted"]
    assert api.post("/v1/orders", order(market)).json()["code"] == "market-halted"
    assert api.patch(f"/v1/orders/{mine}", {"quantity": 5_000}).json()["code"] == "market-halted"
    assert api.get(f"/v1/orders/{mine}").json()["status"] == "open"
    assert api.delete(f"/v1/orders/{mine}").status_code == 202
    advanced(market, clock.now())
    assert api.get(f"/v1/orders/{mine}").json()["status"] == "cancelled"
    assert not control(operator, market, "resume")["market"]["halted"]
    assert api.post("/v1/orders", order(market)).status_code == 202
    assert [row["kind"] for row in operator.get(f"/v1/markets/{market.pk}/controls").json()["interventions"]] == [
        "resume", "halt",
    ]  # fmt: skip
    kinds = JournalEntry.objects.order_by("id").values_list("kind", flat=True)
    assert [kind for kind in kinds if kind in (23, 24)] == [23, 24]
    [halt, resume] = AuditEntry.objects.filter(subject=f"market:{market.pk}").order_by("pk")
    assert (halt.verb, halt.before, halt.after) == ("market.halt", {"halted": False}, {"halted": True} | REASON)
    assert (resume.verb, resume.before["halted"], resume.after["halted"]) == ("market.resume", True, False)
    assert halt.api_key_id is not None


def test_a_halted_call_does_not_uncross_before_it_resumes(market, operator, buyer):
    seller = given_seller(market)
    given_orders(seller, {"market": market, "side": "sell", "lots": 5, "price": 20}, now=clock.now())
    given_orders(buyer, {"market": market, "side": "buy", "lots": 5, "price": 30}, now=clock.now())
    control(operator, market, "halt")
    halted = advanced(market, market.call_closes_at)
    assert halted.phase == "call" and not halted.last_trade
    closed = advanced(market)
    assert closed.phase == "closed" and not closed.last_trade
    assert balance(buyer.pk).held_micro == balance(seller.pk).held_micro == 0


def test_an_order_on_its_way_when_the_halt_comes_is_refused_by_the_book(market, operator, buyer):
    [late] = given_orders(buyer, {"market": market, "side": "buy", "price": 30}, now=clock.now() + timedelta(seconds=5))
    control(operator, market, "halt")
    api = given_api(buyer)
    assert (api.get(f"/v1/orders/{late}").json()["status"], api.get(f"/v1/orders/{late}").json()["reason"]) == (
        "refused", "halted",
    )  # fmt: skip
    assert balance(buyer.pk).held_micro == 0


def test_the_kill_switch_of_a_market_cancels_everybody(market, operator, buyer):
    seller = given_seller(market)
    given_orders(seller, {"market": market, "side": "sell", "lots": 5, "price": 40}, now=clock.now())
    given_orders(buyer, *[{"market": market, "side": "buy", "lots": 5, "price": 30}] * 3, now=clock.now())
    advanced(market, clock.now())
    control(operator, market, "kill")
    for api, count in ((given_api(buyer), 3), (given_api(seller), 1)):
        states = [(row["status"], row["reason"]) for row in api.get("/v1/orders").json()["items"]]
        assert states == [("cancelled", "mass-cancel")] * count
    assert balance(buyer.pk).held_micro == balance(seller.pk).held_micro == 0
    assert AuditEntry.objects.get(verb="market.kill").after["cancelled"] == "all orders"


def test_a_stop_comes_after_orders_whose_request_read_a_later_clock(market, buyer):
    now = clock.now()
    advanced(market, now)
    buy = {"market": market, "side": "buy", "price": 30}
    given_orders(buyer, dict(buy), now=now + timedelta(milliseconds=20))
    with transaction.atomic():
        stop_trading(organization_id=buyer.pk, market_id=None, reason="wild", now=now + timedelta(milliseconds=10))
    advanced(market, now)  # and the drain read its clock before them all
    [state] = order_states(Command.objects.filter(organization=buyer))
    assert (state.status, balance(buyer.pk).held_micro) == ("cancelled", 0)


def test_the_kill_switch_of_an_organization(market, operator, buyer):
    other_market, other = given_market(now=clock.now()), given_money(given_organization("buyer"))
    given_orders(buyer, {"market": market, "side": "buy", "price": 30}, now=clock.now())
    given_orders(buyer, {"market": other_market, "side": "buy", "price": 30}, now=clock.now())
    [theirs] = given_orders(other, {"market": market, "side": "buy", "price": 30}, now=clock.now())
    path = f"/v1/organizations/{buyer.pk}/controls"
    answer = operator.post(path, {"action": "stop", **REASON})
    assert answer.status_code == 201 and answer.json()["stops"][0]["market"] is None
    api = given_api(buyer)
    assert api.post("/v1/orders", order(market)).json()["code"] == "trading-stopped"
    advanced(market, clock.now())
    advanced(other_market, clock.now())
    assert {row["status"] for row in api.get("/v1/orders").json()["items"]} == {"cancelled"}
    assert given_api(other).get(f"/v1/orders/{theirs}").json()["status"] == "open"
    assert balance(buyer.pk).held_micro == 0
    entry = AuditEntry.objects.get(verb="trading.stop")
    assert not entry.before["stopped"] and entry.after["cancelled_in"] == sorted([market.pk, other_market.pk])
    assert operator.post(path, {"action": "stop", **REASON}).status_code == 201
    assert TradingStop.objects.count() == 1
    assert operator.post(path, {"action": "allow", **REASON}).json()["stops"] == []
    assert api.post("/v1/orders", order(market)).status_code == 202


def test_an_organization_stopped_in_one_market_trades_in_others(market, operator, buyer):
    other_market, api = given_market(now=clock.now()), given_api(buyer)
    mine = api.post("/v1/orders", order(market)).json()["id"]
    operator.post(f"/v1/organizations/{buyer.pk}/controls", {"action": "stop", "market": market.pk, **REASON})
    assert api.patch(f"/v1/orders/{mine}", {"quantity": 5_000}).json()["code"] == "trading-stopped"
    results = api.post("/v1/orders/batch", {"orders": [order(market), order(other_market)]}).json()["results"]
    assert [row.get("code", row["status"]) for row in results] == ["trading-stopped", "accepted"]


def test_controls_are_the_operators_alone(market, operator, buyer):
    api = given_api(buyer)
    for path in (f"/v1/markets/{market.pk}/controls", f"/v1/organizations/{buyer.pk}/controls"):
        assert api.get(path).status_code == api.post(path, {"action": "halt", **REASON}).status_code == 404
        assert operator.get(path).status_code == 200
        assert operator.post(path, {"action": "dance", **REASON}).status_code == 400
        assert operator.post(path, {"action": "halt"}).json()["field"] in ("reason", "action")
    assert operator.post("/v1/markets/999999/controls", {"action": "halt", **REASON}).status_code == 404
    assert operator.post("/v1/organizations/999999/controls", {"action": "stop", **REASON}).status_code == 404
    advanced(market)
    late = operator.post(f"/v1/markets/{market.pk}/controls", {"action": "halt", **REASON})
    assert (late.status_code, late.json()["code"]) == (409, "market-closed")
    assert not AuditEntry.objects.filter(verb__startswith="market.").exists()


def test_the_command_does_the_same(market, buyer, capsys):
    given_orders(buyer, {"market": market, "side": "buy", "price": 30}, now=clock.now())
    call_command("control", "kill", str(market.pk), "--reason", "drill")
    call_command("control", "stop", str(buyer.pk), "--reason", "drill", "--market", str(market.pk))
    out = capsys.readouterr().out
    assert f"market {market.pk}: halted" in out and f"organization {buyer.pk}: stopped in market {market.pk}" in out
    advanced(market, clock.now())
    assert balance(buyer.pk).held_micro == 0
    call_command("control", "resume", str(market.pk), "--reason", "drill")
    call_command("control", "allow", str(buyer.pk), "--reason", "drill", "--market", str(market.pk))
    with pytest.raises(CommandError, match="no market"):
        call_command("control", "halt", "999999", "--reason", "drill")
    advanced(market, clock.now())


def test_the_console_does_the_same(client, market, buyer):
    person = given_user(given_organization("operator"), is_staff=True, is_superuser=True)
    client.force_login(person)
    listed = reverse("admin:exchange_market_changelist")
    assert client.get(listed).status_code == 200
    chosen = {"action": "halt", "_selected_action": [market.pk], **REASON}
    client.post(listed, chosen)
    assert Market.objects.get(pk=market.pk).halted
    assert AuditEntry.objects.get(verb="market.halt").user_id == person.pk
    client.post(listed, {**chosen, "action": "resume"})
    assert not Market.objects.get(pk=market.pk).halted
    added = client.post(
        reverse("admin:exchange_tradingstop_add"), {"organization": buyer.pk, "market": "", "reason": "drill"}
    )
    assert added.status_code == 302, added.content[:500]
    [stop] = TradingStop.objects.all()
    allowed = {"action": "allow", "_selected_action": [stop.pk], **REASON}
    client.post(reverse("admin:exchange_tradingstop_changelist"), allowed)
    assert TradingStop.objects.get().ended_at is not None
    limits = {"organization": buyer.pk, "orders_per_minute": 7}
    assert client.post(reverse("admin:exchange_tradinglimits_add"), limits).status_code == 302
    assert AuditEntry.objects.get(verb="limits.set").after["orders_per_minute"] == 7
    for name in ("lease", "intervention", "tradinglimits", "tradingstop"):
        assert client.get(reverse(f"admin:exchange_{name}_changelist")).status_code == 200
    onlooker = given_user(given_organization("buyer"), is_staff=True)
    client.force_login(onlooker)
    client.post(listed, chosen)
    assert not Market.objects.get(pk=market.pk).halted
    advanced(market, clock.now())


def test_mass_cancel_of_one_side(market, buyer):
    seller = given_seller(market)
    both = {"market": market, "lots": 1, "price": 40}
    given_orders(seller, {**both, "side": "sell"}, {**both, "side": "sell"}, now=clock.now())
    given_orders(seller, {**both, "side": "buy", "price": 20}, now=clock.now())
    api = given_api(seller)
    sent = api.post(
        "/v1/orders/batch", {"orders": [{"action": "cancel_all", "market": market.pk, "side": "sell"}]}
    ).json()
    assert sent["accepted"] == 1
    advanced(market, clock.now())
    shown = {(row["side"], row["status"]) for row in api.get("/v1/orders").json()["items"]}
    assert shown == {("sell", "cancelled"), ("buy", "open")}
    wrong = {"orders": [{"action": "cancel_all", "market": market.pk, "side": "up"}]}
    assert api.post("/v1/orders/batch", wrong).json()["results"][0]["code"] == "invalid"


class TestLeases:
    def test_orders_under_a_lease_go_when_it_runs_out(self, market, buyer, settings):
        api = given_api(buyer)
        guarded = order(market, cancel_on_disconnect=True)
        assert api.post("/v1/orders", guarded).json()["code"] == "no-lease"
        begun = api.post("/v1/leases", {"seconds": 60}).json()
        under = api.post("/v1/orders", guarded).json()["id"]
        free = api.post("/v1/orders", order(market)).json()["id"]
        advanced(market, clock.now())
        tasks.sweep()
        assert not Intervention.objects.exists()
        assert api.get("/v1/leases").json()["expires_at"] == begun["expires_at"]
        Lease.objects.update(
            begun_at=clock.now() - timedelta(minutes=3),
            renewed_at=clock.now() - timedelta(minutes=2), expires_at=clock.now() - timedelta(seconds=1),
        )  # fmt: skip
        assert api.post("/v1/orders", guarded).json()["code"] == "no-lease"
        tasks.sweep()
        tasks.sweep()
        assert Intervention.objects.count() == 1
        advanced(market, clock.now())
        shown = {name: api.get(f"/v1/orders/{id_}").json() for name, id_ in (("under", under), ("free", free))}
        assert (shown["under"]["status"], shown["under"]["reason"]) == ("cancelled", "disconnected")
        assert shown["free"]["status"] == "open"
        assert balance(buyer.pk).held_micro == 30_000_000
        assert api.post("/v1/leases").status_code == 201
        assert api.post("/v1/orders", guarded).status_code == 202

    def test_a_heartbeat_keeps_them_and_a_late_one_begins_anew(self, market, buyer):
        api = given_api(buyer)
        first = api.post("/v1/leases", {"seconds": 60}).json()
        under = api.post("/v1/orders", order(market, cancel_on_disconnect=True)).json()["id"]
        again = api.post("/v1/leases", {"seconds": 600}).json()
        assert again["begun_at"] == first["begun_at"] and again["expires_at"] > first["expires_at"]
        past = clock.now() - timedelta(seconds=1)
        Lease.objects.update(
            begun_at=past - timedelta(minutes=5), renewed_at=past - timedelta(minutes=4), expires_at=past
        )
        late = api.post("/v1/leases", {"seconds": 60}).json()
        assert late["begun_at"] > first["begun_at"] and late["ended_at"] is None
        advanced(market, clock.now())
        assert api.get(f"/v1/orders/{under}").json()["reason"] == "disconnected"

    def test_ending_it_cancels_at_once(self, market, buyer):
        api = given_api(buyer)
        assert api.get("/v1/leases").status_code == api.delete("/v1/leases").status_code == 404
        api.post("/v1/leases")
        under = api.post("/v1/orders", order(market, cancel_on_disconnect=True)).json()["id"]
        assert api.delete("/v1/leases").json()["ended_at"] is not None
        advanced(market, clock.now())
        assert api.get(f"/v1/orders/{under}").json()["status"] == "cancelled"
        assert Command.objects.count() == 1

    @pytest.mark.parametrize("seconds", [0, 1, 3_601, "30x", None])
    def test_refuses_odd_lengths(self, buyer, seconds):
        answer = given_api(buyer).post("/v1/leases", {"seconds": seconds})
        assert (answer.status_code, answer.json()["field"]) == (400, "seconds")


@pytest.mark.proof
@pytest.mark.django_db(transaction=True)
class TestRaces:
    """The stop comes while orders do: each is before it, and cancelled, or after it, and refused."""

    def test_no_order_outlives_the_stop_of_its_organization(self, market, buyer, race):
        def place(client_order):
            with transaction.atomic():
                request = OrderRequest(
                    market_id=market.pk, side="buy", quantity_tokens=1_000, price_nano=3_000_000,
                    client_order_id=client_order,
                )  # fmt: skip
                [outcome] = accept(organization=buyer, requests=[request], now=clock.now())
            return outcome

        def place_many(sender):
            return [place(f"{sender}-{number}") for number in range(12)]

        def stop():
            with transaction.atomic():
                stop_trading(organization_id=buyer.pk, market_id=None, reason="wild", now=clock.now())

        outcomes = race(*(partial(place_many, sender) for sender in range(3)), stop)
        assert outcomes.pop() is None
        codes = [getattr(outcome, "code", "accepted") for each in outcomes for outcome in each]
        assert set(codes) <= {"accepted", "trading-stopped"}
        advanced(market, clock.now())
        assert all(state.ended for state in order_states(Command.objects.filter(organization=buyer)))
        assert Command.objects.filter(organization=buyer).count() == codes.count("accepted")
        assert balance(buyer.pk).held_micro == 0
        assert place("later").code == "trading-stopped"
