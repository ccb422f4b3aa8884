"""Three meters, one truth: who is believed, what is held back, and what a decision moves."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest
from django.db import connection, transaction
from hypothesis import given
from hypothesis import strategies as st

from billing.actions.invoices import issue_invoices
from billing.domain.accounts import available, dispute, escrow
from billing.models import Charge, Invoice
from core import clock
from exchange.models import DeliveryContract
from metering_ingest import tasks
from metering_ingest.actions.attribution import access_of, forget_cached_routes, route_book_of
from metering_ingest.actions.store import ingest
from metering_ingest.audit import CHECKS
from metering_ingest.domain.events import decode
from metering_ingest.domain.reconciliation import Counts, compare, split_by_deployment
from metering_ingest.models import Discrepancy, Meter, MeterComparison, MeterScore
from tests.given import NOW, given_api, given_organization
from tests.metering.given import given_meter
from tests.metering.test_settlement import DUE, Delivery, mine

LOTS = [(10_000, 3_000_000, 3_000_000)]


class Metered(Delivery):
    """A delivery with the buyer's gateway beside the provider's meter; no take-or-pay, so that use decides all."""

    def __init__(self) -> None:
        super().__init__(take_or_pay=0, lots=LOTS)
        self.gateway = given_meter(organization=self.buyer)
        self.operator = given_organization("operator")
        self.contract = self.contracts[0]

    def seen(self, meter: Meter, *events: dict[str, Any]) -> list[str]:
        """Send events by another meter than the provider's."""
        forget_cached_routes()
        access = access_of(Meter.objects.select_related("deployment__grade__model_card").get(pk=meter.pk))
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        results = ingest(
            connection.connection, decode(msgspec.json.encode(events)), meter=access.facts,
            route_book=route_book_of(access), clock=lambda: NOW,
        )  # fmt: skip
        return [r.status for r in results]

    def both(self, provider: int, buyer: int) -> None:
        """One event of so many output tokens by either side; 1,000 input tokens each."""
        about = {"input_tokens": 1_000, "cached_input_tokens": 0}
        assert self.report(mine("p", output_tokens=provider, **about)) == ["accepted"]
        theirs = mine("b", output_tokens=buyer, **about) | {"subject": f"contract:{self.contract.pk}"}
        assert self.seen(self.gateway, theirs) == ["accepted"]

    def audit(self) -> list[str]:
        return [str(finding) for _, check in CHECKS for finding in check()]


def at(monkeypatch: pytest.MonkeyPatch, moment: Any) -> None:
    monkeypatch.setattr(clock, "now", lambda: moment)


# ----- the rule


def test_within_the_tolerance_the_providers_count_stands() -> None:
    assert compare(Counts(1_000, 980, None), tolerance_thousandths=20) == (True, 0, None)
    assert compare(Counts(1_000, 979, None), tolerance_thousandths=20) == (False, 21, None)
    assert compare(Counts(1_000, 1_021, None), tolerance_thousandths=20) == (False, 0, None)
    assert compare(Counts(1_000, 700, 995), tolerance_thousandths=20) == (False, 300, 995)


def test_an_engine_that_also_serves_others_contradicts_nobody() -> None:
    assert compare(Counts(1_000, None, 5_000), tolerance_thousandths=0).agrees
    assert compare(Counts(1_000, None, 900), tolerance_thousandths=20) == (False, 100, None)


counts = st.integers(0, 10**12)


@given(counts, st.none() | counts, st.none() | counts, st.integers(0, 1_000))
def test_nothing_is_held_that_was_not_reported(provider, buyer, engine, tolerance) -> None:
    verdict = compare(Counts(provider, buyer, engine), tolerance_thousandths=tolerance)
    assert 0 <= verdict.held <= provider
    assert not (verdict.agrees and verdict.held)


@given(st.dictionaries(st.integers(1, 99), counts, min_size=1, max_size=6), st.integers(0, 1_000))
def test_a_slice_falls_on_deployments_exactly(works, share) -> None:
    amount = sum(works.values()) * share // 1_000
    parts = split_by_deployment(amount, works)
    assert sum(parts.values()) == amount
    assert all(part <= works[deployment] for deployment, part in parts.items())


# ----- through settlement


@pytest.mark.django_db
def test_meters_that_agree_settle_as_the_provider_counted() -> None:
    delivery = Metered()
    delivery.both(provider=1_000, buyer=990)
    delivery.settle()
    assert not Discrepancy.objects.exists()
    assert {c.token_class: (c.provider_quantity, c.buyer_quantity) for c in MeterComparison.objects.all()} == {
        "input": (1_000, 1_000), "output": (1_000, 990),
    }  # fmt: skip
    assert Charge.objects.get(kind="used").tokens["output.text"] == 1_000


