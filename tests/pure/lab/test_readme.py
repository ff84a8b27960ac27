"""The README's policy is right by netc's own check, and its make targets exist."""

from __future__ import annotations

import re
from pathlib import Path

from compiler import pipeline
from compiler.source import Sources

_ROOT = Path(__file__).parents[3]


def test_the_policy_in_the_readme_passes_its_own_rules(tmp_path: Path) -> None:
    block = next(text for text in re.findall(r"```\n(.*?)```", (_ROOT / "README.md").read_text(), re.DOTALL) if text.startswith("nic "))
    path = tmp_path / "readme.netc"
    path.write_text(block)
    program, warnings = pipeline.check(path, Sources())
    assert [rule.name for rule in program.chains[0].rules][:4] == ["banned", "ssh", "ssh-scan", "dns"]
    assert warnings == []


def test_the_two_commands_are_there() -> None:
    targets = set(re.findall(r"^([a-z]+):", (_ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"demo", "test"} <= targets
    assert "make test" in (_ROOT / ".ci/run").read_text()
