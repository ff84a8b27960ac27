"""What the parts of a grammar rule look like to `build.py`: tokens, words, nodes, and bare tuples that know their place."""

from __future__ import annotations

from typing import Any, Self

from compiler import syntax
from compiler.lalr import Leaf
from compiler.source import Span

Parts = list[Any]


class Keyword(str):
    """A keyword that became a string and still knows its place."""

    token: Leaf

    def __new__(cls, text: str, token: Leaf) -> Self:
        made = super().__new__(cls, text)
        made.token = token
        return made


class Placed(tuple):  # type: ignore[type-arg]
    """A bare tuple of parts that still knows its place."""

    span: Span

    def __new__(cls, items: tuple[Any, ...], span: Span) -> Self:
        made = super().__new__(cls, items)
        made.span = span
        return made


CONDITIONS = (
    syntax.Kind, syntax.FieldTest, syntax.Icmp, syntax.Vlan, syntax.Flags, syntax.Negation, syntax.All, syntax.Any
)  # fmt: skip


def ends(part: Any) -> tuple[int, int, int, int]:
    if isinstance(part, Keyword):
        part = part.token
    if isinstance(part, Leaf):
        return part.line, part.column, part.line, part.end_column
    if isinstance(part, tuple) and not isinstance(part, Placed):
        first, last = ends(part[0]), ends(part[-1])
        return first[0], first[1], last[2], last[3]
    span: Span = part.span
    return span.line, span.column, span.end_line, span.end_column


def flat(parts: Parts) -> Parts:
    """Parts without empty ones; tuples of words opened, so that the ends have places."""
    found: Parts = []
    for part in parts:
        found += list(part) if type(part) is tuple else [part]
    return found


def words_of(parts: Parts) -> tuple[syntax.Word, ...]:
    return tuple(p for p in parts if isinstance(p, syntax.Word))


def nodes(parts: Parts) -> tuple[Any, ...]:
    return tuple(p for p in parts if not isinstance(p, str))


def only(parts: Parts, kind: type) -> Any:
    return next((p for p in parts if isinstance(p, kind)), None)


def preferred(parts: Parts) -> bool:
    return isinstance(parts[0], Leaf) and str(parts[0]) == "prefer"
