"""Runs as a matrix of NIC × test: each cell has what every run said, and the newest of them counts."""

from __future__ import annotations

from typing import Literal, NamedTuple

from runtime.rack.results import Result, Run

State = Literal["pass", "fail", "crash", "quirk", "skip"]
STATES: tuple[State, ...] = ("pass", "fail", "crash", "quirk", "skip")


class Column(NamedTuple):
    """A port of a rack."""

    rack: str
    nic: str

    @property
    def title(self) -> str:
        return f"{self.rack or '?'} {self.nic or '(no port)'}"


class Row(NamedTuple):
    """A test and its variant."""

    test: str
    variant: str

    @property
    def title(self) -> str:
        return f"{self.test}[{self.variant}]" if self.variant else self.test


class Outcome(NamedTuple):
    """What one run said of one cell. run: its number, from 0."""

    run: int
    state: State
    result: Result

    @property
    def reason(self) -> str:
        """Why it is not simply a pass; for a pass of what was expected to fail, that."""
        if self.state == "pass" and self.result.quirk:
            return f"the known quirk {self.result.quirk} did not show"
        return self.result.reason


class Matrix(NamedTuple):
    """columns, rows: in the order in which the runs had them; cells: outcomes by run, oldest first."""

    runs: list[Run]
    columns: list[Column]
    rows: list[Row]
    cells: dict[tuple[Row, Column], list[Outcome]]

    def latest(self) -> list[tuple[Row, Column, Outcome]]:
        """The newest outcome of each cell, by row."""
        return [(row, column, self.cells[row, column][-1]) for row in self.rows for column in self.columns if (row, column) in self.cells]

    def identity(self, column: Column) -> Result:
        """The newest result that knows the port's driver (a test that was skipped early does not)."""
        mine = [outcome for (_, of), outcomes in self.cells.items() if of == column for outcome in outcomes]
        return max(mine, key=lambda one: (bool(one.result.driver), one.run)).result


def outcomes(run: Run, number: int) -> list[Outcome]:
    """Everything that a run said, in its order, then what never ended."""
    return [Outcome(number, _state(one), one) for one in run.results] + [Outcome(number, "crash", one) for one in run.crashed]


def matrix(runs: list[Run]) -> Matrix:
    """All runs beside each other; a test that a run had twice counts with the worse of the two."""
    cells: dict[tuple[Row, Column], list[Outcome]] = {}
    for number, run in enumerate(runs):
        for outcome in outcomes(run, number):
            one = outcome.result
            cell = cells.setdefault((Row(one.test, one.variant), Column(one.rack, one.nic)), [])
            if not cell or cell[-1].run != number:
                cell.append(outcome)
            elif outcome.state in ("fail", "crash"):
                cell[-1] = outcome
    rows = list(dict.fromkeys(row for row, _ in cells))
    files = list(dict.fromkeys(row.test.partition(".")[0] for row in rows))
    rows.sort(key=lambda row: files.index(row.test.partition(".")[0]))
    return Matrix(runs, list(dict.fromkeys(column for _, column in cells)), rows, cells)


def counts(states: list[State]) -> dict[State, int]:
    return {state: states.count(state) for state in STATES}


def _state(result: Result) -> State:
    return "quirk" if result.result == "xfail" else result.result
