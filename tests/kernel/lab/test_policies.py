"""Every policy that netc comes with: its tests hold on both engines, and in the lab each rule counts exactly what its packets file sends."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime import cli
from runtime.lab import packets

_POLICIES = sorted((Path(__file__).parents[3] / "policies").glob("*.netc"))


def test_there_are_policies_to_start_from() -> None:
    assert [path.stem for path in _POLICIES] == ["dns", "edge", "forward", "router", "web"]


@pytest.mark.parametrize("policy", _POLICIES, ids=lambda path: path.stem)
def test_its_tests_hold(policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["test", str(policy)]) == 0, capsys.readouterr()
    assert "interpreter" in capsys.readouterr().out


@pytest.mark.parametrize("policy", _POLICIES, ids=lambda path: path.stem)
def test_its_traffic_is_counted_exactly(policy: Path, capsys: pytest.CaptureFixture[str], unique: str) -> None:
    status = cli.main(["lab", "demo", str(policy), "--lab", unique])
    out = capsys.readouterr().out
    assert status == 0, out
    lines = packets.read(policy.with_suffix(".packets"))
    assert out.count("  ok\n") == len(lines)
    for line in lines:
        assert sum(_increases(out, line)) == line.count


def _increases(out: str, line: packets.Line) -> list[int]:
    """What the demonstration showed for a line's counters, read from its own output."""
    shown = next(text for text in out.splitlines() if f" {line.packet} " in text and text.split()[0] == f"{line.count:,}")
    return [int(part.split()[1].replace(",", "")) for part in shown.removesuffix("  ok").partition(line.packet)[2].split(", ")]
