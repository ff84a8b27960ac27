"""The device vanishes while a policy is on it: every command says so in words, remove takes the rest away, a new device gets the policy."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import pytest

from compiler import bundle as bundles
from compiler import pipeline, profile
from compiler.source import Sources
from tests.kernel.apply.hosts import ROOT, Host

POLICY = """\
nic wan { device wan0; xdp native }
filter wan in {
  drop  udp dport 53                                    as dns
  pass  established
  default drop
}
shape wan out rate 100mbit { class bulk { default; queue pfifo } }
shape wan in rate 90mbit { class all { default; queue pfifo } }
tune wan { offload gro off }
host { sysctl net.ipv4.tcp_sack = 0 }
"""
GONE = "there is no device wan0 here"


@functools.cache
def compiled() -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "p.netc"
        path.write_text(POLICY)
        return bundles.encode(pipeline.compile_policy(path, profile.load(ROOT / "compiler/profiles/veth.yaml"), Sources()).bundle)


@pytest.fixture
def bereft(host: Host) -> Host:
    """A host whose only NIC has gone with the policy on it."""
    assert host.run("sysctl", "-n", "net.ipv4.tcp_sack").strip() == "1"
    host.netc("apply", host.write(compiled()))
    assert host.run("sysctl", "-n", "net.ipv4.tcp_sack").strip() == "0"
    host.run("ip", "link", "del", "wan0")
    return host


@pytest.mark.parametrize("command", ["status", "verify", "counters", "apply", "plan"])
def test_every_command_says_what_is_gone(bereft: Host, command: str) -> None:
    told = bereft.netc(command, *([bereft.directory / "p.bundle"] if command in ("apply", "plan") else []), status=1)
    assert GONE in told.stderr and "help:" in told.stderr and "bug in netc" not in told.stderr
    if command in ("status", "verify", "counters"):
        assert "netc remove" in told.stderr


def test_remove_leaves_nothing_and_a_new_device_gets_the_policy(bereft: Host) -> None:
    removed = bereft.json("remove")
    assert removed["changed"] and removed["installed"] is None and removed["left"] == []
    assert bereft.run("nft", "list", "tables") == ""
    assert "netc-ifb" not in bereft.run("ip", "link")
    assert bereft.run("sysctl", "-n", "net.ipv4.tcp_sack").strip() == "1"
    assert [path for path in (bereft.directory / "bpf").rglob("*") if path.is_file() and path.suffix != ".debug"] == []
    assert json.loads((bereft.directory / "state/settings.json").read_text() or "{}") == {}
    bereft.run("ip", "link", "add", "wan0", "numrxqueues", "4", "numtxqueues", "4", "type", "veth", "peer", "name", "wan0q")
    for device in ("wan0", "wan0q"):
        bereft.run("ip", "link", "set", device, "up")
    assert bereft.json("apply", bereft.directory / "p.bundle")["changed"]
    assert bereft.json("verify")["ok"]


def test_a_device_that_came_back_bare_gets_the_policy_by_an_apply(bereft: Host) -> None:
    bereft.run("ip", "link", "add", "wan0", "numrxqueues", "4", "numtxqueues", "4", "type", "veth", "peer", "name", "wan0q")
    for device in ("wan0", "wan0q"):
        bereft.run("ip", "link", "set", device, "up")
    found = [item for item in bereft.json("verify", status=1)["findings"] if item["result"] == "broken"]
    assert {item["where"] for item in found} >= {"xdp", "tc"}
    assert bereft.json("apply", bereft.directory / "p.bundle")["changed"]
    verified = bereft.json("verify")
    assert verified["ok"], verified
    assert bereft.run("ip", "link").count("netc-ifb") == 1
