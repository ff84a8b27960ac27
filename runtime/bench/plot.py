"""ns per packet by number of flows, as an SVG file: one panel a scenario, one line a program."""

from __future__ import annotations

from html import escape

from runtime.bench.run import Results
from runtime.bench.timing import Measured

_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 300, 220, 46, 44, 44  # pixels of a panel and its margins
_COLOURS = ("#555555", "#0b6fb8", "#c2410c", "#2e7d32", "#7b3fa0")
_TICKS = 5


def svg(results: Results, name: str) -> str:
    """The drawing. Medians are joined; the bars span the middle half of the batches."""
    scenarios = list(dict.fromkeys(m.scenario for m in results.measured))
    subjects = list(dict.fromkeys(m.subject for m in results.measured))
    flows = sorted({m.flows for m in results.measured})
    top = max(m.total.high for m in results.measured) * 1.08
    width, height = _LEFT + len(scenarios) * (_WIDTH + _LEFT), _TOP + _HEIGHT + _BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{_LEFT}" y="16" font-size="13">{escape(name)}: ns per packet by number of flows</text>',
        *_legend(subjects),
    ]
    for number, scenario in enumerate(scenarios):
        panel = _Panel(_LEFT + number * (_WIDTH + _LEFT), top, flows)
        parts += panel.frame(scenario)
        for colour, subject in zip(_cycle(len(subjects)), subjects, strict=True):
            mine = [m for m in results.measured if (m.scenario, m.subject) == (scenario, subject)]
            parts += panel.line(sorted(mine, key=lambda m: m.flows), colour)
    return "\n".join([*parts, "</svg>", ""])


def _cycle(count: int) -> list[str]:
    return [_COLOURS[i % len(_COLOURS)] for i in range(count)]


def _legend(subjects: list[str]) -> list[str]:
    parts, at = [], _LEFT
    for colour, subject in zip(_cycle(len(subjects)), subjects, strict=True):
        parts.append(f'<rect x="{at}" y="24" width="10" height="10" fill="{colour}"/><text x="{at + 14}" y="33">{escape(subject)}</text>')
        at += 30 + 7 * len(subject)
    return parts


class _Panel:
    """One scenario's axes: flows evenly spaced (they are powers), ns from 0 to `top`."""

    def __init__(self, left: int, top: float, flows: list[int]) -> None:
        self._left, self._top, self._flows = left, top, flows

    def _x(self, flows: int) -> float:
        return self._left + _WIDTH * (self._flows.index(flows) + 0.5) / len(self._flows)

    def _y(self, ns: float) -> float:
        return _TOP + _HEIGHT * (1 - ns / self._top)

    def frame(self, title: str) -> list[str]:
        right, floor = self._left + _WIDTH, _TOP + _HEIGHT
        parts = [f'<text x="{self._left}" y="{floor + 34}">{escape(title)}</text>']
        for tick in range(_TICKS + 1):
            ns = self._top * tick / _TICKS
            y = self._y(ns)
            parts.append(f'<line x1="{self._left}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="#dddddd"/>')
            parts.append(f'<text x="{self._left - 4}" y="{y + 4:.1f}" text-anchor="end">{ns:.0f}</text>')
        parts += [f'<text x="{self._x(n):.1f}" y="{floor + 16}" text-anchor="middle">{n}</text>' for n in self._flows]
        return parts

    def line(self, measured: list[Measured], colour: str) -> list[str]:
        points = " ".join(f"{self._x(m.flows):.1f},{self._y(m.total.median):.1f}" for m in measured)
        parts = [f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>']
        for m in measured:
            x = self._x(m.flows)
            parts.append(f'<line x1="{x:.1f}" y1="{self._y(m.total.low):.1f}" x2="{x:.1f}" y2="{self._y(m.total.high):.1f}" stroke="{colour}" stroke-width="5"/>')
        return parts
