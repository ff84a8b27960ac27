"""The pages behind the codes of findings: `netc explain N030`. One file a code in `explain/`; its first line is the title."""

from __future__ import annotations

import re
from pathlib import Path

from compiler.diagnostics import CompileError, Diagnostic
from compiler.source import Span
from compiler.suggest import hint

_FOLDER = Path(__file__).with_name("explain")


def codes() -> tuple[str, ...]:
    """Every code that has a page, in order."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("[NW][0-9][0-9][0-9].md")))


def page(code: str) -> str:
    """The page of a code, as Markdown that reads well as it stands. Raises CompileError (N099) for a code that netc does not have."""
    known = codes()
    if code.upper() not in known:
        shown = code[:20] if code.isprintable() else "this"
        near = hint(code.upper(), known, "codes stand in brackets: error[N030]")
        place = Span("<command line>", 1, 1, 1, 2)
        raise CompileError([Diagnostic("N099", f"`{shown}` is not a code of netc", place, near)])
    return (_FOLDER / f"{code.upper()}.md").read_text(encoding="utf-8")


def title(code: str) -> str:
    """The page's first line without the code: what kind of finding it is."""
    return re.sub(r"^#+\s*[NW]\d{3}:\s*", "", page(code).split("\n", 1)[0])
