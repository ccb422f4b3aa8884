"""Storing usage: exactly once, in disjoint classes, with a rollup that always equals the events."""

from datetime import timedelta
from typing import Any

import psycopg
import pytest
from ciyuan.standard_token import REFERENCE_7B, work

from metering_ingest.ingest_workers import close_own_connection, own_connection
from metering_ingest.models import LateUsage, RejectedEvent, UntimedIdentity, UsageEvent, UsageRollup, UsageVoid
from tests.metering.conftest import NOW, Send, event, statuses


def rollup() -> dict[int, int]:
    sums: dict[int, int] = {}
    for row in UsageRollup.objects.all():
        sums[row.token_class] = sums.get(row.token_class, 0) + row.quantity
    return {code: n for code, n in sums.items() if n}


def test_an_event_is_stored_in_disjoint_classes_with_its_work(send: Send) -> None:
    assert statuses(send(event(reasoning_tokens=5))) == ["accepted"]
    row = UsageEvent.objects.get()
    assert (row.input_tokens, row.cached_tokens, row.output_tokens, row.reasoning_tokens) == (60, 40, 15, 5)
    assert (row.input_micro_st, row.cached_micro_st, row.output_micro_st) == tuple(work(REFERENCE_7B, 100, 40, 20))
    assert (row.contract_id, row.deployment_id, row.id, row.subject) == (1, 7, "e-1", "buyer-1")
    assert row.event_key.bytes[:6] == int((NOW - timedelta(minutes=30)).timestamp() * 1000).to_bytes(6, "big")
    assert rollup() == {1: 1, 2: 60, 3: 40, 4: 15, 5: 5}


def test_the_same_event_counts_once_whatever_is_resent(send: Send) -> None:
    assert statuses(send(event(), event("e-2"))) == ["accepted", "accepted"]
    assert statuses(send(event(), event("e-3"), event("e-3"))) == ["duplicate", "accepted", "duplicate"]
    assert statuses(send(event("e-3"), event("e-2"), event())) == ["duplicate"] * 3
    assert UsageEvent.objects.count() == 3
    assert rollup()[1] == 3


def test_the_same_id_with_other_content_is_a_conflict_and_kept_aside(send: Send) -> None:
    assert statuses(send(event(), event(output_tokens=21))) == ["accepted", "conflict"]
    assert statuses(send(event(output_tokens=22), event("e-2"))) == ["conflict", "accepted"]
    assert UsageEvent.objects.get(id="e-1").output_tokens == 20
    assert RejectedEvent.objects.filter(code="conflict").count() == 2


def test_what_is_kept_beside_the_counts_is_content_too(send: Send) -> None:
    classes = {"input.text": 3, "search_calls": 2}
    first = event("e-1", status="200", tags={"team": "词元", "app": "x"}, duration_ms=12)
    second = event("e-2") | {"data": {"classes": classes, "attempt_id": "7"}}
    assert statuses(send(first, second)) == ["accepted"] * 2
    again = event("e-1", duration_ms=12, tags={"app": "x", "team": "词元"}, status="200")
    assert statuses(send(again, second, event("e-3"))) == ["duplicate", "duplicate", "accepted"]
    others = [event("e-1", status="200", duration_ms=12), event("e-1"),
              event("e-2") | {"data": {"classes": classes | {"search_calls": 3}, "attempt_id": "7"}}]  # fmt: skip
    for other in others:
        assert statuses(send(other)) == ["conflict"]
    assert UsageEvent.objects.count() == 3
    assert rollup()[30] == 2


def test_a_bad_event_never_fails_its_neighbours(send: Send) -> None:
    bad = [
        event("n", input_tokens=-1),
        event("u", inputs=1),
        event("c", cached_input_tokens=101),
        event("s", subject="stranger"),
        event("f", time=(NOW + timedelta(minutes=6)).isoformat()),
        event("o", time="2022-12-31T23:59:59Z"),
        event("l", output_tokens=10**30),
        event("r", reasoning_tokens=21),
        event("0\0"),
    ]
    results = send(event("a"), *bad, event("z"))
    assert statuses(results) == [
        "accepted", "negative-count", "unknown-field", "negative-leaf", "unknown-subject", "future-time", "too-old",
        "count-too-large", "negative-leaf", "invalid-event", "accepted",
    ]  # fmt: skip
    assert results[1].rejection is not None and results[1].rejection.field == "data.input_tokens"
    assert UsageEvent.objects.count() == 2
    assert RejectedEvent.objects.count() == len(bad)
    assert statuses(send(*bad)) == statuses(results)[1:-1]
    assert RejectedEvent.objects.count() == len(bad)


