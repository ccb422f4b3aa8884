"""
From decoded events to columns: validate each with its reason, normalise to disjoint classes, measure in standard
tokens, name the contract.

The plain case (totals as integers) runs column by column over the whole batch; an event with our classes or a vendor's
usage object is taken apart by the SDK and joins the same columns. What is wrong with one event never touches another.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np
from ciyuan.usage import Usage, UsageError, parse_usage
from numpy.typing import NDArray

from metering_ingest.domain.classes import BAND_BOUNDS, COLUMN_CLASSES
from metering_ingest.domain.event_key import DIGEST_BYTES, milliseconds
from metering_ingest.domain.events import MAX_REQUEST_TOKENS, VOID, Data, Event, Rejection

Ints = NDArray[np.int64]
HOUR_MS = 3_600_000
FUTURE_MS = 5 * 60_000
#: 2023-01-01: before it there was nothing to meter, and every day costs a partition.
OLDEST_MS = 1_672_531_200_000


class Work(Protocol):
    """Columns of all input, cached input and output tokens → micro-ST of fresh input, cached input and output."""

    def __call__(self, inputs: Ints, cached: Ints, outputs: Ints, /) -> tuple[Ints, Ints, Ints]: ...


class Route(NamedTuple):
    """
    Where the usage of one subject belongs, from `start_ms` to `end_ms`: a contract (0: none), or `STANDING`, the list
    contract that is made on first need. Usage that is stored at `settles_ms` or later has it settled again.
    """

    start_ms: int
    end_ms: int
    contract_id: int
    settles_ms: int


class Routes(NamedTuple):
    """The routes of a subject that meet one hour, in order, without gaps; or why there are none."""

    routes: tuple[Route, ...]
    code: str = ""
    detail: str = ""


#: The contract of usage outside any market: the standing one, whose id the book tells.
STANDING = -1
#: A window whose market has not made its contracts yet.
UNNAMED = -2


#: What an event is kept aside with that needs nobody's help, only time.
PENDING_CODE = "contract-pending"


class RouteBook(Protocol):
    """Names contracts. It may read the database, and make a standing contract, on a connection of its own."""

    def __call__(self, wanted: set[tuple[str, int]], /) -> Mapping[tuple[str, int], Routes]:
        """Return the routes of (subject, hour since 1970) pairs."""

    def standing(self, subject: str, /) -> int:
        """Return the contract of a subject's usage outside any market."""


@dataclass(frozen=True, slots=True)
class MeterFacts:
    """What the pipeline needs to know of a meter: its deployment and how that deployment's work is counted."""

    meter_id: int
    deployment_id: int
    work: Work


@dataclass(slots=True)
class Prepared:
    """
    Columns of the events that may be stored, in key order, each of one length; and what was rejected.

    `index` is an event's place in the request. `settles_ms` says from when on the usage of a contract
    and hour is late. `details` has the deterministic JSON of what has no column.
    """

    meter: MeterFacts
    index: list[int]
    keys: list[bytes]
    contract_id: Ints
    hour: Ints
    band: Ints
    requests: Ints
    fresh: Ints
    cached: Ints
    visible: Ints
    reasoning: Ints
    work: tuple[Ints, Ints, Ints]
    source: list[str]
    id: list[str]
    subject: list[str]
    details: list[bytes | None]
    extras: dict[int, dict[str, int]]
    settles_ms: dict[tuple[int, int], int]
    days: set[int]
    rejections: list[Rejection] = field(default_factory=list)
    repeats: list[tuple[int, int]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.index)


class _Parts(NamedTuple):
    """Usage of one event by column, the rest by class, and what is kept beside it."""

    requests: int
    fresh: int
    cached: int
    visible: int
    reasoning: int
    inputs: int
    cached_inputs: int
    outputs: int
    extras: dict[str, int]


_COLUMNS = frozenset(COLUMN_CLASSES)
_encode = msgspec.json.Encoder(order="deterministic").encode


