"""
What a contract's list usage costs by a price book: usage beyond its lots, and what has no standard-token formula.

A book prices raw tokens by class, hour and length band; lots are counted in work. So of what a deployment delivered,
the part beyond the lots is the same share of each class, hour and band (in whole tokens, adding up to the part's own).
The book rates it all at once, each class rounded once; tiers and packages count the tokens of the settled period: a
window, or a day of list usage. What would cost more than the buyer's limit is charged up to the limit, and the rest
recorded at ¥0.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, NamedTuple

from billing.domain.price_book_terms import read_book
from billing.domain.price_books import Book, Use, rate
from billing.domain.price_calculation import calculation
from core.money import format_yuan, largest_remainder

#: Counted, and in no formula of work: only a price book charges them.
WITHOUT_FORMULA = frozenset({"search_calls", "images", "audio_ms", "video_ms", "cache_storage_token_hours"})
#: Counted and never charged: requests are not sold, rejected drafts and bytes are recorded only.
NEVER_CHARGED = frozenset({"requests", "output.rejected_draft", "input_bytes", "output_bytes"})
MINIMUM = "minimum"


class Cell(NamedTuple):
    """What a deployment delivered of one class in an hour (ISO, UTC) and length band, and the work on it."""

    deployment_id: int
    token_class: str
    hour: str
    band: int
    tokens: int
    work_micro_st: int


@dataclass(frozen=True)
class ListPrices:
    """
    The part of a price book's version that prices one contract's list usage, and that usage by hour and band.

    `terms` are the JSON terms reduced to the rules that fit. Self-contained: it can be rated again at any time.
    """

    book: str
    version: int
    terms: Mapping[str, Any]
    provider: int
    grade: str
    model: str
    tier: str
    cells: tuple[Cell, ...] = field(default=())

    @cached_property
    def read(self) -> Book:
        """The terms as a book."""
        return read_book(self.terms)

    @cached_property
    def priced_without_formula(self) -> frozenset[str]:
        """The classes without formula that the book prices: their counts belong to its lines alone."""
        return WITHOUT_FORMULA & {rule.token_class for rule in self.read.rules}

    def use(self, cell: Cell, tokens: int) -> Use:
        """Return tokens of a cell as the book sees them."""
        hour = datetime.fromisoformat(cell.hour)
        return Use(self.provider, self.grade, self.model, cell.token_class, self.tier, hour, cell.band, tokens)

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values; `from_json` reads them."""
        return {
            "book": self.book, "version": self.version, "terms": dict(self.terms), "provider": self.provider,
            "grade": self.grade, "model": self.model, "tier": self.tier, "cells": [list(cell) for cell in self.cells],
        }  # fmt: skip

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "ListPrices":
        """Return what `as_json` said."""
        return cls(**{**data, "cells": tuple(Cell(*cell) for cell in data["cells"])})


class Beyond(NamedTuple):
    """What of a deployment's work exceeds the lots and is to be charged, with its share of the tokens by class."""

    deployment_id: int
    work_micro_st: int
    tokens: Mapping[str, int]


class ListLine(NamedTuple):
    """What one class of list usage costs the buyer, and how that came about."""

    rule: str
    work_micro_st: int
    tokens: int
    amount_micro: int
    calculation: str


class ListBill(NamedTuple):
    """The lines, and the work and tokens by class that the buyer's limit left uncharged."""

    lines: tuple[ListLine, ...]
    uncharged_micro_st: int
    uncharged_tokens: dict[str, int]


def rate_list_usage(prices: ListPrices, beyond: Iterable[Beyond], *, limit_micro: int) -> ListBill:
    """
    Rate what exceeds the lots, and all that has no formula, by the book; `limit_micro` is the most that it may cost.

    :raises Unpriced: for a class with work that no rule prices: `prices` were put together for other usage.
    """
    works: defaultdict[str, int] = defaultdict(int)
    uses: list[Use] = []
    for part in beyond:
        by_class = _by_class(cell for cell in prices.cells if cell.deployment_id == part.deployment_id)
        formula = {name: cells for name, cells in by_class.items() if name not in WITHOUT_FORMULA}
        names = sorted(formula)
        weights = [sum(cell.work_micro_st for cell in formula[name]) for name in names]
        for name, work in zip(names, largest_remainder(weights, part.work_micro_st), strict=True):
            works[name] += work
        for name in names:
            uses += _shares(prices, formula[name], part.tokens.get(name, 0))
    for name, cells in sorted(_by_class(prices.cells).items()):
        if name in prices.priced_without_formula:
            uses += [prices.use(cell, cell.tokens) for cell in cells]
    return _limited(_rated(prices, uses, works), limit_micro)


def _by_class(cells: Iterable[Cell]) -> dict[str, list[Cell]]:
    found: dict[str, list[Cell]] = {}
    for cell in sorted(cells):
        if cell.token_class not in NEVER_CHARGED:
            found.setdefault(cell.token_class, []).append(cell)
    return found


def _shares(prices: ListPrices, cells: Sequence[Cell], tokens: int) -> list[Use]:
    """Spread a class's tokens over its hours and bands in proportion, exactly; none gets more than it has."""
    total = sum(cell.tokens for cell in cells)
    given = done = 0
    uses = []
    for cell in cells:
        done += cell.tokens
        upto = tokens * done // total if total else 0
        if upto > given:
            uses.append(prices.use(cell, upto - given))
        given = upto
    return uses


def _rated(prices: ListPrices, uses: Sequence[Use], works: Mapping[str, int]) -> list[ListLine]:
    if not uses:
        return [ListLine(name, work, 0, 0, "0") for name, work in sorted(works.items()) if work]
    bill = rate(prices.read, uses)
    rated = {line.rule.token_class: line for line in bill.lines}
    lines = []
    for name in sorted({*rated, *(name for name, work in works.items() if work)}):
        if (line := rated.get(name)) is None:
            lines.append(ListLine(name, works[name], 0, 0, "0"))
        else:
            said = calculation(line.rule, [use for use in uses if use.token_class == name])
            lines.append(ListLine(name, works.get(name, 0), line.tokens, line.amount_micro, said))
    if bill.minimum_micro:
        lines.append(ListLine(MINIMUM, 0, 0, bill.minimum_micro, f"to ¥{format_yuan(prices.read.minimum_micro)} a day"))
    return lines


def _limited(lines: Sequence[ListLine], limit_micro: int) -> ListBill:
    """Charge at most the limit: each line its share of it, and of its work and tokens as much as that pays for."""
    whole = sum(line.amount_micro for line in lines)
    if whole <= limit_micro:
        return ListBill(tuple(lines), 0, {})
    amounts = largest_remainder([line.amount_micro for line in lines], limit_micro)
    charged: list[ListLine] = []
    left = 0
    left_tokens: dict[str, int] = {}
    said = f"; of ¥{format_yuan(whole)} the limit of ¥{format_yuan(limit_micro)}"
    for line, amount in zip(lines, amounts, strict=True):
        work, tokens = line.work_micro_st * limit_micro // whole, line.tokens * limit_micro // whole
        left += line.work_micro_st - work
        if line.tokens > tokens:
            left_tokens[line.rule] = line.tokens - tokens
        if amount or work or tokens:
            charged.append(line._replace(
                work_micro_st=work, tokens=tokens, amount_micro=amount, calculation=line.calculation + said))
    return ListBill(tuple(charged), left, left_tokens)
