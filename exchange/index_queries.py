"""The spot token index of a grade and the discount of its off-peak auctions, from trades and list prices."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from django.db import connection

from core.money import round_half_up
from exchange.domain.spot_index import Pair, SpotIndex, spot_index
from exchange.models import AuctionResult
from exchange.queries import STANDS
from identity.models import Organization
from providers.queries import lowest_list_price_nano

WINDOW = timedelta(hours=24)
LIST_PRICE_STANDS = timedelta(days=7)

_PAIRS = f"""
SELECT (t.occurred_at AT TIME ZONE 'Asia/Shanghai')::date, t.buyer_id, t.seller_id, sum(t.quantity_tokens)::bigint,
       sum(t.quantity_tokens::numeric * t.price_nano), count(*)
FROM exchange_market m JOIN exchange_trade t ON t.id BETWEEN (m.id << 32) AND (m.id << 32) + m.last_trade
WHERE m.grade_id = %(grade)s AND m.last_trade > 0 AND m.gate_closes_at >= %(since)s AND m.call_opens_at < %(until)s
  AND t.occurred_at >= %(since)s AND t.occurred_at < %(until)s
  AND NOT EXISTS (
      SELECT FROM exchange_auctionresult a WHERE a.market_id = m.id AND a.sequence = t.sequence AND a.thin)
  AND {STANDS}
GROUP BY 1, 2, 3
"""


@dataclass(frozen=True, slots=True)
class OffPeakDiscount:
    """
    What off-peak auctions cost against the lowest list price that was in force, and open to buy, for seven days.

    Null where there was no auction price or no such list price.
    """

    price_nano: int | None
    list_price_nano: int | None
    discount_thousandths: int | None
    auctions: int


def index_at(grade_id: int, now: datetime) -> SpotIndex:
    """Return the index over the 24 hours before `now`."""
    return spot_index((pair for _, pair in _pairs(grade_id, now - WINDOW, now)), _groups())


def index_by_day(grade_id: int, *, since: datetime, until: datetime) -> list[tuple[date, SpotIndex]]:
    """Return the index of each day of Shanghai that had trades in [since, until), the last first."""
    days: defaultdict[date, list[Pair]] = defaultdict(list)
    for day, pair in _pairs(grade_id, since, until):
        days[day].append(pair)
    groups = _groups()
    return [(day, spot_index(days[day], groups)) for day in sorted(days, reverse=True)]


def off_peak_discount(grade_id: int, now: datetime) -> OffPeakDiscount:
    """Return the discount of the off-peak auctions of the 24 hours before `now`, those of thin markets apart."""
    rows = AuctionResult.objects.filter(
        market__grade_id=grade_id, kind=AuctionResult.Kind.OFF_PEAK, thin=False, price_nano__isnull=False,
        cleared_at__gt=now - WINDOW, cleared_at__lte=now,
    ).exclude(annulment__sequence__isnull=False).values_list("price_nano", "volume_tokens")  # fmt: skip
    found = list(rows)
    tokens = sum(volume for _, volume in found)
    price = round_half_up(sum((nano or 0) * volume for nano, volume in found), tokens) if tokens else None
    listed = lowest_list_price_nano(grade_id, now - LIST_PRICE_STANDS, now)
    discount = None if price is None or listed is None else (listed - price) * 1_000 // listed
    return OffPeakDiscount(price, listed, discount, len(found))


def _pairs(grade_id: int, since: datetime, until: datetime) -> list[tuple[date, Pair]]:
    with connection.cursor() as cursor:
        cursor.execute(_PAIRS, {"grade": grade_id, "since": since, "until": until})
        return [
            (day, Pair(buyer, seller, tokens, int(amount), trades))
            for day, buyer, seller, tokens, amount, trades in cursor.fetchall()
        ]


def _groups() -> dict[int, int]:
    """Return a number for the control group of each organization that is in one: its first member's id, negative."""
    firsts: dict[str, int] = {}
    rows = Organization.objects.exclude(control_group="").order_by("pk").values_list("pk", "control_group")
    return {pk: -firsts.setdefault(group, pk) for pk, group in rows}
