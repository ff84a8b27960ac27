"""A fixed set of a bundle with other members: what `netc set add|del|replace` wants, against what the set holds."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from msgspec.structs import replace

from compiler import kept, setfile
from compiler.bundle import Bundle, StaticSet
from compiler.diagnostics import CompileError, Diagnostic
from compiler.findings import Findings, LiteralError
from compiler.ir import V4_BASE, Ranges
from compiler.ranges import normalize, subtract
from compiler.source import Sources, Span
from compiler.tables import members as codec
from compiler.types import Range

ARGUMENTS = "<command line>"
Action = Literal["add", "del", "replace", "clear"]


@dataclass(frozen=True, slots=True)
class Change:
    """bundle: with the new members, None when nothing changes. added, kept, removed count given members (what `replace` and `clear` take
    out: prefixes, or ranges of ports); absent: given members of which the set held nothing."""

    bundle: Bundle | None
    added: int = 0
    kept: int = 0
    removed: int = 0
    absent: tuple[str, ...] = ()


def change(bundle: Bundle, item: StaticSet, action: Action, given: list[Range]) -> Change:
    """`given`: the members that were named, in that order; none for `clear`."""
    had, named = kept.ranges(item), normalize(given)
    if action == "del":
        absent = tuple(_written(item.type, each) for each in given if not _touched(had, each))
        return Change(_with(bundle, item, had, subtract(had, named)), removed=len(given) - len(absent), absent=absent)
    held = sum(_covered(had, each) for each in given)
    now = normalize((*had, *named)) if action == "add" else named
    gone = _count(item.type, subtract(had, now))
    return Change(_with(bundle, item, had, now), len(given) - held, held, gone)


def given(words: list[str], file: Path | None, called: str, kind: str, sources: Sources) -> list[Range]:
    """The members in words and in a file (`called` where findings name it), in order. Raises CompileError with every wrong one."""
    findings = Findings()
    sources.add(ARGUMENTS, "\n".join(words))
    _, found = setfile.read_lines(ARGUMENTS, ((number, word, word) for number, word in enumerate(words, 1)), kind, findings)
    if file is not None:
        name = called or str(file)
        try:
            text = setfile.read_text(file, setfile.MAX_SET_FILE)
        except LiteralError as error:
            raise CompileError([Diagnostic(error.code, error.message, Span(name, 1, 1, 1, 2), error.help)]) from None
        sources.add(name, text)
        found += setfile.read_lines(name, codec.lines(text), kind, findings)[1]
    findings.check()
    return found


def _with(bundle: Bundle, item: StaticSet, had: Ranges, now: Ranges) -> Bundle | None:
    if now == had:
        return None
    changed = replace(item, ranges=kept.encoded(item.type, now), by_hand=True)
    return replace(bundle, static=tuple(changed if each is item else each for each in bundle.static))


def _covered(ranges: Ranges, each: Range) -> bool:
    """Ranges that touch are one, so whatever is held as a whole lies in one of them."""
    at = bisect_right(ranges, (each[0], V4_BASE << 1)) - 1
    return at >= 0 and ranges[at][1] >= each[1]


def _touched(ranges: Ranges, each: Range) -> bool:
    at = bisect_right(ranges, (each[1], V4_BASE << 1)) - 1
    return at >= 0 and ranges[at][1] >= each[0]


def _count(kind: str, ranges: Ranges) -> int:
    return sum(1 for low, high in ranges for _ in _words(kind, low, high))


def _written(kind: str, each: Range) -> str:
    words = list(_words(kind, *each))
    return words[0] if len(words) == 1 else f"{codec.written(each[0])}-{codec.written(each[1])}"


def _words(kind: str, low: int, high: int) -> list[str]:
    if kind == "port":
        return [str(low) if low == high else f"{low}-{high}"]
    return list(codec.words(low, high))
