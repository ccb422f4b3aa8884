"""
`manage.py clear_book FILE…`: clear auction books given as JSON with the function that clears them in production.

A file holds one book, an array of books, or one book a line; `-` is standard input. A book is

    {"bids": [[price or null, lots], …], "asks": [[price or null, lots], …], "reference": price or null}

with whole prices and lots, null being a market order; `"margin": "pro_rata"` and `"tick": 5` may be added (default
`"time"` and 1). Each book gives one line of JSON. A book that cannot be read or cleared is named on standard error with
the reason, the others are cleared all the same, and the command ends with status 1. No database is needed.
"""

import json
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from exchange.domain import sides
from exchange.domain.allocation import Margin, clear
from exchange.domain.auction import RULE_NUMBER
from exchange.domain.sides import INT64_MAX, LAST_TICK, InvalidBook

KEYS = {"bids", "asks", "reference", "margin", "tick"}


class Command(BaseCommand):
    """Translate files to books, clear each, print a line."""

    help = "Clear auction books given as JSON and print price, volume, surplus, deciding rule and fills, a line a book."
    requires_system_checks = []
    requires_migrations_checks = False

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take any number of files."""
        parser.add_argument("files", nargs="+", metavar="FILE", help="a JSON file of books; - for standard input")

    def handle(self, *args: Any, **options: Any) -> None:
        """Clear what can be cleared, and end with status 1 if something could not."""
        failed = 0
        for name in options["files"]:
            for label, book in _books(name):
                try:
                    if isinstance(book, InvalidBook):
                        raise book
                    line = json.dumps(_cleared(book))
                except InvalidBook as problem:
                    failed += 1
                    self.stderr.write(f"{label}: {problem}")
                else:
                    self.stdout.write(line)
        if failed:
            raise CommandError(f"{failed} {'book' if failed == 1 else 'books'} could not be cleared.", returncode=1)


def _books(name: str) -> Iterator[tuple[str, Any]]:
    """Yield a label and the decoded book, or the reason why there is none, for each book in a file."""
    label = "standard input" if name == "-" else name
    try:
        text = (sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()).decode("utf-8-sig")
    except OSError as error:
        yield label, InvalidBook(f"The file cannot be read: {error.strerror or error}.")
        return
    except UnicodeDecodeError as error:
        yield label, InvalidBook(f"The file is not UTF-8: {error.reason} at byte {error.start}.")
        return
    whole = _decoded(text)
    if isinstance(whole, list) and whole:
        yield from ((f"{label}, book {number}", book) for number, book in enumerate(whole, start=1))
        return
    if isinstance(whole, InvalidBook):
        lines = [(n, _decoded(line)) for n, line in enumerate(text.split("\n"), start=1) if line.strip()]
        if len(lines) > 1 and any(isinstance(book, dict) for _, book in lines):
            yield from ((f"{label}, line {number}", book) for number, book in lines)
            return
    yield label, whole


def _decoded(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_without_duplicates, parse_constant=_no_constant)
    except InvalidBook as problem:
        return problem
    except json.JSONDecodeError as error:
        return InvalidBook(f"This is not JSON: {error.msg} at line {error.lineno}, column {error.colno}.")
    except (RecursionError, ValueError) as error:  # nested too deep, or a number of thousands of digits
        return InvalidBook(f"This JSON cannot be read: {error}.")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = dict(pairs)
    if len(keys) < len(pairs):
        raise InvalidBook("A key is given twice in one object.")
    return keys


def _no_constant(name: str) -> None:
    raise InvalidBook(f"{name} is not a number that JSON knows.")


def _cleared(book: Any) -> dict[str, Any]:
    """
    Return what is printed for a decoded book.

    :raises InvalidBook: with a sentence that says what is wrong and where.
    """
    if not isinstance(book, dict):
        raise InvalidBook(f'A book is an object with "bids", "asks" and "reference", not {_shown(book)}.')
    for key in ("bids", "asks"):
        if key not in book:
            raise InvalidBook(f'"{key}" is missing.')
    if unknown := sorted(book.keys() - KEYS):
        raise InvalidBook(f'"{unknown[0]}" is not a key of a book; they are {", ".join(sorted(KEYS))}.')
    tick = _whole(book.get("tick", 1), '"tick"', most=LAST_TICK)
    margin = book.get("margin", Margin.TIME.value)
    if margin not in [*Margin]:
        raise InvalidBook(f'"margin" must be "time" or "pro_rata", not {_shown(margin)}.')
    reference = book.get("reference")
    clearing = clear(
        sides.bids(_orders(book["bids"], "bids", tick)),
        sides.asks(_orders(book["asks"], "asks", tick)),
        None if reference is None else _price(reference, '"reference"', tick),
        margin=Margin(margin),
    )
    price = clearing.price
    best_bid, best_ask, cleared_at = (
        None if at is None else at * tick for at in (price.best_bid_tick, price.best_ask_tick, price.price_tick)
    )
    return {
        "price": cleared_at,
        "volume": price.volume_lots,
        "surplus": price.surplus_lots,
        "rule": price.rule.value,
        "rule_number": RULE_NUMBER[price.rule],
        "best_bid": best_bid,
        "best_ask": best_ask,
        "bid_fills": clearing.bid_fills.tolist(),
        "ask_fills": clearing.ask_fills.tolist(),
    }


def _orders(rows: Any, side: str, tick: int) -> list[tuple[int | None, int]]:
    if not isinstance(rows, list):
        raise InvalidBook(f'"{side}" must be a list of [price or null, lots], not {_shown(rows)}.')
    orders = []
    for place, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != 2:
            raise InvalidBook(f"{side}[{place}] must be [price or null, lots], not {_shown(row)}.")
        price = None if row[0] is None else _price(row[0], f"The price of {side}[{place}]", tick)
        orders.append((price, _whole(row[1], f"The quantity of {side}[{place}]", most=INT64_MAX)))
    return orders


def _price(value: Any, what: str, tick: int) -> int:
    price = _whole(value, what, most=LAST_TICK)
    if price % tick:
        raise InvalidBook(f"{what} must be a multiple of the tick {tick}, not {price}.")
    return price // tick


def _whole(value: Any, what: str, *, most: int) -> int:
    if type(value) is not int:
        raise InvalidBook(f"{what} must be a whole number, not {_shown(value)}.")
    if not 1 <= value <= most:
        raise InvalidBook(f"{what} must be from 1 to {most}, not {_shown(value)}.")
    return value


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "…"
