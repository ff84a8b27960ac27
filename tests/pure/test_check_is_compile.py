"""`netc check` says all that `compile` would: what it finds right is not refused when it is applied."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from compiler import cli
from runtime.replay import Judged, summary

FORWARD = """nic wan { device eth0 }
nic lan { device eth1 }
set nobody = { 192.0.2.254 }
set banned : address timeout 10m never nobody
filter lan -> wan { drop tcp dport 25 then add src to banned; default pass }
"""


def test_what_only_lowering_refuses_is_found_and_the_help_is_one_that_helps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.netc").write_text(FORWARD)
    assert cli.main(["check", str(tmp_path / "p.netc")]) == 1
    told = capsys.readouterr().err
    assert "error[N804]" in told
    assert "write the rule in `filter NIC in`" in told  # not `write xdp native`: it is native, and never sees what is forwarded
    assert "xdp native" not in told


def test_a_target_can_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.netc").write_text("nic wan { device eth0 }\nfilter wan in { default pass }\n")
    assert cli.main(["check", str(tmp_path / "p.netc"), "--target", "veth"]) == 0
    assert cli.main(["check", str(tmp_path / "p.netc"), "--target", "nowhere"]) == 1
    assert "N711" in capsys.readouterr().err


def test_a_replays_sums_are_json_when_asked_for() -> None:
    judged = [Judged(1, "pass", "wan.in.a", 60), Judged(2, "pass", "wan.in.a", 62), Judged(3, "drop", "wan.in.b", 60)]
    assert [json.loads(line) for line in summary(judged, as_json=True)] == [
        {"verdict": "pass", "rule": "wan.in.a", "packets": 2, "bytes": 122},
        {"verdict": "drop", "rule": "wan.in.b", "packets": 1, "bytes": 60},
    ]
