"""
Price books: what list usage costs, by provider, grade, model, class of tokens, service tier, time and length. Pure.

A book is a set of rules; of those that fit a use, the most specific one prices it (each of provider, grade and model
that it names counts, provider above grade above model). A rule has one of four schemes:

============  =====================================================================================================
scheme        steps
============  =====================================================================================================
``length``    by the length band of the request's whole input: all its tokens at the step's price (one step: one price)
``graduated`` by tokens of the period, each part at its own step's price
``volume``    by tokens of the period, all of them at the price of the step that the total reaches
``package``   the first step's tokens for a fixed amount as soon as one is used, the rest at the last step's price
============  =====================================================================================================

Windows multiply a price by a share in thousandths, by the hour of day in Shanghai on workdays of the Chinese calendar
(make-up working weekends among them) and on other days. Sums are exact and rounded once per rule, half up.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import pairwise
from typing import NamedTuple

from core.money import round_half_up
from core.periods import SHANGHAI
from core.trading_calendar import is_workday

HOURS = 24
LONGEST_BAND = 3
_NANO_SHARE = 1_000 * 1_000  # nano-yuan × thousandths, in a micro-yuan
TIERS = ("realtime", "priority", "flex", "batch")


class Scheme(StrEnum):
    """How the steps of a rule are read."""

    LENGTH = "length"
    GRADUATED = "graduated"
    VOLUME = "volume"
    PACKAGE = "package"


class BadBook(ValueError):
    """A book with a gap, an overlap or a figure that cannot be. `field` is the place in its rules."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(f"{field}: {detail}")
        self.field = field
        self.detail = detail


class Unpriced(LookupError):
    """A use that no rule of the book fits."""

    def __init__(self, use: "Use") -> None:
        super().__init__(f"No rule prices {use.token_class} of {use.grade or use.model} in tier {use.tier}.")
        self.use = use


@dataclass(frozen=True, slots=True)
class Step:
    """Up to this bound (a length band, or tokens of the period; None: no bound) at this price, nano-yuan a token."""

    up_to: int | None
    price_nano: int


@dataclass(frozen=True, slots=True)
class Share:
    """A part of a day, whole hours from midnight in Shanghai, half-open, and its share of the price in thousandths."""

    start_hour: int
    end_hour: int
    thousandths: int


ALL_DAY = (Share(0, HOURS, 1_000),)


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of a book. An empty provider, grade or model fits any."""

    token_class: str
    tier: str
    steps: tuple[Step, ...]
    scheme: Scheme = Scheme.LENGTH
    provider: int | None = None
    grade: str = ""
    model: str = ""
    package_micro: int = 0
    workday: tuple[Share, ...] = ALL_DAY
    other_day: tuple[Share, ...] = ALL_DAY

    @property
    def key(self) -> tuple[int | None, str, str, str, str]:
        """What it is for; a book has one rule for each."""
        return self.provider, self.grade, self.model, self.token_class, self.tier

    @property
    def precedence(self) -> int:
        """The higher, the more specific."""
        return 4 * (self.provider is not None) + 2 * bool(self.grade) + bool(self.model)

    def fits(self, use: "Use") -> bool:
        """Whether it prices a use."""
        return (
            self.token_class == use.token_class
            and self.tier == use.tier
            and self.provider in (None, use.provider)
            and self.grade in ("", use.grade)
            and self.model in ("", use.model)
        )


@dataclass(frozen=True, slots=True)
class Book:
    """Rules and, in micro-yuan, what a period costs at least."""

    rules: tuple[Rule, ...]
    minimum_micro: int = 0


class Use(NamedTuple):
    """Tokens of one class in one hour and length band (0 up to 4k input tokens, 1 to 32k, 2 to 128k, 3 beyond)."""

    provider: int
    grade: str
    model: str
    token_class: str
    tier: str
    hour: datetime
    band: int
    tokens: int


class Rated(NamedTuple):
    """What one rule made of a period's uses, in micro-yuan."""

    rule: Rule
    tokens: int
    amount_micro: int


class Bill(NamedTuple):
    """A period rated by a book. `minimum_micro` is what was missing to the minimum."""

    lines: tuple[Rated, ...]
    minimum_micro: int

    @property
    def total_micro(self) -> int:
        """The lines and what was missing to the minimum."""
        return sum(line.amount_micro for line in self.lines) + self.minimum_micro


def check(book: Book) -> None:
    """Raise BadBook for the first gap, overlap or impossible figure."""
    if not book.rules:
        raise BadBook("rules", "a book has at least one rule")
    if book.minimum_micro < 0:
        raise BadBook("minimum", "is zero or more")
    seen: dict[object, int] = {}
    for number, rule in enumerate(book.rules):
        place = f"rules.{number}"
        if (first := seen.setdefault(rule.key, number)) != number:
            raise BadBook(place, f"overlaps rules.{first}: both are for one provider, grade, model, class and tier")
        if rule.tier not in TIERS:
            raise BadBook(f"{place}.tier", f"is one of {', '.join(TIERS)}")
        _check_steps(rule, place)
        _check_day(rule.workday, f"{place}.workday")
        _check_day(rule.other_day, f"{place}.other_day")


