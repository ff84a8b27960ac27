"""The one diagnostics type: what is wrong, where, and what would be right. Drawn for people or given as JSON."""

from __future__ import annotations

from dataclasses import dataclass

from msgspec.structs import asdict

from compiler.source import Sources, Span


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding. `code` is N### for an error, W### for a lint; `netc explain CODE` has its page."""

    code: str
    message: str
    span: Span
    help: str = ""
    notes: tuple[tuple[Span, str], ...] = ()

    @property
    def is_error(self) -> bool:
        return self.code.startswith("N")

    def as_json(self) -> dict[str, object]:
        return {
            "code": self.code,
            "severity": "error" if self.is_error else "warning",
            "message": self.message,
            "span": asdict(self.span),
            "help": self.help,
            "notes": [{"span": asdict(span), "message": text} for span, text in self.notes],
        }

    def draw(self, sources: Sources) -> str:
        """The finding as a terminal drawing in the manner of rustc, ending in a newline."""
        kind = "error" if self.is_error else "warning"
        lines = [f"{kind}[{self.code}]: {self.message}", *_draw_place(sources, self.span, "^", "")]
        for span, text in self.notes:
            lines += _draw_place(sources, span, "-", text)
        if self.help:
            lines.append(f"  = help: {self.help}")
        return "\n".join(lines) + "\n"


class CompileError(Exception):
    """A compilation that cannot go on. Carries every finding, errors and lints, in source order."""

    def __init__(self, diagnostics: list[Diagnostic]) -> None:
        super().__init__("; ".join(f"{d.span}: {d.code} {d.message}" for d in diagnostics))
        self.diagnostics = diagnostics


def _draw_place(sources: Sources, span: Span, mark: str, label: str) -> list[str]:
    text = sources.line(span.file, span.line)
    if text is None:
        return [f"  --> {span}" + (f": {label}" if label else "")]
    gutter = len(str(span.line))
    end = span.end_column if span.end_line == span.line else len(text) + 1
    shown, start = _window(_printable(text), span.column - 1)
    width = max(1, min(end - span.column, len(shown) - start if len(shown) > start else 1))
    return [
        f"{' ' * gutter}--> {span}",
        f"{' ' * gutter} |",
        f"{span.line} | {shown}",
        f"{' ' * gutter} | {' ' * start}{mark * width}{' ' + label if label else ''}",
    ]


def _printable(text: str) -> str:
    """Control characters shown as one mark each: a hostile policy must not drive the reader's terminal."""
    return "".join(c if c.isprintable() else " " if c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


def _window(text: str, column: int, width: int = 120) -> tuple[str, int]:
    """At most `width` characters around `column`, and where the column lies in them."""
    if len(text) <= width:
        return text, column
    first = max(0, column - width // 3)
    return text[first : first + width], column - first
