"""Rules that fill a line, taken whole: what makes ten thousand of them quick to read.

The tree of a statement hangs on the terminals of its words alone. So once the parser has read a rule, every later line with the same
keywords and signs in the same places is the same tree with other names and values in it: the *pattern* of the first one says which words
are a test, and which is the name. Only rules that are a verdict, plain tests beside each other (also under `not`), perhaps a limit and a name have patterns;
all other lines, and all that is wrong, are the parser's. Tests and limits stay words (`syntax.Tests`) until somebody needs to know their places.
"""

from __future__ import annotations

import re
from itertools import accumulate
from typing import Any, NamedTuple

from compiler import syntax
from compiler.lalr import Items, Parser
from compiler.source import Span
from compiler.tokens import BAD, NEWLINE, STRING, WORD, tokens

_PLAIN = (syntax.Kind, syntax.FieldTest, syntax.Icmp, syntax.Vlan, syntax.Flags)
_BLANK = " \t\r\f"  # what tokens.py skips
_SPACES = str.maketrans(_BLANK, "    ")
_ONE_WORD = re.compile(r"(?:[A-Za-z0-9_./%@+*~!]|-(?!>))+")  # by tokens.py, without what may cut it
_NO_WORDS = '"#;'  # a text, a comment, an end: such a line is no row of words
_UNFIT = "\n"  # the kind of a piece of a line with one of them
Key = tuple[str, ...]  # of a line: for each piece between spaces the keywords and signs in it, WORD for any other word


class _Pattern(NamedTuple):
    """tests: which words each test is; limit: which are the limit; named: the last two words are `as NAME`."""

    tests: tuple[slice, ...]
    limit: slice | None
    named: bool


class _Lesson(NamedTuple):
    """A line that the parser reads now and whose pattern is not known."""

    key: Key
    state: int
    number: int


