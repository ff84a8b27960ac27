"""What one run over a policy found: collected, not raised, so that a user sees every error at once."""

from __future__ import annotations

from compiler.diagnostics import CompileError, Diagnostic
from compiler.source import Span

MAX_SHOWN = 100  # a person reads the first ten


MAX_QUOTED = 60  # characters of a quoted word


def readable(message: str) -> str:
    """A message that drives no terminal and shows no endless word: hostile text comes back to the reader quoted in it."""
    clean = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in message)
    parts = clean.split("`")
    quoted = (
        part if at % 2 == 0 or len(part) <= MAX_QUOTED else f"{part[:MAX_QUOTED]}…" for at, part in enumerate(parts)
    )
    return "`".join(quoted)


class LiteralError(Exception):
    """A word that is not the value it should be: code, message, help. The caller knows the place."""

    def __init__(self, code: str, message: str, help: str = "") -> None:
        super().__init__(message)
        self.code, self.message, self.help = code, message, help


class Findings:
    """Errors and lints of one compilation. Two with the same place and code are one."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, Span], Diagnostic] = {}
        self.files: dict[str, int] = {}
        self.errors = 0

    def file(self, name: str) -> None:
        """Files are reported in the order of reading."""
        self.files.setdefault(name, len(self.files))

    def add(
        self, code: str, message: str, span: Span, help: str = "", notes: tuple[tuple[Span, str], ...] = ()
    ) -> None:
        if (code, span) not in self._found:
            self._found[code, span] = Diagnostic(code, readable(message), span, readable(help), notes)
            self.errors += code.startswith("N")

    def literal(self, error: LiteralError, span: Span) -> None:
        self.add(error.code, error.message, span, error.help)

    def keep_first(self, file: str, count: int) -> None:
        """Forgets all findings of a file but the first ones: the others are noise."""
        mine = [key for key in self._found if key[1].file == file]
        for key in mine[count:]:
            del self._found[key]

    def in_order(self) -> list[Diagnostic]:
        """All findings in source order."""
        last = len(self.files)
        return sorted(
            self._found.values(), key=lambda d: (self.files.get(d.span.file, last), d.span.line, d.span.column)
        )

    def check(self) -> list[Diagnostic]:
        """The lints, when there is no error. Raises CompileError with everything found."""
        found = self.in_order()
        if self.errors:
            raise CompileError(found[:MAX_SHOWN])
        return found
