"""Hours of changes and traffic on a NIC: nothing is lost, nothing leaks, nothing slows down. `-m long`; NETC_SOAK_SECONDS says how long (3600)."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable

import pytest

from hwtests.rack.installed import Installed
from hwtests.rack.port import Port
from hwtests.rack.requires import requires

SECONDS = float(os.environ.get("NETC_SOAK_SECONDS", "3600"))
POLICIES = [f"filter wan in {{\n  drop udp dport {dport} as moving\n  drop udp dport 66 as evil\n  pass icmp as ping\n  default pass\n}}" for dport in (100, 200, 300)]


@pytest.mark.long
@requires("xdp.native")
def test_changes_and_traffic(port: Port, installed: Installed, series: Callable[[str, list[tuple[float, float]]], None]) -> None:
    """Policies are swapped and the link flaps under traffic; each round counts exactly what was sent. Memory that programs and maps hold stays."""
    random.seed(5)
    began, points = time.monotonic(), []
    evil = port.frames([f"udp {port.far_address}:{3000 + n} -> {port.address}:66" for n in range(100)])
    installed.apply("nic wan { device DEVICE; xdp native }\n" + POLICIES[0])
    first = held(port)
    while time.monotonic() < began + SECONDS:
        start = time.monotonic()
        installed.apply("nic wan { device DEVICE; xdp native }\n" + random.choice(POLICIES))
        points.append((start - began, time.monotonic() - start))
        if random.random() < 0.2:
            port.machine.run("ip", "link", "set", port.device, "down")
            port.machine.run("ip", "link", "set", port.device, "up")
            port.up()
        before = installed.counters()["wan.in.evil"]
        port.wire.send(evil, rate=5000)
        port.settle()
        assert installed.counters()["wan.in.evil"] - before == 100, f"after {time.monotonic() - began:.0f} s"
    installed.verify()
    assert held(port) <= first + 4, "BPF programs and maps of earlier policies are still there"
    series("apply_seconds", points)


def held(port: Port) -> int:
    """How many things are pinned in our BPF file system."""
    return int(port.machine.run("sh", "-c", f"find {port.machine.work}/bpf -type f -o -type l | wc -l").out)
