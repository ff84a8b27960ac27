"""A shift-reduce parser over the tables of `grammar_table.py`, fed token by token; values are made bottom up by `build.Builder`."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Self

from compiler.grammar_table import Table, load
from compiler.tokens import END


class Leaf(str):
    """A token on the parser's stack: its text, its terminal, its place (one line)."""

    type: str
    line: int
    column: int
    end_column: int
    __slots__ = ("column", "end_column", "line", "type")

    def __new__(cls, terminal: str, text: str, line: int, column: int, end_column: int) -> Self:
        made = super().__new__(cls, text)
        made.type, made.line, made.column, made.end_column = terminal, line, column, end_column
        return made


class Items(list[Any]):
    """What a repetition has gathered; its parts are opened into the rule around it."""


Call = Callable[[Any, list[Any]], Any]


@lru_cache(maxsize=1)
def _calls(builder: type) -> tuple[Call | None, ...]:
    """For each rule the builder's method; None where its parts stay Items."""
    return tuple(getattr(builder, rule.call, None) for rule in load().rules)


@lru_cache(maxsize=1)
def _settled() -> tuple[int, ...]:
    """For each state the reduction that is its only action, else 0: that one needs no look-ahead."""
    only = (set(row.values()) for row in load().states)
    return tuple(min(row) if len(row) == 1 and min(row) < 0 else 0 for row in only)


class Parser:
    """One parse. states and values: its stacks; what cuts them back has to keep them in step (`values` is one shorter)."""

    def __init__(self, builder: Any, start: str) -> None:
        self.table: Table = load()
        self.start = start
        self.states = [self.table.starts[start]]
        self.values: list[Any] = []
        kind: Any = type(builder)
        self._builder, self._calls = builder, _calls(kind)

    def fits(self, terminal: str) -> bool:
        """Whether `terminal` could be shifted now. The table alone says too much: LALR merges look-aheads."""
        rows = self.table.states
        action = rows[self.states[-1]].get(terminal)
        if action is None or action >= 0:
            return action is not None or (terminal == END and self.states[-1] == self.table.ends[self.start])
        stack = list(self.states)
        while (action := rows[stack[-1]].get(terminal)) is not None:
            if action >= 0:
                return True
            rule = self.table.rules[-1 - action]
            if rule.size:
                del stack[-rule.size :]
            stack.append(rows[stack[-1]][rule.origin])
            if terminal == END and stack[-1] == self.table.ends[self.start]:
                return True
        return False

    def fitting(self) -> list[str]:
        """Every terminal that could be shifted now."""
        return [name for name in self.table.states[self.states[-1]] if name.upper() == name and self.fits(name)]

    def shift(self, terminal: str, value: Any) -> None:
        """Takes a terminal that fits."""
        rows, states = self.table.states, self.states
        while (action := rows[states[-1]][terminal]) < 0:
            self._reduce(-1 - action)
        states.append(action)
        self.values.append(value)

    def settle(self) -> None:
        """Reduces as far as no look-ahead is needed: behind a statement's end the statement is in its block's Items."""
        settled = _settled()
        while action := settled[self.states[-1]]:
            self._reduce(-1 - action)

    def end(self) -> Any:
        """The value of the whole, where END fits."""
        while self.states[-1] != self.table.ends[self.start]:
            self._reduce(-1 - self.table.states[self.states[-1]][END])
        return self.values[-1]

    def _reduce(self, number: int) -> None:
        rule = self.table.rules[number]
        states, values, size = self.states, self.values, rule.size
        parts: list[Any] = []
        if size:
            parts = values[-size:]
            del values[-size:], states[-size:]
        values.append(self._made(number, parts))
        states.append(self.table.states[states[-1]][rule.origin])

    def _made(self, number: int, parts: list[Any]) -> Any:
        rule, call = self.table.rules[number], self._calls[number]
        if rule.inline:
            opened: list[Any] = parts[0] if rule.inline[0] == 0 else parts[:1]  # in place: copies would cost the square
            for at, part in enumerate(parts[1:], 1):
                opened += part if at in rule.inline else (part,)
            parts = opened
        if rule.single and len(parts) == 1:
            return parts[0]
        if call is None:
            return parts if isinstance(parts, Items) else Items(parts)
        return call(self._builder, parts)
