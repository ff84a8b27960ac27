"""compiler/README.md and runtime/README.md name every module that there is, and none that is gone."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MARK = "## Every module\n"


def modules(package: str) -> set[str]:
    """Paths below the package; the empty __init__.py of a folder is no module of its own."""
    found = (ROOT / package).rglob("*.py")
    return {str(path.relative_to(ROOT / package)) for path in found if path.name != "__init__.py" or len(path.read_text()) > 200}


@pytest.mark.parametrize("package", ["compiler", "runtime"])
def test_every_module_has_its_line(package: str) -> None:
    text = (ROOT / package / "README.md").read_text()
    assert MARK in text
    named = re.findall(r"^- `([\w/]+\.py)`: \S", text.partition(MARK)[2], re.MULTILINE)
    assert sorted(named) == named, f"{package}/README.md: keep the lines sorted"
    assert set(named) == modules(package), f"{package}/README.md, `{MARK.strip()}`: a line for each module, - `name.py`: what it is"


@pytest.mark.parametrize("package", ["compiler", "runtime"])
def test_each_line_is_how_the_module_s_docstring_begins(package: str) -> None:
    text = (ROOT / package / "README.md").read_text()
    for name, words in re.findall(r"^- `([\w/]+\.py)`: (.*)$", text.partition(MARK)[2], re.MULTILINE):
        docstring = " ".join((ast.get_docstring(ast.parse((ROOT / package / name).read_text())) or "").split())
        assert docstring.startswith(words.rstrip(".:")), f"{package}/README.md: `{name}` says now: {docstring[:200]}"
