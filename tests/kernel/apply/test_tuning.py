"""A policy's tuning from end to end: planned, applied, told by status, drift found and put right, and given back by remove, rollback and a failed apply."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from compiler import bundle as bundles
from compiler import pipeline, profile
from compiler.source import Sources
from runtime.backends import ethtool, sysfs
from runtime.backends.sysfs import Sysfs
from runtime.lab import netns
from tests.kernel.apply.hosts import ROOT, Host

POLICY = """\
nic wan { device wan0; xdp none }
tune wan {
  offload gro on, sg off, tso off
  napi gro-flush-timeout 20us, defer-hard-irqs 2, threaded on
  txqueuelen 2000
  prefer ring rx max
}
host {
  sysctl net.ipv4.tcp_rmem = 4096 131072 7000000
  prefer sysctl buffers for 100gbit 80ms
  prefer conntrack max 1M
}
"""
FILES = ("tx_queue_len", "gro_flush_timeout", "napi_defer_hard_irqs", "threaded")
HOSTS = ("sys/net/core/rmem_max", "sys/net/core/wmem_max", "sys/net/netfilter/nf_conntrack_max")


def compiled(text: str, folder: Path) -> bytes:
    path = folder / "p.netc"
    path.write_text(text)
    return bundles.encode(pipeline.compile_policy(path, profile.load(ROOT / "compiler/profiles/veth.yaml"), Sources()).bundle)


def state(host: Host) -> dict[str, object]:
    """All that tuning could change, on the device and in its namespace, and the host's own."""
    found: dict[str, object] = {path: sysfs.read_proc(path) for path in HOSTS if os.path.exists(f"/proc/{path}")}
    with netns.enter(host.netns), Sysfs() as tree:
        found |= {name: tree.read(f"class/net/wan0/{name}") for name in FILES}
        found |= {name: (each.active, each.wanted) for name, each in ethtool.features("wan0").items()}
        found |= {name: sysfs.read_proc(f"sys/net/ipv4/{name}") for name in ("tcp_rmem", "tcp_wmem")}
    return found


def test_planned_applied_told_and_given_back(host: Host, tmp_path: Path) -> None:
    before = state(host)
    bundle = host.write(compiled(POLICY.replace("  sysctl net.ipv4.tcp_rmem = 4096 131072 7000000\n", ""), tmp_path))
    planned = host.netc("plan", bundle, "--long", status=2).stdout
    assert "twice bandwidth × delay = 2,000,000,000 bytes" in planned and "wan0 link txqueuelen" in planned
    assert state(host) == before
    done = host.json("apply", bundle)
    skipped = {item["text"]: item["words"] for item in done["skipped"]}
    assert "Operation not supported" in skipped["prefer ring rx max"] and "Permission denied" in skipped["prefer sysctl buffers for 100gbit 80ms"]
    now = state(host)
    assert [now[name] for name in FILES] == ["2000", "20000", "2", "1"]
    assert now["rx-gro"] == (True, True) and not now["tx-tcp-segmentation"][0]  # type: ignore[index]
    assert str(now["tcp_wmem"]).split()[2] == "2000000000", "the part of the buffers that is this namespace's"
    assert {path: now[path] for path in HOSTS if path in now} == {path: before[path] for path in HOSTS if path in before}
    assert not [item for item in host.json("status", status=0)["drift"] if "skipped" not in item["what"] and "prefer" not in item["what"]]
    assert host.json("apply", bundle)["changed"] is False
    host.run("ip", "link", "set", "wan0", "txqueuelen", "10")
    (drift,) = [item for item in host.json("status", status=1)["drift"] if "txqueuelen" in item["what"]]
    assert drift["detail"] == "is 10, not 2000"
    host.netc("apply", bundle)
    assert state(host) == now
    host.netc("remove")
    assert state(host) == before


def test_rollback_and_the_next_policy_give_back_their_part(host: Host, tmp_path: Path) -> None:
    before = state(host)
    first = host.write(compiled("nic wan { device wan0; xdp none }\ntune wan { txqueuelen 500 }\n", tmp_path), "first.bundle")
    host.netc("apply", first)
    small = state(host)
    host.netc("apply", host.write(compiled(POLICY.replace("  prefer sysctl buffers for 100gbit 80ms\n", ""), tmp_path), "second.bundle"))
    assert state(host)["tcp_rmem"] == "4096\t131072\t7000000" and state(host)["tx_queue_len"] == "2000"
    host.netc("rollback")
    assert state(host) == small != before
    host.netc("remove")
    assert state(host) == before


@pytest.mark.parametrize("wrong", ["tune wan { ring rx max }", "host { sysctl net.core.rmem_max = 5000 }", "tune wan { offload lro on }"])
def test_a_failed_apply_leaves_nothing(host: Host, tmp_path: Path, wrong: str) -> None:
    before = state(host)
    text = POLICY.replace("  prefer sysctl buffers for 100gbit 80ms\n", "") + wrong + "\n"
    text = text.replace("  prefer ring rx max\n", "") if "ring" in wrong else text
    refused = host.netc("apply", host.write(compiled(text, tmp_path)), status=1)
    assert "error" in refused.stderr and "p.netc:" in refused.stderr
    assert state(host) == before
