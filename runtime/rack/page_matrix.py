"""The report's matrix: a row a test, a column a port; what is not simply a pass opens its reason (a button: mouse, touch and keyboard alike)."""

from __future__ import annotations

from runtime.rack import markup
from runtime.rack.matrix import Column, Matrix, Outcome, Row


def table(found: Matrix) -> str:
    """The whole matrix, the tests of a file together."""
    heads = "".join(f'<th scope="col"><small class="dim">{markup.text(column.rack)}</small><br>{markup.text(column.nic or "(no port)")}</th>' for column in found.columns)
    newest = {column: max(one.run for (_, of), cell in found.cells.items() if of == column for one in cell) for column in found.columns}
    body, group, number = list[str](), "", 0
    for row in found.rows:
        if (file := row.test.partition(".")[0]) != group:
            group = file
            body.append(f'<tr class="group"><th scope="rowgroup" colspan="{len(found.columns) + 1}">{markup.text(file)}</th></tr>')
        cells = []
        for column in found.columns:
            number += 1
            cells.append(_cell(found, row, column, newest[column], number))
        body.append(f'<tr><th scope="row">{markup.row_name(row)}</th>{"".join(cells)}</tr>')
    return (f'<div class="wide" tabindex="0" role="region" aria-label="matrix"><table class="matrix"><thead><tr><th scope="col">test</th>{heads}</tr></thead>'
            f"<tbody>\n{chr(10).join(body)}\n</tbody></table></div>")  # fmt: skip


def _cell(found: Matrix, row: Row, column: Column, newest: int, number: int) -> str:
    every = found.cells.get((row, column))
    if not every:
        return '<td class="dim" title="not in any run">·</td>'
    last = every[-1]
    before = "".join(_was(found, one) for one in every[:-1])
    if last.run < newest:
        return f'<td class="old" title="not in the newest run of this port">{before}{_was(found, last)}<span class="state none">not run</span></td>'
    if not last.reason:
        return f'<td>{before}<span class="state {last.state}" title="{last.result.seconds:.1f} s">{last.state}</span></td>'
    return f"<td>{before}{_opened(row, column, last, number)}</td>"


def _was(found: Matrix, one: Outcome) -> str:
    told = f"{markup.text(found.runs[one.run].name)}: {one.state}"
    return f'<span class="was {one.state}" role="img" aria-label="{told}" title="{told}"></span>'


def _opened(row: Row, column: Column, one: Outcome, number: int) -> str:
    """The state as a button that opens the reason (HTML's popover: no script; browsers that lack it show the reason in place)."""
    first = markup.text(one.reason.strip().partition("\n")[0])
    name = f"{one.state}*" if one.state == "pass" else one.state
    quirk = f"<p>Known quirk: {markup.text(one.result.quirk)}</p>" if one.result.quirk else ""
    return (
        f'<button type="button" class="state {one.state}" popovertarget="r{number}" title="{first}">{name}</button>'
        f'<div popover id="r{number}"><p><b>{one.state}</b> · {markup.text(column.title)} · {one.result.seconds:.1f} s</p>'
        f"<p><code>{markup.breakable(row.title)}</code></p>{quirk}<pre>{markup.lines(one.reason)}</pre></div>"
    )
