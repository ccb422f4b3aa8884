"""
Settlements rated again from what lies beneath them, and compared byte for byte: rollups and prices → lines → charges.

Usage comes from the hourly rollups where a period consists of whole hours, else from the events; prices from the
contract's lots and the price book in force; the terms of the time (fee, limit, take-or-pay, what was held back) from
the settlement itself.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Any

from django.db import connection
from django.db.models import QuerySet

from core.audit import Finding
from core.periods import Period
from exchange.contract_queries import replaced_tokens_by_lot
from exchange.models import ContractLot, DeliveryContract
from metering_ingest.actions.list_prices import exceeds, list_prices_of
from metering_ingest.actions.recount import provider_meters, recount
from metering_ingest.domain.classes import NAMES
from metering_ingest.domain.settlement import DeploymentUsage, Line, Lot
from metering_ingest.domain.settlement_inputs import as_bytes, rate_again
from metering_ingest.models import ContractSettlement, LateUsage

NAME = "settlements-rate-the-same"
_ROLLED_UP = """
    SELECT deployment_id, token_class, sum(quantity)::bigint, sum(work_micro_st)::bigint FROM usage_rollup
    WHERE contract_id = %s AND meter_id = ANY(%s) AND hour >= %s AND hour < %s GROUP BY 1, 2
"""
_CHARGED = """
    SELECT source_key, sum(quantity_micro_st)::bigint, sum(buyer_amount_micro)::bigint,
        sum(seller_amount_micro)::bigint, sum(fee_micro)::bigint, min(buyer_price_nano), min(seller_price_nano)
    FROM billing_charge WHERE source_key LIKE %s GROUP BY 1
"""


@dataclass(slots=True)
class Rerating:
    """What was compared: settlements, their lines, and a hash over all the lines' bytes."""

    settlements: int
    lines: int
    sha256: str
    findings: list[Finding]


def latest(period: Period | None = None) -> "QuerySet[ContractSettlement]":
    """Return the last revision of each contract's settlements, in order; with a period, those that begin in it."""
    rows = ContractSettlement.objects.all()
    if period is not None:
        rows = rows.filter(period_start__gte=period.start, period_start__lt=period.end)
    return rows.order_by("contract_id", "period_start", "-revision").distinct("contract_id", "period_start")


def rerate(rows: Iterable[ContractSettlement]) -> Rerating:
    """Rate settlements again and compare; each finding is the first difference of one settlement."""
    done = Rerating(0, 0, "", [])
    running = hashlib.sha256()
    for row in rows:
        done.settlements += 1
        done.lines += len(row.lines)
        for line in as_bytes(row.lines):
            running.update(line + b"\n")
        if (finding := first_difference(row)) is not None:
            done.findings.append(finding)
    done.sha256 = running.hexdigest()
    return done


def settlements_rate_the_same() -> Iterator[Finding]:
    """Each settlement's lines and charges are, byte for byte, what its rollups and prices give again."""
    yield from rerate(latest().iterator(chunk_size=500)).findings


def first_difference(row: ContractSettlement) -> Finding | None:
    """Return the first thing that differs: usage, lots, a line, a charge."""
    subject = f"contract {row.contract_id} from {row.period_start:%Y-%m-%dT%H:%M}Z revision {row.revision}"
    if row.inputs is None:
        return None  # settled before inputs were kept: the other checks look at it
    for place, expected, found in _differences(row, row.inputs):
        if expected != found:
            return Finding(NAME, f"{subject}: {place}", str(expected), str(found))
    return None


