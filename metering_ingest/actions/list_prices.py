"""
The price book that stands for a contract's list usage, and that usage by hour and length band.

Which version: the one in force when the period began. Versions never take effect in the past, so it is the same
whenever a period is settled or rated again.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from django.db import connection

from billing.domain.price_book_terms import read_book
from billing.domain.price_books import Use
from billing.models import PriceBookVersion
from billing.price_book_queries import list_book_at
from core.periods import Period
from exchange.models import DeliveryContract
from metering_ingest.actions.recount import key_at
from metering_ingest.archived import events_between
from metering_ingest.domain.classes import COLUMN_CLASSES, NAMES
from metering_ingest.domain.list_usage import NEVER_CHARGED, WITHOUT_FORMULA, Cell, ListPrices
from metering_ingest.domain.settlement import DeploymentUsage, Lot

_HOUR = "(('x' || encode(substring(uuid_send(e.event_key) FROM 1 FOR 6), 'hex'))::bit(48)::bigint) / 3600000"
_COUNTING = """
    e.event_key >= %(first)s AND e.event_key < %(last)s AND e.meter_id = ANY(%(meters)s)
    AND e.contract_id = ANY(%(contracts)s)
    AND NOT EXISTS (SELECT FROM usage_void v WHERE v.event_key = e.event_key AND v.meter_id = e.meter_id)
"""
_CELLS = f"""
    SELECT e.contract_id, e.deployment_id, {_HOUR}, e.length_band,
        sum(e.requests)::bigint, sum(e.input_tokens)::bigint, sum(e.cached_tokens)::bigint,
        sum(e.output_tokens)::bigint, sum(e.reasoning_tokens)::bigint,
        sum(e.input_micro_st)::bigint, sum(e.cached_micro_st)::bigint, sum(e.output_micro_st)::bigint
    FROM {{events}} e WHERE {_COUNTING} GROUP BY 1, 2, 3, 4
"""
_RARE_CELLS = f"""
    SELECT e.contract_id, e.deployment_id, {_HOUR}, e.length_band, c.key, sum(c.value::bigint)::bigint
    FROM {{events}} e, jsonb_each_text(e.details -> 'classes') c
    WHERE e.details ? 'classes' AND {_COUNTING} GROUP BY 1, 2, 3, 4, 5
"""
_ROLLED_UP = """
    SELECT contract_id, deployment_id, extract(epoch FROM hour)::bigint / 3600, length_band, token_class,
        sum(quantity)::bigint, sum(work_micro_st)::bigint FROM usage_rollup
    WHERE contract_id = ANY(%s) AND meter_id = ANY(%s) AND hour >= %s AND hour < %s GROUP BY 1, 2, 3, 4, 5
"""


def exceeds(lots: Sequence[Lot], usage: Sequence[DeploymentUsage]) -> bool:
    """Whether there may be list usage: more work than the lots have, or a count that no formula knows."""
    work = sum(used.work_micro_st + used.disputed_micro_st for used in usage)
    return work > sum(lot.quantity_micro_st for lot in lots) or any(
        used.tokens.get(name) for used in usage for name in WITHOUT_FORMULA
    )


def list_prices_of(
    contracts: Collection[DeliveryContract], meters: Sequence[int], period: Period, *, from_rollups: bool = False
) -> dict[int, ListPrices]:
    """
    Return, by contract, what its list usage in a period is rated from. A contract is missing where no book stands for
    it: there is none, or it has no rule for a class with work.
    """
    version = list_book_at(period.start) if contracts else None
    if version is None:
        return {}
    ids = [contract.pk for contract in contracts]
    cells = rolled_up_cells(ids, meters, period) if from_rollups else counted_cells(ids, meters, period)
    by_contract: dict[int, list[Cell]] = {}
    for contract_id, cell in cells:
        by_contract.setdefault(contract_id, []).append(cell)
    found = {one.pk: _prices(version, one, by_contract.get(one.pk, [])) for one in contracts}
    return {contract_id: prices for contract_id, prices in found.items() if prices is not None}


def _prices(version: PriceBookVersion, contract: DeliveryContract, cells: Iterable[Cell]) -> ListPrices | None:
    terms: Mapping[str, Any] = version.terms
    ordered = sorted(enumerate(read_book(terms).rules), key=lambda rule: -rule[1].precedence)
    grade = contract.grade
    chosen: dict[str, int] = {}
    kept: list[Cell] = []
    for cell in sorted(cells):
        name = cell.token_class
        if name not in chosen:
            use = Use(
                contract.provider_id, grade.slug, grade.model_card.slug, name, grade.service_class, _at(cell), 0, 0
            )
            place = next((number for number, rule in ordered if rule.fits(use)), None)
            if place is None:
                if name in WITHOUT_FORMULA:
                    continue
                return None
            chosen[name] = place
        kept.append(cell)
    if not kept:
        return None
    rules = [terms["rules"][place] for place in sorted(set(chosen.values()))]
    # A minimum is what a day of list usage costs at least; a contract of a market has paid for its lots already.
    minimum = {"minimum": terms["minimum"]} if "minimum" in terms and contract.market_id is None else {}
    return ListPrices(
        version.book.name, version.number, {"rules": rules} | minimum, contract.provider_id, grade.slug,
        grade.model_card.slug, grade.service_class, tuple(kept),
    )  # fmt: skip


def _at(cell: Cell) -> datetime:
    return datetime.fromisoformat(cell.hour)


def counted_cells(contract_ids: Sequence[int], meters: Sequence[int], period: Period) -> list[tuple[int, Cell]]:
    """Return what these contracts used in a period by deployment, class, hour and band, from the events that count."""
    values: dict[str, Any] = {
        "first": key_at(period.start), "last": key_at(period.end), "meters": list(meters), "contracts": contract_ids,
    }  # fmt: skip
    found: list[tuple[int, Cell]] = []
    with connection.cursor() as cursor:
        events = events_between(key_at(period.start), key_at(period.end))
        cursor.execute(_CELLS.format(events=events), values)
        for contract, deployment, hour, band, *counts in cursor.fetchall():
            _, fresh, cached, output, reasoning, fresh_work, cached_work, output_work = counts
            amounts = zip(
                COLUMN_CLASSES[1:], (fresh, cached, output, reasoning), (fresh_work, cached_work, output_work, 0),
                strict=True,
            )  # fmt: skip
            found += [
                (contract, Cell(deployment, name, _iso(hour), band, tokens, work))
                for name, tokens, work in amounts
                if tokens or work
            ]
        cursor.execute(_RARE_CELLS.format(events=events), values)
        found += [
            (contract, Cell(deployment, name, _iso(hour), band, tokens, 0))
            for contract, deployment, hour, band, name, tokens in cursor.fetchall()
            if tokens and name not in NEVER_CHARGED
        ]
    return found


def rolled_up_cells(contract_ids: Sequence[int], meters: Sequence[int], period: Period) -> list[tuple[int, Cell]]:
    """Return the same from the hourly rollups; the period has whole hours."""
    with connection.cursor() as cursor:
        cursor.execute(_ROLLED_UP, [list(contract_ids), list(meters), period.start, period.end])
        return [
            (contract, Cell(deployment, NAMES[code], _iso(hour), band, tokens, work))
            for contract, deployment, hour, band, code, tokens, work in cursor.fetchall()
            if (tokens or work) and NAMES[code] not in NEVER_CHARGED
        ]


def _iso(hour: int) -> str:
    return datetime.fromtimestamp(hour * 3_600, UTC).isoformat()
