"""Certificates: assessed from what each request took, valid for 30 days, the limit of what may be published."""

import subprocess
import sys
from dataclasses import replace
from datetime import timedelta

import pytest
from ciyuan.certify import Endpoint, measure
from ciyuan.reference_workload import REPEATS, VERSION, reference_workload
from ciyuan.standard_token import REFERENCE_7B, work, work_function

from core import clock
from providers.domain.certificate import NotTheWorkload, Run, Served, assess, percentile, runs_of
from providers.models import Certificate
from scenarios.engine import Behaviour, Engine
from scenarios.engine.serving import serving
from tests.given import given_api, given_deployment, given_grade, given_organization, given_window
from tests.sdk.in_process import client_of, commands

PARTS = reference_workload(max_context_tokens=32_768, max_output_tokens=4_096)
SECONDS = {"short": 20, "long": 30, "cached": 10, "batch": 40}


def runs(*, faster=1.0, skip=(), parts=PARTS, **changes):
    """A whole run; every part takes a little longer with each repeat."""
    return [
        {
            "part": part.name, "duration_ms": round((SECONDS[part.name] + repeat) * 1000 / faster), "failed": 0,
            "served": [[part.input_tokens, part.shared_tokens, part.output_tokens, 40 + n % 10, 2_000]
                       for n in range(part.requests)],
        } | changes
        for part in parts if part.name not in skip
        for repeat in range(REPEATS)
    ]  # fmt: skip


def report(deployment, **changes):
    return {
        "deployment": deployment.pk, "workload": VERSION, "model": deployment.grade.model_card.slug,
        "engine": deployment.engine, "precision": deployment.precision, "accelerator": deployment.accelerator.slug,
        "accelerator_count": deployment.accelerator_count, "measured_at": clock.now().isoformat(), "runs": runs(),
    } | changes  # fmt: skip


def test_the_rate_is_that_of_the_slowest_part_and_the_spread_that_of_all_runs():
    found = assess(runs_of(runs()), wanted=PARTS, work=work_function(REFERENCE_7B, 100), accelerators=8)
    by_hand = {}
    for part in PARTS:
        done = (
            part.requests * work(REFERENCE_7B, part.input_tokens, part.shared_tokens, part.output_tokens).total_micro_st
        )
        by_hand[part.name] = done * 60 // ((SECONDS[part.name] + 1) * 1_000_000)
    assert {name: part["tokens_per_minute"] for name, part in found.parts.items()} == by_hand
    assert found.tokens_per_minute == min(by_hand.values())
    assert (found.ttft_p50_ms, found.ttft_p95_ms, found.requests) == (44, 49, 336 * REPEATS)
    assert found.accelerator_ns_per_st_low < found.accelerator_ns_per_st < found.accelerator_ns_per_st_high
    slowest = 8 * 60 * 10**9 / min(by_hand.values())
    assert found.accelerator_ns_per_st_high == pytest.approx(slowest, rel=0.1)


def test_percentiles_are_nearest_rank():
    assert [percentile(list(range(1, 21)), p) for p in (0, 5, 50, 95, 100)] == [1, 1, 10, 19, 20]
    assert percentile([], 50) == 0


