"""
From decoded events to columns: validate each with its reason, normalise to disjoint classes, measure in standard
tokens, name the contract.

The plain case (totals as integers) runs column by column over the whole batch; an event with our classes or a vendor's
usage object is taken apart by the SDK and joins the same columns. What is wrong with one event never touches another.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Protocol, TypeVar

import numpy as np
from ciyuan.usage import UsageError
from numpy.typing import NDArray

from metering_ingest.domain.classes import BAND_BOUNDS
from metering_ingest.domain.events import VOID, Event, Rejection, Totals
from metering_ingest.domain.key_columns import Ints, keys_of_all, milliseconds_of_all
from metering_ingest.domain.routing import PENDING_CODE, STANDING, UNNAMED, Route, RouteBook, Routes
from metering_ingest.domain.usage_parts import details_of, encode, take_apart

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
FUTURE_MS = 5 * 60_000
#: 2023-01-01: before it there was nothing to meter, and every day costs a partition.
OLDEST_MS = 1_672_531_200_000


class Work(Protocol):
    """Columns of all input, cached input and output tokens → micro-ST of fresh input, cached input and output."""

    def __call__(self, inputs: Ints, cached: Ints, outputs: Ints, /) -> tuple[Ints, Ints, Ints]: ...


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
    and hour is late. `details` has the deterministic JSON of what has no column;
    `extras` and `tags` are by row, of the few rows that have any.
    """

    meter: MeterFacts
    index: Sequence[int]
    keys: NDArray[np.uint8]
    contract_id: Ints
    hour: Ints
    band: Ints
    requests: Ints
    fresh: Ints
    cached: Ints
    visible: Ints
    reasoning: Ints
    work: tuple[Ints, Ints, Ints]
    source: Sequence[str]
    id: Sequence[bytes]
    subject: Sequence[str]
    details: Sequence[bytes | None]
    extras: dict[int, dict[str, int]]
    tags: dict[int, dict[str, str]]
    settles_ms: dict[tuple[int, int], int]
    days: set[int]
    rejections: list[Rejection] = field(default_factory=list)
    repeats: list[tuple[int, int]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.index)

    def key_bytes(self) -> list[bytes]:
        """Return the keys, one by one."""
        whole = self.keys.tobytes()
        return [whole[at : at + 16] for at in range(0, len(whole), 16)]


_BOUNDS = np.array(BAND_BOUNDS)


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
    batch = _Batch(events)
    batch.check_totals()
    batch.take_rare_apart()
    batch.place_in_time(now_ms, times_ms)
    batch.name_contracts(route_book)
    batch.set_probes_apart(route_book)
    return batch.in_key_order(meter)


