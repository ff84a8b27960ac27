"""SVG for measurements: a panel with axes, lines, bars of spread, a legend. What is drawn is readable by itself; a page may restyle it by its classes.

Classes: `paper`, `grid`, `c0` … `c4` (the colours in turn).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from html import escape
from typing import NamedTuple

COLOURS = ("#555555", "#0b6fb8", "#c2410c", "#2e7d32", "#7b3fa0")
_LETTER = 7  # pixels: a wide one of 11 px sans-serif


class Scale(NamedTuple):
    """An axis: what it spans, and where it is labelled."""

    low: float
    high: float
    ticks: list[tuple[float, str]]

    def part(self, value: float) -> float:
        """0 at the low end, 1 at the high one. Halves first: the span of huge numbers is beyond a float."""
        span = self.high / 2 - self.low / 2
        return (value / 2 - self.low / 2) / span if span else 0.5


def scale(values: Iterable[float], from_zero: bool = False, steps: int = 5) -> Scale:
    """A scale with round labels over the values."""
    found = list(values) or [0.0]
    low, high = min(0.0, *found) if from_zero else min(found), max(found)
    step = _round_step(high / steps - low / steps)
    first, last = math.floor(low / step), math.ceil(high / step)
    last = max(last, first + 1)
    return Scale(first * step, last * step, [(n * step, f"{n * step:.4g}") for n in range(first, last + 1)])


def _round_step(span: float) -> float:
    """The 1, 2 or 5 times a power of ten above the span."""
    if span < 1e-300:
        return 1.0
    size: float = 10.0 ** math.floor(math.log10(span))
    return next((size * times for times in (1, 2, 5) if size * times >= span * 0.999), size * 10)


class Panel:
    """Axes at a place of the drawing, in pixels."""

    def __init__(self, left: float, top: float, width: float, height: float, x: Scale, y: Scale) -> None:
        self._left, self._top, self._width, self._height = left, top, width, height
        self._x, self._y = x, y

    def at(self, x: float, y: float) -> tuple[float, float]:
        return self._left + self._width * self._x.part(x), self._top + self._height * (1 - self._y.part(y))

    def frame(self, title: str) -> list[str]:
        """Lines across, labels of both axes, and the title below."""
        right, floor = self._left + self._width, self._top + self._height
        parts = [f'<text x="{self._left}" y="{floor + 34}">{escape(title)}</text>']
        for value, label in self._y.ticks:
            y = self.at(self._x.low, value)[1]
            parts.append(f'<line class="grid" x1="{self._left}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="#dddddd"/>')
            parts.append(f'<text x="{self._left - 4}" y="{y + 4:.1f}" text-anchor="end">{escape(label)}</text>')
        for value, label in self._x.ticks:
            parts.append(f'<text x="{self.at(value, self._y.low)[0]:.1f}" y="{floor + 16}" text-anchor="middle">{escape(label)}</text>')
        return parts

    def line(self, points: list[tuple[float, float]], number: int) -> str:
        """Points joined, in the colour of that number; a single point is a dot."""
        drawn = [self.at(x, y) for x, y in points]
        if len(drawn) == 1:
            return f'<circle class="c{number % len(COLOURS)}" cx="{drawn[0][0]:.1f}" cy="{drawn[0][1]:.1f}" r="3" fill="{colour(number)}" stroke="{colour(number)}"/>'
        joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in drawn)
        dashes = ' stroke-dasharray="6 4"' if dashed(number) else ""
        return f'<polyline class="c{number % len(COLOURS)}" points="{joined}" fill="none" stroke="{colour(number)}" stroke-width="2"{dashes}/>'

    def spread(self, x: float, low: float, high: float, number: int) -> str:
        """A thick stroke upwards at x: where most of the values were."""
        (at, bottom), (_, top) = self.at(x, low), self.at(x, high)
        return f'<line x1="{at:.1f}" y1="{bottom:.1f}" x2="{at:.1f}" y2="{top:.1f}" stroke="{colour(number)}" stroke-width="5"/>'


def colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def dashed(number: int) -> bool:
    """Every second time that the colours come round."""
    return number // len(COLOURS) % 2 == 1


def swatches(names: list[str], left: float, top: float) -> list[str]:
    """A legend in one row."""
    parts, at = [], left
    for number, name in enumerate(names):
        parts.append(f'<rect x="{at}" y="{top}" width="10" height="10" fill="{colour(number)}"/><text x="{at + 14}" y="{top + 9}">{escape(name)}</text>')
        at += 30 + _LETTER * len(name)
    return parts


def document(width: float, height: float, title: str, parts: list[str]) -> str:
    """The whole file."""
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" font-family="sans-serif" font-size="11" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect class="paper" width="{width}" height="{height}" fill="white"/>',
        *parts, "</svg>", "",
    ])  # fmt: skip
