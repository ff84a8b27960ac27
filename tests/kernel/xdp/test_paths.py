"""Packets that really travel: the mark behind XDP, another CPU, another nic."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from compiler import bundle, frames, ir, place
from runtime.backends.sysfs import write_proc
from runtime.context import Context, Device
from runtime.lab import netns
from tests.kernel.xdp import rig, small
from tests.kernel.xdp.wire import NEAR, Wire, ip, wired

STATEFUL = (ir.Rule("dns", "pass", small.port(53)), ir.Rule("est", "pass", ir.Connection(("established",))))
MARKS = {"pending": bundle.MARK_PENDING, "passed": bundle.MARK_PASSED}
_RULESET = """
table netdev t {{ chain c {{ type filter hook ingress device {device} priority 0;
  meta mark & 0xff000000 == {pending:#x} counter name pending
  meta mark & 0xff000000 == {passed:#x} counter name passed
  meta mark & 0xff000000 == 0 counter name unmarked
}}
  counter pending {{ }}
  counter passed {{ }}
  counter unmarked {{ }}
}}
"""


def watch_marks(namespace: str) -> Callable[[], dict[str, int]]:
    """Count skb->mark behind tcx, by nft in the device's netdev ingress hook."""
    text = _RULESET.format(device=NEAR, **MARKS)
    subprocess.run(["ip", "netns", "exec", namespace, "nft", "-f", "-"], input=text, text=True, check=True)

    def read() -> dict[str, int]:
        said = subprocess.run(["ip", "netns", "exec", namespace, "nft", "list", "counters"], capture_output=True, text=True, check=True).stdout
        words = said.replace("{", "").split()
        return {words[i + 1]: int(words[i + 3]) for i, word in enumerate(words) if word == "counter"}

    return read


def settled(read: Callable[[], dict[str, int]], total: int) -> dict[str, int]:
    """Read until `total` packets were counted: another CPU may still be at it."""
    counted = read()
    for _ in range(100):
        if sum(counted.values()) >= total:
            break
        counted = read()
    return counted


def test_tcx_copies_the_mark(wire: Wire) -> None:
    """What is pending for another host's address stops there: a macvlan or a bridge would carry it past the rules."""
    made = rig.bundle_of(rig.placed_of(small.program(*STATEFUL)))
    wire.apply(made)
    read = watch_marks(wire.near)
    wire.send(small.udp(), 40)
    wire.send(small.udp(dport=54), 30)
    wire.send(frames.build(ir.PacketSpec("arp", "192.0.2.2", "192.0.2.1")), 20)
    wire.send(b"\2" * 12 + b"\x12\x34" + bytes(50), 10)
    wire.send(small.udp(dport=54, **{"dst-mac": "02:00:00:00:00:99"}), 5)
    assert settled(read, 90) == {"passed": 60, "pending": 30, "unmarked": 0}
    assert wire.counters(made)["wan.in.elsewhere"][0] == 5


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
def test_the_mark_survives_the_way_over_another_cpu(wire: Wire) -> None:
    program = small.program(*STATEFUL)
    rules = tuple(ir.SteerRule(f"s{n}", small.port(n), ir.Target("cpus", cpus)) for n, cpus in ((53, (1,)), (54, (0, 1))))
    steer = ir.Steer("wan.steer", "wan", rules)
    placed = rig.placed_of(
        ir.Program(program.nics, (), program.chains, (steer,)),
        tuple(place.SteerPlacement(rule, "cpumap", rule.target.numbers) for rule in rules),
    )
    made = rig.bundle_of(placed)
    wire.apply(made)
    read = watch_marks(wire.near)
    wire.send(small.udp(), 50)
    for sport in range(40):
        wire.send(small.udp(dport=54, sport=1000 + sport))
    wire.send(small.udp(dport=55), 10)
    assert settled(read, 100) == {"passed": 50, "pending": 50, "unmarked": 0}
    counted = wire.counters(made)
    assert (counted["wan.steer.s53"][0], counted["wan.steer.s54"][0]) == (50, 40)


def routed(name: str) -> tuple[ir.Program, place.Placed]:
    """What goes to 198.51.100.0/24 leaves by nic lan in XDP."""
    rule = ir.SteerRule("vips", ir.Within(small.F.DST, (small.network("198.51.100.0/24"), small.network("2001:db8:2::/64"))[::-1]),
                        ir.Target("nic", (), name))  # fmt: skip
    program = ir.Program(nics=(ir.Nic("wan", "w0"), ir.Nic("lan", "l0")), steers=(ir.Steer("wan.steer", "wan", (rule,)),))
    return program, rig.placed_of(program, (place.SteerPlacement(rule, "devmap"),))


def test_a_routed_packet_leaves_by_the_other_nic(make_netns: Callable[[], str], tmp_path: Path) -> None:
    near, far, lan = make_netns(), make_netns(), make_netns()
    with wired(near, far, tmp_path) as link:
        ip(near, "link", "add", "l0", "type", "veth", "peer", "name", "p0", "netns", lan)
        for namespace, device in ((near, "l0"), (lan, "p0")):
            ip(namespace, "link", "set", device, "addrgenmode", "none", "up")
        subprocess.run(["ip", "netns", "exec", lan, "ethtool", "-K", "p0", "gro", "on"], check=True, capture_output=True)
        ip(near, "addr", "add", "198.51.100.1/24", "dev", "l0")
        ip(near, "addr", "add", "2001:db8:2::1/64", "dev", "l0", "nodad")
        for host in ("198.51.100.9", "2001:db8:2::9"):
            ip(near, "neigh", "add", host, "lladdr", "02:00:00:00:00:99", "dev", "l0", "nud", "permanent")
        with netns.enter(near):
            write_proc("sys/net/ipv4/ip_forward", "1")
            write_proc("sys/net/ipv6/conf/all/forwarding", "1")
        index = int(ip(near, "-o", "link", "show", "l0").split(":")[0])
        context = Context(link.context.state, link.context.bpffs, (*link.context.devices, Device("lan", "l0", index)))
        with netns.enter(lan):
            heard = _listener("p0")
        try:
            both = Wire(near, far, context)
            made = rig.bundle_of(routed("lan")[1])
            both.apply(made)
            both.send(small.udp("192.0.2.2", "198.51.100.9", ttl=9))
            first = _first_of(heard, 0x0800)  # not by the stack: the frame is for no MAC of w0
            assert first[:6].hex() == "020000000099"
            assert first[22] == 8  # one hop less
            assert _sum_is_right(first[14:34])
            both.send(small.udp("2001:db8::2", "2001:db8:2::9", ttl=9))
            assert _first_of(heard, 0x86DD)[21] == 8
            assert both.counters(made)["wan.steer.vips"][0] == 2
        finally:
            heard.close()


def test_what_only_the_stack_can_forward_goes_to_the_stack() -> None:
    """Without a route, a neighbour, a device: XDP_PASS, never a drop. TTL over, options, tags and malformed too."""
    _, placed = routed("lan")
    cases = [{}, {"ttl": 1}, {"vlan": 10}, {"malformed": 1}]
    made = rig.bundle_of(placed)
    with rig.pinned():
        kernel = rig.Rig(made)
        try:
            for attributes in cases:
                seen = kernel.judge(small.udp("192.0.2.2", "198.51.100.9", **attributes), small.SECOND)
                assert (seen.action, seen.steer) == (rig.XDP_PASS, "wan.steer.vips")
        finally:
            kernel.close()


def _listener(device: str):  # type: ignore[no-untyped-def]
    import socket

    heard = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    heard.bind((device, 0))
    heard.settimeout(5)
    return heard


def _first_of(heard, ethertype: int) -> bytes:  # type: ignore[no-untyped-def]
    """The first UDP frame of this type; the wire may carry the stack's own frames."""
    while True:
        frame: bytes = heard.recv(2048)
        if frame[12:14] == ethertype.to_bytes(2, "big") and (frame[23] == 17 or frame[20] == 17):
            return frame


def _sum_is_right(header: bytes) -> bool:
    total = sum(int.from_bytes(header[at : at + 2], "big") for at in range(0, len(header), 2))
    return (total & 0xFFFF) + (total >> 16) == 0xFFFF
