"""Coordinates of the auction chart: an SVG with a true price axis, drawn by a template, its text never scaled away."""

from collections.abc import Sequence
from dataclasses import dataclass

from core.money import format_price_per_million
from exchange.domain.curves import Level

WIDTH, HEIGHT = 900, 330
LEFT, RIGHT, TOP, BOTTOM = 64, 880, 24, 280


@dataclass(frozen=True, slots=True)
class AxisMark:
    """A label and where it stands."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class AuctionChart:
    """Paths of both curves, axis marks, and the crossing if there is a price."""

    demand_path: str
    supply_path: str
    price_marks: list[AxisMark]
    quantity_marks: list[AxisMark]
    unit_label: str
    cross_x: float | None
    cross_y: float | None


#: Large units of a quantity axis, the largest first: size and label.
Units = Sequence[tuple[int, str]]
ENGLISH_UNITS: Units = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K"))
CHINESE_UNITS: Units = ((10**12, "万亿"), (10**8, "亿"), (10**4, "万"))


def auction_chart(
    levels: Sequence[Level], *, price_nano: int | None, volume_tokens: int, units: Units = ENGLISH_UNITS
) -> AuctionChart | None:
    """Return what the template draws; None without two different prices or quantities to draw."""
    if len(levels) < 2:
        return None
    low, high = levels[0].price_nano, levels[-1].price_nano
    margin = max(1, (high - low) // 20)
    low, high = max(0, low - margin), high + margin
    most = max(max(level.demand_tokens, level.supply_tokens) for level in levels)
    if most == 0:
        return None
    axis = quantity_axis(most, units=units)
    top = axis.top

    def x(price: int) -> float:
        return round(LEFT + (RIGHT - LEFT) * (price - low) / (high - low), 1)

    def y(quantity: int) -> float:
        return round(BOTTOM - (BOTTOM - TOP) * quantity / top, 1)

    # Demand at a price holds down to the next lower limit, supply up to the next higher one.
    demand = f"M{LEFT} {y(levels[0].demand_tokens)}"
    supply = f"M{LEFT} {y(0)}"
    for index, level in enumerate(levels):
        following = levels[index + 1].demand_tokens if index + 1 < len(levels) else 0
        demand += f"H{x(level.price_nano)}V{y(following)}"
        supply += f"H{x(level.price_nano)}V{y(level.supply_tokens)}"
    supply += f"H{RIGHT}"
    demand += f"H{RIGHT}"
    price_step = round_step(high - low, 5)
    first = -(-low // price_step) * price_step
    return AuctionChart(
        demand_path=demand,
        supply_path=supply,
        price_marks=[
            AxisMark(x(price), format_price_per_million(price)) for price in range(first, high + 1, price_step)
        ],
        quantity_marks=[AxisMark(y(quantity), text) for quantity, text in axis.marks],
        unit_label=axis.unit_label,
        cross_x=None if price_nano is None else x(price_nano),
        cross_y=None if price_nano is None else y(volume_tokens),
    )


@dataclass(frozen=True, slots=True)
class QuantityAxis:
    """From zero to `top`: marked quantities with their text, in a unit of their size that is named once."""

    top: int
    marks: list[tuple[int, str]]
    unit_label: str


def quantity_axis(most: int, *, units: Units) -> QuantityAxis:
    """Return an axis on which `most`, above zero, has its place."""
    step = round_step(most, 4)
    top = -(-most // step) * step
    divisor, label = next(((size, name) for size, name in units if most >= size), (1, ""))
    return QuantityAxis(top, [(quantity, _plain(quantity, divisor)) for quantity in range(0, top + 1, step)], label)


def round_step(span: int, parts: int) -> int:
    """Return 1, 2 or 5 × a power of ten, such that about `parts` of them make the span."""
    rough = max(1, span // parts)
    power: int = 10 ** (len(str(rough)) - 1)
    factor: int = next(factor for factor in (1, 2, 5, 10) if factor * power >= rough)
    return factor * power


def _plain(quantity: int, divisor: int) -> str:
    whole, rest = divmod(quantity * 100 // divisor, 100)
    return f"{whole}.{rest:02d}".rstrip("0").rstrip(".") if rest else f"{whole:,}"
