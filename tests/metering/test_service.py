"""Service promises: what three sides report decides which minutes were not delivered and which hours were late."""

import json
from datetime import timedelta
from time import perf_counter

import httpx
import pytest
from ciyuan.service_minutes import Promise, ServiceMinutes, p95

from core import clock
from core.transactions import durable
from exchange.models import Shortfall
from metering_ingest import service_queries, tasks
from metering_ingest.actions import probes
from metering_ingest.domain.service import Seen, failed, late, two_of_three
from metering_ingest.domain.settlement import DeploymentUsage, Late, LineKind, Lot, Pot, Terms, settle
from metering_ingest.models import Probe, ServiceFinding, ServiceMinute, ServiceWarning
from providers.models import Certificate
from tests.given import Api, given_api, given_deployment, given_grade, given_money, given_organization, given_user
from tests.metering.given import given_contract, given_market, given_meter, given_meter_key

MINUTE = timedelta(minutes=1)


# -- the rule ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (None, None), (Seen(limited=9), None), (Seen(served=100, failed=1), False), (Seen(served=99, failed=1), False),
        (Seen(served=98, failed=2), True), (Seen(failed=1), True),
    ],
)  # fmt: skip
def test_a_minute_fails_beyond_the_promised_share(seen, expected):
    assert failed(seen, error_share_thousandths=10) is expected


def test_an_hour_is_late_when_more_than_five_in_a_hundred_are():
    assert late(None) is late(Seen(served=5)) is None
    assert late(Seen(first_measured=100, first_late=5)) is False
    assert late(Seen(first_measured=100, first_late=6)) is True
    assert late(Seen(token_measured=3, token_late=1)) is False, "one among few shows nothing"
    assert late(Seen(first_measured=100, token_measured=20, token_late=2)) is True
    assert two_of_three([True, None, True]) and not two_of_three([True, False, None])


def test_late_work_is_cheaper_and_the_provider_owes_it():
    lots = [Lot(1, 1_000, 2_000, 2_000), Lot(2, 1_000, 3_000, 3_000)]
    used = [DeploymentUsage(7, 1_500 * 10**6)]
    settled = settle(lots, used, terms=Terms(600), late=Late(1_200 * 10**6, 100))
    lines = [line for line in settled.lines if line.kind is LineKind.LATE]
    assert [(line.lot_number, line.quantity_micro_st, line.buyer_amount_micro) for line in lines] == [
        (1, 1_000 * 10**6, -200), (2, 200 * 10**6, -60),
    ]  # fmt: skip
    pots, plain = settled.pots(), settle(lots, used, terms=Terms(600)).pots()
    assert pots[Pot.BUYER] - plain[Pot.BUYER] == 260 and pots[Pot.PENALTY] == -260 and sum(pots.values()) == 0
    assert all(pots[pot] == plain[pot] for pot in Pot if pot not in (Pot.BUYER, Pot.PENALTY))


# -- what guard and gateway send ---------------------------------------------------------------------------------------


def test_minutes_are_counted_kept_and_sent_once(tmp_path):
    minutes = ServiceMinutes(tmp_path / "minutes.json", deployment=7)
    promise = Promise(100, 50)
    assert not minutes.turn(600.0)
    for first in (50, 90, 150):
        minutes.served(41, 7, 601.0, promise, first_ms=first, token_ms=40)
    minutes.failed(41, 7, 602.0)
    minutes.limited(41, 7, 603.0)
    assert not minutes.turn(659.0) and minutes.turn(720.5)
    assert [(row["minute"][14:16], row["contract"]) for row in minutes.waiting] == [
        ("10", 41), ("10", None), ("11", None),
    ]  # fmt: skip
    row = minutes.waiting[0]
    assert (row["served"], row["failed"], row["limited"]) == (3, 1, 1)
    assert (row["first_measured"], row["first_late"], row["first_token_ms"], row["token_late"]) == (3, 1, 150, 0)
    assert ServiceMinutes(tmp_path / "minutes.json").waiting == minutes.waiting, "a killed process's minutes stay"
    assert p95([]) is None and p95(range(100)) == 95


