"""What the metering tests share: a meter whose subjects are known, and a way to store events as the door does."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import msgspec
import pytest
from ciyuan.standard_token import REFERENCE_7B
from ciyuan.standard_token_arrays import work_arrays
from django.db import connection

from metering_ingest.actions import partitions
from metering_ingest.actions.store import Result, ingest
from metering_ingest.domain.events import decode
from metering_ingest.domain.pipeline import MeterFacts
from metering_ingest.domain.routing import Route, Routes

NOW = datetime(2026, 11, 21, 4, 0, tzinfo=UTC)


def event(id_: str = "e-1", **changes: Any) -> dict[str, Any]:
    """One event as JSON; `data` members may be given by name."""
    data = {"input_tokens": 100, "cached_input_tokens": 40, "output_tokens": 20}
    whole: dict[str, Any] = {
        "specversion": "1.0", "type": "ciyuan.usage", "id": id_, "source": "gw", "subject": "buyer-1",
        "time": (NOW - timedelta(minutes=30)).isoformat(), "data": data,
    }  # fmt: skip
    for name, value in changes.items():
        if name in whole or name == "extension":
            whole[name] = value
        else:
            data[name] = value
    return {name: value for name, value in whole.items() if value is not None}


FACTS = MeterFacts(meter_id=1, deployment_id=7, work=partial(work_arrays, REFERENCE_7B))


class Book:
    """Every subject `buyer-N` has the contract N for ever; others are unknown."""

    def __call__(self, wanted: set[tuple[str, int]], /) -> dict[tuple[str, int], Routes]:
        return {
            (subject, hour): Routes((Route(0, 2**50, int(subject.removeprefix("buyer-")), 2**50),))
            if subject.startswith("buyer-") and subject[6:].isascii() and subject[6:].isdigit()
            else Routes((), "unknown-subject", f"The subject “{subject}” is not known.")
            for subject, hour in wanted
        }

    def is_probe(self, attempt_id: str, /) -> bool:
        return False

    def standing(self, subject: str, /) -> int:
        raise AssertionError("every subject has a contract at any time")


BOOK = Book()
Send = Callable[..., list[Result]]


@pytest.fixture
def send(db: None) -> Send:
    """Store events on the test's own connection: `send(event(), event("e-2"))`."""
    partitions.forget_known_days()

    def send_(*events: Any, facts: MeterFacts = FACTS, book: Any = BOOK, now: datetime = NOW) -> list[Result]:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")  # psycopg begins with the first statement
        body = msgspec.json.encode(list(events))
        return ingest(connection.connection, decode(body), meter=facts, route_book=book, clock=lambda: now)

    return send_


def statuses(results: list[Result]) -> list[str]:
    """What became of each event: the status, or the reason's code."""
    return [r.status if r.rejection is None or r.status == "conflict" else r.rejection.code for r in results]