@pytest.mark.django_db
def test_a_gateway_that_says_nothing_disputes_nothing() -> None:
    delivery = Metered()
    delivery.report(mine(output_tokens=1_000))
    delivery.settle()
    assert not Discrepancy.objects.exists() and not MeterComparison.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize(("accepted", "note"), [(1_000, "debit_note"), (800, None), (900, "debit_note")])
def test_only_the_disputed_slice_is_held_back_and_a_decision_moves_it(accepted: int, note: str | None) -> None:
    delivery = Metered()
    delivery.both(provider=1_000, buyer=800)
    paid_before = delivery.micro(available(delivery.buyer.pk))
    delivery.settle()
    row = Discrepancy.objects.get()
    assert (row.token_class, row.held_quantity, row.state) == ("output", 200, "open")
    held, used = Charge.objects.get(kind="disputed"), Charge.objects.get(kind="used")
    assert (held.buyer_amount_micro, held.quantity_micro_st) == (0, row.held_work_micro_st)
    whole = used.quantity_micro_st + held.quantity_micro_st
    waiting = delivery.micro(dispute(delivery.provider.pk, delivery.market.scope))
    assert waiting == pytest.approx(held.quantity_micro_st * 3_000_000 / 10**9, abs=1)
    assert delivery.micro(escrow(delivery.market.scope)) == 0
    assert delivery.audit() == []
    for organization in (delivery.buyer, delivery.provider):
        with transaction.atomic():
            issue_invoices(organization_id=organization.pk, now=DUE)
    refunded = delivery.micro(available(delivery.buyer.pk)) - paid_before

    operator = given_api(delivery.operator)
    path = f"/v1/discrepancies/{row.pk}/decision"
    with pytest.MonkeyPatch.context() as patch:
        at(patch, DUE + timedelta(hours=1))
        answer = operator.post(path, {"accepted_quantity": accepted, "reason": "the logs show it"}, key="d1")
        assert answer.status_code == 201, answer.json()
        assert (
            operator.post(path, {"accepted_quantity": accepted, "reason": "the logs show it"}, key="d1").json()
            == answer.json()
        )
        assert operator.post(path, {"accepted_quantity": 0, "reason": "no"}).json()["code"] == "discrepancy-closed"
    denied = row.held_work_micro_st * (1_000 - accepted) // 200
    row.refresh_from_db()
    assert row.denied_work_micro_st == pytest.approx(denied, abs=1)
    used_now = sum(Charge.objects.filter(kind="used").values_list("quantity_micro_st", flat=True))
    assert used_now == whole - row.denied_work_micro_st
    assert sum(Charge.objects.filter(kind="disputed").values_list("quantity_micro_st", flat=True)) == 0
    assert delivery.micro(dispute(delivery.provider.pk, delivery.market.scope)) == 0
    back = delivery.micro(available(delivery.buyer.pk)) - paid_before - refunded
    assert back == pytest.approx(row.denied_work_micro_st * 3_000_000 / 10**9, abs=2)
    assert delivery.audit() == []
    for organization in (delivery.buyer, delivery.provider):
        with transaction.atomic():
            issue_invoices(organization_id=organization.pk, now=DUE + timedelta(hours=2))
    notes = Invoice.objects.filter(refers_to__isnull=False, side="buyer")
    assert [n.kind for n in notes] == ([note] if note else ["credit_note"])
    assert (notes.get().total_micro > 0) == bool(note)


@pytest.mark.django_db
def test_a_sweep_opens_it_before_settlement_and_late_reports_close_it(monkeypatch: pytest.MonkeyPatch) -> None:
    delivery = Metered()
    delivery.both(provider=1_000, buyer=700)
    at(monkeypatch, NOW + timedelta(seconds=2))
    assert tasks.compare_meters() == 0, "late reports are awaited for half the grace"
    at(monkeypatch, NOW + timedelta(seconds=6))
    assert tasks.compare_meters() == 1
    assert tasks.compare_meters() == 0
    delivery.seen(delivery.gateway, mine("late", input_tokens=0, cached_input_tokens=0, output_tokens=300) | {
        "subject": f"contract:{delivery.contract.pk}"})  # fmt: skip
    tasks.compare_meters()
    row = Discrepancy.objects.get()
    assert row.state == "agreed" and row.held_work_micro_st == 0
    assert [e.kind for e in row.entries.order_by("pk")] == ["opened", "agreed"]
    delivery.settle()
    assert not Charge.objects.filter(kind="disputed").exists()


