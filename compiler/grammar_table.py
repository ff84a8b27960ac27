"""The LALR(1) tables of `grammar.lark`: made by lark, kept in `grammar.json`, so that a compilation neither waits for lark nor needs it.

    python -m compiler.grammar_table > compiler/grammar.json       # after every change of the grammar; a test holds them equal

A table that does not belong to the grammar beside it is never used: then lark makes one on the spot.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

STARTS = ("start", "expression")
_GRAMMAR = Path(__file__).with_name("grammar.lark")
_KEPT = Path(__file__).with_name("grammar.json")


class Rule(msgspec.Struct, frozen=True, array_like=True):
    """One production. call: the method of `build.Builder` that gets its parts; single: one part alone stands for itself (`?rule`).

    inline: the parts that are lists (of `_rule` and of repetitions), to be opened in place, as lark does.
    """

    origin: str
    size: int
    call: str
    single: bool
    inline: tuple[int, ...]


class Table(msgspec.Struct, frozen=True):
    """states: symbol → the next state, or -1 - n to reduce by rule n. keywords: text of a word or sign → terminal."""

    grammar: str
    keywords: dict[str, str]
    starts: dict[str, int]
    ends: dict[str, int]
    rules: tuple[Rule, ...]
    states: tuple[dict[str, int], ...]


@lru_cache(maxsize=1)
def load() -> Table:
    """The table of the grammar."""
    grammar = _GRAMMAR.read_bytes()
    try:
        kept = msgspec.json.decode(_KEPT.read_bytes(), type=Table)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return make(grammar)
    return kept if kept.grammar == _digest(grammar) else make(grammar)


def make(grammar: bytes) -> Table:
    """The table as lark computes it."""
    from lark import Lark
    from lark.lexer import Lexer, PatternStr

    class Unused(Lexer):
        """Which terminal a word is depends on the parser's state: `parse.py` decides it."""

        def __init__(self, *_: object) -> None: ...

        def lex(self, *_: object) -> Any:
            raise NotImplementedError

    lark = Lark(grammar.decode(), parser="lalr", lexer=Unused, start=list(STARTS), keep_all_tokens=True)
    found = lark.parser.parser._parse_table
    rules = tuple(sorted({_rule(rule) for rule in lark.rules}))
    order = _in_order(found)
    numbers = {state: number for number, state in enumerate(order)}

    def action(name: str, state: Any) -> int:
        kind, argument = found.states[state][name]
        return numbers[argument] if str(kind) == "Shift" else -1 - rules.index(_rule(argument))

    return Table(
        _digest(grammar),
        {text: name for text, name in sorted((t.pattern.value, t.name) for t in lark.terminals if isinstance(t.pattern, PatternStr))},
        {name: numbers[found.start_states[name]] for name in STARTS},
        {name: numbers[found.end_states[name]] for name in STARTS},
        tuple(Rule(*rule) for rule in rules),
        tuple({name: action(name, state) for name in sorted(found.states[state])} for state in order),
    )


def _in_order(found: Any) -> list[Any]:
    """lark's states, breadth first by the names of symbols: lark's own numbers differ from run to run."""
    order = [found.start_states[name] for name in STARTS]
    known = set(order)
    for state in order:  # grows
        for name in sorted(found.states[state]):
            kind, argument = found.states[state][name]
            if str(kind) == "Shift" and argument not in known:
                known.add(argument)
                order.append(argument)
    return order


def _rule(rule: Any) -> tuple[str, int, str, bool, tuple[int, ...]]:
    """The fields of a Rule."""
    inline = tuple(at for at, symbol in enumerate(rule.expansion) if not symbol.is_term and symbol.name.startswith("_"))
    name = str(rule.origin.name)
    return name, len(rule.expansion), str(rule.alias or name), bool(rule.options.expand1 and not rule.alias), inline


def text(table: Table) -> bytes:
    """The table as a file with a line for each state and rule."""
    parts = [f'"{name}": ' + msgspec.json.encode(getattr(table, name)).decode() for name in ("grammar", "keywords", "starts", "ends")]
    for name in ("rules", "states"):
        lines = ",\n  ".join(msgspec.json.encode(item).decode() for item in getattr(table, name))
        parts.append(f'"{name}": [\n  {lines}\n]')
    return ("{\n" + ",\n".join(parts) + "\n}\n").encode()


def _digest(grammar: bytes) -> str:
    return hashlib.sha256(grammar).hexdigest()


if __name__ == "__main__":
    import sys

    sys.stdout.buffer.write(text(make(_GRAMMAR.read_bytes())))
