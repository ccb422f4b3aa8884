"""
Which contract a reported request belongs to, without any quantity: deployment → grade, subject → buyer, time → window.

The subject is an alias that the provider registered, or a contract's id (`contract:12`, or `12` where no alias is
called so). Usage outside any market belongs to the standing list contract of buyer and provider, made on first need.
"""

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from time import monotonic
from typing import Any

import numpy as np
from ciyuan.standard_token_arrays import work_arrays
from django.db import transaction

from core import clock
from core.errors import Forbidden
from core.periods import shanghai_date, shanghai_day
from exchange.models import DeliveryContract, Market
from metering_ingest import probe_attempts
from metering_ingest.domain.event_key import milliseconds, moment_of
from metering_ingest.domain.key_columns import Ints
from metering_ingest.domain.pipeline import HOUR_MS, MeterFacts
from metering_ingest.domain.routing import STANDING, UNNAMED, Route, Routes
from metering_ingest.models import Meter, SubjectAlias

CACHE_SECONDS = 1.0
CACHE_SIZE = 50_000
UNASSIGNED = ("scheduled", "call", "continuous", "closed")


class MeterClosed(Forbidden):
    """The key's meter is closed or gone."""

    code = "meter-closed"


@dataclass(frozen=True, slots=True)
class MeterAccess:
    """A meter as the usage door needs it. `provider_id` and `grade_id` are None for a buyer's gateway."""

    facts: MeterFacts
    role: str
    organization_id: int
    provider_id: int | None
    grade_id: int | None
    grace: timedelta
    public_key: bytes | None = None
    must_sign: bool = False


_meters: dict[int, tuple[float, MeterAccess]] = {}
_routes: dict[tuple[int, str, int], tuple[float, datetime, Routes]] = {}
_standing: dict[tuple[int, str], tuple[float, int]] = {}
_lock = threading.Lock()


def meter_access(meter_id: int) -> MeterAccess:
    """
    Return a meter's access, at most a second old.

    :raises MeterClosed: when it is closed or unknown.
    """
    if (known := cached_access(meter_id)) is not None:
        return known
    meter = (
        Meter.objects.select_related("deployment__grade__model_card")
        .filter(pk=meter_id, closed_at__isnull=True)
        .first()
    )
    if meter is None:
        raise MeterClosed("This key's meter is closed or does not exist; ask its owner for another key.")
    access = access_of(meter)
    with _lock:
        _meters[meter_id] = (monotonic(), access)
    return access


def cached_access(meter_id: int) -> MeterAccess | None:
    """Return a meter's access if it is known without asking the database."""
    cached = _meters.get(meter_id)
    return cached[1] if cached is not None and monotonic() - cached[0] < CACHE_SECONDS else None


def access_of(meter: Meter) -> MeterAccess:
    """Return a meter's access from its row."""
    deployment = meter.deployment
    public_key = None if meter.public_key is None else bytes(meter.public_key)
    if deployment is None:
        facts = MeterFacts(meter.pk, 0, _no_work)
        return MeterAccess(facts, meter.role, meter.organization_id, None, None, timedelta(), public_key)
    grade = deployment.grade
    work = partial(
        work_arrays, grade.model_card.standard_card(), cached_share_thousandths=grade.cached_share_thousandths
    )
    return MeterAccess(
        MeterFacts(meter.pk, deployment.pk, work), meter.role, meter.organization_id, deployment.provider_id, grade.pk,
        timedelta(seconds=grade.grace_seconds), public_key, grade.signed_usage,
    )  # fmt: skip


def _no_work(inputs: Ints, cached: Ints, outputs: Ints, /) -> tuple[Ints, Ints, Ints]:
    """A buyer's gateway is compared by tokens; its reports carry no work of their own."""
    nothing = np.zeros_like(inputs)
    return nothing, nothing, nothing


