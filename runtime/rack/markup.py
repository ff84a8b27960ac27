"""Pieces of the report's HTML. Every text of a result goes through here: it may be anything."""

from __future__ import annotations

import re
from html import escape

from runtime import output
from runtime.rack.matrix import Row


def text(words: str) -> str:
    """One line of text, control characters shown."""
    return escape(output.printable(words))


def lines(words: str) -> str:
    """Several lines, for a pre."""
    return "\n".join(text(line) for line in words.splitlines())


def row_name(row: Row) -> str:
    """A test's name without its file, breakable after each of its words."""
    name = row.test.partition(".")[2] or row.test
    return breakable(name) + (f' <span class="dim">{breakable(row.variant)}</span>' if row.variant else "")


def breakable(words: str) -> str:
    return re.sub(r"(?<=[_.\-])(?=[^_.\-])", "<wbr>", text(words))


def table(heads: list[str], rows: list[list[str]]) -> str:
    """heads are texts; the cells are HTML already, whole `<td>` elements."""
    head = "".join(f'<th scope="col">{text(one)}</th>' for one in heads)
    body = "\n".join(f"<tr>{''.join(cells)}</tr>" for cells in rows)
    return f'<div class="wide" tabindex="0" role="region" aria-label="{text(heads[0])}"><table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>'


def section(identity: str, title: str, parts: list[str]) -> list[str]:
    """Nothing for no parts."""
    return [f'<section id="{identity}"><h2>{text(title)}</h2>', *parts, "</section>"] if parts else []


def plain(words: str) -> str:
    """For those who escape by themselves."""
    return output.printable(words)
