"""The report's plots: bars for figures (throughput, latency: whatever a test noted), lines for series."""

from __future__ import annotations

import math
from typing import NamedTuple

from runtime import drawing
from runtime.rack import changes, markup
from runtime.rack.matrix import Column, Matrix, Outcome, Row

_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 440, 200, 64, 10, 16, 24  # pixels
_POINTS = 2000  # of a line: more are not told apart


class _Figure(NamedTuple):
    row: Row
    column: Column
    outcomes: list[tuple[Outcome, float]]


def figures(found: Matrix) -> list[str]:
    """A table for each name of a figure: its value in each run, with a bar against the greatest."""
    by_name: dict[str, list[_Figure]] = {}
    for row in found.rows:
        for column in found.columns:
            cell = found.cells.get((row, column), [])
            for name in dict.fromkeys(name for one in cell for name in one.result.figures):
                mine = [(one, one.result.figures[name]) for one in cell if name in one.result.figures]
                by_name.setdefault(name, []).append(_Figure(row, column, mine))
    return [part for name, every in by_name.items() for part in _bars(found, name, every)]


def _bars(found: Matrix, name: str, every: list[_Figure]) -> list[str]:
    most = max((abs(value) for figure in every for _, value in figure.outcomes), default=0.0)
    rows = [cells for figure in every for cells in _rows(found, figure, most)]
    return [f"<h3>{markup.text(name)}</h3>", markup.table(["port and test", "run", "value"], rows)]


def _rows(found: Matrix, figure: _Figure, most: float) -> list[list[str]]:
    """A row a run; the bar lies under the value, so that it is there on a phone, too."""
    title = f"{markup.text(figure.column.title)}<br><small>{markup.breakable(figure.row.title)}</small>"
    head = f'<td rowspan="{len(figure.outcomes)}">{title}</td>'
    rows, before = list[list[str]](), None
    for number, (one, value) in enumerate(figure.outcomes, 1):
        share = abs(value) / most * 100 if most else 0
        older = " older" if number < len(figure.outcomes) else ""
        change = f' <span class="dim">{changes.moved(before, value)}</span>' if before is not None else ""
        bar = f'<span class="bar{older}" style="width:{share:.1f}%"></span>'
        rows.append([head if number == 1 else "", f"<td>{markup.text(found.runs[one.run].name)}</td>", f'<td class="barcell">{changes.short(value)}{change}{bar}</td>'])
        before = value
    return rows


def plots(found: Matrix) -> list[str]:
    """A drawing for each test's series: a line for each port and run."""
    by_name: dict[tuple[Row, str], dict[str, list[tuple[float, float]]]] = {}
    for row in found.rows:
        for column in found.columns:
            for one in found.cells.get((row, column), []):
                label = column.title + (f", {found.runs[one.run].name}" if len(found.runs) > 1 else "")
                for name, points in one.result.series.items():
                    if points:
                        by_name.setdefault((row, name), {})[label] = points
    drawn = [_plot(row, name, lines) for (row, name), lines in by_name.items()]
    return [f'<div class="plots">{"".join(drawn)}</div>'] if drawn else []


def _plot(row: Row, name: str, lines: dict[str, list[tuple[float, float]]]) -> str:
    every = [point for points in lines.values() for point in points]
    x, y = drawing.scale([x for x, _ in every]), drawing.scale([y for _, y in every], from_zero=True)
    panel = drawing.Panel(_LEFT, _TOP, _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM, x, y)
    parts = [*panel.frame(""), *(panel.line(_thinned(points), number + 1) for number, points in enumerate(lines.values()))]
    keys = "".join(_key(label, number + 1) for number, label in enumerate(lines))
    svg = drawing.document(_WIDTH, _HEIGHT, markup.plain(f"{row.title}: {name}"), parts)
    return f"<figure><figcaption><b>{markup.text(name)}</b> · {markup.breakable(row.title)}<br><small>{keys}</small></figcaption>{svg}</figure>"


def _key(label: str, number: int) -> str:
    style = "dashed" if drawing.dashed(number) else "solid"
    return f'<span class="key" style="--k:var(--c{number % len(drawing.COLOURS)});--s:{style}">{markup.text(label)}</span>'


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """In the order of x; of very many, the highest of each group: a peak stays."""
    ordered = sorted(points)
    size = math.ceil(len(ordered) / _POINTS)
    return [max(ordered[at : at + size], key=lambda point: point[1]) for at in range(0, len(ordered), size)]
