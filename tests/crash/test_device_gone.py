"""kill -9 in the middle of a change, and the device goes, too: every command says what to do, `netc remove` does it, nothing is left."""

from __future__ import annotations

from pathlib import Path

import pytest

from compiler import ir
from tests.crash.test_apply_killed import killed
from tests.kernel.apply.hosts import DNS, ESTABLISHED, SSH, Host, made, program

GRO_OFF = (ir.Setting("wan", "feature", "gro", "off", text="offload gro off"), ir.Setting("", "sysctl", "net.ipv4.tcp_sack", "0", text="sysctl"))


def bundles(host: Host) -> tuple[Path, Path]:
    first = host.write(made(program(DNS, SSH, ESTABLISHED, shape=True, settings=GRO_OFF), "first.netc"), "first.bundle")
    return first, host.write(made(program(DNS, ESTABLISHED, shape=True), "second.netc"), "second.bundle")


@pytest.mark.parametrize(
    ("installed", "at", "when", "command"),
    [
        (False, 5, "after", "apply"), (True, 3, "after", "apply"), (True, 7, "after", "apply"), (True, 8, "after", "apply"),
        (True, -1, "clean", "apply"), (True, 1, "after", "remove"), (True, -1, "clean", "remove"),
    ],
)  # fmt: skip
def test_a_change_that_was_cut_short_and_its_device_is_gone(host: Host, installed: bool, at: int, when: str, command: str) -> None:
    first, second = bundles(host)
    if installed:
        host.netc("apply", first)
    assert killed(host, at, when, *(["remove"] if command == "remove" else ["apply", second if installed else first])), "fewer steps than this test thinks"
    host.run("ip", "link", "del", "wan0")
    for bundle in (first, second):
        told = host.netc("apply", bundle, status=1).stderr
        assert "wan0" in told and "netc remove" in told and "help:" in told, told
    removed = host.json("remove")
    assert any("cut short" in text for text in removed["recovered"]) and removed["left"] == [] and removed["installed"] is None
    assert host.run("nft", "list", "tables") == "" and "netc-ifb" not in host.run("ip", "link")
    assert host.run("sysctl", "-n", "net.ipv4.tcp_sack").strip() == "1"
    assert [path for path in (host.directory / "bpf").rglob("*") if path.is_file() and path.suffix != ".debug"] == []
    assert not (host.directory / "state/journal.jsonl").exists()
    assert not host.json("remove")["changed"]
    host.run("ip", "link", "add", "wan0", "numrxqueues", "4", "numtxqueues", "4", "type", "veth", "peer", "name", "wan0q")
    for device in ("wan0", "wan0q"):
        host.run("ip", "link", "set", device, "up")
    host.netc("apply", first)
    assert host.json("verify")["ok"]


def test_a_device_that_came_back_lets_the_recovery_end(host: Host) -> None:
    first, second = bundles(host)
    host.netc("apply", first)
    assert killed(host, 5, "after", "apply", second)
    host.run("ip", "link", "del", "wan0")
    host.netc("apply", second, status=1)
    host.run("ip", "link", "add", "wan0", "numrxqueues", "4", "numtxqueues", "4", "type", "veth", "peer", "name", "wan0q")
    for device in ("wan0", "wan0q"):
        host.run("ip", "link", "set", device, "up")
    host.netc("apply", second)
    assert host.json("verify")["ok"]
