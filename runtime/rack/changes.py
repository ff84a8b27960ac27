"""What changed since the run before: the run before is the last earlier one that had the same port (of a test: the same test on it)."""

from __future__ import annotations

import itertools
from typing import NamedTuple

from runtime.rack.matrix import Column, Matrix, Row
from runtime.rack.results import IDENTITY, Result

_NOTABLE = 0.1  # a figure that moved by less is left out: runs of one machine differ by about that much


class Change(NamedTuple):
    """what: of which test, figure or version; worse: somebody should look; run, before: numbers of the runs."""

    column: Column
    what: str
    old: str
    new: str
    worse: bool
    run: int
    before: int


def changes(found: Matrix) -> list[Change]:
    """Between consecutive runs; what became worse first, newest run first."""
    every = [change for column in found.columns for change in [*_versions(found, column), *_tests(found, column)]]
    return sorted(every, key=lambda change: (-change.run, not change.worse))


def _results(found: Matrix, column: Column) -> dict[int, dict[Row, Result]]:
    by_run: dict[int, dict[Row, Result]] = {}
    for (row, of), outcomes in found.cells.items():
        if of == column:
            for outcome in outcomes:
                by_run.setdefault(outcome.run, {})[row] = outcome.result
    return dict(sorted(by_run.items()))


def _versions(found: Matrix, column: Column) -> list[Change]:
    """Driver, firmware, kernel … that are no longer what they were."""
    runs = [(run, next((one for one in mine.values() if one.driver), None)) for run, mine in _results(found, column).items()]
    known = [(run, one) for run, one in runs if one]
    return [
        Change(column, what, getattr(old, what), getattr(new, what), False, run, before)
        for (before, old), (run, new) in itertools.pairwise(known)
        for what in IDENTITY[1:]
        if getattr(old, what) != getattr(new, what)
    ]


def _tests(found: Matrix, column: Column) -> list[Change]:
    by_run = _results(found, column)
    runs, every = list(by_run), list[Change]()
    for row in found.rows:
        mine = found.cells.get((row, column), [])
        for old, new in itertools.pairwise(mine):
            if old.state != new.state:
                worse = new.state in ("fail", "crash") or old.state == "pass"
                every.append(Change(column, row.title, old.state, new.state, worse, new.run, old.run))
            every += _figures(column, row, old.result, new.result, (new.run, old.run))
        later = [run for run in runs if mine and run > mine[-1].run]
        if later:
            every.append(Change(column, row.title, mine[-1].state, "not run", mine[-1].state != "skip", later[0], mine[-1].run))
        elif mine and (earlier := [run for run in runs if run < mine[0].run]):
            every.append(Change(column, row.title, "not run", mine[0].state, mine[0].state in ("fail", "crash"), mine[0].run, earlier[-1]))
    return every


def _figures(column: Column, row: Row, old: Result, new: Result, runs: tuple[int, int]) -> list[Change]:
    """Figures that moved by a tenth or more. Which way is better is not known of a figure, so none is called worse."""
    return [
        Change(column, f"{row.title} {name}", short(old.figures[name]), f"{short(value)} ({moved(old.figures[name], value)})", False, *runs)
        for name, value in new.figures.items()
        if name in old.figures and abs(value - old.figures[name]) >= _NOTABLE * max(abs(value), abs(old.figures[name])) > 0
    ]


def moved(old: float, new: float) -> str:
    """How far a figure moved: +12 %."""
    return f"{(new - old) / abs(old) * 100:+.0f} %" if old else "from 0"


def short(value: float) -> str:
    """A figure as people read it: four digits, with the k, M or G of the SI."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.4g} {unit}"
    return f"{value:.4g}"
