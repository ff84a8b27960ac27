"""Drawing for terminals: tables, colours only where they are wanted, and nothing from a bundle that could drive a terminal."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import TextIO

_COLOURS = {"red": "31", "green": "32", "yellow": "33", "bold": "1", "dim": "2"}


def printable(text: str) -> str:
    """Any text made safe to print: what is not printable is shown by its escape (a hostile bundle, a device's words)."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def paint(text: str, colour: str, stream: TextIO | None = None) -> str:
    """`text` in a colour, if the stream is a terminal and NO_COLOR (no-color.org) is not set."""
    stream = stream or sys.stdout
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not stream.isatty():
        return text
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m"


def place(file: str, line: int) -> str:
    """file:line as people write it: from the working directory on where it lies there; "" for what netc added itself."""
    if not line or file.startswith("<"):
        return ""
    inside = os.path.isabs(file) and os.path.commonpath((file, os.getcwd())) == os.getcwd()
    return f"{os.path.relpath(file) if inside else file}:{line}"


def number(value: float) -> str:
    """1234567 as 1,234,567."""
    return f"{value:,}"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Columns as wide as their widest cell, two spaces apart; `right`: the columns that are aligned right. No trailing spaces."""
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max([len(head), *(len(row[i]) for row in cells)]) for i, head in enumerate(heads)]
    lines = [_line(heads, widths, right), *(_line(row, widths, right) for row in cells)]
    lines[0] = paint(lines[0], "bold")
    return "\n".join(lines)


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[int]) -> str:
    aligned = (cell.rjust(width) if i in right else cell.ljust(width) for i, (cell, width) in enumerate(zip(cells, widths, strict=True)))
    return "  ".join(aligned).rstrip()


def show_json(value: object) -> None:
    """One JSON document on stdout, the same keys in the same order every time."""
    json.dump(value, sys.stdout, indent=2, ensure_ascii=True)
    sys.stdout.write("\n")


def show_error(text: str) -> None:
    """`error: …` on stderr; further lines (help) are kept as they are, each made printable."""
    first, *rest = text.split("\n")
    print(paint("error:", "red", sys.stderr), printable(first), file=sys.stderr)
    for line in rest:
        print(printable(line), file=sys.stderr)


def show_note(text: str) -> None:
    print(paint("note:", "dim", sys.stderr), printable(text), file=sys.stderr)


def show_warning(text: str) -> None:
    print(paint("warning:", "yellow", sys.stderr), printable(text), file=sys.stderr)
