"""CPUs of queues stand in the order in which they are written: `queues 2 on cpus 1, 0` puts queue 0 on CPU 1."""

from __future__ import annotations

from pathlib import Path

import pytest

from compiler import frontend
from compiler.source import Sources

CASES = {
    "queues 4 on cpus 3, 0-1, 0": [("irq", (3, 0, 1, 0)), ("xps", (3, 0, 1, 0))],
    "xps on cpus 1, 0": [("xps", (1, 0))],
    "rps on cpus 1, 0": [("rps", (0, 1))],
}


@pytest.mark.parametrize("statement", CASES)
def test_as_written(statement: str, tmp_path: Path) -> None:
    """RPS spreads over a set of CPUs: there the order means nothing."""
    policy = tmp_path / "p.netc"
    policy.write_text(f"nic wan {{ device wan0 }}\nsteer wan {{ {statement} }}\n")
    loaded = frontend.load(policy, Sources())
    assert loaded.program
    settings = loaded.program.settings
    assert [(item.group, item.value) for item in settings if item.key == "cpus"] == CASES[statement]
