"""A filter on a NIC: each rule counts what it judged, what passed is answered, what was dropped is not, in every placement there is."""

from __future__ import annotations

import pytest

from hwtests.rack.installed import Installed
from hwtests.rack.port import Port
from hwtests.rack.requires import requires

RULES = """
filter wan in {
  drop tcp dport 23             as telnet
  pass tcp dport 8000-8099      as web
  pass icmp echo-request        as ping
  default drop
}
"""
NIC = {"native": "nic wan { device DEVICE; xdp native }", "none": "nic wan { device DEVICE; xdp none }",
       "offload": "nic wan { device DEVICE; xdp offload }"}  # fmt: skip


@pytest.mark.parametrize("mode", [pytest.param("native", marks=requires("xdp.native")), "none", pytest.param("offload", marks=requires("xdp.offload"))])
def test_rules_judge_count_and_answer(port: Port, installed: Installed, mode: str) -> None:
    """TCP to a closed port is answered with RST by the stack, so the far end sees exactly what passed."""
    installed.apply(NIC[mode] + RULES)
    before = installed.counters()
    far, near = port.far_address, port.address
    syn = [f"tcp {far}:{40000 + n} -> {near}:{8000 + n} syn" for n in range(100)]
    scan = [f"tcp {far}:{40000 + n} -> {near}:23 syn" for n in range(50)]
    pings = [f"icmp {far} -> {near} echo-request id 7 seq {n}" for n in range(20)]
    other = [f"udp {far}:{5000 + n} -> {near}:9" for n in range(30)]
    with port.wire.listening() as heard:
        port.wire.send(port.frames([*syn, *scan, *pings, *other]), rate=2000)
        heard.wait(120)
    after = installed.counters()
    counted = {name.removeprefix("wan.in."): after[name] - before[name] for name in before if name.startswith("wan.in.")}
    assert (counted["web"], counted["telnet"], counted["ping"], counted["default"]) == (100, 50, 20, 30), counted
    assert sorted(frame.dport for frame in heard.frames if frame.reset) == list(range(40000, 40100)), "every SYN that passed is answered, no other"
    assert sum(frame.icmp_type == 0 for frame in heard.frames) == 20, "every ping is answered"
    assert heard.lost == 0
    installed.verify()


def test_nothing_stays_after_remove(port: Port, installed: Installed) -> None:
    """What was dropped gets through again, and nothing of netc is on the device: the comparison after each test sees to the rest."""
    mode = "native" if port.profile["xdp"]["native"] else "none"
    installed.apply(NIC[mode] + "\nfilter wan in { drop icmp echo-request as ping; default pass }")
    ping = port.frames([f"icmp {port.far_address} -> {port.address} echo-request id 9 seq {n}" for n in range(5)])
    with port.wire.listening() as heard:
        port.wire.send(ping)
    assert not [frame for frame in heard.frames if frame.icmp_type == 0]
    installed.remove()
    with port.wire.listening() as heard:
        port.wire.send(ping)
        heard.wait(5)
    assert sum(frame.icmp_type == 0 for frame in heard.frames) == 5
    assert not port.link().get("xdp")