class RouteBook:
    """The routes of one meter, cached for a second of real and of product time."""

    def __init__(self, access: MeterAccess) -> None:
        self.access = access

    def __call__(self, wanted: set[tuple[str, int]], /) -> Mapping[tuple[str, int], Routes]:
        now, tick, meter_id = clock.now(), monotonic(), self.access.facts.meter_id
        found: dict[tuple[str, int], Routes] = {}
        missing = []
        for pair in wanted:
            cached = _routes.get((meter_id, *pair))
            if cached and tick - cached[0] < CACHE_SECONDS and now - cached[1] < timedelta(seconds=CACHE_SECONDS):
                found[pair] = cached[2]
            else:
                missing.append(pair)
        if missing:
            loaded = load_routes(self.access, missing)
            standing = self._known_standing(
                {pair[0] for pair, routes in loaded.items() if any(r.contract_id == STANDING for r in routes.routes)}
            )
            with _lock:
                if len(_routes) + len(loaded) > CACHE_SIZE:
                    _routes.clear()
                    _standing.clear()
                for subject, contract in standing.items():
                    _standing[meter_id, subject] = (tick, contract)
                for pair, routes in loaded.items():
                    _routes[(meter_id, *pair)] = (tick, now, routes)
            found |= loaded
        return found

    def is_probe(self, attempt_id: str, /) -> bool:
        return self.access.role == Meter.Role.PROVIDER and probe_attempts.is_ours(
            attempt_id, deployment_id=self.access.facts.deployment_id
        )

    def _known_standing(self, subjects: set[str]) -> dict[str, int]:
        """Return the standing contracts that there are, of many subjects at once."""
        access = self.access
        if not subjects or access.role != Meter.Role.PROVIDER or access.grade_id is None:
            return {}
        buyers = buyers_of(access, subjects)
        contracts = DeliveryContract.objects.filter(
            kind=DeliveryContract.Kind.LIST, grade_id=access.grade_id, provider_id=access.provider_id,
            buyer_id__in=set(buyers.values()),
        )  # fmt: skip
        of_buyer = dict(contracts.values_list("buyer_id", "pk"))
        return {subject: of_buyer[buyer] for subject, buyer in buyers.items() if buyer in of_buyer}

    def standing(self, subject: str, /) -> int:
        cached = _standing.get((self.access.facts.meter_id, subject))
        if cached and monotonic() - cached[0] < 2 * CACHE_SECONDS:  # read with the routes, which lead here
            return cached[1]
        contract = self._standing(subject)
        with _lock:
            _standing[self.access.facts.meter_id, subject] = (monotonic(), contract)
        return contract

    def _standing(self, subject: str) -> int:
        access = self.access
        buyer_id = buyers_of(access, {subject})[subject]
        if access.role == Meter.Role.BUYER:
            # A gateway names its standing contract itself; usage outside a spot contract's window belongs to none.
            number = contract_number(subject)
            mine = DeliveryContract.objects.filter(pk=number or 0, kind=DeliveryContract.Kind.LIST, buyer_id=buyer_id)
            return number if number is not None and mine.exists() else 0
        if access.role != Meter.Role.PROVIDER or not access.grade_id or access.provider_id == buyer_id:
            return 0
        keys: dict[str, Any] = {
            "kind": DeliveryContract.Kind.LIST,
            "grade_id": access.grade_id,
            "buyer_id": buyer_id,
            "provider_id": access.provider_id,
        }
        known = DeliveryContract.objects.filter(**keys).values_list("pk", flat=True).first()
        if known is not None:
            return known
        with transaction.atomic():
            defaults = {"quantity_tokens": 0, "rate_tokens_per_minute": 0, "created_at": clock.now()}
            return DeliveryContract.objects.get_or_create(**keys, defaults=defaults)[0].pk


def route_book_of(access: MeterAccess) -> RouteBook:
    """Return the book that the pipeline asks for this meter's contracts."""
    return RouteBook(access)


def forget_cached_routes() -> None:
    """Look everything up again: another database stands behind the same ids."""
    with _lock:
        _meters.clear()
        _routes.clear()
        _standing.clear()


def buyers_of(access: MeterAccess, subjects: Iterable[str]) -> dict[str, int]:
    """Return the buyer of each subject that is known to the meter."""
    subjects = set(subjects)
    buyers: dict[str, int] = {}
    if access.provider_id is not None:
        aliases = SubjectAlias.objects.filter(provider_id=access.provider_id, subject__in=subjects)
        buyers = dict(aliases.values_list("subject", "buyer_id"))
    ids = {subject: number for subject in subjects - buyers.keys() if (number := contract_number(subject)) is not None}
    if ids:
        contracts = DeliveryContract.objects.filter(pk__in=set(ids.values()))
        if access.provider_id is not None:
            contracts = contracts.filter(provider_id=access.provider_id)
        else:
            contracts = contracts.filter(buyer_id=access.organization_id)
        of_contract = dict(contracts.values_list("pk", "buyer_id"))
        buyers |= {subject: of_contract[number] for subject, number in ids.items() if number in of_contract}
    return buyers


