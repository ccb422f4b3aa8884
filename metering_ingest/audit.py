"""What must always hold of usage: rollups are the sum of events, settlements are what a recomputation gives."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection

from core.audit import Check, Finding
from core.money import work_cost_micro
from core.periods import Period
from metering_ingest import delivery_audit
from metering_ingest.actions.recount import key_at, provider_meters, recount
from metering_ingest.archive_files import file_digest
from metering_ingest.archived import bring_back, events_between, folder, is_archived, start_of
from metering_ingest.domain.classes import (
    CACHED,
    CODES,
    INPUT,
    INPUT_BYTES,
    NAMES,
    OUTPUT,
    OUTPUT_BYTES,
    REASONING,
    REQUESTS,
)
from metering_ingest.models import ArchivedPart, ContractSettlement
from metering_ingest.rerating import settlements_rate_the_same

_ROLLUP_IS_EVENTS = f"""
    WITH counted AS (
        SELECT e.meter_id, e.contract_id, e.deployment_id, e.length_band, e.details,
            to_timestamp(floor((('x' || encode(substring(uuid_send(e.event_key) FROM 1 FOR 6), 'hex'))::bit(48)::bigint)
                / 3600000) * 3600) AS hour,
            e.requests, e.input_tokens, e.cached_tokens, e.output_tokens, e.reasoning_tokens,
            e.input_micro_st, e.cached_micro_st, e.output_micro_st
        FROM {{events}} e
        WHERE NOT EXISTS (SELECT FROM usage_void v WHERE v.event_key = e.event_key AND v.meter_id = e.meter_id)
            AND e.event_key >= %(first)s AND e.event_key < %(last)s
    ), lines AS (
        SELECT meter_id, contract_id, deployment_id, hour, length_band, c.code, c.quantity, c.work
        FROM counted, LATERAL (VALUES
            ({REQUESTS}, requests::bigint, 0::bigint), ({INPUT}, input_tokens, input_micro_st),
            ({CACHED}, cached_tokens, cached_micro_st), ({OUTPUT}, output_tokens, output_micro_st),
            ({REASONING}, reasoning_tokens, 0),
            ({INPUT_BYTES}, coalesce((details ->> 'input_bytes')::bigint, 0), 0),
            ({OUTPUT_BYTES}, coalesce((details ->> 'output_bytes')::bigint, 0), 0)) AS c (code, quantity, work)
        WHERE c.quantity <> 0 OR c.work <> 0
        UNION ALL
        SELECT meter_id, contract_id, deployment_id, hour, length_band, k.code, c.value::bigint, 0
        FROM counted, jsonb_each_text(counted.details -> 'classes') c
        JOIN (SELECT * FROM unnest(%(names)s::text[], %(codes)s::int[])) AS k (name, code) ON k.name = c.key
        WHERE counted.details ? 'classes'
    ), expected AS (
        SELECT meter_id, contract_id, deployment_id, hour, length_band, code AS token_class,
            sum(quantity)::bigint AS quantity, sum(work)::bigint AS work_micro_st, count(*) AS events
        FROM lines WHERE (hour AT TIME ZONE 'UTC')::date <> ALL(%(without)s) GROUP BY 1, 2, 3, 4, 5, 6
    ), rolled AS (
        SELECT * FROM usage_rollup
        WHERE hour >= %(since)s AND hour < %(until)s AND (hour AT TIME ZONE 'UTC')::date <> ALL(%(without)s)
    )
    SELECT coalesce(e.meter_id, r.meter_id), coalesce(e.contract_id, r.contract_id), coalesce(e.hour, r.hour),
        coalesce(e.token_class, r.token_class), coalesce(e.quantity, 0), coalesce(e.work_micro_st, 0),
        coalesce(e.events, 0), coalesce(r.quantity, 0), coalesce(r.work_micro_st, 0), coalesce(r.events, 0)
    FROM expected e FULL JOIN rolled r
        USING (meter_id, contract_id, deployment_id, hour, length_band, token_class)
    WHERE (coalesce(e.quantity, 0), coalesce(e.work_micro_st, 0), coalesce(e.events, 0))
        <> (coalesce(r.quantity, 0), coalesce(r.work_micro_st, 0), coalesce(r.events, 0))
    ORDER BY 1, 2, 3, 4 LIMIT 100
