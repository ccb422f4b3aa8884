"""
Upfront quotes: what a request or a workload costs at list, at the book as it stands, and in the next off-peak auction.

A quote binds nobody and stores nothing.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from ciyuan.standard_token import StandardTokenError, Work, work

from billing.domain.price_book_terms import read_book
from billing.domain.price_books import Book, Unpriced, Use, rate
from billing.domain.price_calculation import calculation
from billing.price_book_queries import list_book_at
from core.errors import BadRequest, NotFound
from core.money import LOT_TOKENS, MICRO_PER_TOKEN, cost_micro, format_price, format_tokens, work_cost_micro
from core.periods import Period
from exchange import frame_queries, page_queries, wire
from exchange.domain.orders import SELL
from exchange.domain.quotes import Taken, Workload, hours_of, price_of, tokens_to_buy, uses_of, walk
from exchange.domain.requests import is_far
from exchange.models import Market
from providers.models import Deployment, Grade
from providers.queries import lowest_list_price_nano

ANY_PROVIDER = -1
BAND_BOUNDS = (4_096, 32_768, 131_072)  # of a request's whole input, as usage is metered


class BadWorkload(BadRequest):
    """A request that the grade cannot serve, or that is none."""

    code = "bad-workload"


class ModelUnknown(NotFound):
    """No active grade serves the model in that class."""

    code = "model-unknown"


class ModelAmbiguous(BadRequest):
    """Several grades serve the model: one has to be named."""

    code = "model-ambiguous"


@dataclass(frozen=True, slots=True)
class ListLine:
    """One class of tokens at list; money in micro-yuan."""

    token_class: str
    tokens: int
    amount_micro: int
    calculation: str


@dataclass(frozen=True, slots=True)
class Priced:
    """One of a quote's prices. `basis` says where it comes from; `quantity_tokens` what would be bought in a market."""

    basis: str
    amount_micro: int
    price_nano: int
    calculation: str
    quantity_tokens: int | None = None
    missing_tokens: int = 0
    market: Market | None = None
    lines: Sequence[ListLine] = ()
    taken: Sequence[Taken] = ()


@dataclass(frozen=True, slots=True)
class Quote:
    """What a workload is in standard tokens, and its prices; None where there is no such price now."""

    grade: Grade
    load: Workload
    window: Period | None
    each: Work
    work_micro_st: int
    reference_price_nano: int | None
    at_list: Priced | None
    at_book: Priced | None
    off_peak: Priced | None
    far: tuple[str, ...] = field(default=())


def grade_of_model(model: str, service_class: str) -> Grade:
    """
    Return the one active grade that serves a model (by its card's slug or name) in a service class.

    :raises ModelUnknown: there is none.
    :raises ModelAmbiguous: there are several; the message names them.
    """
    rows = Grade.objects.filter(status=Grade.Status.ACTIVE, service_class=service_class).select_related("model_card")
    named = model.casefold()
    found = [row for row in rows if named in (row.model_card.slug.casefold(), row.model_card.name.casefold())]
    if not found:
        raise ModelUnknown(
            f"No active grade serves “{model}” in class {service_class}. GET /v1/grades lists them.", field="model"
        )
    if len(found) > 1:
        slugs = ", ".join(row.slug for row in found)
        raise ModelAmbiguous(f"Several grades serve “{model}”: {slugs}. Name one of them as grade.", field="grade")
    return found[0]


def quote(*, grade: Grade, load: Workload, window: Period | None, now: datetime) -> Quote:
    """
    Return what a workload costs. With a window, list usage is spread over its hours, and only markets in it count.

    :raises BadWorkload: tokens that no request of the grade can have.
    """
    longest = load.input_tokens + load.output_tokens
    if longest > grade.max_context_tokens or load.output_tokens > grade.max_output_tokens:
        raise BadWorkload(
            f"A request of {grade.slug} has up to {grade.max_context_tokens:,} tokens in all,"
            f" {grade.max_output_tokens:,} of them output.",
            field="output_tokens" if load.output_tokens > grade.max_output_tokens else "input_tokens",
        )
    try:
        each = work(
            grade.model_card.standard_card(), load.input_tokens, load.cached_tokens, load.output_tokens,
            grade.cached_share_thousandths,
        )  # fmt: skip
    except StandardTokenError as error:
        name = "cached_tokens" if "cached" in error.field else error.field
        raise BadWorkload(error.detail, field=name) from None
    total = each.total_micro_st * load.requests
    prices = {
        "list": _at_list(grade, load, total, hours_of(window) if window else [now.replace(minute=0)], now),
        "book": _at_book(grade, total, window, now),
        "off_peak": _off_peak(grade, total, window, now),
    }
    reference = grade.reference_price_nano
    far = tuple(name for name, one in prices.items() if one is not None and is_far(one.price_nano, reference))
    return Quote(grade, load, window, each, total, reference, prices["list"], prices["book"], prices["off_peak"], far)


