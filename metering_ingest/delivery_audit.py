"""What must always hold of non-delivery: what is settled is what was reported, penalties follow from it, bonds end."""

import json
from collections.abc import Iterator
from typing import Any

from ciyuan.standard_token import work
from django.db import connection
from django.db.models import Q

from core.audit import Check, Finding
from core.money import MICRO_PER_TOKEN, format_yuan, round_half_up, work_cost_micro
from exchange.contract_queries import shortfalls_of
from exchange.models import DeliveryContract, Market
from metering_ingest import queries
from metering_ingest.actions.probe_payments import MOST_PROMPT_TOKENS
from metering_ingest.actions.probes import ANSWER_TOKENS
from metering_ingest.actions.recount import provider_meters, recount
from metering_ingest.domain.settlement import penalty_micro
from metering_ingest.models import ContractSettlement, LateUsage, Probe


def _rows(sql: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


def undelivered_is_reported() -> Iterator[Finding]:
    """
    The last settlement of a contract has as undelivered what its shortfalls say and nobody replaced, as far as it was
    not used; a contract that waits to be settled again is looked at then.
    """
    late = set(LateUsage.objects.values_list("contract_id", flat=True))
    latest = ContractSettlement.objects.order_by("contract_id", "period_start", "-revision").distinct(
        "contract_id", "period_start"
    )
    failed = {
        contract for (contract,) in _rows("SELECT DISTINCT contract_id FROM exchange_shortfall")
    } | {row.contract_id for row in latest.filter(lines__contains=[{"kind": "undelivered"}])}
    reported = shortfalls_of(failed)
    for row in latest.filter(contract_id__in=failed - late):
        facts = reported.get(row.contract_id, [])
        missing = sum(one.quantity_tokens - one.replaced_tokens for one in facts) * MICRO_PER_TOKEN
        by_kind: dict[str, int] = {}
        for line in row.lines:
            by_kind[line["kind"]] = by_kind.get(line["kind"], 0) + line["quantity_micro_st"]
        found, unused = by_kind.get("undelivered", 0), by_kind.get("unused", 0)
        expected = min(missing, found + unused)
        if found != expected:
            yield Finding(
                "undelivered-is-reported", f"contract {row.contract_id}", f"{expected} micro-ST", f"{found} micro-ST"
            )


def penalties_follow_from_what_is_undelivered() -> Iterator[Finding]:
    """A penalty is a share of the price of undelivered tokens; those of a lot speak of no more than is undelivered."""
    for contract, kind, lot, quantity, price, share, amount in _rows("""
        SELECT s.contract_id, line ->> 'kind', line ->> 'lot_number', (line ->> 'quantity_micro_st')::bigint,
            (line ->> 'buyer_price_nano')::bigint, coalesce((line ->> 'penalty_thousandths')::int, 0),
            (line ->> 'buyer_amount_micro')::bigint
        FROM metering_ingest_contractsettlement s, jsonb_array_elements(s.lines) AS line
        WHERE line ->> 'kind' = 'penalty' ORDER BY s.contract_id, s.revision
    """):
        expected = penalty_micro(quantity_micro_st=quantity, price_nano=price, thousandths=share)
        if -amount != expected:
            yield Finding(f"{kind}-is-a-share", f"contract {contract} lot {lot}", str(expected), str(-amount))
    for contract, revision, lot, undelivered, penalized in _rows("""
        SELECT s.contract_id, s.revision, line ->> 'lot_number',
            sum((line ->> 'quantity_micro_st')::bigint) FILTER (WHERE line ->> 'kind' = 'undelivered'),
            sum((line ->> 'quantity_micro_st')::bigint) FILTER (WHERE line ->> 'kind' = 'penalty')
        FROM metering_ingest_contractsettlement s, jsonb_array_elements(s.lines) AS line
        WHERE line ->> 'kind' IN ('undelivered', 'penalty') GROUP BY 1, 2, 3
        HAVING coalesce(sum((line ->> 'quantity_micro_st')::bigint) FILTER (WHERE line ->> 'kind' = 'penalty'), 0)
            > coalesce(sum((line ->> 'quantity_micro_st')::bigint) FILTER (WHERE line ->> 'kind' = 'undelivered'), 0)
    """):
        yield Finding(
            "penalty-is-for-undelivered", f"contract {contract} r{revision} lot {lot}", f"at most {undelivered or 0}",
            str(penalized),
        )  # fmt: skip


def penalties_are_paid() -> Iterator[Finding]:
    """Each buyer got, as transfers of their own kind, the penalties that its charges say."""
    for buyer, charged, paid in _rows("""
        WITH charged AS (
            SELECT buyer_id, -sum(buyer_amount_micro) AS micro FROM billing_charge WHERE kind = 'penalty' GROUP BY 1
        ), paid AS (
            SELECT a.organization_id AS buyer_id, sum(m.micro) AS micro FROM (
                SELECT credit_id AS account_id, amount_micro AS micro FROM billing_transfer WHERE kind = 'penalty'
                UNION ALL
                SELECT debit_id, -amount_micro FROM billing_transfer WHERE kind = 'penalty_back'
            ) AS m JOIN billing_account a ON a.id = m.account_id GROUP BY 1
        )
        SELECT coalesce(c.buyer_id, p.buyer_id), coalesce(c.micro, 0), coalesce(p.micro, 0)
        FROM charged c FULL JOIN paid p ON p.buyer_id = c.buyer_id WHERE coalesce(c.micro, 0) <> coalesce(p.micro, 0)
    """):
        yield Finding("penalties-are-paid", f"buyer {buyer}", format_yuan(int(charged)), format_yuan(int(paid)))


def bonds_end() -> Iterator[Finding]:
    """Once a market is settled its bonds hold at most what open claims may cost, and nothing once it is final."""
    for market, provider, posted, final in _rows("""
        SELECT m.id, a.organization_id, a.posted_micro, m.finalized_at IS NOT NULL FROM billing_account a
        JOIN exchange_market m ON a.scope = 'market:' || m.id
        WHERE a.kind = 'bond' AND a.posted_micro <> 0 AND m.phase = 'settled' ORDER BY 1, 2
    """):
        most = 0 if final else queries.claimed_once_micro(market, provider)
        if posted > most:
            yield Finding(
                "bonds-end", f"provider {provider} in market {market}", f"at most {format_yuan(most)}",
                format_yuan(posted),
            )  # fmt: skip


def probes_are_paid() -> Iterator[Finding]:
    """
    In each settled market, what the exchange's own requests took by the events under minus their contract's id, and at
    most what so many can take, is paid at the mean of the prices that the contract's provider sold at: as its last
    payment says, its charges, and the transfers out of the default account.
    """
    late = set(LateUsage.objects.values_list("contract_id", flat=True))
    paid = {
        contract: (work, amount, charged, moved)
        for contract, work, amount, charged, moved in _rows("""
            SELECT DISTINCT ON (p.contract_id) p.contract_id, p.work_micro_st, p.amount_micro,
                (SELECT coalesce(sum(c.seller_amount_micro - c.fee_micro), 0)::bigint FROM billing_charge c
                    WHERE c.source_key = 'probe:' || p.contract_id),
                (SELECT coalesce(sum(CASE WHEN d.kind = 'default_fund' THEN t.amount_micro ELSE -t.amount_micro END), 0)
                    ::bigint FROM billing_transfer t JOIN billing_account d ON d.id = t.debit_id
                    JOIN billing_account a ON a.id = t.credit_id
                    WHERE t.key LIKE 'probe:' || p.contract_id || ':%' AND 'default_fund' IN (d.kind, a.kind))
            FROM metering_ingest_probepayment p ORDER BY p.contract_id, p.revision DESC
        """)
    }
    probed = DeliveryContract.objects.filter(
        Q(pk__in=Probe.objects.filter(contract__isnull=False).values("contract")) | Q(pk__in=paid),
        market__phase=Market.Phase.SETTLED,
    )
    for contract in probed.exclude(pk__in=late).select_related("grade__model_card").order_by("pk"):
        assert contract.window is not None
        lots = list(contract.lots.values_list("quantity_tokens", "seller_price_nano"))
        price = round_half_up(sum(tokens * price for tokens, price in lots), sum(tokens for tokens, _ in lots))
        one = work(contract.grade.model_card.standard_card(), MOST_PROMPT_TOKENS, 0, ANSWER_TOKENS).total_micro_st
        taken = sum(
            used.work_micro_st
            for used in recount([-contract.pk], provider_meters({contract.provider_id}), contract.window)
        )
        owed = max(0, min(taken, one * Probe.objects.filter(contract=contract).count()))
        amount = work_cost_micro(work_micro_st=owed, price_nano=price)
        expected, found = (owed, amount, amount, amount), paid.get(contract.pk, (0, 0, 0, 0))
        if found != expected:
            yield Finding(
                "probes-are-paid", f"contract {contract.pk}",
                f"{owed} micro-ST, {format_yuan(amount)} paid, charged and moved",
                f"{found[0]} micro-ST, {', '.join(format_yuan(micro) for micro in found[1:])}",
            )  # fmt: skip


def late_hours_are_cheaper() -> Iterator[Finding]:
    """
    The late lines of a contract's last settlement are what its upheld findings say: their work, as far as it was used
    out of the lots and from the lot that is cheapest for the buyer on, at the grade's share of that lot's price; a
    finding's work is the sum of its hours, and in each of these two sides show it.
    """
    for pk, contract, hours, total in _rows("""
        SELECT id, contract_id, late_hours, late_work_micro_st FROM metering_ingest_servicefinding
        WHERE late_work_micro_st > 0 OR late_hours <> '[]' ORDER BY id
    """):
        hours = hours if isinstance(hours, list) else json.loads(hours)
        shown = sum(
            hour["work_micro_st"] for hour in hours
            if sum(hour[side] is True for side in ("gateway", "guard", "probe")) >= 2
        )  # fmt: skip
        if shown != total:
            yield Finding(
                "late-hours-are-cheaper", f"finding {pk} on contract {contract}", f"{shown} micro-ST",
                f"{total} micro-ST",
            )  # fmt: skip
    waiting = set(LateUsage.objects.values_list("contract_id", flat=True))
    for contract, revision, lines, work_micro_st, share in _rows("""
        WITH upheld AS (
            SELECT f.contract_id, sum(f.late_work_micro_st)::bigint AS work FROM metering_ingest_servicefinding f
            JOIN metering_ingest_findingruling r ON r.finding_id = f.id AND r.verdict = 'upheld' GROUP BY 1
        ), latest AS (
            SELECT DISTINCT ON (contract_id, period_start) contract_id, revision, lines
            FROM metering_ingest_contractsettlement ORDER BY contract_id, period_start, revision DESC
        )
        SELECT l.contract_id, l.revision, l.lines, coalesce(u.work, 0), coalesce(g.late_reduction_thousandths, 0)
        FROM latest l JOIN exchange_deliverycontract c ON c.id = l.contract_id AND c.kind = 'spot'
        JOIN providers_grade g ON g.id = c.grade_id LEFT JOIN upheld u ON u.contract_id = l.contract_id
        WHERE coalesce(u.work, 0) > 0 OR l.lines @> '[{"kind": "late"}]' ORDER BY 1
    """):
        if contract in waiting:
            continue
        lines = lines if isinstance(lines, list) else json.loads(lines)
        used: dict[tuple[int, int, int], int] = {}
        for line in lines:
            if line["kind"] == "used":
                lot = line["buyer_price_nano"], line["seller_price_nano"], line["lot_number"]
                used[lot] = used.get(lot, 0) + line["quantity_micro_st"]
        expected, left = {}, int(work_micro_st)
        for (price, _, number), quantity in sorted(used.items()):
            part = min(left, quantity)
            left -= part
            if amount := round_half_up(part * price * share, 10**12):
                expected[number] = (part, -amount)
        found = {
            line["lot_number"]: (line["quantity_micro_st"], line["buyer_amount_micro"])
            for line in lines if line["kind"] == "late"
        }  # fmt: skip
        if found != expected:
            yield Finding("late-hours-are-cheaper", f"contract {contract} r{revision}", str(expected), str(found))


CHECKS: list[Check] = [
    ("probes are paid", probes_are_paid),
    ("late hours are cheaper", late_hours_are_cheaper),
    ("undelivered is reported", undelivered_is_reported),
    ("penalties are shares", penalties_follow_from_what_is_undelivered),
    ("penalties are paid", penalties_are_paid),
    ("bonds end", bonds_end),
]