def _differences(row: ContractSettlement, inputs: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    late = LateUsage.objects.filter(contract_id=row.contract_id).exists()
    if not late:
        metered = _metered(row)
        yield "work", sum(work for work, _ in metered.values()), row.work_micro_st
        for used in inputs["usage"]:
            _, tokens = metered.get(used["deployment_id"], (0, {}))
            yield f"tokens of deployment {used['deployment_id']}", tokens, used["tokens"]
        if "list_prices" in inputs:
            yield "price book and list usage", _list_prices(row, inputs), inputs["list_prices"]
    yield "lots", _lots(row.contract_id), inputs["lots"]
    again = as_bytes(rate_again(inputs).lines)
    stored = as_bytes(row.lines)
    for number in range(max(len(again), len(stored))):
        expected, found = (part[number] if number < len(part) else b"nothing" for part in (again, stored))
        yield f"line {number + 1}", expected.decode(), found.decode()
    yield "charges", _of_lines(row), _charged(row)


def _metered(row: ContractSettlement) -> dict[int, tuple[int, dict[str, int]]]:
    """Return work and tokens by deployment, from the rollups where they can say it."""
    meters = provider_meters({DeliveryContract.objects.values_list("provider_id", flat=True).get(pk=row.contract_id)})
    period = Period(row.period_start, row.period_end)
    if not _in_whole_hours(period):
        return {u.deployment_id: (u.work_micro_st, u.tokens) for u in recount([row.contract_id], meters, period)}
    return rolled_up(row.contract_id, meters, period)


def rolled_up(contract_id: int, meters: list[int], period: Period) -> dict[int, tuple[int, dict[str, int]]]:
    """Return a contract's work and tokens by deployment from the hourly rollups: it costs the hours, not the events."""
    sums: dict[int, tuple[int, dict[str, int]]] = {}
    with connection.cursor() as cursor:
        cursor.execute(_ROLLED_UP, [contract_id, meters, period.start, period.end])
        for deployment, code, quantity, work in cursor.fetchall():
            before, tokens = sums.get(deployment, (0, {}))
            sums[deployment] = before + work, tokens | ({NAMES[code]: quantity} if quantity else {})
    return {deployment: found for deployment, found in sums.items() if found[0] or found[1]}


def _list_prices(row: ContractSettlement, inputs: dict[str, Any]) -> dict[str, Any] | None:
    """Return what the list usage is rated from: the book in force then, and the rollups where they can say it."""
    lots = [Lot(**lot) for lot in inputs["lots"]]
    if not exceeds(lots, [DeploymentUsage(**used) for used in inputs["usage"]]):
        return None
    contract = DeliveryContract.objects.select_related("grade__model_card").get(pk=row.contract_id)
    period = Period(row.period_start, row.period_end)
    found = list_prices_of(
        [contract], provider_meters({contract.provider_id}), period, from_rollups=_in_whole_hours(period)
    )
    return found[contract.pk].as_json() if found else None


def _in_whole_hours(period: Period) -> bool:
    return not any(moment.minute or moment.second or moment.microsecond for moment in (period.start, period.end))


def _lots(contract_id: int) -> list[dict[str, int]]:
    replaced = replaced_tokens_by_lot([contract_id])
    rows = ContractLot.objects.filter(contract_id=contract_id).order_by("number")
    return [
        {
            "number": lot.number,
            "quantity_tokens": left,
            "buyer_price_nano": lot.buyer_price_nano,
            "seller_price_nano": lot.seller_price_nano,
        }
        for lot in rows
        if (left := lot.quantity_tokens - replaced.get((contract_id, lot.number), 0))
    ]


_Figures = dict[str, tuple[int, ...]]
_LINE_FIELDS = frozenset(field.name for field in fields(Line))


def _of_lines(row: ContractSettlement) -> _Figures:
    """Return the figures of the lines by source key, as they must have been charged over all revisions."""
    key = f"contract:{row.contract_id}:{row.period_start:%Y%m%d%H%M%S}"
    figures: _Figures = {}
    for stored in row.lines:
        line = Line(**{name: value for name, value in stored.items() if name in _LINE_FIELDS})
        price = f":{line.buyer_price_nano}" if line.lot_number is None else ""
        figures[f"{key}:{line.key}{price}"] = (
            line.quantity_micro_st,
            line.buyer_amount_micro,
            line.seller_amount_micro,
            line.fee_micro,
            line.buyer_price_nano,
            line.seller_price_nano,
        )
    return figures


def _charged(row: ContractSettlement) -> _Figures:
    """Return the sums of the charges by source key, without those that later revisions took back to nothing."""
    key = f"contract:{row.contract_id}:{row.period_start:%Y%m%d%H%M%S}:"
    kinds = {line["kind"] for line in row.lines}
    with connection.cursor() as cursor:
        cursor.execute(_CHARGED, [f"{key}%"])
        rows = {source: tuple(figures) for source, *figures in cursor.fetchall()}
    expected = _of_lines(row)
    return {
        source: figures for source, figures in rows.items()
        if source in expected or (any(figures[:4]) and source.split(":")[3] in kinds)
    }  # fmt: skip