# -- the story ---------------------------------------------------------------------------------------------------------


class Story:
    """An hour's contract at 1,000 tokens a minute, with its gateway and guard; the window is over."""

    def __init__(self, **terms):
        self.now = clock.now()
        promise = {"error_share_thousandths": 10, "first_token_p95_ms": 500, "late_reduction_thousandths": 100}
        self.grade = given_grade(grace_seconds=1_000, **{**promise, **terms})
        self.provider, self.buyer = (
            given_money(given_organization("provider")),
            given_money(given_organization("buyer")),
        )
        self.operator = given_api(given_organization("operator"))
        self.deployment = given_deployment(self.provider, self.grade)
        self.start = (self.now - timedelta(hours=2)).replace(minute=0, second=0, microsecond=0)
        self.market = given_market(self.grade, self.start)
        self.contract = given_contract(self.deployment, self.buyer, self.market, [(60_000, 3_000, 3_000)])
        type(self.contract).objects.update(rate_tokens_per_minute=1_000)
        guard, gateway = given_meter(self.deployment), given_meter(organization=self.buyer)
        self.guard, self.gateway = Api(given_meter_key(guard)), Api(given_meter_key(gateway))
        self.buys, self.sells = given_api(self.buyer), given_api(self.provider)

    def minute(self, number, contract=True, **counts):
        at = (self.start + number * MINUTE).isoformat()
        row = {"minute": at, "deployment": self.deployment.pk, **counts}
        return row | {"contract": self.contract.pk} if contract else row

    def report(self, side, rows, run="r"):
        return side.post("/v1/service/reports", {"run": run, "minutes": rows})

    def reported(self):
        """Ten minutes fail at both sides, three at the gateway's alone; in five the guard is silent as calls fail."""
        up = [n for n in range(-1, 60) if not 30 <= n < 35]
        rows = [self.minute(n, contract=False) for n in up]
        rows += [self.minute(n, served=5, failed=5 if n < 10 else 0) for n in up if n >= 0]
        assert self.report(self.guard, rows).json() == {"new": len(rows), "probed": []}
        rows = [self.minute(n, served=1, failed=int(n < 13 or 30 <= n < 35)) for n in range(60)]
        rows[40] = self.minute(40, limited=50)
        assert self.report(self.gateway, rows).json() == {"new": 60, "probed": []}


@pytest.fixture
def story(db):
    return Story()


@pytest.mark.django_db
def test_undelivered_minutes_are_found_claimed_and_settled(story, monkeypatch):
    story.reported()
    assert story.report(story.gateway, [story.minute(3, failed=99)]).json()["new"] == 0, "what is said stays said"
    assert ServiceMinute.objects.filter(meter__role="buyer").count() == 60
    after = story.market.window_end + timedelta(seconds=501)
    monkeypatch.setattr(clock, "now", lambda: after)
    assert service_queries.markets_to_review(after - timedelta(seconds=10), after_thousandths=500) == []
    assert tasks.review_service() == 1 and tasks.review_service() == 0
    [finding] = story.buys.get("/v1/service/findings").json()["items"]
    assert finding == story.sells.get(f"/v1/service/findings/{finding['id']}").json()
    assert len(finding["minutes"]) == 15, "two sides have to show a failure"
    assert finding["minutes"][0] == {
        "minute": story.start.isoformat(), "gateway": True, "guard": True, "probe": None,
    }  # fmt: skip
    assert (finding["quantity"], finding["state"]) == (15_000, "open")
    assert story.buys.get(f"/v1/claims/{finding['claim']}").json()["state"] == "open"

    # Nobody objects: it stands before the grace is over, and the settlement refunds it with the penalty.
    monkeypatch.setattr(clock, "now", lambda: story.market.window_end + timedelta(seconds=901))
    assert tasks.review_service() == 1
    assert Shortfall.objects.get().quantity_tokens == 15_000
    assert story.buys.get(f"/v1/service/findings/{finding['id']}").json()["state"] == "upheld"
    late_objection = story.sells.post(f"/v1/service/findings/{finding['id']}/objection", {"note": "no"})
    assert (late_objection.status_code, late_objection.json()["code"]) == (409, "finding-decided")