def prepare(
    events: Sequence[Event | None],
    *,
    meter: MeterFacts,
    route_book: RouteBook,
    now_ms: int,
    times_ms: Sequence[int] | None = None,
) -> Prepared:
    """
    Return the batch as columns in key order.

    :param events: None where decoding has rejected one already. Voids are for `corrections`, not for here.
    :param times_ms: the time of each event where the exchange knows it (events that came without one).
    """
    rejections: list[Rejection] = []
    places = [i for i, event in enumerate(events) if event is not None and event.type != VOID]
    chosen: list[Event] = [events[i] for i in places]  # type: ignore[misc]
    data = [event.data for event in chosen]

    def reject(row: int, code: str, detail: str, field_: str | None) -> None:
        event = chosen[row]
        rejections.append(Rejection(places[row], code, detail, field_, event.id, event.source, _encode(event)))
        keep[row] = False

    n = len(chosen)
    keep = np.ones(n, dtype=bool)
    inputs = np.array([d.input_tokens for d in data], dtype=np.int64)
    cached_in = np.array([d.cached_input_tokens for d in data], dtype=np.int64)
    outputs = np.array([d.output_tokens for d in data], dtype=np.int64)
    reasoning = np.array([d.reasoning_tokens for d in data], dtype=np.int64)
    requests = np.ones(n, dtype=np.int64)
    fresh, cached, visible = inputs - cached_in, cached_in.copy(), outputs - reasoning
    for row in np.nonzero(fresh < 0)[0].tolist():
        detail = f"cached_input_tokens {cached_in[row]} is more than input_tokens {inputs[row]}, which includes it."
        reject(row, "negative-leaf", detail, "data.cached_input_tokens")
    for row in np.nonzero(visible < 0)[0].tolist():
        detail = f"reasoning_tokens {reasoning[row]} is more than output_tokens {outputs[row]}, which includes it."
        reject(row, "negative-leaf", detail, "data.reasoning_tokens")

    details: list[bytes | None] = [None] * n
    extras: dict[int, dict[str, int]] = {}
    for row, d in enumerate(data):
        if (
            d.classes is None and d.usage is None and d.format is None and d.status is None and d.ttft_ms is None
            and d.duration_ms is None and d.attempt_id is None and d.model is None and d.tags is None
            and d.input_bytes is None and d.output_bytes is None and d.refers_to is None
        ):  # fmt: skip
            continue
        try:
            parts = _take_apart(d)
        except UsageError as error:
            if keep[row]:
                where = "data.classes" if d.classes is not None else "data.usage"
                reject(row, error.code.replace("_", "-"), f"{error.detail}.", f"{where}.{error.field}")
            continue
        if parts is not None:
            requests[row], fresh[row], cached[row], visible[row], reasoning[row] = parts[:5]
            inputs[row], cached_in[row], outputs[row] = parts[5:8]
            if parts.extras:
                extras[row] = parts.extras
        details[row] = _details(d, extras.get(row))

    if times_ms is None:
        ms = _milliseconds(chosen)
    else:
        ms = np.array([times_ms[i] for i in places], dtype=np.int64)
    for row in np.nonzero(ms > now_ms + FUTURE_MS)[0].tolist():
        if keep[row]:
            reject(row, "future-time", "The time lies more than five minutes ahead of the exchange's clock.", "time")
    for row in np.nonzero(ms < OLDEST_MS)[0].tolist():
        if keep[row]:
            reject(row, "too-old", "The event's time lies before 2023, the oldest that is kept.", "time")

    hours = ms // HOUR_MS
    contract_id = np.zeros(n, dtype=np.int64)
    settles_ms: dict[tuple[int, int], int] = {}
    subject_hours = list(zip([event.subject for event in chosen], hours.tolist(), strict=True))
    wanted = {pair for pair, kept in zip(subject_hours, keep.tolist(), strict=True) if kept}
    book = route_book(wanted)
    whole: dict[tuple[str, int], int] = {}
    for pair in wanted:
        found = book[pair]
        if len(found.routes) == 1 and not found.code and found.routes[0].contract_id != UNNAMED:
            whole[pair] = (
                route_book.standing(pair[0]) if found.routes[0].contract_id == STANDING else found.routes[0].contract_id
            )
            settles_ms[whole[pair], pair[1]] = found.routes[0].settles_ms
    if len(whole) == len(wanted) and bool(keep.all()):
        contract_id = np.array([whole[pair] for pair in subject_hours], dtype=np.int64)
    else:
        for row, pair in enumerate(subject_hours):
            if not keep[row]:
                continue
            found = book[pair]
            if found.code:
                reject(row, found.code, found.detail, "subject")
                continue
            moment = int(ms[row])
            route = next(route for route in found.routes if route.start_ms <= moment < route.end_ms)
            if route.contract_id == UNNAMED:
                detail = "The market of this time has not assigned its contracts yet; the event is replayed by itself."
                reject(row, PENDING_CODE, detail, "time")
                continue
            contract = route.contract_id if route.contract_id != STANDING else route_book.standing(pair[0])
            contract_id[row] = contract
            settles_ms[contract, pair[1]] = min(route.settles_ms, settles_ms.get((contract, pair[1]), route.settles_ms))

    work = meter.work(inputs, cached_in, outputs) if n else (inputs, inputs, inputs)
    band = np.searchsorted(np.array(BAND_BOUNDS), inputs, side="left")

    keys = _keys(chosen, ms)
    order = sorted((row for row in range(n) if keep[row]) if rejections else range(n), key=keys.__getitem__)
    order, repeats = _drop_repeats(order, keys, chosen, places, rejections)
    at = np.array(order, dtype=np.int64)
    return Prepared(
        meter=meter,
        index=[places[row] for row in order],
        keys=[keys[row] for row in order],
        contract_id=contract_id[at], hour=hours[at], band=band[at], requests=requests[at],
        fresh=fresh[at], cached=cached[at], visible=visible[at], reasoning=reasoning[at],
        work=(work[0][at], work[1][at], work[2][at]),
        source=[chosen[row].source for row in order],
        id=[chosen[row].id for row in order],
        subject=[chosen[row].subject for row in order],
        details=[details[row] for row in order],
        extras={new: extras[row] for new, row in enumerate(order) if row in extras} if extras else {},
        settles_ms=settles_ms,
        days=set(np.unique(ms[at] // (24 * HOUR_MS)).tolist()),
        rejections=rejections,
        repeats=repeats,
    )  # fmt: skip


def _milliseconds(events: Sequence[Event]) -> Ints:
    """Event times in whole milliseconds, rounded down. A float64 holds a time's microseconds well enough to round."""
    seconds = np.array([event.time.timestamp() for event in events], dtype=np.float64)  # type: ignore[union-attr]
    return np.round(seconds * 1e6).astype(np.int64) // 1_000


def _keys(events: Sequence[Event], ms: Ints) -> list[bytes]:
    clipped = np.clip(ms, 0, 2**48 - 1)
    stamps = clipped.astype(">u8").tobytes()
    return [
        stamps[8 * row + 2 : 8 * row + 8] + blake2b(f"{e.source}\0{e.id}".encode(), digest_size=DIGEST_BYTES).digest()
        for row, e in enumerate(events)
    ]


def _drop_repeats(
    order: list[int], keys: list[bytes], events: list[Event], places: list[int], rejections: list[Rejection]
) -> tuple[list[int], list[tuple[int, int]]]:
    """Keep the first of equal keys in one request; the others are duplicates of it, or conflicts with it."""
    if len({keys[row] for row in order}) == len(order):
        return order, []
    kept: list[int] = []
    repeats: list[tuple[int, int]] = []
    for row in order:
        if not kept or keys[row] != keys[kept[-1]]:
            kept.append(row)
        elif _same(events[row], events[kept[-1]]):
            repeats.append((places[row], places[kept[-1]]))
        else:
            event = events[row]
            rejections.append(conflict(places[row], event))
    return kept, repeats


def _same(one: Event, other: Event) -> bool:
    return one.data == other.data and one.subject == other.subject and one.type == other.type


def conflict(index: int, event: Event) -> Rejection:
    """Return the answer to an event whose id is taken by other content."""
    return Rejection(
        index, "conflict", "Another event with this source and id, but other content, was received before; it stands.",
        "id", event.id, event.source, _encode(event),
    )  # fmt: skip


def _take_apart(data: Data) -> _Parts | None:
    """Return the classes of an event that names them, or None for plain totals. :raises UsageError: by field."""
    if data.classes is None and data.usage is None:
        if data.format is not None:
            raise UsageError("missing", "usage", "format is given, but no usage object")
        return None
    if data.input_tokens or data.cached_input_tokens or data.output_tokens or data.reasoning_tokens:
        raise UsageError("given_twice", "input_tokens", "give plain totals, classes or a usage object: one of them")
    if data.classes is not None and data.usage is not None:
        raise UsageError("given_twice", "classes", "give classes or a usage object, not both")
    if data.classes is not None:
        usage = parse_usage("ciyuan", data.classes)
    else:
        usage = parse_usage(data.format or "openai", data.usage)
    return parts_of(usage)


def parts_of(usage: Usage) -> _Parts:
    """Return a usage by column. :raises UsageError: for more tokens than any request has."""
    if usage.total_tokens > MAX_REQUEST_TOKENS:
        raise UsageError("too_large", "total", f"{usage.total_tokens} tokens are more than any request has")
    tokens, counts = usage.tokens, usage.counts
    extras = {name: n for name, n in (*tokens.items(), *counts.items()) if name not in _COLUMNS}
    return _Parts(
        min(counts.get("requests", 1), MAX_REQUEST_TOKENS),
        tokens.get("input.text", 0), tokens.get("input.text.cache_read", 0),
        tokens.get("output.text", 0), tokens.get("output.reasoning", 0),
        usage.input_tokens, usage.cached_input_tokens, usage.output_tokens, extras,
    )  # fmt: skip


def _details(data: Data, extras: dict[str, int] | None) -> bytes | None:
    kept: dict[str, Any] = {}
    if extras:
        kept["classes"] = extras
    for name in ("status", "ttft_ms", "duration_ms", "attempt_id", "model", "tags", "input_bytes", "output_bytes"):
        if (value := getattr(data, name)) is not None:
            kept[name] = value
    if data.refers_to is not None:
        kept["refers_to"] = data.refers_to
    return _encode(kept) if kept else None


def event_ms(event: Event) -> int | None:
    """Return the event's own time in milliseconds, None where it has none."""
    return None if event.time is None else milliseconds(event.time)