"""


def _rows(sql: str, values: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return list(cursor.fetchall())


def rollups_are_events() -> Iterator[Finding]:
    """Each row of the rollup is the sum of the events that count, and none is missing."""
    names = {"names": list(CODES), "codes": list(CODES.values())}
    archived = list(ArchivedPart.objects.order_by("day").values_list("day", flat=True).distinct())
    everything = {
        "first": UUID(int=0), "last": UUID(int=2**128 - 1), "since": datetime(1, 1, 2, tzinfo=UTC),
        "until": datetime(9999, 1, 1, tzinfo=UTC), "without": archived,
    }  # fmt: skip
    yield from _rollup_findings(_ROLLUP_IS_EVENTS.format(events="usage_event"), names | everything)
    for day in archived:  # one at a time: brought back, counted, and let go of
        since, until = start_of(day), start_of(day) + timedelta(days=1)
        span = {"first": key_at(since), "last": key_at(until), "since": since, "until": until, "without": []}
        events = events_between(span["first"], span["last"])  # type: ignore[arg-type]
        yield from _rollup_findings(_ROLLUP_IS_EVENTS.format(events=events), names | span)


def _rollup_findings(sql: str, values: dict[str, Any]) -> Iterator[Finding]:
    for meter, contract, hour, code, *sums in _rows(sql, values):
        yield Finding(
            "rollups-are-events",
            f"meter {meter} contract {contract} {hour:%Y-%m-%dT%H}Z {NAMES.get(code, code)}",
            f"{sums[0]} ({sums[1]} micro-ST, {sums[2]} events)",
            f"{sums[3]} ({sums[4]} micro-ST, {sums[5]} events)",
        )


_TAGGED = """
    SELECT e.meter_id, t.key, t.value, sum(e.requests)::bigint,
        sum(e.input_micro_st + e.cached_micro_st + e.output_micro_st)::bigint
    FROM {events} e, jsonb_each_text(e.details -> 'tags') t
    WHERE e.details ? 'tags' AND NOT EXISTS (
        SELECT FROM usage_void v WHERE v.event_key = e.event_key AND v.meter_id = e.meter_id)
    GROUP BY 1, 2, 3
"""
_TAGS_ROLLED_UP = """
    SELECT meter_id, tag, value, coalesce(sum(quantity) FILTER (WHERE token_class = 1), 0)::bigint,
        sum(work_micro_st)::bigint
    FROM usage_tag_rollup GROUP BY 1, 2, 3
"""


def tag_rollups_are_events() -> Iterator[Finding]:
    """The requests and work of each tag's value are those of the events that count and carry it."""
    expected: dict[tuple[int, str, str], tuple[int, int]] = {}

    def add(table: str) -> None:
        for *name, requests, work in _rows(_TAGGED.format(events=table)):
            before = expected.get(tuple(name), (0, 0))
            expected[tuple(name)] = (before[0] + requests, before[1] + work)

    add("usage_event")
    for part in ArchivedPart.objects.order_by("day", "number"):
        bring_back([part], UUID(int=0), UUID(int=2**128 - 1))
        add("archived_usage")
    found = {(meter, tag, value): tuple(sums) for meter, tag, value, *sums in _rows(_TAGS_ROLLED_UP)}
    for name in sorted(expected.keys() | found.keys()):
        wanted, got = expected.get(name, (0, 0)), found.get(name, (0, 0))
        if wanted != got:
            meter, tag, value = name
            yield Finding(
                "tag-rollups-are-events", f"meter {meter} {tag}={value}",
                f"{wanted[0]} requests, {wanted[1]} micro-ST", f"{got[0]} requests, {got[1]} micro-ST",
            )  # fmt: skip


