"""hwtests on machines over ssh: the same tests, by labgrid's SSHDriver; what is unsafe is refused; a dead controller leaves nothing behind."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kernel.racks import ssh_rig
from tests.kernel.racks.ssh_rig import ROOT, SshRack

pytestmark = [
    pytest.mark.skipif(not ssh_rig.SSHD, reason="needs sshd (openssh-server), or NETC_SSHD with its path"),
    pytest.mark.skipif(importlib.util.find_spec("labgrid") is None, reason="needs labgrid: pip install 'netc[rack]'"),
]


@pytest.fixture
def racked(make_netns: Callable[[], str], tmp_path: Path) -> Iterator[SshRack]:
    with ssh_rig.rack(make_netns, tmp_path) as made:
        yield made


def test_the_same_tests_over_ssh(racked: SshRack, tmp_path: Path) -> None:
    done = racked.pytest("hwtests/test_filter.py", "--results", str(tmp_path / "out"), "--ktap", str(tmp_path / "ktap"))
    assert done.returncode == 0, done.stdout + done.stderr
    results = [json.loads(line) for line in (tmp_path / "out/results.jsonl").read_text().splitlines()]
    assert len(results) == 3 and {(one["rack"], one["nic"], one["result"]) for one in results} == {("ssh-lab", "p0", "pass")}
    assert "# Totals: pass:3 fail:0" in (tmp_path / "ktap").read_text()
    link = json.loads(racked.at_dut("ip", "-j", "-d", "link", "show", racked.device))[0]
    assert not link.get("xdp"), "given back"


def test_the_way_in_is_refused(racked: SshRack) -> None:
    """The device that the ssh connection comes in by, written into the file by mistake."""
    way_in = json.loads(racked.at_dut("ip", "-j", "link", "show", "mg0"))[0]["address"]
    nut = json.loads(racked.at_dut("ip", "-j", "link", "show", racked.device))[0]["address"]
    racked.file.write_text(racked.file.read_text().replace(nut, way_in))
    before = racked.at_dut("ip", "-d", "link"), racked.at_dut("ip", "addr")
    done = racked.pytest("hwtests/test_filter.py")
    assert done.returncode == 3 and "comes in by mg0" in done.stdout + done.stderr, done.stdout + done.stderr
    assert (racked.at_dut("ip", "-d", "link"), racked.at_dut("ip", "addr")) == before


def test_a_controller_that_dies_gives_the_nic_back(racked: SshRack) -> None:
    before = settings(racked)
    command = racked.command("hwtests/test_soak.py", "-m", "long")
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True) as controller:
        try:
            wait(lambda: "xdp" in racked.at_dut("ip", "link", "show", racked.device), "the policy never came")
        finally:
            os.killpg(controller.pid, signal.SIGKILL)
    wait(lambda: "xdp" not in racked.at_dut("ip", "link", "show", racked.device), "the program is still there")
    wait(lambda: settings(racked) == before, f"{settings(racked)}, not {before}")


def settings(racked: SshRack) -> tuple[str, ...]:
    """What of the device outlives a test that was cut short: addresses, permanent neighbours, qdiscs, offloads, nft tables."""
    device = racked.device
    return (racked.at_dut("ip", "-br", "addr", "show", "dev", device), racked.at_dut("ip", "neigh", "show", "dev", device, "nud", "permanent"),
            racked.at_dut("tc", "qdisc", "show", "dev", device), racked.at_dut("ethtool", "-k", device), racked.at_dut("nft", "list", "tables"))  # fmt: skip


def wait(holds: Callable[[], bool], otherwise: str) -> None:
    until = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < until, otherwise
        time.sleep(0.1)