def _at_list(grade: Grade, load: Workload, total: int, hours: Sequence[datetime], now: datetime) -> Priced | None:
    """The cheapest provider by the list book; where none stands, the lowest list price of a standard token."""
    version = list_book_at(max(now, hours[0]))
    if version is not None:
        book = read_book(version.terms)
        band = bisect_left(BAND_BOUNDS, load.input_tokens)
        about = Use(ANY_PROVIDER, grade.slug, grade.model_card.slug, "", grade.service_class, hours[0], band, 0)
        providers = Deployment.objects.filter(grade=grade).order_by("provider_id").values_list("provider_id", flat=True)
        found = []
        for provider in [ANY_PROVIDER, *dict.fromkeys(providers)]:
            uses = uses_of(load, about=about._replace(provider=provider), band=band, hours=hours)
            if (lines := _by_book(book, uses)) is not None:
                found.append((sum(line.amount_micro for line in lines), lines))
        if found:
            amount, lines = min(found, key=lambda one: one[0])
            said = "; ".join(f"{line.token_class}: {line.calculation}" for line in lines)
            return Priced(
                f"price book {version.book.name} v{version.number}", amount, price_of(amount, total), said, lines=lines
            )
    price = lowest_list_price_nano(grade.pk, now, now)
    if price is None:
        return None
    amount = work_cost_micro(work_micro_st=total, price_nano=price)
    return Priced("lowest list price", amount, price, f"{_grouped(format_tokens(total))} × ¥{format_price(price)}")


def _grouped(number: str) -> str:
    whole, point, decimals = number.partition(".")
    return f"{int(whole):,}{point}{decimals}"


def _by_book(book: Book, uses: Sequence[Use]) -> list[ListLine] | None:
    try:
        bill = rate(book, uses)
    except Unpriced:
        return None
    return [
        ListLine(
            line.rule.token_class, line.tokens, line.amount_micro,
            calculation(line.rule, [use for use in uses if use.token_class == line.rule.token_class]),
        )
        for line in bill.lines
    ]  # fmt: skip


def _markets(grade: Grade, window: Period | None) -> "list[Market]":
    rows = Market.objects.filter(grade=grade, halted=False, phase__in=["scheduled", "call", "continuous"])
    if window is not None:
        rows = rows.filter(window_start__lt=window.end, window_end__gt=window.start)
    return list(rows.order_by("window_start", "pk")[:50])


def _at_book(grade: Grade, total: int, window: Period | None, now: datetime) -> Priced | None:
    """The next market in which there is trading now, its public asks walked from the best."""
    for market in _markets(grade, window):
        if market.phase != Market.Phase.CONTINUOUS or now >= market.gate_closes_at or wire.is_sealed(market, now):
            continue
        with frame_queries.Reading(market.pk) as seen:
            levels = seen.book.side(SELL)
            asks = [Taken(level.price * market.tick_nano, level.lots * LOT_TOKENS) for level in levels]
        quantity = tokens_to_buy(total, market.min_order_tokens)
        walked = walk(asks, quantity)
        if walked.taken:
            said = " + ".join(f"{one.quantity_tokens:,} × ¥{format_price(one.price_nano)}" for one in walked.taken)
            bought = quantity - walked.missing_tokens
            return Priced(
                "book", walked.amount_micro, price_of(walked.amount_micro, bought * MICRO_PER_TOKEN), said, quantity,
                walked.missing_tokens, market, taken=walked.taken,
            )  # fmt: skip
    return None


def _off_peak(grade: Grade, total: int, window: Period | None, now: datetime) -> Priced | None:
    """The next auction of a market: its indicative price, else the last auction's, else the grade's reference."""
    open_ = [m for m in _markets(grade, window) if m.phase != Market.Phase.CONTINUOUS and m.call_closes_at > now]
    if not open_:
        return None
    market = min(open_, key=lambda one: (one.call_closes_at, one.pk))
    basis, price = _expected(market)
    if price is None:
        return None
    quantity = tokens_to_buy(total, market.min_order_tokens)
    amount = cost_micro(tokens=quantity, price_nano=price)
    return Priced(
        basis, amount, price, f"{quantity:,} × ¥{format_price(price)}", quantity_tokens=quantity, market=market
    )


def _expected(market: Market) -> tuple[str, int | None]:
    if market.phase == Market.Phase.CALL:
        with frame_queries.Reading(market.pk) as seen:
            price = seen.indicative.price * market.tick_nano if seen.indicative is not None else 0
        if price:
            return "indicative price of the call", price
    past = page_queries.past_auctions(grade_id=market.grade_id).filter(price_nano__isnull=False)
    last = past.filter(market__window_kind=market.window_kind).first() or past.first()
    if last is not None:
        return "last auction", last.price_nano
    return "reference price", market.grade.reference_price_nano