class _Batch:
    """Columns in the order sent, while events are checked; `keep` says which are still good."""

    def __init__(self, events: Sequence[Event | None]) -> None:
        self.events = [event for event in events if event is not None and event.type != VOID]
        self.places: Sequence[int] = (
            range(len(events))
            if len(self.events) == len(events)
            else [i for i, event in enumerate(events) if event is not None and event.type != VOID]
        )
        self.data = data = [event.data for event in self.events]
        self.count = n = len(data)
        self.keep = np.ones(n, dtype=bool)
        self.rejections: list[Rejection] = []
        self.source = [event.source for event in self.events]
        self.subject = [event.subject for event in self.events]
        # In one go: the texts hold no U+0000.
        self.id = "\0".join([event.id for event in self.events]).encode().split(b"\0") if self.events else []
        self.inputs = np.array([d.input_tokens for d in data], dtype=np.int64)
        self.cached = np.array([d.cached_input_tokens for d in data], dtype=np.int64)
        self.outputs = np.array([d.output_tokens for d in data], dtype=np.int64)
        self.reasoning = np.array([d.reasoning_tokens for d in data], dtype=np.int64)
        self.requests = np.ones(n, dtype=np.int64)
        # Text classes; other modalities are in `extras`.
        self.fresh, self.reused, self.visible = (
            self.inputs - self.cached,
            self.cached.copy(),
            self.outputs - self.reasoning,
        )
        self.details: list[bytes | None] = [None] * n
        self.extras: dict[int, dict[str, int]] = {}
        self.tags: dict[int, dict[str, str]] = {}
        self.attempts: dict[int, str] = {}
        self.settles_ms: dict[tuple[int, int], int] = {}

    def reject(self, row: int, code: str, detail: str, field_: str | None) -> None:
        """Leave an event out, for the first reason that is found."""
        if self.keep[row]:
            event = self.events[row]
            self.rejections.append(
                Rejection(self.places[row], code, detail, field_, event.id, event.source, encode(event))
            )
            self.keep[row] = False

    def check_totals(self) -> None:
        """Refuse totals whose parts are more than they are."""
        for row in np.nonzero(self.fresh < 0)[0].tolist():
            detail = f"cached_input_tokens {self.cached[row]} is more than input_tokens {self.inputs[row]}, its whole."
            self.reject(row, "negative-leaf", detail, "data.cached_input_tokens")
        for row in np.nonzero(self.visible < 0)[0].tolist():
            detail = (
                f"reasoning_tokens {self.reasoning[row]} is more than output_tokens {self.outputs[row]}, its whole."
            )
            self.reject(row, "negative-leaf", detail, "data.reasoning_tokens")

    def take_rare_apart(self) -> None:
        """Normalise events that name classes or bring a vendor's usage object, and keep what has no column."""
        if set(map(type, self.data)) == {Totals}:
            return
        for row, d in enumerate(self.data):
            if type(d) is Totals or (
                d.classes is None and d.usage is None and d.format is None and d.status is None and d.ttft_ms is None
                and d.duration_ms is None and d.attempt_id is None and d.model is None and d.tags is None
                and d.input_bytes is None and d.output_bytes is None and d.tokenizer is None and d.refers_to is None
            ):  # fmt: skip
                continue
            try:
                parts = take_apart(d)
            except UsageError as error:
                where = "data.classes" if d.classes is not None else "data.usage"
                self.reject(row, error.code.replace("_", "-"), f"{error.detail}.", f"{where}.{error.field}")
                continue
            if parts is not None:
                self.requests[row], self.fresh[row], self.reused[row], self.visible[row] = parts[:4]
                self.reasoning[row], self.inputs[row], self.cached[row], self.outputs[row] = parts[4:8]
                if parts.extras:
                    self.extras[row] = parts.extras
            self.details[row] = details_of(d, self.extras.get(row))
            if d.tags:
                self.tags[row] = d.tags
            if d.attempt_id:
                self.attempts[row] = d.attempt_id
            if d.input_bytes or d.output_bytes:
                sizes = {"input_bytes": d.input_bytes or 0, "output_bytes": d.output_bytes or 0}
                self.extras[row] = self.extras.get(row, {}) | {name: size for name, size in sizes.items() if size}

    def place_in_time(self, now_ms: int, times_ms: Sequence[int] | None) -> None:
        """Give every event its time; refuse the future and what is too old to keep."""
        if times_ms is None:
            self.ms = milliseconds_of_all(self.events)
        else:
            self.ms = np.array([times_ms[i] for i in self.places], dtype=np.int64)
        for row in np.nonzero(self.ms > now_ms + FUTURE_MS)[0].tolist():
            detail = "The time lies more than five minutes ahead of the exchange's clock."
            self.reject(row, "future-time", detail, "time")
        for row in np.nonzero(self.ms < OLDEST_MS)[0].tolist():
            self.reject(row, "too-old", "The time lies before 2023, the oldest that is kept.", "time")

    def name_contracts(self, book: RouteBook) -> None:
        """Find each event's contract: at once where the whole hour of a subject belongs to one, else one by one."""
        self.hours = self.ms // HOUR_MS
        whole_batch = not self.rejections
        hour = int(self.hours[0]) if whole_batch and self.count else 0
        if whole_batch and self.count and bool((self.hours == hour).all()):
            # All of one hour, as batches mostly are: the subjects alone tell.
            found = book({(subject, hour) for subject in set(self.subject)})
            of_subject = {pair[0]: route for pair, route in self._whole_hours(book, found).items()}
            if len(of_subject) == len(found):
                self.contract = np.array(list(map(of_subject.__getitem__, self.subject)), dtype=np.int64)
                return
        pairs = list(zip(self.subject, self.hours.tolist(), strict=True))
        wanted = set(pairs) if whole_batch else {pairs[row] for row in np.nonzero(self.keep)[0].tolist()}
        found = book(wanted)
        of_hour = self._whole_hours(book, found)
        if whole_batch and len(of_hour) == len(wanted):
            self.contract = np.array(list(map(of_hour.__getitem__, pairs)), dtype=np.int64)
            return
        self.contract = np.zeros(self.count, dtype=np.int64)
        for row in np.nonzero(self.keep)[0].tolist():
            pair = pairs[row]
            if pair in of_hour:
                self.contract[row] = of_hour[pair]
                continue
            routes = found[pair]
            if routes.code:
                self.reject(row, routes.code, routes.detail, "subject")
                continue
            moment = int(self.ms[row])
            route = next(route for route in routes.routes if route.start_ms <= moment < route.end_ms)
            if route.contract_id == UNNAMED:
                detail = "The market of this time has not assigned its contracts yet; the event is replayed by itself."
                self.reject(row, PENDING_CODE, detail, "time")
                continue
            self.contract[row] = self._contract(book, pair, route)

    def set_probes_apart(self, book: RouteBook) -> None:
        """The exchange's own requests look like their contract's to all that serve and meter them; here they part."""
        for row, attempt in self.attempts.items():
            if self.contract[row] > 0 and book.is_probe(attempt):
                self.contract[row] = -self.contract[row]

    def _whole_hours(self, book: RouteBook, found: Mapping[tuple[str, int], Routes]) -> dict[tuple[str, int], int]:
        """Return the contract of each subject and hour that belong to one contract as a whole."""
        return {
            pair: self._contract(book, pair, routes.routes[0])
            for pair, routes in found.items()
            if len(routes.routes) == 1 and not routes.code and routes.routes[0].contract_id != UNNAMED
        }

    def _contract(self, book: RouteBook, pair: tuple[str, int], route: Route) -> int:
        contract = book.standing(pair[0]) if route.contract_id == STANDING else route.contract_id
        key = (contract, pair[1])
        self.settles_ms[key] = min(route.settles_ms, self.settles_ms.get(key, route.settles_ms))
        return contract

    def in_key_order(self, meter: MeterFacts) -> Prepared:
        """Measure the work, and put what is left into the order of the keys, each once."""
        fresh_work, reused_work, made_work = (
            meter.work(self.inputs, self.cached, self.outputs) if self.count else (self.inputs,) * 3
        )
        keys = keys_of_all(self.source, self.id, self.ms)
        halves = keys.view(">u8").astype(np.uint64)
        as_sent = not self.rejections
        at: Ints | slice = slice(None) if as_sent else np.nonzero(self.keep)[0]
        high, low = halves[at, 0], halves[at, 1]
        if not bool(np.all((high[1:] > high[:-1]) | ((high[1:] == high[:-1]) & (low[1:] > low[:-1])))):
            order = np.lexsort((low, high))
            at = order if as_sent else np.nonzero(self.keep)[0][order]
            high, low = high[order], low[order]
            as_sent = False
        repeats: list[tuple[int, int]] = []
        if bool(np.any((high[1:] == high[:-1]) & (low[1:] == low[:-1]))):
            at, repeats = self._drop_repeats(np.arange(self.count)[at], keys)
            as_sent = False
        rows = None if as_sent else np.arange(self.count)[at].tolist()
        ms = self.ms[at]
        return Prepared(
            meter=meter,
            index=chosen(self.places, rows),
            keys=np.ascontiguousarray(keys[at]),
            contract_id=self.contract[at], hour=self.hours[at],
            band=np.searchsorted(_BOUNDS, self.inputs[at], side="left"), requests=self.requests[at],
            fresh=self.fresh[at], cached=self.reused[at], visible=self.visible[at], reasoning=self.reasoning[at],
            work=(fresh_work[at], reused_work[at], made_work[at]),
            source=chosen(self.source, rows),
            id=chosen(self.id, rows),
            subject=chosen(self.subject, rows),
            details=chosen(self.details, rows),
            extras=self.extras if rows is None or not self.extras else
                   {new: self.extras[row] for new, row in enumerate(rows) if row in self.extras},
            tags=self.tags if rows is None or not self.tags else
                 {new: self.tags[row] for new, row in enumerate(rows) if row in self.tags},
            settles_ms=self.settles_ms,
            days=_days(ms),
            rejections=self.rejections,
            repeats=repeats,
        )  # fmt: skip

    def _drop_repeats(self, at: Ints, keys: NDArray[np.uint8]) -> tuple[Ints, list[tuple[int, int]]]:
        """Keep the first of equal keys in one request; the others are duplicates of it, or conflicts with it."""
        kept: list[int] = []
        repeats: list[tuple[int, int]] = []
        for row in at.tolist():
            if not kept or keys[row].tobytes() != keys[kept[-1]].tobytes():
                kept.append(row)
            elif _same(self.events[row], self.events[kept[-1]]):
                repeats.append((self.places[row], self.places[kept[-1]]))
            else:
                self.rejections.append(conflict(self.places[row], self.events[row]))
        return np.array(kept, dtype=np.int64), repeats


def _days(ms: Ints) -> set[int]:
    """The days of these times, counted since 1970."""
    if not ms.size:
        return set()
    first, last = int(ms.min()) // DAY_MS, int(ms.max()) // DAY_MS
    return {first} if first == last else set(np.unique(ms // DAY_MS).tolist())


_T = TypeVar("_T")


def chosen(column: Sequence[_T], rows: Sequence[int] | None) -> Sequence[_T]:
    """Return a column's values at these rows; all of them where None."""
    if rows is None:
        return column
    return itemgetter(*rows)(column) if len(rows) > 1 else [column[row] for row in rows]


def _same(one: Event, other: Event) -> bool:
    return one.data == other.data and one.subject == other.subject and one.type == other.type


def conflict(index: int, event: Event) -> Rejection:
    """Return the answer to an event whose id is taken by other content."""
    return Rejection(
        index, "conflict", "Another event with this source and id, but other content, was received before; it stands.",
        "id", event.id, event.source, encode(event),
    )  # fmt: skip
