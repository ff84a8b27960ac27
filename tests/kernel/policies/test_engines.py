"""Every policy's tests hold, and a capture at its boundaries is judged alike by the interpreter and by the program that is attached."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from compiler import pipeline
from compiler.source import Sources
from compiler.tables import capture
from runtime import cli
from tests.differential.packets import boundary_packets, times
from tests.kernel.policies.bench import ROOT

POLICIES = sorted((ROOT / "policies").glob("*.netc"))
PACKETS = 800


@pytest.mark.parametrize("policy", POLICIES, ids=lambda path: path.stem)
def test_its_own_tests_hold(policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["test", str(policy)]) == 0
    out = capsys.readouterr().out
    assert "tests hold" in out and "FAILED" not in out


@pytest.mark.parametrize("policy", POLICIES, ids=lambda path: path.stem)
def test_both_engines_write_the_same_bytes(policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = pipeline.check(policy, Sources())[0]
    rng = Random(f"replay {policy.stem}")
    file = tmp_path / "c.pcap"
    capture.write(file, list(zip(times(program, rng, PACKETS), boundary_packets(program, rng, PACKETS), strict=True)))
    for form in ([], ["--json"], ["--summary"]):
        said = [_replay(capsys, policy, file, engine, form) for engine in ("interp", "xdp")]
        assert said[0] == said[1]
        if not form:
            assert len(said[0].splitlines()) >= PACKETS and len({line.split()[-1] for line in said[0].splitlines()}) > 3


def _replay(capsys: pytest.CaptureFixture[str], policy: Path, file: Path, engine: str, form: list[str]) -> str:
    assert cli.main(["replay", str(policy), str(file), "--nic", "wan", "--engine", engine, *form]) == 0, capsys.readouterr().err
    return capsys.readouterr().out