def _check_steps(rule: Rule, place: str) -> None:
    if not rule.steps or rule.steps[-1].up_to is not None:
        raise BadBook(f"{place}.steps", "leaves a gap: the last step has no bound")
    bounds = [step.up_to for step in rule.steps[:-1]]
    if any(bound is None for bound in bounds):
        raise BadBook(f"{place}.steps", "overlap: only the last step has no bound")
    rising = [-1 if rule.scheme is Scheme.LENGTH else 0, *(bound for bound in bounds if bound is not None)]
    if any(after <= before for before, after in pairwise(rising)):
        raise BadBook(f"{place}.steps", "overlap: each bound is above the one before")
    if rule.scheme is Scheme.LENGTH and rising[-1] >= LONGEST_BAND:
        raise BadBook(f"{place}.steps", f"a length band is below {LONGEST_BAND}; the last step takes what is longer")
    if rule.scheme is Scheme.PACKAGE and len(rule.steps) != 2:
        raise BadBook(f"{place}.steps", "a package has two steps: what is in it, and the overflow")
    if (rule.scheme is Scheme.PACKAGE) != (rule.package_micro > 0):
        raise BadBook(f"{place}.package", "an amount above zero for a package, and for nothing else")
    if any(step.price_nano < 0 for step in rule.steps):
        raise BadBook(f"{place}.steps", "a price is zero or more")


def _check_day(day: Sequence[Share], place: str) -> None:
    at = 0
    for share in day:
        if share.start_hour > at:
            raise BadBook(place, f"leaves a gap from {at:02d}:00 to {share.start_hour:02d}:00")
        if share.start_hour < at:
            raise BadBook(place, f"overlaps at {share.start_hour:02d}:00")
        if share.end_hour <= share.start_hour or not 0 <= share.thousandths <= 10_000:
            raise BadBook(place, "a window ends after it starts, and its share is 0 to 10,000 thousandths")
        at = share.end_hour
    if at != HOURS:
        raise BadBook(place, f"leaves a gap from {at:02d}:00 to 24:00" if at < HOURS else "ends after 24:00")


def rate(book: Book, uses: Iterable[Use]) -> Bill:
    """
    Rate a period's uses; the order of uses makes no difference.

    :raises Unpriced: for the first use that no rule fits.
    """
    ordered = sorted(book.rules, key=lambda rule: -rule.precedence)
    taken: defaultdict[Rule, list[Use]] = defaultdict(list)
    chosen: dict[tuple[object, ...], Rule] = {}
    for use in uses:
        about = use[:5]
        rule = chosen.get(about)
        if rule is None:
            found = next((rule for rule in ordered if rule.fits(use)), None)
            if found is None:
                raise Unpriced(use)
            rule = chosen[about] = found
        taken[rule].append(use)
    lines = tuple(_rate(rule, taken[rule]) for rule in book.rules if rule in taken)
    return Bill(lines, max(0, book.minimum_micro - sum(line.amount_micro for line in lines)))


def _rate(rule: Rule, uses: Sequence[Use]) -> Rated:
    tokens = sum(use.tokens for use in uses)
    if rule.scheme is Scheme.LENGTH:
        exact = sum(use.tokens * _of_band(rule, use.band) * share_at(rule, use.hour) for use in uses)
        return Rated(rule, tokens, round_half_up(exact, _NANO_SHARE))
    # What a period's total decides cannot tell its hours apart: each step has the average share of all of them.
    shared = sum(use.tokens * share_at(rule, use.hour) for use in uses)
    at_full = _at_full_price(rule, tokens)
    amount = round_half_up(at_full * shared, _NANO_SHARE * tokens) if tokens else 0
    return Rated(rule, tokens, amount + (rule.package_micro if rule.scheme is Scheme.PACKAGE and tokens else 0))


def _at_full_price(rule: Rule, tokens: int) -> int:
    """Return what tokens of a period cost without windows, in nano-yuan; a package's own amount apart."""
    if rule.scheme is Scheme.VOLUME:
        step = next(step for step in rule.steps if step.up_to is None or tokens <= step.up_to)
        return tokens * step.price_nano
    exact = before = 0
    for number, step in enumerate(rule.steps):
        upto = tokens if step.up_to is None else min(tokens, step.up_to)
        in_package = rule.scheme is Scheme.PACKAGE and number == 0
        exact += 0 if in_package else max(0, upto - before) * step.price_nano
        before = max(before, upto)
    return exact


def _of_band(rule: Rule, band: int) -> int:
    return next(step.price_nano for step in rule.steps if step.up_to is None or band <= step.up_to)


def share_at(rule: Rule, at: datetime) -> int:
    """Return the share of the price in thousandths at a time, by the calendar of Shanghai."""
    local = at.astimezone(SHANGHAI)
    day = rule.workday if is_workday(local.date()) else rule.other_day
    return next(share.thousandths for share in day if share.start_hour <= local.hour < share.end_hour)


class Balance(NamedTuple):
    """Something to be drawn down: a gift, a bundle or paid money (its unit is the caller's)."""

    name: str
    left: int
    is_gift: bool = False
    priority: int = 0
    expires_at: datetime | None = None


def draw_down(amount: int, balances: Iterable[Balance], *, at: datetime) -> tuple[list[tuple[str, int]], int]:
    """
    Return what an amount takes from which balance, and what is left of it: gifts before paid ones, of these the lower
    priority number first, then what expires first. What has expired gives nothing.
    """
    usable = [one for one in balances if one.left > 0 and (one.expires_at is None or one.expires_at > at)]
    far = datetime.max.replace(tzinfo=at.tzinfo)
    taken: list[tuple[str, int]] = []
    for one in sorted(usable, key=lambda one: (not one.is_gift, one.priority, one.expires_at or far, one.name)):
        part = min(amount, one.left)
        if part:
            taken.append((one.name, part))
            amount -= part
    return taken, amount