def voids_have_their_events() -> Iterator[Finding]:
    """A void names an event that is stored."""
    for meter, key in _rows("""
        SELECT v.meter_id, v.event_key FROM usage_void v
        WHERE NOT EXISTS (SELECT FROM usage_event e WHERE e.event_key = v.event_key AND e.meter_id = v.meter_id)
    """):
        if not is_archived(meter, key.bytes):
            yield Finding("voids-have-their-events", f"meter {meter} {key}", "an event", "none")


def archives_are_whole() -> Iterator[Finding]:
    """Each archived part's files are there, as they were written."""
    for part in ArchivedPart.objects.order_by("day", "number"):
        for name, digest in ((part.parquet, part.parquet_digest), (part.identities, part.identities_digest)):
            path = folder() / name
            found = file_digest(path) if path.exists() else "no file"
            if found != digest:
                yield Finding("archives-are-whole", name, digest, found)


def settlements_are_usage() -> Iterator[Finding]:
    """The latest revision of each settled contract has the work that its events add up to, unless it is marked late."""
    latest = ContractSettlement.objects.order_by("contract_id", "period_start", "-revision").distinct(
        "contract_id", "period_start"
    )
    late = {contract for (contract,) in _rows("SELECT DISTINCT contract_id FROM late_usage")}
    providers = dict(_rows("SELECT id, provider_id FROM exchange_deliverycontract"))
    periods: dict[Period, list[ContractSettlement]] = {}
    for row in latest:
        if row.contract_id not in late:
            periods.setdefault(Period(row.period_start, row.period_end), []).append(row)
    for period, rows in periods.items():
        meters = provider_meters({providers[row.contract_id] for row in rows})
        worked: dict[int, int] = {}
        for usage in recount([row.contract_id for row in rows], meters, period):
            worked[usage.contract_id] = worked.get(usage.contract_id, 0) + usage.work_micro_st
        for row in rows:
            if worked.get(row.contract_id, 0) != row.work_micro_st:
                yield Finding(
                    "settlements-are-usage",
                    f"contract {row.contract_id} from {period.start:%Y-%m-%dT%H:%M}Z",
                    f"{worked.get(row.contract_id, 0)} micro-ST",
                    f"{row.work_micro_st} micro-ST",
                )


def settlements_are_charged() -> Iterator[Finding]:
    """The charges of a contract and period, over all revisions, are the lines of its latest settlement."""
    for key, buyer, seller, expected_buyer, expected_seller in _rows(
        """
        WITH latest AS (
            SELECT DISTINCT ON (contract_id, period_start) contract_id, period_start, lines
            FROM metering_ingest_contractsettlement ORDER BY contract_id, period_start, revision DESC
        ), settled AS (
            SELECT l.contract_id || ':' || to_char(l.period_start AT TIME ZONE 'UTC', 'YYYYMMDDHH24MISS') AS key,
                coalesce(sum((line ->> 'buyer_amount_micro')::bigint), 0) AS buyer,
                coalesce(sum((line ->> 'seller_amount_micro')::bigint), 0) AS seller
            FROM latest l LEFT JOIN LATERAL jsonb_array_elements(l.lines) AS line ON true GROUP BY 1
        ), charged AS (
            SELECT split_part(source_key, ':', 2) || ':' || split_part(source_key, ':', 3) AS key,
                sum(buyer_amount_micro) AS buyer, sum(seller_amount_micro) AS seller
            FROM billing_charge WHERE source_key LIKE 'contract:%%' GROUP BY 1
        )
        SELECT coalesce(s.key, c.key), coalesce(s.buyer, 0), coalesce(s.seller, 0), coalesce(c.buyer, 0),
            coalesce(c.seller, 0)
        FROM settled s FULL JOIN charged c USING (key)
        WHERE (coalesce(s.buyer, 0), coalesce(s.seller, 0)) <> (coalesce(c.buyer, 0), coalesce(c.seller, 0))
    """,
        {},
    ):
        yield Finding(
            "settlements-are-charged", f"contract {key}", f"{buyer} / {seller}", f"{expected_buyer} / {expected_seller}"
        )


