"""The report for a terminal: the matrix, what failed and why, what changed."""

from __future__ import annotations

from typing import Any

from runtime import output
from runtime.rack.changes import changes
from runtime.rack.matrix import Matrix, counts
from runtime.rack.results import IDENTITY


def shown(found: Matrix) -> str:
    """Ready to print."""
    cells = {(row, column): one.state for row, column, one in found.latest()}
    rows = [[row.title, *(cells.get((row, column), "·") for column in found.columns)] for row in found.rows]
    lines = [output.table(["test", *(output.printable(column.title) for column in found.columns)], rows), ""]
    for column in found.columns:
        known = found.identity(column)
        versions = ", ".join(f"{what} {getattr(known, what) or '-'}" for what in IDENTITY[1:])
        lines.append(output.printable(f"{column.title}: {versions}"))
    for row, column, one in found.latest():
        if one.state in ("fail", "crash"):
            first = one.reason.strip().partition("\n")[0]
            lines.append(f"{output.paint(one.state, 'red')} {output.printable(f'{column.title} {row.title}: {first}')}")
    for change in changes(found):
        lines.append(output.printable(f"{'worse' if change.worse else 'changed'}: {change.column.title} {change.what}: {change.old} → {change.new}"))
    total = counts([one.state for _, _, one in found.latest()])
    lines += ["", ", ".join(f"{count} {state}" for state, count in total.items() if count)]
    return "\n".join(lines)


def as_json(found: Matrix) -> dict[str, Any]:
    """The same as one document; results as their file has them, each with its run and state."""
    return {
        "runs": [
            {"name": run.name, "ended": run.ended.isoformat(), "damaged": [{"line": line.line, "reason": line.reason} for line in run.damaged]} for run in found.runs
        ],
        "results": [
            {**{name: getattr(one.result, name) for name in one.result.__struct_fields__}, "run": one.run, "state": one.state}
            for cell in found.cells.values() for one in cell
        ],
        "changes": [{**change._asdict(), "column": change.column._asdict()} for change in changes(found)],
    }  # fmt: skip
