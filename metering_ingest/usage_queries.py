"""
Who used what, at what cost, on which hardware, how efficiently: from the rollups, never from events.

Costs are what settlement charged, and until it has, an estimate: work × the mean price of the contract's lots, or the
deployment's list price. Each side sees its own price; an operator sees the buyer's.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from django.db import connection

from core.errors import BadRequest
from exchange.models import DeliveryContract
from identity.access import Actor
from metering_ingest.domain.classes import CODES, NAMES, REQUESTS
from metering_ingest.domain.reconciliation import BILLED_CLASSES, CODES_OF
from metering_ingest.models import Meter

#: What usage may be grouped by, and the SQL that names it. `r` is the rollup, `c` the contract, `d` the deployment.
DIMENSIONS = {
    "hour": "r.hour",
    "day": "date_trunc('day', r.hour, 'Asia/Shanghai')",
    "month": "date_trunc('month', r.hour, 'Asia/Shanghai')",
    "class": "r.token_class",
    "length_band": "r.length_band",
    "contract": "r.contract_id",
    "deployment": "r.deployment_id",
    "meter": "r.meter_id",
    "organization": "c.buyer_id",
    "buyer": "c.buyer_id",
    "provider": "coalesce(d.provider_id, c.provider_id)",
    "grade": "coalesce(d.grade_id, c.grade_id)",
    "service_class": "g.service_class",
    "model": "mc.slug",
    "accelerator": "a.slug",
    "key": "r.value",
}
TAG = "tag:"
KEY_TAG = "key"
MAX_ROWS = 10_000


class UnknownDimension(BadRequest):
    """Usage cannot be grouped or filtered by that."""

    code = "unknown-dimension"


class TooMuchUsage(BadRequest):
    """The answer would be longer than one answer may be."""

    code = "too-many-rows"


class UsageRow(NamedTuple):
    """
    One group: the values of its dimensions in their order, then quantity (in the class's unit), work and events: those
    that had something of the class, or all of them, each once, where no class is asked for.

    `cost_micro` is what the asking side pays or gets, in micro-yuan; `estimate` while part of it is not settled.
    `accelerator_hours` counts the hours in which a deployment served anything, times its accelerators; None unless the
    groups are of hardware.
    """

    group: tuple[Any, ...]
    quantity: int
    work_micro_st: int
    events: int
    cost_micro: int
    estimate: bool
    accelerator_hours: int | None


class Reach(NamedTuple):
    """What of usage somebody sees: the contracts bought and the meters owned, by id."""

    contracts: list[int]
    meters: list[int]


def reach_of(actor: Actor) -> Reach | None:
    """Return what of usage the actor sees, None for all; as the tables are joined, an index serves either side."""
    if actor.is_operator or actor.reads_everything:
        return None
    return Reach(
        list(DeliveryContract.objects.filter(buyer=actor.organization).values_list("pk", flat=True)),
        list(Meter.objects.filter(organization=actor.organization).values_list("pk", flat=True)),
    )


def usage(
    actor: Actor, *, group_by: list[str], start: datetime, end: datetime, filters: dict[str, Any] | None = None,
    reported_by: str = Meter.Role.PROVIDER, reach: Reach | None = None,
) -> list[UsageRow]:  # fmt: skip
    """
    Return usage grouped, of what the actor bought or delivered.

    Only providers' meters count: the others report the same requests again. With `reported_by="buyer"` the gateways'
    reports are grouped instead, by the tags that they carry; their work is the provider's of the contract and hour, in
    proportion to the tokens of the class.

    :param group_by: names of DIMENSIONS, or `tag:NAME`; `key` is the tag of that name. At most one tag.
    :param filters: dimension → value, such as `{"contract": 12, "tag:team": "search"}`.
    :param reach: what the actor sees, where that is known already.
    :raises UnknownDimension: by name, or a second tag.
    :raises TooMuchUsage: more than 10,000 groups.
    """
    query = _Query(group_by, filters or {}, reported_by)
    values: dict[str, Any] = {"start": start, "end": end, "role": reported_by, **query.values}
    mine = "TRUE"
    reach = reach or reach_of(actor)
    if reach is not None:
        values |= reach._asdict()
        query.wanted.append("(r.contract_id = ANY(%(contracts)s) OR r.meter_id = ANY(%(meters)s))")
        values["me"] = actor.organization_id
        mine = "c.buyer_id = %(me)s"
    with connection.cursor() as cursor:
        cursor.execute(query.sql(mine), values)
        found = cursor.fetchall()
    if len(found) > MAX_ROWS:
        raise TooMuchUsage(f"More than {MAX_ROWS:,} rows: shorten the time or group by less.", field="group_by")
    rows = []
    for *group, quantity, work, events, cost, estimate, hours in found:
        named = tuple(NAMES[value] if name == "class" else value for name, value in zip(group_by, group, strict=True))
        rows.append(
            UsageRow(named, int(quantity), int(work), int(events), int(cost), estimate,
                     int(hours) if query.of_hardware and hours is not None else None)
        )  # fmt: skip
    return rows


class _Query:
    """The statement for some groups and filters."""

    def __init__(self, group_by: Sequence[str], filters: dict[str, Any], reported_by: str) -> None:
        self.values: dict[str, Any] = {}
        self.wanted = ["m.role = %(role)s", "r.hour >= %(start)s", "r.hour < %(end)s"]
        self.tag: str | None = None
        self.of_hardware = bool({"deployment", "accelerator"} & {*group_by})
        self.gateways = reported_by == Meter.Role.BUYER
        # An event stands in a row of each of its classes, and in one of requests: that one says how many there were.
        of_class = "class" in (*group_by, *filters)
        self.events = "r.events" if of_class else f"CASE WHEN r.token_class = {REQUESTS} THEN r.events ELSE 0 END"
        self.columns = [self._column(name) for name in group_by]
        for number, (name, value) in enumerate(filters.items()):
            self.wanted.append(f"{self._column(name)} = %(filter{number})s")
            self.values[f"filter{number}"] = CODES.get(value, 0) if name == "class" else value
        if self.tag is not None:
            if "length_band" in (*group_by, *filters):
                raise UnknownDimension("Usage by tag has no length bands.", field="group_by")
            self.wanted.append("r.tag = %(tag)s")
            self.values["tag"] = self.tag
        if self.gateways:
            self.values |= {
                "codes": [code for name in BILLED_CLASSES for code in CODES_OF[name]],
                "classes": [name for name in BILLED_CLASSES for _ in CODES_OF[name]],
            }

    def _column(self, name: str) -> str:
        tag = KEY_TAG if name == "key" else name.removeprefix(TAG) if name.startswith(TAG) else None
        if tag is None:
            if name not in DIMENSIONS:
                raise UnknownDimension(
                    f"Usage has no dimension “{name}”; choose from {', '.join(DIMENSIONS)} or tag:NAME.",
                    field="group_by",
                )
            return DIMENSIONS[name]
        if not tag or (self.tag is not None and self.tag != tag):
            # An event with two tags stands in the rollup under each: pairs of tags are not kept.
            raise UnknownDimension("Group and filter by one tag at a time, as in tag:team.", field="group_by")
        self.tag = tag
        return "r.value"

    def sql(self, mine: str) -> str:
        """Return the statement; `mine` says which contracts are seen from the buyer's side."""
        table = "usage_rollup" if self.tag is None else "usage_tag_rollup"
        work = "r.work_micro_st"
        share = ""
        if self.gateways:
            # A gateway's reports carry no work: they take their share of the provider's, class by class.
            work = "coalesce(r.quantity * p.work / nullif(p.quantity, 0), 0)"
            share = """
                LEFT JOIN unnest(%(codes)s::int[], %(classes)s::text[]) AS k (code, class) ON k.code = r.token_class
                LEFT JOIN LATERAL (
                    SELECT sum(o.work_micro_st) AS work, sum(o.quantity) AS quantity
                    FROM usage_rollup o JOIN metering_ingest_meter om ON om.id = o.meter_id AND om.role = 'provider'
                    JOIN unnest(%(codes)s::int[], %(classes)s::text[]) AS ok (code, class) ON ok.code = o.token_class
                    WHERE o.contract_id = r.contract_id AND o.hour = r.hour AND ok.class = k.class
                        AND r.contract_id <> 0
                ) p ON true"""
        groups = [f"g{i}" for i in range(len(self.columns))]
        named = "".join(f"{column} AS {name}, " for column, name in zip(self.columns, groups, strict=True))
        numbers = ", ".join(str(i + 1) for i in range(len(groups) + 5))
        hours = "NULL"
        by = f"GROUP BY {', '.join(groups)} ORDER BY {', '.join(groups)}" if groups else ""
        selected = "".join(f"{name}, " for name in groups)
        busy = ""
        if self.of_hardware:
            same = " AND ".join(f"b.{name} IS NOT DISTINCT FROM u.{name}" for name in groups)
            busy = f"""LEFT JOIN LATERAL (SELECT sum(b.hours * b.accelerators) AS hours FROM busy b WHERE {same}) w
                ON true"""
            hours = "max(w.hours)"
        joined = f"""
            FROM {table} r
            JOIN metering_ingest_meter m ON m.id = r.meter_id
            LEFT JOIN exchange_deliverycontract c ON c.id = r.contract_id
            LEFT JOIN providers_deployment d ON d.id = r.deployment_id
            LEFT JOIN providers_grade g ON g.id = coalesce(d.grade_id, c.grade_id)
            LEFT JOIN providers_modelcard mc ON mc.id = g.model_card_id
            LEFT JOIN providers_accelerator a ON a.id = d.accelerator_id
        """
        conditions = " AND ".join(self.wanted)
        return f"""
            WITH used AS MATERIALIZED (
                SELECT {named} r.contract_id, r.deployment_id, {mine} AS buys, c.kind,
                    CASE c.kind WHEN 'spot' THEN c.window_start WHEN 'list'
                        THEN date_trunc('day', r.hour, 'Asia/Shanghai') END AS period,
                    sum(r.quantity) AS quantity, sum({work}) AS work, sum({self.events}) AS events
                {joined} {share} WHERE {conditions} GROUP BY {numbers}
            ), settled AS (
                SELECT DISTINCT ON (s.contract_id, s.period_start) s.contract_id, s.period_start, s.work_micro_st,
                    x.buyer, x.seller
                FROM (SELECT DISTINCT contract_id, period FROM used) u
                JOIN metering_ingest_contractsettlement s
                    ON s.contract_id = u.contract_id AND s.period_start = u.period
                CROSS JOIN LATERAL (
                    SELECT coalesce(sum((line ->> 'buyer_amount_micro')::numeric), 0) AS buyer,
                        coalesce(sum((line ->> 'seller_amount_micro')::numeric), 0) AS seller
                    FROM jsonb_array_elements(s.lines) AS line WHERE line ->> 'kind' IN ('used', 'overage', 'list')) x
                ORDER BY s.contract_id, s.period_start, s.revision DESC
            ), lots AS (
                SELECT contract_id, sum(quantity_tokens::numeric * buyer_price_nano) / sum(quantity_tokens) AS buyer,
                    sum(quantity_tokens::numeric * seller_price_nano) / sum(quantity_tokens) AS seller
                FROM exchange_contractlot WHERE contract_id IN (SELECT contract_id FROM used) GROUP BY 1
            ), listed AS (
                SELECT DISTINCT ON (u.deployment_id, u.period) u.deployment_id, u.period, p.price_nano
                FROM (SELECT DISTINCT deployment_id, period FROM used WHERE kind = 'list') u
                JOIN providers_listprice p ON p.deployment_id = u.deployment_id
                    AND p.valid_from < u.period + interval '1 day'
                ORDER BY u.deployment_id, u.period, p.valid_from DESC
            ){self._busy(named, joined, conditions, groups) if self.of_hardware else ""}
            SELECT {selected} coalesce(sum(u.quantity), 0), round(coalesce(sum(u.work), 0)),
                coalesce(sum(u.events), 0),
                round(coalesce(sum(CASE
                    WHEN u.contract_id <= 0 THEN 0
                    WHEN s.contract_id IS NOT NULL THEN coalesce(
                        u.work * CASE WHEN u.buys THEN s.buyer ELSE s.seller END / nullif(s.work_micro_st, 0), 0)
                    ELSE u.work * coalesce(CASE WHEN u.kind = 'list' THEN t.price_nano
                        WHEN u.buys THEN l.buyer ELSE l.seller END, 0) / 1000000000 END), 0)),
                coalesce(bool_or(u.contract_id > 0 AND s.contract_id IS NULL), false), {hours}
            FROM used u
            LEFT JOIN settled s ON s.contract_id = u.contract_id AND s.period_start = u.period
            LEFT JOIN lots l ON l.contract_id = u.contract_id
            LEFT JOIN listed t ON t.deployment_id = u.deployment_id AND t.period = u.period
            {busy} {by} LIMIT {MAX_ROWS + 1}
        """

    def _busy(self, named: str, joined: str, conditions: str, groups: Sequence[str]) -> str:
        numbers = ", ".join(str(i + 1) for i in range(len(groups) + 2))
        return f""", busy AS (
                SELECT {named} r.deployment_id, d.accelerator_count AS accelerators, count(DISTINCT r.hour) AS hours
                {joined} WHERE {conditions} GROUP BY {numbers}
            )"""