@pytest.mark.django_db
def test_a_count_that_changes_after_the_decision_opens_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    delivery = Metered()
    delivery.both(provider=1_000, buyer=700)
    at(monkeypatch, NOW + timedelta(seconds=6))
    tasks.compare_meters()
    row = Discrepancy.objects.get()
    operator = given_api(delivery.operator)
    assert operator.post(f"/v1/discrepancies/{row.pk}/decision", {"accepted_quantity": 1_001, "reason": "x"}).json()[
        "field"] == "accepted_quantity"  # fmt: skip
    operator.post(f"/v1/discrepancies/{row.pk}/decision", {"accepted_quantity": 700, "reason": "x"})
    delivery.settle()
    assert sum(c.tokens.get("output.text", 0) for c in Charge.objects.filter(kind="used")) == 1_000
    delivery.report(mine("more", input_tokens=0, cached_input_tokens=0, output_tokens=500), now=DUE)
    with transaction.atomic():
        from metering_ingest.actions.settlement import settle_market

        settle_market(market_id=delivery.market.pk, now=DUE + timedelta(seconds=5))
    row.refresh_from_db()
    assert (row.state, row.provider_quantity, row.held_quantity) == ("open", 1_500, 800)
    assert delivery.audit() == []


# ----- engines


def scrape(prompt: int, output: int, cached: int = 0) -> str:
    return (
        f'vllm:prompt_tokens_total{{engine="0"}} {prompt}\nvllm:generation_tokens_total{{engine="0"}} {output}\n'
        f'vllm:prefix_cache_hits_total{{engine="0"}} {cached}\n'
    )


@pytest.mark.django_db
def test_an_engine_that_counted_less_than_was_reported_holds_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    delivery = Metered()
    engine = given_meter(delivery.deployment, role="engine")
    api = given_api(delivery.provider, ["meter"], meter_id=engine.pk)
    hour = NOW - timedelta(hours=1)
    at(monkeypatch, NOW)
    for moment, text in ((hour, scrape(500, 100)), (hour + timedelta(minutes=40), scrape(1_200, 500)),
                         (NOW, scrape(300, 400))):  # fmt: skip
        answer = api.post("/v1/readings", {"at": moment.isoformat(), "exposition": text})
        assert (answer.status_code, answer.json()) == (201, {"counters": 3, "stored": 3})
    assert api.post("/v1/readings", {"at": NOW.isoformat(), "exposition": scrape(300, 400)}).json()["stored"] == 0
    # Two contracts share the deployment: 1,000 + 1,000 tokens reported, 400 + 400 counted since the restart.
    delivery.report(mine("a", input_tokens=1_000, cached_input_tokens=0, output_tokens=1_000))
    other = mine("b", input_tokens=0, cached_input_tokens=0, output_tokens=1_000)
    delivery.report(other | {"subject": f"contract:{delivery.contracts[1].pk}"})
    delivery.settle()
    assert [(c.contract_id == delivery.contract.pk, c.token_class, c.provider_quantity, c.engine_quantity)
            for c in MeterComparison.objects.order_by("contract_id", "token_class")] == [
        (True, "input", 1_000, 1_000), (True, "output", 1_000, 400), (False, "output", 1_000, 400),
    ]  # fmt: skip
    assert [d.held_quantity for d in Discrepancy.objects.all()] == [600, 600]
    assert delivery.audit() == []


@pytest.mark.django_db
def test_readings_are_for_engines_and_in_the_right_format(monkeypatch: pytest.MonkeyPatch) -> None:
    delivery = Metered()
    at(monkeypatch, NOW)
    provider = given_api(delivery.provider, ["meter"], meter_id=delivery.meter.pk)
    assert provider.post("/v1/readings", {"exposition": scrape(1, 1)}).json()["code"] == "not-an-engine"
    engine = given_api(delivery.provider, ["meter"], meter_id=given_meter(delivery.deployment, role="engine").pk)
    assert engine.post("/v1/readings", {"exposition": "no metrics"}).json()["field"] == "exposition"
    ahead = (NOW + timedelta(minutes=6)).isoformat()
    assert engine.post("/v1/readings", {"at": ahead, "exposition": scrape(1, 1)}).json()["field"] == "at"
    raw = engine.generic("POST", "/v1/readings", scrape(1, 1), content_type="text/plain")
    assert raw.json() == {"counters": 3, "stored": 3}


# ----- people


