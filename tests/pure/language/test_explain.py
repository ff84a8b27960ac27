"""Every code has a page, the page's wrong example gets the code, and its right example gets nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from compiler import error_codes, pipeline, profile
from compiler.diagnostics import CompileError
from compiler.source import Sources

ROOT = Path(__file__).parents[3]
BAD = Path(__file__).parent.parent / "bad_policies"
LATE = "789"  # first digits of the codes of placement and lowering: found by the whole compiler
NOT_FROM_A_POLICY = {  # cannot be shown by a bad policy, and why
    "N099": "the command line's",
}
BLOCK = re.compile(r"```netc (wrong|right)\n(.*?)```", re.DOTALL)
EXAMPLES = [
    pytest.param(code, kind, text, id=f"{code}-{kind}")
    for code in error_codes.codes()
    for kind, text in BLOCK.findall(error_codes.page(code))
]


def used_codes() -> set[str]:
    """Every code that stands in the compiler's source."""
    found = set()
    for path in (ROOT / "compiler").rglob("*.py"):
        found |= set(re.findall(r'"([NW]\d{3})"', path.read_text(encoding="utf-8")))
    return found


def whole(text: str) -> str:
    """An example as a policy: rules get a filter, and everything gets a nic."""
    first = text.split()[0]
    if first in ("pass", "drop", "use", "default"):
        text = "filter wan in {\n" + text + "default drop\n}\n"
    return "nic wan { device eth0 }\n" + text


def codes_of(text: str, folder: Path, late: bool) -> set[str]:
    """The codes found in a policy; late: by the whole compiler, else up to the proofs."""
    path = folder / "example.netc"
    path.write_text(text, encoding="utf-8")
    try:
        if not late:
            return {d.code for d in pipeline.check(path, Sources())[1]}
        return {d.code for d in pipeline.compile_policy(path, profile.chosen(None), Sources()).warnings}
    except CompileError as error:
        return {d.code for d in error.diagnostics}


def test_every_code_has_a_page_and_every_page_a_code() -> None:
    assert set(error_codes.codes()) == used_codes()


def test_every_code_of_the_front_end_has_a_bad_policy() -> None:
    shown = {path.stem.split("-")[0] for path in BAD.glob("*.netc")}
    wanted = {code for code in used_codes() if code[1] in "06"}
    assert wanted - set(NOT_FROM_A_POLICY) - shown == set()


def test_pages_begin_with_their_code() -> None:
    for code in error_codes.codes():
        assert error_codes.page(code).startswith(f"# {code}: ")
        assert 5 < len(error_codes.title(code)) < 70
        assert error_codes.page(code.lower()) == error_codes.page(code)


def test_an_unknown_code_is_refused_with_a_hint() -> None:
    for code in ("N000", "../../etc/passwd", "", "\x1b[31m", "N03", "error"):
        with pytest.raises(CompileError, match="is not a code of netc"):
            error_codes.page(code)


@pytest.mark.parametrize(("code", "kind", "text"), EXAMPLES)
def test_examples(code: str, kind: str, text: str, tmp_path: Path) -> None:
    found = codes_of(whole(text), tmp_path, code[1] in LATE)
    assert found == ({code} if kind == "wrong" else set())
