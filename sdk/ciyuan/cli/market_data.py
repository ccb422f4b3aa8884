"""`ciyuan market book | trades | candles | watch` and `ciyuan grade index`: what the market does."""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from itertools import islice
from typing import Any

import click

from ciyuan.cli.base import (
    TIME,
    attribute,
    columns,
    json_option,
    open_client,
    print_json,
    print_table,
    show_list,
    show_one,
    text_of,
)
from ciyuan.cli.trading import grade, market
from ciyuan.market_data import MarketData, MarketEvent

INTERVALS = ["1s", "5s", "15s", "1m", "5m", "15m", "30m", "1h", "4h", "1d"]
_market = click.argument("market_id", type=int, metavar="MARKET")


@market.command("book")
@_market
@click.option("--level", type=click.IntRange(1, 3), default=2, show_default=True, help="Best, by level, by order.")
@click.option("--depth", type=click.IntRange(1), help="Prices a side.")
@json_option
def market_book(market_id: int, level: int, depth: int | None, as_json: bool) -> None:
    """Show a market's order book."""
    book = open_client().markets.book(market_id, level=level, depth=depth)
    if as_json or level == 1:
        print_json(book.raw)
    elif level == 3:
        rows = [[order, side, price or "market", text_of(tokens)] for order, side, price, tokens in book["orders"]]
        print_table(["order", "side", "price", "quantity"], rows, right=["order", "price", "quantity"])
    else:
        click.echo(f"market {book.market} at {book.seq}, {book.phase}")
        _print_levels(book["bids"], book["asks"])


def _print_levels(bids: list[Any], asks: list[Any]) -> None:
    rows = [["ask", price, text_of(quantity), orders] for price, quantity, orders in reversed(asks)]
    rows += [["bid", price, text_of(quantity), orders] for price, quantity, orders in bids]
    print_table(["side", "price", "quantity", "orders"], rows, right=["price", "quantity", "orders"])


@market.command("trades")
@_market
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="Most rows.")
@json_option
def market_trades(market_id: int, limit: int, as_json: bool) -> None:
    """List a market's trades, the newest first."""
    shown = columns("id", "taker=taker_side", "price", "quantity")
    shown.append(("at", attribute("created_at")))
    show_list(open_client().markets.trades(market_id), shown, as_json=as_json, limit=limit)


@market.command("candles")
@_market
@click.option("--interval", type=click.Choice(INTERVALS), default="1m", show_default=True)
@click.option("--since", type=TIME, metavar="TIME")
@click.option("--until", type=TIME, metavar="TIME")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="Most rows.")
@json_option
def market_candles(
    market_id: int, interval: str, since: datetime | None, until: datetime | None, limit: int, as_json: bool
) -> None:
    """List a market's candles by time."""
    found = open_client().markets.candles(market_id, interval=interval, since=since, until=until, limit=limit)
    shown = columns("time", "open", "high", "low", "close", "volume", "amount", "trades")
    show_list(found, shown, as_json=as_json)


@market.command("watch")
@_market
@click.option("--events", type=click.IntRange(1), help="End after so many.")
@json_option
def market_watch(market_id: int, events: int | None, as_json: bool) -> None:
    """Follow a market live: a line for each change, checked against the exchange's checksum. Ctrl-C ends it."""
    with MarketData(open_client()) as data:
        for event in islice(data.watch(market_id), events):
            if as_json:
                click.echo(_compact(event))
            else:
                click.echo(_line(event))


def _compact(event: MarketEvent) -> str:
    return json.dumps(dict(event.message), ensure_ascii=False, separators=(",", ":"))


def _line(event: MarketEvent) -> str:
    message, book = event.message, event.book
    parts = [str(message.get("at") or ""), f"seq {book.seq}"]
    if "phase" in message:
        parts.append(message["phase"]["phase"])
    if book.sealed:
        parts.append("sealed")
    elif book.bids or book.asks:
        parts.append(f"{_best(book.bids)} | {_best(book.asks)}")
    found = message.get("indicative")
    if found:
        parts.append(f"indicative {found['price'] or 'none'} × {found['volume']:,}, surplus {found['surplus']:,}")
    parts += [f"{trade.taker_side} {trade.quantity:,} @ {text_of(trade.price)}" for trade in event.trades[-3:]]
    if len(event.trades) > 3:
        parts.append(f"({len(event.trades)} trades)")
    return "  ".join(parts)


def _best(levels: list[tuple[Decimal, int, int]]) -> str:
    return f"{levels[0][1]:,} @ {text_of(levels[0][0])}" if levels else "–"


@grade.command("index")
@click.argument("slug", metavar="GRADE")
@click.option("--days", type=click.IntRange(0, 366), help="Days of history.")
@json_option
def grade_index(slug: str, days: int | None, as_json: bool) -> None:
    """Show a grade's spot token index and its off-peak discount."""
    show_one(open_client().grades.index(slug, days=days), as_json=as_json)
