"""Every bad policy gets exactly the drawn message that stands beside it.

After a wanted change: `NETC_UPDATE_GOLDEN=1 pytest tests/pure/language/test_bad_policies.py`, then read the difference.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from compiler import pipeline
from compiler.diagnostics import CompileError, Diagnostic
from compiler.source import Sources

FOLDER = Path(__file__).parent.parent / "bad_policies"
POLICIES = sorted(FOLDER.glob("*.netc"))
UPDATE = os.environ.get("NETC_UPDATE_GOLDEN") == "1"


def findings(name: str) -> tuple[list[Diagnostic], Sources]:
    """What the compiler says of a policy in the current directory, up to the proofs; lints only, when it is right."""
    sources = Sources()
    try:
        return pipeline.check(Path(name), sources)[1], sources
    except CompileError as error:
        return error.diagnostics, sources


@pytest.mark.parametrize("policy", POLICIES, ids=lambda path: path.stem)
def test_message(policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDER)  # so that messages name no path of this machine
    found, sources = findings(policy.name)
    drawn = "\n".join(diagnostic.draw(sources) for diagnostic in found)
    golden = policy.with_suffix(".txt")
    if UPDATE:
        golden.write_text(drawn, encoding="utf-8")
    assert drawn == golden.read_text(encoding="utf-8")
    assert policy.stem.split("-")[0] in {diagnostic.code for diagnostic in found}


@pytest.mark.parametrize("policy", POLICIES, ids=lambda path: path.stem)
def test_every_finding_can_be_acted_on(policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDER)
    found, sources = findings(policy.name)
    assert found
    for diagnostic in found:
        assert re.fullmatch(r"[NW]\d{3}", diagnostic.code)
        assert diagnostic.message and not diagnostic.message.endswith(".")
        line = sources.line(diagnostic.span.file, diagnostic.span.line)
        assert line is not None or diagnostic.code == "N001"
        assert line is None or 1 <= diagnostic.span.column <= len(line) + 1


def test_findings_are_in_source_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDER)
    for policy in POLICIES:
        found, _ = findings(policy.name)
        places = [(d.span.line, d.span.column) for d in found if d.span.file == policy.name]
        assert places == sorted(places), policy.name


def test_nothing_golden_is_left_over() -> None:
    assert {path.stem for path in FOLDER.glob("*.txt")} == {path.stem for path in POLICIES}