@pytest.mark.django_db
def test_a_disputed_finding_waits_for_the_operator(story, monkeypatch):
    story.reported()
    monkeypatch.setattr(clock, "now", lambda: story.market.window_end + timedelta(seconds=501))
    tasks.review_service()
    finding = ServiceFinding.objects.get()
    path = f"/v1/service/findings/{finding.pk}"
    assert story.sells.post(f"{path}/objection", {"note": ""}).status_code == 400
    assert story.sells.post(f"{path}/objection", {"note": "the buyer's network"}).json()["state"] == "disputed"
    again = story.sells.post(f"{path}/objection", {"note": "as I said"})
    assert (again.status_code, again.json()["code"]) == (409, "already-objected")
    monkeypatch.setattr(clock, "now", lambda: story.market.window_end + timedelta(seconds=950))
    assert tasks.review_service() == 0, "it does not stand by itself any more"
    assert story.buys.post(f"{path}/ruling", {"verdict": "upheld", "note": "mine"}).status_code == 403
    ruled = story.operator.post(f"{path}/ruling", {"verdict": "rejected", "note": "the buyer's own network was down"})
    assert ruled.json()["state"] == "rejected" and not Shortfall.objects.exists()
    assert story.buys.get(f"/v1/claims/{finding.claim_id}").json()["state"] == "rejected"
    assert story.operator.post(f"{path}/ruling", {"verdict": "upheld", "note": "or not"}).status_code == 409


@pytest.mark.django_db
def test_reports_of_others_things_are_refused_whole(story):
    other = given_contract()
    for side, row, code in (
        (story.gateway, story.minute(1) | {"contract": other.pk}, "not-of-this-meter"),
        (story.gateway, story.minute(1, contract=False), "not-of-this-meter"),
        (story.guard, story.minute(1) | {"deployment": given_deployment().pk}, "not-of-this-meter"),
        (story.guard, story.minute(1) | {"contract": other.pk}, "not-of-this-meter"),
        (story.guard, story.minute(1, served=-1), "service-report-invalid"),
        (story.guard, story.minute(1, first_late=1), "service-report-invalid"),
        (story.guard, story.minute(600), "service-report-invalid"),
        (story.guard, story.minute(1) | {"minute": "soon"}, "service-report-invalid"),
        (story.guard, story.minute(1) | {"prompt": "x"}, "service-report-invalid"),
    ):
        answer = story.report(side, [story.minute(0), row])
        assert answer.json()["code"] == code, (row, answer.content)
    assert not ServiceMinute.objects.exists()
    assert story.buys.post("/v1/service/reports", {"run": "r", "minutes": [story.minute(1)]}).status_code == 403


