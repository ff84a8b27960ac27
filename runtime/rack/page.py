"""The report as one HTML file that needs nothing else: no script, no font, no picture from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable

from runtime.rack import markup, page_figures, page_matrix, style
from runtime.rack.changes import Change, changes
from runtime.rack.matrix import Column, Matrix, Outcome, Row, State, counts
from runtime.rack.results import IDENTITY

_NOTHING_FETCHED = "default-src 'none'; style-src 'unsafe-inline'"


def html(found: Matrix) -> str:
    """The whole page."""
    latest = found.latest()
    sections = {
        "changes": ("What changed since the run before", _changes(found)),
        "ports": ("Ports", [_ports(found)]),
        "matrix": ("Matrix", [_legend(found), page_matrix.table(found)]),
        "failures": ("Failures", _reasons(latest, ("fail", "crash"))),
        "quirks": ("Known quirks", _reasons(latest, ("quirk",))),
        "skips": ("Skips", _skips(latest)),
        "figures": ("Figures", page_figures.figures(found)),
        "series": ("Series", page_figures.plots(found)),
    }
    links = " ".join(f'<a href="#{name}">{title}</a>' for name, (title, parts) in sections.items() if parts)
    body = [*_head(found, latest), f"<nav>{links}</nav>", *_damaged(found)]
    for name, (title, parts) in sections.items():
        body += markup.section(name, title, parts)
    return "\n".join([
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">',
        f'<meta http-equiv="Content-Security-Policy" content="{_NOTHING_FETCHED}"><title>netc rack report</title><style>{style.CSS}</style></head><body>',
        *body, "</body></html>", "",
    ])  # fmt: skip


def _head(found: Matrix, latest: list[tuple[Row, Column, Outcome]]) -> list[str]:
    rows = [
        [f"<td>{markup.text(run.name)}</td>", f'<td>{run.ended:%Y-%m-%d %H:%M} UTC</td>', f'<td>{sum(one.seconds for one in run.results):,.0f} s</td>',
         f'<td class="counts">{_counts(one.state for _, cell in found.cells.items() for one in cell if one.run == number)}</td>']
        for number, run in enumerate(found.runs)
    ]  # fmt: skip
    total = _counts(one.state for _, _, one in latest)
    return [
        "<h1>netc rack report</h1>",
        f'<p class="counts">{total} <span class="dim">{len(found.rows)} tests on {len(found.columns)} ports, the newest result of each</span></p>',
        markup.table(["run", "last result", "tests took", "results"], rows),
    ]


def _counts(states: Iterable[State]) -> str:
    return "".join(f'<span class="state {state}">{count} {state}</span>' for state, count in counts(list(states)).items() if count)


def _damaged(found: Matrix) -> list[str]:
    lines = [f"<li>{markup.text(run.name)}, line {line.line}: {markup.text(line.reason)}</li>" for run in found.runs for line in run.damaged]
    return [f'<div class="alert" role="alert"><b>Lines of the results that could not be read: {len(lines)}</b>. The rest is shown.<ul class="cells">', *lines, "</ul></div>"] if lines else []


def _changes(found: Matrix) -> list[str]:
    if len(found.runs) < 2:
        return []
    every = changes(found)
    if not every:
        return ["<p>Nothing: every test of the ports that more than one run had says what it said before.</p>"]
    worse, others = ([_change(found, one) for one in every if one.worse is kind] for kind in (True, False))
    parts = [_change_table(worse)] if worse else ["<p>Nothing became worse.</p>"]
    if others:
        parts.append(f"<details{'' if worse else ' open'}><summary>{len(others)} other changes: versions, figures, what became better</summary>{_change_table(others)}</details>")
    return parts


def _change_table(rows: list[list[str]]) -> str:
    return markup.table(["port", "what", "before", "now", "runs"], rows)


def _change(found: Matrix, one: Change) -> list[str]:
    states = ("pass", "fail", "crash", "quirk", "skip", "not run")

    def shown(value: str) -> str:
        return f'<span class="state {"none" if value == "not run" else value}">{value}</span>' if value in states else markup.text(value)

    return [
        f"<td>{markup.text(one.column.title)}</td><td>{markup.breakable(one.what)}</td><td>{shown(one.old)}</td>",
        f"<td>{shown(one.new)}</td>",
        f'<td class="dim">{markup.text(found.runs[one.before].name)} → {markup.text(found.runs[one.run].name)}</td>',
    ]


def _ports(found: Matrix) -> str:
    rows = []
    for column in found.columns:
        known = found.identity(column)
        cells = "".join(f"<td>{markup.text(getattr(known, what)) or '<span class=dim>–</span>'}</td>" for what in IDENTITY[1:])
        total = _counts(cell[-1].state for (_, of), cell in found.cells.items() if of == column)
        rows.append([f"<td><b>{markup.text(column.title)}</b></td>{cells}", f'<td class="counts">{total}</td>'])
    return markup.table(["port", *IDENTITY[1:], "results"], rows)


def _legend(found: Matrix) -> str:
    before = " Small squares are earlier runs, oldest first." if len(found.runs) > 1 else ""
    return ('<p class="dim"><small>An underlined result opens its reason. quirk: expected to fail on this driver; pass*: expected to fail, and passed; '
            f"crash: began and never ended; ·: not in any run.{before}</small></p>")  # fmt: skip


def _reasons(latest: list[tuple[Row, Column, Outcome]], states: tuple[State, ...]) -> list[str]:
    """Each in full."""
    parts = list[str]()
    for row, column, one in latest:
        if one.state in states:
            parts.append(f'<h3><span class="state {one.state}">{one.state}</span> {markup.text(column.title)} · <code>{markup.breakable(row.title)}</code></h3>')
            parts.append(f"<pre>{markup.lines(one.reason)}</pre>")
    return parts


def _skips(latest: list[tuple[Row, Column, Outcome]]) -> list[str]:
    """By reason, then by port: what the probe said usually skips several tests on several ports."""
    by_reason: dict[str, dict[str, list[str]]] = {}
    for row, column, one in latest:
        if one.state == "skip":
            by_reason.setdefault(one.reason, {}).setdefault(column.title, []).append(row.title)
    items = list[str]()
    for reason, ports in by_reason.items():
        told = "".join(f"<br><small><b>{markup.text(title)}</b> {', '.join(map(markup.breakable, tests))}</small>" for title, tests in ports.items())
        items.append(f"<li>{markup.text(reason) or 'no reason given'}{told}</li>")
    return [f'<ul class="cells">{"".join(items)}</ul>'] if items else []