def contract_number(subject: str) -> int | None:
    """Return the contract's id in a subject such as `contract:12` or `12`."""
    digits = subject.removeprefix("contract:")
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 19 else None


def load_routes(access: MeterAccess, wanted: Iterable[tuple[str, int]]) -> dict[tuple[str, int], Routes]:
    """Read the routes of (subject, hour) pairs from the contracts."""
    pairs = list(wanted)
    subjects = {subject for subject, _ in pairs}
    if access.role == Meter.Role.ENGINE and "" in subjects:
        # An engine counts for its deployment as a whole.
        return {pair: _nowhere() if not pair[0] else routes for pair, routes in _of_buyers(access, pairs).items()}
    return _of_buyers(access, pairs)


def _nowhere() -> Routes:
    return Routes((Route(0, 2**62, 0, 2**62),))


def _of_buyers(access: MeterAccess, pairs: list[tuple[str, int]]) -> dict[tuple[str, int], Routes]:
    buyers = buyers_of(access, {subject for subject, _ in pairs})
    first = moment_of(min(hour for _, hour in pairs) * HOUR_MS)
    last = moment_of((max(hour for _, hour in pairs) + 1) * HOUR_MS)
    windows: dict[int, list[Route]] = {}
    contracts = DeliveryContract.objects.filter(
        kind=DeliveryContract.Kind.SPOT, buyer_id__in=set(buyers.values()), window_start__lt=last, window_end__gt=first
    )
    if access.provider_id is None or access.grade_id is None:
        numbers = {number for subject, _ in pairs if (number := contract_number(subject)) is not None}
        contracts = contracts.filter(pk__in=numbers)
    else:
        contracts = contracts.filter(provider_id=access.provider_id, grade_id=access.grade_id)
    for pk, buyer_id, start, end, grace in contracts.order_by("window_start").values_list(
        "pk", "buyer_id", "window_start", "window_end", "grade__grace_seconds"
    ):
        assert start is not None and end is not None
        ends = milliseconds(end)
        windows.setdefault(buyer_id, []).append(Route(milliseconds(start), ends, pk, ends + grace * 1_000))
    pending = _unassigned_windows(access, first, last)
    routes = {}
    for subject, hour in pairs:
        if subject not in buyers:
            detail = (
                f"The subject “{subject}” is neither an alias of this provider nor a contract's id. Register it with "
                "POST /v1/aliases, then replay."
            )
            routes[subject, hour] = Routes((), "unknown-subject", detail)
            continue
        standing_settles = milliseconds(shanghai_day(shanghai_date(moment_of(hour * HOUR_MS))).end + access.grace)
        routes[subject, hour] = Routes(
            tuple(_whole_hour(hour, windows.get(buyers[subject], []), pending, standing_settles))
        )
    return routes


def _whole_hour(hour: int, windows: list[Route], pending: list[Route], standing_settles_ms: int) -> list[Route]:
    """Cut an hour at the windows that meet it; between them lies the standing contract."""
    start, end = hour * HOUR_MS, (hour + 1) * HOUR_MS
    routes = []
    for window in sorted([*windows, *pending]):
        if window.end_ms <= start or window.start_ms >= end:
            continue
        if window.start_ms > start:
            routes.append(Route(start, window.start_ms, STANDING, standing_settles_ms))
        start = min(window.end_ms, end)
        routes.append(window._replace(start_ms=max(window.start_ms, hour * HOUR_MS), end_ms=start))
    if start < end:
        routes.append(Route(start, end, STANDING, standing_settles_ms))
    return routes


def _unassigned_windows(access: MeterAccess, first: datetime, last: datetime) -> list[Route]:
    """Windows whose market has not made its contracts yet: their usage cannot be named before that."""
    if access.grade_id is None:
        return []
    markets = Market.objects.filter(
        grade_id=access.grade_id, phase__in=UNASSIGNED, window_start__lt=min(last, clock.now()), window_end__gt=first
    )
    return [
        Route(milliseconds(start), milliseconds(end), UNNAMED, 2**62)
        for start, end in markets.values_list("window_start", "window_end")
    ]
