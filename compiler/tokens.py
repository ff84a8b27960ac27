"""Policy text → tokens: words, strings, signs, statement ends. Knows nothing of the grammar beyond its signs.

A word is every run of name and value characters (`udp`, `ssh-scan`, `2001:db8::/32`, `20kpps`, `1/100`): which of them are
words of the language, and which names or values, only the parser can tell.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

MAX_PARENTHESES = 16  # deep enough for people; keeps every later recursion far from Python's limit
MAX_BRACES = 12

NEWLINE, WORD, STRING, SIGN, BAD, END = "_NL", "WORD", "STRING", "SIGN", "BAD", "$END"

_TOKEN = re.compile(
    r"""(?P<skip>[ \t\r\f]+|\#[^\n]*)
      | (?P<end>[\n;])
      | (?P<string>"[^"\n]*")
      | (?P<sign>->|<=|>=|[{}(),=<>])
      | (?P<word>(?:[A-Za-z0-9_.:/%\[\]@+*~!]|-(?!>))+)
      | (?P<bad>.)""",
    re.VERBOSE | re.DOTALL,
)
_NAME_COLON = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(?=:)")
_ADDRESS = re.compile(r"(?:[0-9A-Fa-f]{0,4}:){2,}")


class Token(NamedTuple):
    """kind: one of the constants above; line and column count from 1; first: the first token of its statement."""

    kind: str
    text: str
    line: int
    column: int
    first: bool

    @property
    def end_column(self) -> int:
        return self.column + len(self.text)


def tokens(text: str, line: int = 1, position: int = 0) -> Iterator[Token]:
    """All tokens of `text` from `position` on, where line `line` begins with a new statement; the last one is END.

    Never fails: what is no token comes as BAD, one character each.
    """
    line_start = position
    previous = Token(NEWLINE, "\n", 1, 1, False)
    while position < len(text):
        match = _TOKEN.match(text, position)
        assert match is not None  # `bad` takes any character
        kind, found = str(match.lastgroup), match.group()
        if kind == "word" and (split := _split_colon(found)):
            found = found[:split]
        token = Token(_KINDS.get(kind, ""), found, line, position - line_start + 1, previous.kind == NEWLINE)
        position += len(found)
        if found == "\n":
            line, line_start = line + 1, position
        if kind == "skip" or (kind == "end" and _continues(previous, found)):
            continue
        if found == "}" and kind == "sign" and (previous.kind != NEWLINE or previous.text == "{"):
            yield Token(NEWLINE, "}", token.line, token.column, False)
        yield token
        previous = token._replace(kind=NEWLINE) if _opens(token) else token
    if previous.kind != NEWLINE or previous.text == "{":
        yield Token(NEWLINE, "", line, position - line_start + 1, False)
    yield Token(END, "", line, position - line_start + 1, True)


_KINDS = {"end": NEWLINE, "string": STRING, "sign": SIGN, "word": WORD, "bad": BAD}


def _continues(previous: Token, found: str) -> bool:
    """Whether a statement goes on behind this end: a second end in a row, or a newline after `,` or `or`."""
    if previous.kind == NEWLINE and previous.text != "{":
        return True
    return found == "\n" and (previous.text == "," or (previous.kind == WORD and previous.text == "or"))


def _opens(token: Token) -> bool:
    return token.kind == SIGN and token.text == "{"


def _split_colon(found: str) -> int:
    """Where to cut a word like `banned:` (a name and a colon), 0 for an address such as `fe80::1` and for no cut."""
    if found[0] == ":" and (len(found) == 1 or found[1] != ":"):
        return 1
    match = _NAME_COLON.match(found)
    return match.end() if match and not _ADDRESS.match(found) and not found.startswith("[") else 0