@pytest.mark.parametrize(("given", "says"), [
    (runs(skip=["long"]), "long has 0 of 3 repeats"),
    (runs(failed=9), "failed; at most 1%"),
    (runs(served=[[256, 0, 128, 40, 2_000]]), "1 of 64 requests"),
    ([*runs(), *runs(part="other")], "no part 'other'"),
    (runs(parts=[replace(part, output_tokens=4) for part in PARTS]), "4 outputs a request"),
    (runs(parts=[replace(part, input_tokens=part.input_tokens // 3, shared_tokens=0) for part in PARTS]), "85 inputs"),
    (runs(served=[[256, 900, 128, 40, 2_000]] * 64), "impossible counts"),
    (runs(served=[[256, 0, 128, 40, 10**8]] * 64), "longer than its run"),
])  # fmt: skip
def test_a_report_that_is_not_the_workload_is_refused_with_what_is_missing(given, says):
    with pytest.raises(NotTheWorkload, match=says):
        assess(runs_of(given), wanted=PARTS, work=work_function(REFERENCE_7B, 100), accelerators=8)


def test_a_grades_limits_cut_the_workload_down():
    for context, output in ((512, 8), (4_096, 512), (10**6, 10**5)):
        for part in reference_workload(max_context_tokens=context, max_output_tokens=output):
            assert part.input_tokens + part.output_tokens <= context
            assert 0 < part.output_tokens <= output and part.shared_tokens < part.input_tokens
    assert Run("a", 1, 0, [Served(1, 0, 1, 0, 1)]).failed == 0


@pytest.mark.django_db
def test_it_limits_what_may_be_published_until_it_ends():
    deployment = given_deployment(grade=given_grade(max_context_tokens=32_768, max_output_tokens=4_096))
    provider = given_api(deployment.provider)
    body = report(deployment)
    made = provider.post("/v1/certificates", body, key="c-1")
    assert made.status_code == 201, made.json()
    shown = made.json()
    assert provider.post("/v1/certificates", body, key="c-1").json() == shown
    assert shown["limit_tokens_per_minute"] == shown["tokens_per_minute"] * 900 // 1_000
    now = provider.get(f"/v1/deployments/{deployment.pk}").json()
    assert now["limit_tokens_per_minute"] == shown["limit_tokens_per_minute"]
    assert now["certified_tokens_per_minute"] == shown["tokens_per_minute"]
    row = Certificate.objects.get()
    assert row.valid_until - row.measured_at == timedelta(days=30)
    assert provider.get(f"/v1/certificates?deployment={deployment.pk}").json()["items"][0]["id"] == row.pk

    def offer(window, rate):
        return provider.post("/v1/capacity", {
            "deployment": deployment.pk, "quantity": 1_000, "tokens_per_minute": rate, "reserve_price": "0.002",
            "window": {"start": window.start.isoformat(), "end": window.end.isoformat()}, "list_price": "0.005",
            "wait": True,
        })  # fmt: skip

    within, after = (given_window(clock.now() + timedelta(days=days)) for days in (2, 40))
    refused = offer(within, shown["limit_tokens_per_minute"] + 1)
    assert (refused.status_code, refused.json()["code"]) == (400, "capacity-beyond-rate")
    offered = offer(within, shown["limit_tokens_per_minute"]).json()
    assert offered["certified"] is True
    uncertified = offer(after, deployment.rated_tokens_per_minute).json()  # after its end the rating and the roofline
    assert uncertified["certified"] is False


@pytest.mark.django_db
def test_strangers_other_engines_old_runs_and_impossible_rates_are_refused():
    deployment = given_deployment(grade=given_grade(max_context_tokens=32_768, max_output_tokens=4_096))
    provider, operator = given_api(deployment.provider), given_api(given_organization("operator"))
    stranger = given_api(given_organization("provider"))
    assert stranger.post("/v1/certificates", report(deployment)).status_code == 404
    assert (
        given_api(deployment.provider, scopes=["read"]).post("/v1/certificates", report(deployment)).status_code == 403
    )
    now = clock.now()
    for changes, code in (
        ({"engine": "another 9"}, "certificate-mismatch"),
        ({"model": "another"}, "certificate-mismatch"),
        ({"accelerator_count": deployment.accelerator_count + 1}, "certificate-mismatch"),
        ({"workload": "CW-2025.9"}, "certificate-outdated"),
        ({"measured_at": (now - timedelta(days=2)).isoformat()}, "certificate-outdated"),
        ({"measured_at": (now + timedelta(minutes=5)).isoformat()}, "certificate-outdated"),
        ({"runs": runs(skip=["batch"])}, "certificate-incomplete"),
        ({"runs": runs(served=[["x"]])}, "certificate-incomplete"),
        ({"runs": [run | {"duration_ms": 1, "served": [[*one[:3], 0, 1] for one in run["served"]]} for run in runs()]},
         "deployment-implausible"),
    ):  # fmt: skip
        refused = provider.post("/v1/certificates", report(deployment, **changes))
        assert (refused.status_code in (400, 409), refused.json()["code"]) == (True, code)
    assert Certificate.objects.count() == 0
    assert operator.post("/v1/certificates", report(deployment)).status_code == 201
    again = provider.post("/v1/certificates", report(deployment, measured_at=(now - timedelta(hours=1)).isoformat()))
    assert again.json()["code"] == "certificate-outdated"


async def test_what_is_measured_is_what_the_endpoint_did():
    parts = [replace(part, requests=6, at_once=3, input_tokens=min(part.input_tokens, 400),
                     shared_tokens=min(part.shared_tokens, 300), output_tokens=8) for part in PARTS]  # fmt: skip
    engine = Engine(Behaviour(first_token_ms=20, tokens_per_s=400, answer_tokens=64))
    async with serving(engine) as url:
        found = await measure(Endpoint(f"{url}/v1", "sim-7b"), parts, seed=7)
    assert [run["part"] for run in found] == ["short", "long", "cached", "batch"] * REPEATS
    for run in found:
        assert run["failed"] == 0 and len(run["served"]) == 6
        for inputs, cached, outputs, first, total in run["served"]:
            assert outputs == 8 and 20 <= first <= total <= run["duration_ms"]
            wanted = 256 if run["part"] == "short" else 400
            assert wanted * 0.7 < inputs < wanted * 1.3
            assert (cached > 0) == (run["part"] == "cached")
    by_hand = assess(runs_of(found), wanted=parts, work=work_function(REFERENCE_7B, 100), accelerators=1)
    assert by_hand.requests == 6 * 4 * REPEATS


@pytest.mark.proof
@pytest.mark.django_db(transaction=True)
def test_the_command_measures_an_endpoint_and_certifies_it(monkeypatch, capsys):
    deployment = given_deployment(grade=given_grade(max_context_tokens=512, max_output_tokens=8))
    model = deployment.grade.model_card.slug
    command = [sys.executable, "-m", "scenarios.engine", "--port", "0", "--model", model, "--tokens-per-s", "500"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as engine:
        try:
            url = engine.stdout.readline().split()[-1]
            run = commands(monkeypatch, capsys)
            code, said, told = run(
                client_of(given_api(deployment.provider)), "certify", str(deployment.pk), "--endpoint", url
            )
        finally:
            engine.terminate()
    assert code == 0, told
    row = Certificate.objects.get()
    assert f"{row.tokens_per_minute:,} standard tokens a minute" in said
    assert (row.requests, row.failed, row.measured_by) == (336 * REPEATS, 0, deployment.provider)
    assert 20 <= row.ttft_p50_ms <= row.ttft_p95_ms
    deployment.refresh_from_db()
    assert deployment.certified_tokens_per_minute == row.tokens_per_minute