@pytest.mark.django_db
def test_probes_are_sent_kept_and_compared(story, monkeypatch):
    monkeypatch.setattr(clock, "now", lambda: story.start + 10 * MINUTE)
    assert service_queries.deployments_to_probe(clock.now()) == [story.deployment.pk]
    asked = durable(lambda: probes.prepare(deployment_id=story.deployment.pk, now=clock.now()))
    events = [{"choices": [{"delta": {"content": f" {n}"}}]} for n in range(5)] + [{"usage": {"completion_tokens": 5}}]
    stream = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
    for content, ok, reason in (
        (stream, True, ""), (stream.removesuffix("data: [DONE]\n\n"), False, "broke off"),
        ('data: {"error": {"message": "x"}}\n\n', False, "error in the stream"),
        ("data: 7\n\ndata: [DONE]\n\n", False, "unreadable"),
    ):  # fmt: skip
        answer = probes._read(httpx.Response(200, text=content), perf_counter())
        assert (answer.ok, answer.reason) == (ok, reason)
    answer = probes._read(httpx.Response(200, text=stream), perf_counter())
    assert (answer.output_tokens, answer.text) == (5, " 0 1 2 3 4")
    for _ in range(2):  # two others of the grade say the same: that is the reference
        other = given_deployment(grade=story.grade)
        Probe.objects.create(
            deployment=other, at=clock.now() - MINUTE, ok=True, prompt=asked.prompt, answer=answer.text
        )
    assert probes.record(asked=asked, answer=answer, now=clock.now()).alike_thousandths == 1_000
    smaller = probes.Answer(True, "", 5, 5, 5, "something else altogether")
    assert probes.record(asked=asked, answer=smaller, now=clock.now()).alike_thousandths < probes.ALIKE_THOUSANDTHS
    assert service_queries.deployments_to_probe(clock.now()) == [], "every five minutes"
    unreachable = probes.ask(probes.Asked(1, "http://127.0.0.1:9/v1", (probes.Door(1, "t", "a"),), "m", 0))
    assert (unreachable.ok, unreachable.reason) == (False, "unreachable")
    assert [row["ok"] for row in story.buys.get("/v1/service/probes").json()["items"]] == [True, True]


@pytest.mark.django_db
def test_the_pages_show_the_evidence_and_take_an_objection(story, monkeypatch, client):
    story.reported()
    monkeypatch.setattr(clock, "now", lambda: story.market.window_end + timedelta(seconds=501))
    tasks.review_service()
    finding = ServiceFinding.objects.get()
    client.force_login(given_user(story.provider))
    assert f"/service/findings/{finding.pk}".encode() in client.get(f"/contracts/{story.contract.pk}/service").content
    page = client.get(f"/service/findings/{finding.pk}")
    assert page.status_code == 200
    key = page.context["objection"]["key"].value()
    sent = client.post(f"/service/findings/{finding.pk}", {"key": key, "note": "the buyer's network"})
    assert sent.status_code == 302 and finding.objections.get().note == "the buyer's network"


@pytest.mark.django_db
def test_what_needs_a_look_is_said_once(story, monkeypatch, client):
    story.reported()
    monkeypatch.setattr(clock, "now", lambda: story.start + 29 * MINUTE)
    assert tasks.warn_early() == 0, "not half of the window is over, and later minutes say nothing of now"
    monkeypatch.setattr(clock, "now", lambda: story.start + 34 * MINUTE)
    assert tasks.warn_early() == 4 and tasks.warn_early() == 0
    said = ServiceWarning.objects.values_list("kind", "organization")
    assert sorted(said) == sorted([
        ("below_rate", story.provider.pk), ("below_rate", story.buyer.pk), ("guard_silent", story.provider.pk),
        ("little_used", story.buyer.pk),
    ])  # fmt: skip
    client.force_login(given_user(story.provider))
    assert f"/contracts/{story.contract.pk}/service".encode() in client.get("/overview").content
    given_certificate(story.deployment, ends=clock.now() + timedelta(days=2))
    assert tasks.warn_early() == 1


def given_certificate(deployment, *, ends):
    """A certificate as `ciyuan certify` leaves one."""
    begun = ends - timedelta(days=30)
    return Certificate.objects.create(
        deployment=deployment, measured_by=deployment.provider, workload="CW-2026.1", model="m", engine="vllm",
        precision="bf16", accelerator="a", accelerator_count=1, measured_at=begun, recorded_at=begun, valid_until=ends,
        tokens_per_minute=1, input_tokens_per_minute=1, output_tokens_per_minute=1, ttft_p50_ms=1, ttft_p95_ms=1,
        token_p50_us=1, token_p95_us=1, accelerator_ns_per_st=1, accelerator_ns_per_st_low=1,
        accelerator_ns_per_st_high=1, requests=1, failed=0, parts={},
    )  # fmt: skip
