"""Packets in the wrong queue, on real drivers: whatever spoilt the steering behind netc's back, `netc verify` notices it and an apply mends it.

tests/kernel/misinstalls has the kinds that veth can show; here are those that need queues, a hash and interrupts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import pytest

from hwtests.rack import ethtool, flows
from hwtests.rack.installed import Installed
from hwtests.rack.port import Port
from hwtests.rack.requires import requires

HASHED = ("xdp.native", "rss.indirection>=2", "queues>=2")


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to spoil it. act: does it by the kernel's own means, and tells whether the driver let it; words: what `netc verify` says of at least."""

    name: str
    words: str
    act: Callable[[Port, Random], bool]


def _ethtool(port: Port, *words: str) -> bool:
    return port.machine.run("ethtool", words[0], port.device, *words[1:], status=None).code == 0


def table(port: Port, rng: Random) -> bool:
    """Half of the entries, or all, are queue 0's: the policy has none there."""
    return _ethtool(port, "-X", *rng.choice((("equal", "1"), ("weight", "1", "1"), ("weight", "3", "1"))))


def fields(port: Port, rng: Random) -> bool:
    kind, words = rng.choice(("udp4", "udp6")), "sd"
    return "dst-port" in ethtool.hash_fields(port, kind) and _ethtool(port, "-N", "rx-flow-hash", kind, words)


def interrupt(port: Port, rng: Random) -> bool:
    """The last queue's interrupt on the CPU that another queue has."""
    irqs = port.profile["facts"]["interrupts"]["irqs"][: len(set(ethtool.table(port)) | {0})]
    path = f"/proc/irq/{irqs[-1]}/smp_affinity_list" if irqs else ""
    now = port.machine.run("cat", path, status=None).out.strip() if irqs else ""
    return now in ("0", "1") and port.machine.run("sh", "-c", f"echo {1 - int(now)} > {path}", status=None).code == 0


def channels(port: Port, rng: Random) -> bool:
    """One queue, where the policy asks for two."""
    return _ethtool(port, "-L", "combined", "1")


KINDS = (Kind("another table", "rss indirection", table), Kind("fewer hash fields", "hash udp", fields), Kind("an interrupt elsewhere", "irq", interrupt),
         Kind("fewer queues", "channels combined", channels))  # fmt: skip


def policy(port: Port) -> str:
    queues = "queues 2 on cpus 0-1; " if port.profile["channels"]["combined"] >= 2 else ""
    hashed = "hash" if port.profile["rss"]["fields"] else "prefer hash"  # what is preferred and held already before netc came, verify only warns of
    return f"nic wan {{ device DEVICE; xdp native }}\nsteer wan {{ {queues}{hashed} tcp, udp by addresses, ports; default to queue 1 }}\n"


@requires(*HASHED)
@pytest.mark.parametrize("seed", [0])
def test_a_wrong_queue_is_noticed(port: Port, installed: Installed, seed: int, figure: Callable[[str, float], None]) -> None:
    """Each kind that this driver lets happen: noticed by what reads back, named, and mended by the same policy again."""
    for flow in ("udp4", "udp6"):  # fields that held before netc came it takes for ours to spoil, and gives back spoilt
        if "dst-port" in ethtool.hash_fields(port, flow):
            port.machine.change("true", undo=["ethtool", "-N", port.device, "rx-flow-hash", flow, "sdfn"])
    installed.apply(policy(port))
    installed.verify()
    noticed = []
    for kind in KINDS:
        if not kind.act(port, Random(f"{kind.name} {seed}")):
            continue
        port.up()
        told = port.machine.netc("verify", status=None)
        assert told.code == 1 and any("broken" in line and kind.words in line for line in told.out.splitlines()), f"{kind.name}: {told.code}: {told.out}{told.err}"
        installed.again()
        installed.verify()
        noticed.append(kind.name)
    assert KINDS[0].name in noticed
    figure("noticed", len(noticed))


@requires(*HASHED, "rss.fields")
def test_the_watch_sees_what_the_sockets_see(port: Port, installed: Installed) -> None:
    """Settings that read right and packets elsewhere: `netc verify --steering` says so exactly where they are elsewhere.

    virtio's device hashes nothing without rxhash, and shows a table that is not in force.
    """
    installed.apply(policy(port))
    before = ethtool.features(port)["receive-hashing"]
    port.machine.change("ethtool", "-K", port.device, "rxhash", "off", undo=["ethtool", "-K", port.device, "rxhash", before])
    frames = flows.udp(port, 5000)
    right = flows.queues(port, frames) == flows.predicted(port, frames)
    found = flows.watched(port, frames, status=0 if right else 1)
    assert {finding["result"] for finding in found} == {"held" if right else "broken"}, found
