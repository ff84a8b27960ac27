"""Policy text → `syntax.File`: drives lark's LALR parser token by token and goes on behind a broken statement.

Recovery is yacc's: the grammar has an ERROR statement. On a token that does not fit, the parser's stack is cut back to where a
statement may begin, ERROR is put there, and the rest of the statement is skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from compiler import syntax, syntax_errors
from compiler.findings import Findings
from compiler.source import Sources, Span
from compiler.tokens import BAD, END, MAX_BRACES, MAX_PARENTHESES, NEWLINE, SIGN, STRING, WORD, Token, tokens

MAX_SYNTAX_ERRORS = 20  # in one file: what follows is likely no policy at all
KEPT_OF_NOISE = 3  # of them that are shown
MAX_TOKENS = 150_000  # in one file: some fifteen thousand rules
TOP_LEVEL = frozenset(
    ("nic", "set", "const", "include", "rules", "filter", "steer", "shape", "tune", "host", "protect", "expect", "test")
)


def parse_file(name: str, text: str, sources: Sources, findings: Findings) -> syntax.File:
    """Every statement of a policy that can be read; `findings` has the others. Never raises for what the text is."""
    findings.file(name)
    sources.add(name, text)
    return _Run(name, text, "start", findings).parse() or syntax.File(name, ())


def parse_condition(name: str, text: str, sources: Sources, findings: Findings) -> syntax.Condition | None:
    """One condition, as behind `pass`; None when it cannot be read."""
    findings.file(name)
    sources.add(name, text)
    return _Run(name, text, "expression", findings).parse()  # type: ignore[no-any-return]


@dataclass(frozen=True)
class _Machine:
    """The parser, made once. keywords: text of a word or sign → terminal; table: state → symbol → (action, argument)."""

    lark: Any
    builder: Any
    keywords: dict[str, str]
    table: dict[Any, dict[str, tuple[Any, Any]]]
    ends: dict[str, Any]
    shift: Any
    token: Any  # lark's class of tokens


@lru_cache(maxsize=1)
def _machine() -> _Machine:
    from lark import Lark
    from lark import Token as LarkToken
    from lark.lexer import Lexer, PatternStr
    from lark.parsers.lalr_analysis import Shift

    from compiler.build import Builder

    class Unused(Lexer):
        """Tokens are fed one by one: the word's terminal depends on the parser's state."""

        def __init__(self, *_: object) -> None: ...

        def lex(self, *_: object) -> Iterator[Any]:
            return iter(())

    builder = Builder()
    grammar = Path(__file__).with_name("grammar.lark").read_text(encoding="utf-8")
    lark = Lark(
        grammar, parser="lalr", lexer=Unused, start=["start", "expression"], transformer=builder, keep_all_tokens=True
    )
    keywords = {t.pattern.value: t.name for t in lark.terminals if isinstance(t.pattern, PatternStr)}
    table = lark.parser.parser._parse_table
    return _Machine(lark, builder, keywords, table.states, table.end_states, Shift, LarkToken)


def keywords() -> frozenset[str]:
    """The words of the language (no signs)."""
    return frozenset(word for word in _machine().keywords if word[0].isalpha())


class _Run:
    """One parse of one text. open: the `{` not yet closed; statement: the tokens of the statement so far."""

    def __init__(self, name: str, text: str, start: str, findings: Findings) -> None:
        self.name, self.findings, self.start = name, findings, start
        self.machine = _machine()
        self.machine.builder.file, self.machine.builder.lines = name, text.split("\n")
        self.parser = self.machine.lark.parse_interactive("", start=start)
        self.state = self.parser.parser_state
        self.tokens = tokens(text)
        self.again: Token | None = None  # read before, to be fed next
        self.open: list[Token] = []
        self.statement: list[Token] = []
        self.lost: list[str] = []  # words of the broken statement
        self.parentheses = self.negations = self.errors = self.count = 0

    def parse(self) -> Any:
        """Feeds every token; the tree, or None when the text was given up."""
        while True:
            token, self.again = self.again or self._read(), None
            if token.first:
                self.statement = []
            self.statement.append(token)
            if token.kind == END:
                return self._end(token)
            if not self._feed(token) and not self._recover(token):
                return None

    def _read(self) -> Token:
        """The next token; END also where a file is longer than anybody writes: long lists belong into set files."""
        token = next(self.tokens)
        self.count += 1
        if self.count == MAX_TOKENS and token.kind != END:
            self.findings.add(
                "N007",
                f"more than {MAX_TOKENS} words and signs: the rest is not read",
                self._span(token),
                'put long lists into a file, one member a line: set NAME = file "…"',
            )
        return token if self.count < MAX_TOKENS else token._replace(kind=END, text="", first=True)

    def _fits(self, terminal: str | None) -> bool:
        """Whether the parser could shift `terminal` now. The table alone says too much: LALR merges look-aheads."""
        table = self.machine.table
        found = table[self.state.state_stack[-1]].get(terminal or "")
        if found is None or found[0] is self.machine.shift:
            return found is not None
        stack = list(self.state.state_stack)
        while terminal in table[stack[-1]]:
            action, argument = table[stack[-1]][terminal]
            if action is self.machine.shift:
                return True
            if argument.expansion:
                del stack[-len(argument.expansion) :]
            stack.append(table[stack[-1]][argument.origin.name][1])
            if terminal == END and stack[-1] == self.machine.ends[self.start]:
                return True
        return False

    def _fitting(self) -> list[str]:
        return [
            name for name in self.machine.table[self.state.state_stack[-1]] if name.upper() == name and self._fits(name)
        ]

    def _terminal(self, token: Token) -> str | None:
        """The token's terminal in the parser's state, None when it does not fit."""
        own = token.kind if token.kind in (NEWLINE, STRING) else self.machine.keywords.get(token.text)
        if token.kind != BAD and self._fits(own):
            return own
        return WORD if token.kind == WORD and self._fits(WORD) else None

    def _feed(self, token: Token) -> bool:
        terminal = self._terminal(token)
        if terminal is None or self._too_deep(token):
            return False
        self._shift(terminal, token)
        return True

    def _shift(self, terminal: str, token: Token) -> None:
        end = token.end_column
        self.parser.feed_token(
            self.machine.token(terminal, token.text, 0, token.line, token.column, token.line, end, 0)
        )
        if token.kind == SIGN and token.text == "{":
            self.open.append(token)
        elif token.kind == SIGN and token.text == "}" and self.open:
            self.open.pop()

    def _too_deep(self, token: Token) -> bool:
        """Whether the text nests deeper than anybody writes, which later stages would have to recurse into."""
        if token.kind == NEWLINE:
            self.parentheses = self.negations = 0
        self.parentheses += (token.text == "(") - (token.text == ")")
        self.negations = self.negations + 1 if token.text == "not" else 0
        return max(self.parentheses, self.negations) > MAX_PARENTHESES or len(self.open) >= MAX_BRACES

    def _end(self, token: Token) -> Any:
        if self.count >= MAX_TOKENS:
            return None
        if self.open:
            opened = self.open[-1]
            self.findings.add(
                "N004",
                "this `{` is never closed",
                self._span(opened),
                "put a `}` behind the last statement of the block",
            )
            self._close(token)
        if not self._fits("$END"):
            self._report(token)
            return None
        return self.parser.feed_eof()

    # --- recovery ---
    def _recover(self, token: Token) -> bool:
        """Reports the token and goes on behind its statement; False when there is no use in going on."""
        self.errors += 1
        if self.errors > MAX_SYNTAX_ERRORS:
            self.findings.keep_first(self.name, KEPT_OF_NOISE)
            self.findings.add(
                "N007",
                f"more than {MAX_SYNTAX_ERRORS} syntax errors: the rest is not read",
                self._span(token),
                "is this file a netc policy?",
            )
            return False
        if _starts_declaration(token) and self.open and self._fits(self.machine.keywords["}"]):
            self._report_open(token)
            self._close(token)
            self.again = token
            return True
        self._report(token)
        if self.start == "start":
            self._skip(token, self._cut_back())
        return self.start == "start"

    def _close(self, token: Token) -> None:
        """Closes every open block before `token`."""
        while self.open:
            for kind, text in ((SIGN, "}"), (NEWLINE, "\n")):
                terminal = NEWLINE if kind == NEWLINE else self.machine.keywords[text]
                self._shift(terminal, token._replace(kind=kind, text=text))

    def _cut_back(self) -> list[Token]:
        """Takes the broken statement off the parser's stack. Returns the `{` that it had opened; its words go to `lost`."""
        closed: list[Token] = []
        self.lost = []
        inner = 0  # blocks of the statement that are closed, but not yet reduced
        while inner or not self._fits("ERROR"):
            self.state.state_stack.pop()
            value = self.state.value_stack.pop()
            self.lost += _words_of(value)
            kind = getattr(value, "type", "")
            if kind == self.machine.keywords["}"]:
                inner += 1
            elif kind == self.machine.keywords["{"] and inner:
                inner -= 1
            elif kind == self.machine.keywords["{"]:
                closed.append(self.open.pop())
        self.parentheses = self.negations = 0
        return closed

    def _skip(self, token: Token, opened: list[Token]) -> None:
        """Reads to the end of the broken statement, over blocks that it opens, and leaves ERROR in its place."""
        first, words = self.statement[0], [*self.lost, *(t.text for t in self.statement)]
        depth = len(opened)
        one_line = opened[-1].line if opened else 0  # a brace of this line that nobody closed in it
        if not self.open and token.text == "}":
            token = self._read()
        while token.kind != END:
            if token.kind == NEWLINE and (depth <= 0 or (token.line == one_line and token.text != "}")):
                break
            if depth > 0 and _starts_declaration(token):
                break
            depth += (token.text == "{") - (token.text == "}")
            token = self._read()
            words.append(token.text)
        self._shift("ERROR", first._replace(kind=WORD, text=" ".join(words).strip() or "?", line=first.line))
        if token.kind != NEWLINE:
            self._shift(NEWLINE, token._replace(kind=NEWLINE, text="\n"))
        self.again = token

    def _report(self, token: Token) -> None:
        if self._terminal(token) is not None:
            most = f"{MAX_PARENTHESES} parentheses or `not`s, {MAX_BRACES} blocks"
            self.findings.add(
                "N005", "this is nested too deeply", self._span(token), f"the most is {most}; name a part with `set`"
            )
            return
        code, message, help = syntax_errors.describe(token, self._fitting(), self.machine.keywords, self.statement)
        self.findings.add(code, message, self._span(token), help)

    def _report_open(self, token: Token) -> None:
        note = (self._span(self.open[-1]), "this one is still open")
        self.findings.add(
            "N004", f"a `}}` is missing before this `{token.text}`", self._span(token), "close the block first", (note,)
        )

    def _span(self, token: Token) -> Span:
        return Span(self.name, token.line, token.column, token.line, max(token.end_column, token.column + 1))


def _starts_declaration(token: Token) -> bool:
    return token.first and token.column == 1 and token.text in TOP_LEVEL


def _words_of(value: Any) -> list[str]:
    """The words in a piece of the parser's stack."""
    if isinstance(value, syntax.Word):
        return [value.text]
    if isinstance(value, (tuple, list)):
        return [word for item in value for word in _words_of(item)]
    return [str(value)] if getattr(value, "type", "") == WORD else []
