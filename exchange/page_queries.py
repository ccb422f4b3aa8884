"""Named reads behind the pages: a few queries a page, however much there is to show."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec
import zstandard
from django.db.models import Count, JSONField, OuterRef, Q, QuerySet, Subquery
from django.db.models.expressions import RawSQL
from django.utils.translation import get_language, gettext

from core.money import LOT_TOKENS
from exchange.charts import CHINESE_UNITS, ENGLISH_UNITS, AuctionChart, auction_chart
from exchange.domain.auction import Determination
from exchange.domain.curves import Level, Order, curves
from exchange.domain.explain import explain
from exchange.models import AuctionBook, AuctionResult, Market
from providers.models import Grade

OPEN_PHASES = ("scheduled", "call", "continuous", "closed", "delivering")


@dataclass(frozen=True, slots=True)
class Curves:
    """Supply and demand of a book: the levels, and their drawing where there are enough of them."""

    levels: Sequence[Level]
    chart: AuctionChart | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a market's price is seen against, in nano-yuan a token; null where there is none."""

    list_price_nano: int | None
    against_list_thousandths: int | None
    previous_market_id: int | None
    previous_price_nano: int | None
    previous_window: tuple[datetime, datetime] | None
    providers: int


_COMPARED = """(SELECT jsonb_build_object(
    'list', (
        SELECT min(price.price_nano) FROM providers_deployment d CROSS JOIN LATERAL (
            SELECT p.price_nano FROM providers_listprice p
            WHERE p.deployment_id = d.id AND p.valid_from <= least(%s, exchange_market.gate_closes_at)
            ORDER BY p.valid_from DESC LIMIT 1) AS price
        WHERE d.grade_id = exchange_market.grade_id AND d.status = 'active'),
    'previous', (
        SELECT jsonb_build_object(
            'market', a.market_id, 'price', a.price_nano, 'start', m.window_start, 'end', m.window_end)
        FROM exchange_auctionresult a JOIN exchange_market m ON m.id = a.market_id
        WHERE m.grade_id = exchange_market.grade_id AND m.window_start < exchange_market.window_start
            AND a.price_nano IS NOT NULL
            AND NOT EXISTS (SELECT FROM exchange_annulment n WHERE n.auction_id = a.id AND n.sequence IS NOT NULL)
        ORDER BY a.id DESC LIMIT 1),
    'providers', (
        SELECT count(*) FROM exchange_marketposition q
        WHERE q.market_id = exchange_market.id AND q.capacity_tokens > 0)))"""


def markets_compared(now: datetime) -> "QuerySet[Market]":
    """
    Return markets with their grades, and with what `comparison` reads as `compared`, by the one query.

    That is the lowest list price in force for the grade, open to buy, now or when the market's trading ended; the last
    auction of the grade that gave a price before this market's window; how many providers have capacity in it.
    """
    compared = RawSQL(_COMPARED, [now], output_field=JSONField())
    return Market.objects.select_related("grade__model_card").annotate(compared=compared)


def comparison(market: Any, price_nano: int | None) -> Comparison:
    """Return what a price of a market of `markets_compared` is seen against."""
    listed, previous = market.compared["list"], market.compared["previous"] or {}
    return Comparison(
        list_price_nano=listed,
        against_list_thousandths=(price_nano - listed) * 1_000 // listed if price_nano and listed else None,
        previous_market_id=previous.get("market"),
        previous_price_nano=previous.get("price"),
        previous_window=(
            (datetime.fromisoformat(previous["start"]), datetime.fromisoformat(previous["end"])) if previous else None
        ),
        providers=market.compared["providers"],
    )


def with_last_auction(rows: "QuerySet[Market]") -> "QuerySet[Market]":
    """Add each market's last auction: its id, price, volume and rule."""
    last = AuctionResult.objects.filter(market=OuterRef("pk")).order_by("-sequence")
    return rows.select_related("grade").annotate(
        auction_id=Subquery(last.values("pk")[:1]),
        auction_price_nano=Subquery(last.values("price_nano")[:1]),
        auction_volume_tokens=Subquery(last.values("volume_tokens")[:1]),
        auction_rule=Subquery(last.values("rule")[:1]),
    )