def settled_prices_are_lots() -> Iterator[Finding]:
    """A used line of a settlement is quantity × its lot's price."""
    for contract, line in _rows("""
        SELECT s.contract_id, line FROM metering_ingest_contractsettlement s, jsonb_array_elements(s.lines) AS line
        WHERE line ->> 'kind' = 'used'
    """):
        values = line if isinstance(line, dict) else json.loads(line)
        expected = work_cost_micro(work_micro_st=values["quantity_micro_st"], price_nano=values["buyer_price_nano"])
        if expected != values["buyer_amount_micro"]:
            yield Finding(
                "settled-prices-are-lots", f"contract {contract} lot {values['lot_number']}", str(expected),
                str(values["buyer_amount_micro"]),
            )  # fmt: skip


def settled_escrow_is_zero() -> Iterator[Finding]:
    """Nothing is left in the escrow of a settled market."""
    for scope, posted in _rows("""
        SELECT a.scope, a.posted_micro FROM billing_account a
        JOIN exchange_market m ON a.scope = 'market:' || m.id
        WHERE a.kind = 'escrow' AND m.phase = 'settled' AND a.posted_micro <> 0
    """):
        yield Finding("settled-escrow-is-zero", scope, "0", str(posted))


def disputes_are_held_back() -> Iterator[Finding]:
    """
    Of each settled contract and period, what is held back is what its open discrepancies hold, and what is held back,
    used or beyond the lots is the work of its events less what decisions denied.
    """
    for contract, start, held, expected_held, counted, expected_counted in _rows("""
        WITH latest AS (
            SELECT DISTINCT ON (contract_id, period_start) contract_id, period_start, period_end, work_micro_st, lines
            FROM metering_ingest_contractsettlement ORDER BY contract_id, period_start, revision DESC
        ), summed AS (
            SELECT l.contract_id, l.period_start, l.period_end, l.work_micro_st,
                coalesce(sum((line ->> 'quantity_micro_st')::bigint) FILTER (WHERE line ->> 'kind' = 'disputed'), 0)
                    AS held,
                coalesce(sum((line ->> 'quantity_micro_st')::bigint)
                    FILTER (WHERE line ->> 'kind' IN ('used', 'overage', 'list', 'uncharged', 'disputed')), 0)
                    AS counted
            FROM latest l LEFT JOIN LATERAL jsonb_array_elements(l.lines) AS line ON true GROUP BY 1, 2, 3, 4
        ), ruled AS (
            SELECT s.*, coalesce(sum(d.held_work_micro_st), 0) AS expected_held,
                s.work_micro_st - coalesce(sum(d.denied_work_micro_st), 0) AS expected_counted
            FROM summed s LEFT JOIN metering_ingest_discrepancy d ON d.contract_id = s.contract_id
                AND d.hour >= date_trunc('hour', s.period_start) AND d.hour < s.period_end
            GROUP BY 1, 2, 3, 4, 5, 6
        )
        SELECT contract_id, period_start, held, expected_held, counted, expected_counted FROM ruled r
        WHERE (held, counted) <> (expected_held, expected_counted)
            AND NOT EXISTS (SELECT FROM late_usage u WHERE u.contract_id = r.contract_id)
    """):
        yield Finding(
            "disputes-are-held-back", f"contract {contract} from {start:%Y-%m-%dT%H:%M}Z",
            f"{expected_held} of {expected_counted} micro-ST held", f"{held} of {counted} micro-ST held",
        )  # fmt: skip


CHECKS: list[Check] = [
    *delivery_audit.CHECKS,
    ("rollups are events", rollups_are_events),
    ("tag rollups are events", tag_rollups_are_events),
    ("archives are whole", archives_are_whole),
    ("voids have their events", voids_have_their_events),
    ("settlements are usage", settlements_are_usage),
    ("settlements are charged", settlements_are_charged),
    ("settled prices are lots", settled_prices_are_lots),
    ("settled escrow is zero", settled_escrow_is_zero),
    ("settlements rate the same", settlements_rate_the_same),
    ("disputes are held back", disputes_are_held_back),
]
