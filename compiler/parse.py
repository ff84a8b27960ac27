"""Policy text → `syntax.File`: feeds the parser (`lalr.py`) token by token and goes on behind a broken statement.

Recovery is yacc's: the grammar has an ERROR statement. On a token that does not fit, the parser's stack is cut back to where a
statement may begin, ERROR is put there, and the rest of the statement is skipped.
"""

from __future__ import annotations

from typing import Any

from compiler import syntax, syntax_errors
from compiler.build import Builder
from compiler.findings import Findings
from compiler.grammar_table import load
from compiler.lalr import Leaf, Parser
from compiler.lines import Lines
from compiler.source import Sources, Span
from compiler.tokens import BAD, END, MAX_BRACES, MAX_PARENTHESES, NEWLINE, SIGN, STRING, WORD, Token, tokens

MAX_SYNTAX_ERRORS = 20  # in one file: what follows is likely no policy at all
KEPT_OF_NOISE = 3  # of them that are shown
MAX_TOKENS = 3_000_000  # in one file: some two hundred thousand rules
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


def parse_line(name: str, line: str, number: int) -> syntax.Rule:
    """The rule in a line that was read as a whole before (`lines.py`), with the place of each of its words."""
    text = f"rules x {{\n{line}\n}}\n"
    file = _Run(name, text, "start", Findings(), number - 1, whole=False).parse()
    return file.statements[0].items[0]  # type: ignore[no-any-return]


def keywords() -> frozenset[str]:
    """The words of the language (no signs)."""
    return frozenset(word for word in load().keywords if word[0].isalpha())


class _Run:
    """One parse of one text, whose first line has the number `first`. open: the `{` not yet closed; statement: the tokens of the statement so far.

    whole: lines that look like one read before are taken at once (`lines.py`).
    """

    def __init__(self, name: str, text: str, start: str, findings: Findings, first: int = 1, whole: bool = True) -> None:
        self.name, self.findings, self.start = name, findings, start
        self.lines = text.split("\n")
        self.keywords = load().keywords
        self.parser = Parser(Builder(name, self.lines, first), start)
        self.text, self.tokens = text, tokens(text, first)
        self.rules = Lines(name, self.lines, self.parser) if whole else None
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
            if self._feed(token):
                if token.kind == NEWLINE and token.text == "\n" and self.rules:
                    self._take_lines(token.line)
            elif not self._recover(token):
                return None

    def _take_lines(self, number: int) -> None:
        """Behind line `number`: takes as many lines as can be taken whole, and reads on behind them."""
        assert self.rules is not None
        taken, position, words = self.rules.take(number, MAX_TOKENS - self.count)
        if taken:
            self.count += words
            self.tokens = tokens(self.text, number + taken + 1, position)

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

    def _terminal(self, token: Token) -> str | None:
        """The token's terminal in the parser's state, None when it does not fit."""
        own = token.kind if token.kind in (NEWLINE, STRING) else self.keywords.get(token.text)
        if token.kind != BAD and own is not None and self.parser.fits(own):
            return own
        return WORD if token.kind == WORD and self.parser.fits(WORD) else None

    def _feed(self, token: Token) -> bool:
        terminal = self._terminal(token)
        if terminal is None or self._too_deep(token):
            return False
        self._shift(terminal, token)
        return True

    def _shift(self, terminal: str, token: Token) -> None:
        self.parser.shift(terminal, Leaf(terminal, token.text, token.line, token.column, token.end_column))
        if terminal == NEWLINE:
            self.parser.settle()
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
            if not self._close(token):
                return None
        if not self.parser.fits("$END"):
            self._report(token)
            return None
        return self.parser.end()

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
        if _starts_declaration(token) and self.open and self.parser.fits(self.keywords["}"]):
            self._report_open(token)
            self._close(token)
            self.again = token
            return True
        self._report(token)
        if self.start == "start":
            self._skip(token, self._cut_back())
        return self.start == "start"

    def _close(self, token: Token) -> bool:
        """Closes every open block before `token`; False where a statement is cut short that wants more behind its `}` (a steer rule's target)."""
        while self.open:
            for kind, text in ((SIGN, "}"), (NEWLINE, "\n")):
                terminal = NEWLINE if kind == NEWLINE else self.keywords[text]
                if not self.parser.fits(terminal):
                    return False
                self._shift(terminal, token._replace(kind=kind, text=text))
        return True

    def _cut_back(self) -> list[Token]:
        """Takes the broken statement off the parser's stack. Returns the `{` that it had opened; its words go to `lost`."""
        closed: list[Token] = []
        self.lost = []
        inner = 0  # blocks of the statement that are closed, but not yet reduced
        while inner or not self.parser.fits("ERROR"):
            self.parser.states.pop()
            value = self.parser.values.pop()
            self.lost += _words_of(value)
            kind = getattr(value, "type", "")
            if kind == self.keywords["}"]:
                inner += 1
            elif kind == self.keywords["{"] and inner:
                inner -= 1
            elif kind == self.keywords["{"]:
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
        code, message, help = syntax_errors.describe(token, self.parser.fitting(), self.keywords, self.statement)
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
    if isinstance(value, tuple):
        return [word for item in value for word in _words_of(item)]
    return [str(value)] if getattr(value, "type", "") == WORD else []