def test_an_event_without_time_is_the_same_event_when_sent_again(send: Send) -> None:
    assert statuses(send(event(time=None))) == ["accepted"]
    later = NOW + timedelta(days=2)
    assert statuses(send(event(time=None), event("e-2", time=None), now=later)) == ["duplicate", "accepted"]
    assert UntimedIdentity.objects.count() == 2
    assert UsageEvent.objects.count() == 2


def test_vendor_usage_and_classes_are_taken_apart(send: Send) -> None:
    openai = {
        "prompt_tokens": 100, "completion_tokens": 30, "total_tokens": 130,
        "prompt_tokens_details": {"cached_tokens": 64}, "completion_tokens_details": {"reasoning_tokens": 10},
    }  # fmt: skip
    plain = {"data": {"format": "openai", "usage": openai}}
    classes = {"data": {"classes": {"input.text": 5, "input.image": 7, "output.text": 2, "search_calls": 3}}}
    wrong = {"data": {"format": "openai", "usage": openai | {"total_tokens": 131}}}
    results = send(event("v") | plain, event("k") | classes, event("w") | wrong)
    assert statuses(results) == ["accepted", "accepted", "total-mismatch"]
    assert results[2].rejection is not None and results[2].rejection.field == "data.usage.total_tokens"
    row = UsageEvent.objects.get(id="v")
    assert (row.input_tokens, row.cached_tokens, row.output_tokens, row.reasoning_tokens) == (36, 64, 20, 10)
    assert UsageEvent.objects.get(id="k").details == {"classes": {"input.image": 7, "search_calls": 3}}
    assert rollup() == {1: 2, 2: 41, 3: 64, 4: 22, 5: 10, 10: 7, 30: 3}


def test_a_void_takes_an_event_back_once(send: Send) -> None:
    stored = event("e-1", status="200")
    send(stored, event("e-2"))
    void = event("v-1", type="ciyuan.usage.void", data={"refers_to": {"id": "e-1", "time": stored["time"]}})
    assert statuses(send(void)) == ["accepted"]
    assert statuses(send(void)) == ["duplicate"]
    assert UsageVoid.objects.get().reason == "voided"
    assert UsageEvent.objects.count() == 2
    assert rollup() == {1: 1, 2: 60, 3: 40, 4: 20}
    assert LateUsage.objects.get().contract_id == 1
    unknown = event("v-2", type="ciyuan.usage.void", data={"refers_to": {"id": "none", "time": stored["time"]}})
    assert statuses(send(unknown)) == ["unknown-original"]


def test_an_amendment_replaces_its_original(send: Send) -> None:
    stored = event("e-1")
    send(stored)
    amendment = event("a-1", type="ciyuan.usage.amend", output_tokens=50,
                      refers_to={"id": "e-1", "time": stored["time"]})  # fmt: skip
    lost = event("a-2", type="ciyuan.usage.amend", refers_to={"id": "e-9", "time": stored["time"]})
    assert statuses(send(amendment, lost, event("e-3"))) == ["accepted", "unknown-original", "accepted"]
    assert statuses(send(amendment)) == ["duplicate"]
    assert rollup() == {1: 2, 2: 120, 3: 80, 4: 70}
    assert {row.id for row in UsageEvent.objects.all()} == {"e-1", "a-1", "e-3"}


@pytest.mark.parametrize("day", ["2023-01-01", "2026-11-20"])
def test_a_day_gets_its_partition_on_first_need(send: Send, day: str) -> None:
    assert statuses(send(event(time=f"{day}T00:00:00Z"), event("e-2", time=f"{day}T23:59:59.999Z"))) == ["accepted"] * 2
    assert UsageEvent.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_a_connection_half_made_or_left_in_a_transaction_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """The database may die in the middle of anything: the next request of this thread opens another connection."""
    close_own_connection()
    connect = psycopg.connect

    def dies(**given: Any) -> Any:
        connection = connect(**given)
        connection.close()
        return connection

    monkeypatch.setattr(psycopg, "connect", dies)
    for _ in range(2):
        with pytest.raises(psycopg.OperationalError):
            own_connection()
    monkeypatch.undo()
    first = own_connection()
    assert first is own_connection()
    first.execute("BEGIN")
    second = own_connection()
    assert second is not first and first.closed
    with pytest.raises(psycopg.errors.UndefinedTable):
        second.execute("BEGIN; SELECT 1 FROM nowhere", prepare=False)
    third = own_connection()
    assert third is not second and third.execute("SELECT 1").fetchone() == (1,)
    close_own_connection()