class Lines:
    """The lines of one text, beside its parser, into whose blocks it puts rules."""

    def __init__(self, file: str, lines: list[str], parser: Parser) -> None:
        self.file, self.lines, self.parser = file, lines, parser
        self._kinds: dict[str, str] = {}  # of a piece between spaces
        self._patterns: dict[int, dict[Key, _Pattern | None]] = {}  # by the parser's state
        self._lesson: _Lesson | None = None
        self._offsets: list[int] = []

    def take(self, number: int, room: int) -> tuple[int, int, int]:
        """Takes the lines behind `number` up to one that needs the parser, `room` words at most; the parser has just shifted that line's end.

        Returns how many lines it took, the offset of the line behind them in the text, and the number of words.
        """
        parser = self.parser
        items = parser.values[-1] if parser.values else None
        if not isinstance(items, Items):
            self._lesson = None
            return 0, 0, 0
        self._learn(items, number)
        patterns = self._patterns.setdefault(parser.states[-1], {})
        at, words_read = number, 0
        last = len(self.lines) - 1  # has no end that was read
        while at < last:
            line = self.lines[at]
            if line.lstrip(_BLANK).startswith("#"):
                at += 1
                continue
            words = line.split()
            key = self._key(line, words)
            if key is None or words_read + len(words) + 1 >= room:
                break
            if words:
                pattern = patterns.get(key)
                if pattern is None:
                    if key not in patterns:
                        patterns[key] = None
                        self._lesson = _Lesson(key, parser.states[-1], at + 1)
                    break
                items.append(self._rule(pattern, line, words, at + 1))
                words_read += len(words) + 1
            at += 1
        return at - number, self._offset(at) if at > number else 0, words_read

    def _key(self, line: str, words: list[str]) -> Key | None:
        """None for a line that is no row of words."""
        if not line.isprintable() and not line.translate(_SPACES).isprintable():
            return None
        kind = self._kinds.__getitem__
        try:
            key = tuple(map(kind, words))
        except KeyError:
            for word in words:
                if word not in self._kinds:
                    self._kinds[word] = self._kind(word)
            key = tuple(map(kind, words))
        return None if _UNFIT in key else key

    def _kind(self, piece: str) -> str:
        if _ONE_WORD.fullmatch(piece):
            return piece if piece in self.parser.table.keywords else WORD
        if any(sign in piece for sign in _NO_WORDS):
            return _UNFIT
        found = [token for token in tokens(piece) if token.kind != NEWLINE][:-1]
        if any(token.kind in (BAD, STRING) for token in found):
            return _UNFIT
        keywords = self.parser.table.keywords
        return " ".join(token.text if token.text in keywords else WORD for token in found)

    def _offset(self, at: int) -> int:
        if not self._offsets:
            self._offsets = [0, *accumulate(len(line) + 1 for line in self.lines)]
        return self._offsets[at]

    def _rule(self, pattern: _Pattern, line: str, words: list[str], number: int) -> syntax.Rule:
        column, end = len(line) - len(line.lstrip()) + 1, len(line.rstrip()) + 1
        row, span, text = tuple(words), Span(self.file, number, column, number, end), " ".join(words)
        name, match_text = None, text
        if pattern.named:
            name = syntax.Word(row[-1], Span(self.file, number, end - len(row[-1]), number, end))
            match_text = " ".join(words[:-2])
        tests = syntax.Tests(tuple([row[part] for part in pattern.tests]), line, span)
        limit = syntax.Tests((row[pattern.limit],), line, span) if pattern.limit else None
        return syntax.Rule(row[0], tests, limit, name, (), match_text, text, span)

    # --- patterns ---
    def _learn(self, items: Items, number: int) -> None:
        """Behind the line of a lesson: its pattern, when the parser made a plain rule of the whole line."""
        lesson, self._lesson = self._lesson, None
        if lesson is None or lesson.number != number or lesson.state != self.parser.states[-1] or len(items) < 2:
            return
        rule, line = items[-2], self.lines[number - 1]
        pattern = _pattern(rule, line, number) if isinstance(rule, syntax.Rule) else None
        if pattern and _same(self._rule(pattern, line, line.split(), number), rule):
            self._patterns[lesson.state][lesson.key] = pattern


def _pattern(rule: syntax.Rule, line: str, number: int) -> _Pattern | None:
    """The pattern of a rule that the parser made of `line`; None when it is not plain, or not the whole of the line."""
    if rule.effects or rule.when is None:
        return None
    starts, ends = _columns(line)
    tests = rule.when.items if isinstance(rule.when, syntax.All) else (rule.when,)
    if not all(isinstance(test.item if isinstance(test, syntax.Negation) else test, _PLAIN) for test in tests):
        return None
    parts: list[slice] = []
    at = 1
    for part in (*tests, rule.limit) if rule.limit else tests:
        span = part.span
        if span.line != number or span.end_line != number or starts.get(span.column) != at or span.end_column not in ends:
            return None
        parts.append(slice(at, ends[span.end_column]))
        at = ends[span.end_column]
    if at + 2 * bool(rule.name) != len(starts):
        return None
    return _Pattern(tuple(parts[: len(tests)]), parts[-1] if rule.limit else None, rule.name is not None)


def _columns(line: str) -> tuple[dict[int, int], dict[int, int]]:
    """The column where a word begins → its index; the column behind it → the index of the next."""
    starts: dict[int, int] = {}
    ends: dict[int, int] = {}
    column = 0
    for index, word in enumerate(line.split()):
        column = line.index(word, column)
        starts[column + 1] = index
        column += len(word)
        ends[column + 1] = index + 1
    return starts, ends


def _same(made: syntax.Rule, read: syntax.Rule) -> bool:
    """Whether they are the same but for their tests and limits."""

    def rest(rule: syntax.Rule) -> tuple[Any, ...]:
        return rule.verdict, rule.name, rule.match_text, rule.text, rule.span

    return rest(made) == rest(read)