@pytest.mark.django_db
def test_both_sides_see_comment_and_attach_and_strangers_find_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    delivery = Metered()
    delivery.both(provider=1_000, buyer=700)
    at(monkeypatch, NOW + timedelta(seconds=6))
    tasks.compare_meters()
    row = Discrepancy.objects.get()
    buyer, provider, stranger = (
        given_api(delivery.buyer), given_api(delivery.provider), given_api(given_organization("both")),
    )  # fmt: skip
    file = {"name": "log.csv", "media_type": "text/csv", "content_base64": "YSxiCjEsMgo="}
    first = buyer.post(f"/v1/discrepancies/{row.pk}/entries", {"text": "see our log", "attachment": file})
    assert first.status_code == 201 and first.json()["side"] == "buyer"
    assert provider.post(f"/v1/discrepancies/{row.pk}/entries", {"text": "ours differs"}).json()["side"] == "provider"
    assert provider.post(f"/v1/discrepancies/{row.pk}/entries", {}).json()["field"] == "text"
    bad = file | {"content_base64": "%%"}
    assert provider.post(f"/v1/discrepancies/{row.pk}/entries", {"attachment": bad}).status_code == 400
    for api in (buyer, provider, given_api(delivery.operator)):
        shown = api.get(f"/v1/discrepancies/{row.pk}").json()
        assert [e["kind"] for e in shown["entries"]] == ["opened", "comment", "comment"]
        assert shown["entries"][0]["evidence"]["buyer"] == 700
        got = api.get(f"/v1/discrepancies/{row.pk}/entries/{first.json()['id']}/attachment")
        assert got.content == b"a,b\n1,2\n" and got["Content-Type"] == "application/octet-stream"
        assert len(api.get("/v1/discrepancies?state=open").json()["items"]) == 1
    assert stranger.get(f"/v1/discrepancies/{row.pk}").status_code == 404
    assert stranger.get(f"/v1/discrepancies/{row.pk}/entries/{first.json()['id']}/attachment").status_code == 404
    assert stranger.post(f"/v1/discrepancies/{row.pk}/entries", {"text": "x"}).status_code == 404
    assert stranger.post(f"/v1/discrepancies/{row.pk}/decision", {}).status_code == 404
    assert stranger.get("/v1/discrepancies").json()["items"] == []
    assert (
        buyer.post(f"/v1/discrepancies/{row.pk}/decision", {"accepted_quantity": 0, "reason": "x"}).status_code == 403
    )
    compared = buyer.get(f"/v1/reconciliation?contract={delivery.contract.pk}").json()["items"]
    assert [(c["token_class"], c["provider"], c["buyer"], c["agrees"]) for c in compared] == [
        ("input", 1_000, 1_000, True), ("output", 1_000, 700, False),
    ]  # fmt: skip
    assert stranger.get(f"/v1/reconciliation?contract={delivery.contract.pk}").status_code == 404


@pytest.mark.django_db
def test_a_score_follows_a_meters_history(monkeypatch: pytest.MonkeyPatch) -> None:
    delivery = Metered()
    delivery.both(provider=1_000, buyer=700)
    at(monkeypatch, NOW + timedelta(seconds=6))
    tasks.compare_meters()
    tasks.score_meters()
    assert {s.meter_id: (s.right, s.compared) for s in MeterScore.objects.all()} == {
        delivery.meter.pk: (1, 1), delivery.gateway.pk: (1, 1),
    }  # fmt: skip
    path = f"/v1/discrepancies/{Discrepancy.objects.get().pk}/decision"
    given_api(delivery.operator).post(path, {"accepted_quantity": 705, "reason": "x"})
    tasks.score_meters()
    tasks.score_meters()
    assert {s.meter_id: s.thousandths for s in MeterScore.objects.all()} == {
        delivery.meter.pk: 500, delivery.gateway.pk: 1_000,
    }  # fmt: skip
    listed = given_api(delivery.buyer).get("/v1/meters").json()["items"]
    assert [m["score_thousandths"] for m in listed] == [1_000]


@pytest.mark.django_db
def test_the_audit_finds_a_slice_that_is_not_what_was_decided(capsys: pytest.CaptureFixture[str]) -> None:
    delivery = Metered()
    delivery.both(provider=1_000, buyer=700)
    delivery.settle()
    assert delivery.audit() == []
    Discrepancy.objects.update(held_work_micro_st=5)
    assert any("disputes-are-held-back" in finding for finding in delivery.audit())


@pytest.mark.django_db
def test_a_standing_contract_is_compared_by_the_day(monkeypatch: pytest.MonkeyPatch) -> None:
    delivery = Metered()
    earlier = (NOW - timedelta(days=1)).isoformat()
    delivery.report(mine("p", output_tokens=10_000, time=earlier))
    standing = DeliveryContract.objects.get(kind="list")
    theirs = mine("b", output_tokens=9_000, time=earlier) | {"subject": f"contract:{standing.pk}"}
    assert delivery.seen(delivery.gateway, theirs) == ["accepted"]
    at(monkeypatch, NOW)
    assert tasks.compare_meters() == 1
    assert Discrepancy.objects.get().contract_id == standing.pk
