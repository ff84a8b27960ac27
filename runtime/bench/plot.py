"""ns per packet by number of flows, as an SVG file: one panel a scenario, one line a program."""

from __future__ import annotations

from html import escape

from runtime import drawing
from runtime.bench.run import Results
from runtime.bench.timing import Measured

_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 300, 220, 46, 44, 44  # pixels of a panel and its margins
_TICKS = 5


def svg(results: Results, name: str) -> str:
    """The drawing. Medians are joined; the bars span the middle half of the batches."""
    scenarios = list(dict.fromkeys(m.scenario for m in results.measured))
    subjects = list(dict.fromkeys(m.subject for m in results.measured))
    flows = sorted({m.flows for m in results.measured})
    top = max(m.total.high for m in results.measured) * 1.08
    width, height = _LEFT + len(scenarios) * (_WIDTH + _LEFT), _TOP + _HEIGHT + _BOTTOM
    x, y = _evenly(flows), drawing.Scale(0, top, [(top * n / _TICKS, f"{top * n / _TICKS:.0f}") for n in range(_TICKS + 1)])
    title = f"{name}: ns per packet by number of flows"
    parts = [f'<text x="{_LEFT}" y="16" font-size="13">{escape(title)}</text>', *drawing.swatches(subjects, _LEFT, 24)]
    for number, scenario in enumerate(scenarios):
        panel = drawing.Panel(_LEFT + number * (_WIDTH + _LEFT), _TOP, _WIDTH, _HEIGHT, x, y)
        parts += panel.frame(scenario)
        for which, subject in enumerate(subjects):
            mine = [m for m in results.measured if (m.scenario, m.subject) == (scenario, subject)]
            parts += _line(panel, sorted(mine, key=lambda m: m.flows), flows, which)
    return drawing.document(width, height, title, parts)


def _evenly(flows: list[int]) -> drawing.Scale:
    """Numbers of flows evenly spaced: they are powers."""
    return drawing.Scale(-0.5, len(flows) - 0.5, [(n, str(count)) for n, count in enumerate(flows)])


def _line(panel: drawing.Panel, measured: list[Measured], flows: list[int], number: int) -> list[str]:
    points = [(float(flows.index(m.flows)), m.total.median) for m in measured]
    spreads = [panel.spread(x, m.total.low, m.total.high, number) for (x, _), m in zip(points, measured, strict=True)]
    return [panel.line(points, number), *spreads]
