"""Plots as SVG, without a library: lines and points on linear or logarithmic axes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 360, 64, 620, 40, 310
COLOURS = ("#1f5fbf", "#c2410c", "#64748b")


@dataclass(frozen=True, slots=True)
class Line:
    """A named series; dashed where it is what is expected."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    dashed: bool = False


class Axis:
    """Places of values between two ends, with round marks."""

    def __init__(self, values: Sequence[float], start: float, end: float, *, logarithmic: bool) -> None:
        self.logarithmic, self.start, self.end = logarithmic, start, end
        self.low, self.high = self._scaled(min(values)), self._scaled(max(values))
        if self.high == self.low:
            self.high = self.low + 1

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self.logarithmic else value

    def place(self, value: float) -> float:
        share = (self._scaled(value) - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)

    def marks(self) -> list[float]:
        if self.logarithmic:
            return [10.0**power for power in range(math.ceil(self.low), math.floor(self.high) + 1)]
        step = 10 ** math.floor(math.log10((self.high - self.low) / 3))
        step *= next(factor for factor in (1, 2, 5, 10) if (self.high - self.low) / (step * factor) <= 6)
        return [step * n for n in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]


def plot(title: str, lines: Sequence[Line], *, x: str, y: str, log_x: bool = False, log_y: bool = False) -> str:
    """Return a picture of the lines with axes and a legend."""
    kept = []
    for line in lines:
        pairs = [(a, b) for a, b in zip(line.x, line.y, strict=True) if (a > 0 or not log_x) and (b > 0 or not log_y)]
        if pairs:
            kept.append((line, pairs))
    across = Axis([a for _, pairs in kept for a, _ in pairs], LEFT, RIGHT, logarithmic=log_x)
    up = Axis([b for _, pairs in kept for _, b in pairs], BOTTOM, TOP, logarithmic=log_y)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif"'
        ' font-size="12">',
        f'<title>{title}</title><rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<text x="{LEFT}" y="20" font-size="14" font-weight="bold">{title}</text>',
        f'<path d="M{LEFT} {TOP}V{BOTTOM}H{RIGHT}" fill="none" stroke="#334155"/>',
        f'<text x="{RIGHT}" y="{BOTTOM + 36}" text-anchor="end">{x}</text>',
        f'<text x="{LEFT}" y="{TOP - 6}">{y}</text>',
    ]
    for mark in across.marks():
        parts.append(f'<text x="{across.place(mark)}" y="{BOTTOM + 16}" text-anchor="middle">{mark:g}</text>')
    for mark in up.marks():
        at = up.place(mark)
        parts.append(f'<text x="{LEFT - 6}" y="{at + 4}" text-anchor="end">{mark:g}</text>')
        parts.append(f'<path d="M{LEFT} {at}H{RIGHT}" stroke="#e2e8f0"/>')
    for number, (line, pairs) in enumerate(kept):
        colour, dash = COLOURS[number % len(COLOURS)], ' stroke-dasharray="5 4"' if line.dashed else ""
        path = "L".join(f"{across.place(a)} {up.place(b)}" for a, b in pairs)
        parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.6"{dash}/>')
        parts.append(f'<text x="{RIGHT}" y="{TOP + 14 * number}" text-anchor="end" fill="{colour}">{line.name}</text>')
    return "\n".join([*parts, "</svg>", ""])