def markets_on_show(*, now: datetime, grade: str = "", phase: str = "") -> "QuerySet[Market]":
    """Return markets that are open or near, the next to close first; by grade and phase if named."""
    rows = Market.objects.all()
    if grade:
        rows = rows.filter(grade__slug=grade)
    if phase:
        rows = rows.filter(phase=phase).order_by("-window_start", "pk")
    else:
        rows = rows.filter(
            Q(phase__in=OPEN_PHASES, call_opens_at__lte=now + timedelta(days=2))
            | Q(phase="settled", window_end__gte=now - timedelta(hours=1))
        ).order_by("call_closes_at", "pk")
    return with_last_auction(rows)


def markets_to_offer_in(grade_ids: Collection[int], *, now: datetime) -> "QuerySet[Market]":
    """Return the markets of these grades that still take offers, the next window first."""
    rows = Market.objects.select_related("grade").filter(grade_id__in=grade_ids)
    rows = rows.filter(phase__in=("scheduled", "call", "continuous"))
    return rows.filter(gate_closes_at__gt=now).order_by("window_start", "pk")[:200]


def next_call(*, now: datetime) -> Market | None:
    """Return the market whose call closes next."""
    rows = Market.objects.filter(phase="call", call_closes_at__gt=now).select_related("grade")
    return rows.order_by("call_closes_at", "pk").first()


def past_auctions(*, grade_id: int | None = None) -> "QuerySet[AuctionResult]":
    """Return auctions with their markets, the latest first."""
    rows = AuctionResult.objects.select_related("market__grade").order_by("-pk")
    return rows if grade_id is None else rows.filter(market__grade_id=grade_id)


def phase_counts() -> dict[str, int]:
    """Return how many markets are in each phase."""
    rows = Market.objects.values_list("phase").annotate(count=Count("pk"))
    return dict(rows.order_by("phase"))


def book_of_auction(auction: AuctionResult) -> dict[str, Any] | None:
    """Return an auction's anonymised book as `manage.py clear_book` reads it: prices in ticks, quantities in lots."""
    row = AuctionBook.objects.filter(pk=auction.pk).first()
    if row is None:
        return None
    content: dict[str, Any] = msgspec.json.decode(zstandard.decompress(bytes(row.content)))
    return content


def curves_of_auction(auction: AuctionResult, tick_nano: int) -> Curves:
    """Return supply and demand of an auction's book, and their drawing."""
    book = book_of_auction(auction)
    if book is None:
        return Curves([], None)
    levels = curves(_orders(book["bids"], tick_nano), _orders(book["asks"], tick_nano))
    units = CHINESE_UNITS if (get_language() or "").startswith("zh") else ENGLISH_UNITS
    chart = auction_chart(levels, price_nano=auction.price_nano, volume_tokens=auction.volume_tokens, units=units)
    return Curves(levels, chart)


def _orders(rows: Iterable[Sequence[int | None]], tick_nano: int) -> list[Order]:
    return [(None if tick is None else tick * tick_nano, (lots or 0) * LOT_TOKENS) for tick, lots in rows]


def sentences_of(auction: AuctionResult, *, price: Callable[[int], str], quantity: Callable[[int], str]) -> list[str]:
    """Return why the auction cleared where it did, in the reader's language."""
    determination = msgspec.convert(auction.figures, Determination)
    tick_nano = auction.market.tick_nano
    return [
        sentence.text(
            gettext,
            price=lambda tick: price(tick * tick_nano),
            quantity=lambda lots: quantity(lots * LOT_TOKENS),
        )
        for sentence in explain(determination)
    ]


def grades_with_markets() -> list[tuple[str, str]]:
    """Return slug and name of the grades that have markets."""
    rows = Grade.objects.filter(markets__isnull=False).distinct().order_by("slug")
    return [(grade.slug, localized_name(grade)) for grade in rows]


def localized_name(grade: Grade) -> str:
    """Return a grade's name in the reader's language."""
    return grade.name_zh if grade.name_zh and (get_language() or "").startswith("zh") else grade.name


def markets_by_id(market_ids: Collection[int]) -> dict[int, Market]:
    """Return these markets with their grades."""
    return {row.pk: row for row in Market.objects.select_related("grade").filter(pk__in=market_ids)}
