"""The demonstration proves what it shows: a counter that is not what was sent makes it fail, and the lab is gone either way."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime import cli
from runtime.lab import build
from tests.kernel.lab.policies import STATEFUL, write

_LINES = """\
wan 1    tcp 203.0.113.9:40000 -> 192.0.2.1:22 syn        => wan.in.ssh-scan
wan 1500 udp 203.0.113.9:5353 -> 192.0.2.1:53             => wan.in.banned
wan 2000 udp 203.0.113.10:5353 -> 192.0.2.1:53            => wan.in.dns + wan.in.dns-over
wan 3    tcp 203.0.113.10:4 -> 192.0.2.1:80 vlan 10       => wan.in.web
out 2    udp 192.0.2.1:40000 -> 203.0.113.98:123          => wan.in.established
"""


def _demo(directory: Path, capsys: pytest.CaptureFixture[str], name: str, lines: str) -> tuple[int, str]:
    policy = write(directory, STATEFUL)
    write(directory, lines, "p.packets")
    status = cli.main(["lab", "demo", str(policy), "--lab", name])
    assert name not in build.labs()
    return status, capsys.readouterr().out


def test_what_is_sent_is_what_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str], unique: str) -> None:
    answered = _LINES.replace("out 2    udp 192.0.2.1:40000 -> 203.0.113.98:123          => wan.in.established\n", "")
    status, out = _demo(tmp_path, capsys, unique, answered)
    assert status == 0, out
    assert out.count("  ok\n") == 4
    assert "wan.in.banned +1,500  ok" in out
    assert "3,504 seen" in out


def test_a_wrong_count_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str], unique: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody answers from 203.0.113.98, so its line cannot hold."""
    from runtime.lab import account

    monkeypatch.setattr(account, "SETTLE_SECONDS", 0.2)
    status, out = _demo(tmp_path, capsys, unique, _LINES)
    assert status == 1
    assert "wan.in.established +0  NOT OK" in out


def test_a_policy_that_is_refused_leaves_no_lab(tmp_path: Path, capsys: pytest.CaptureFixture[str], unique: str) -> None:
    policy = write(tmp_path, "filter wan in {")
    write(tmp_path, _LINES, "p.packets")
    assert cli.main(["lab", "demo", str(policy), "--lab", unique]) == 1
    assert unique not in build.labs()
