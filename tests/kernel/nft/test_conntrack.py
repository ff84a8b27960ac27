"""What is judged after connection tracking: what arrives behind the first stateful rule, and what must not slip past it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from compiler import bundle, frames, ir, place
from compiler.interp import Interpreter
from tests.differential import policies
from tests.kernel.nft import nft_rig as rig
from tests.kernel.nft import restrict
from tests.kernel.nft.test_ingress import split_of

ADDRESSES = {4: ("203.0.113.{}", "198.51.100.{}", "10.0.0.{}"), 6: ("2001:db8:0:1::{:x}", "2001:db8:1::{:x}", "fd00::{:x}")}


def stateful_program(seed: int) -> ir.Program:
    """A random program with a stateful tail and no length, which the late stage refuses."""
    program = policies.random_program(Random(seed), plain=True, tail=True)
    chain = program.chains[0]
    rules = tuple(replace(rule, when=restrict.without_length(rule.when)) for rule in chain.rules)
    return replace(program, nics=(ir.Nic("wan", "wan0", "none"),), chains=(replace(chain, rules=rules),))


def flows(rng: Random, count: int) -> list[bytes]:
    """Well-formed frames, each of a flow of its own, to addresses that are not the host's: nothing answers."""
    found = []
    for number in range(count):
        family = rng.choice((4, 6))
        src, dst = (rng.choice(ADDRESSES[family]).format(rng.randint(1, 250)) for _ in range(2))
        proto = rng.choice(("tcp", "tcp", "udp", "udp", "icmp", "sctp", "gre"))
        ports = (number + 1024, rng.choice(policies.PORTS[1:])) if proto in ("tcp", "udp", "sctp") else (None, None)
        attributes: list[tuple[str, int | str]] = [("ttl", rng.choice((2, 64, 255))), ("dscp", rng.choice((0, 46)))]
        if proto == "tcp":
            attributes.append(("flags", rng.choice((0x02, 0x10, 0x12, 0x04, 0x18))))
        if proto == "icmp":
            attributes += [("type", rng.choice((8, 8, 0, 3) if family == 4 else (128, 128, 129, 1))), ("id", number)]
        found.append(frames.build(ir.PacketSpec(proto, src, dst, *ports, tuple(attributes))))
    return found


def packets_of(found: dict[tuple[str, str], tuple[int, int]], stage: str) -> dict[str, int]:
    return {name.removeprefix("wan.in."): value[0] for (at, name), value in found.items() if at == stage}


@pytest.mark.parametrize("seed", range(2000, 2008))
def test_ingress_and_conntrack_together_are_the_interpreter(netns: str, tmp_path: Path, seed: int) -> None:
    program = stateful_program(seed)
    chain = program.chains[0]
    made = rig.bundle_of(rig.placed(program, place.ChainPlacement(chain, "ingress", split_of(chain), "conntrack")))
    sent = [frame for frame in flows(Random(seed), 150) if frame[23] != 132 and frame[20] != 132]
    oracle = Interpreter(program)
    for number, frame in enumerate(sent):
        oracle.judge(frame, "wan", "in", number + 1)
    with rig.wire(netns, tmp_path) as wire:
        Path("/proc/sys/net/netfilter/nf_conntrack_tcp_loose").write_text("0")
        rig.apply(wire.context, made, None, 1)
        wire.send(sent)
        wire.settled(made, ("ingress", "wan.in.seen"), len(sent))
        found = wire.settled(made, ("conntrack", "wan.in.seen"), len(sent))
        early = packets_of(found, "ingress")
        dropped = sum(early.get(r.name, 0) for r in chain.rules[: split_of(chain)] if r.verdict == "drop")
        found = wire.settled(made, ("conntrack", "wan.in.seen"), len(sent) - dropped)
    late = packets_of(found, "conntrack")
    assert late["seen"] == len(sent) - dropped == sum(v for k, v in late.items() if k != "seen")
    assert late["carried"] == len(sent) - dropped - early["handed-on"]
    together = {name: early.get(name, 0) + late.get(name, 0) for name in [r.name for r in chain.rules] + ["default"]}
    assert together == {name: oracle.counters[f"wan.in.{name}"][0] for name in together}


def late_only() -> tuple[ir.Program, bundle.Bundle]:
    """XDP before conntrack by the placement, but nothing attached: every packet comes without a mark."""
    rules = (ir.Rule("est", "pass", ir.Connection(("established",))), ir.Rule("dns", "pass", ir.Within(ir.Field.DPORT, ((53, 53),))))
    chain = ir.Chain("wan.in", "wan", "in", None, rules, "drop")
    program = ir.Program(nics=(ir.Nic("wan", "wan0"),), chains=(chain,))
    return program, rig.bundle_of(rig.placed(program, place.ChainPlacement(chain, "xdp", 0, "conntrack")))


def test_without_xdp_everything_is_judged(netns: str, tmp_path: Path) -> None:
    _, made = late_only()
    sent = [frames.build(ir.PacketSpec("udp", "203.0.113.9", "198.51.100.7", 1000, port)) for port in (53, 80, 81)]
    with rig.wire(netns, tmp_path) as wire:
        rig.apply(wire.context, made, None, 1)
        wire.send(sent)
        found = packets_of(wire.settled(made, ("conntrack", "wan.in.seen"), 3), "conntrack")
    assert {k: v for k, v in found.items() if v} == {"seen": 3, "dns": 1, "default": 2}


def test_without_xdp_a_device_above_is_judged_too(netns: str, tmp_path: Path) -> None:
    """Its packets come in by another name (a macvlan here, a VLAN just so); the mark set at the door holds them."""
    from pyroute2 import IPRoute

    _, made = late_only()
    mac = "02:00:00:00:00:77"
    sent = frames.build(ir.PacketSpec("udp", "203.0.113.9", "198.51.100.7", 1000, 80), dst_mac=mac)
    with rig.wire(netns, tmp_path) as wire:
        with IPRoute() as route:
            parent = wire.context.device("wan").ifindex
            route.link("add", ifname="ntabove", kind="macvlan", link=parent, macvlan_mode="bridge", address=mac)
            route.link("set", index=route.link_lookup(ifname="ntabove")[0], state="up")
        rig.apply(wire.context, made, None, 1)
        wire.send([sent])
        found = packets_of(wire.settled(made, ("conntrack", "wan.in.seen"), 1), "conntrack")
    assert found["default"] == 1


def test_a_passed_mark_is_carried_only_for_its_own_nic(netns: str, tmp_path: Path) -> None:
    """A mark written by another table before the door: this nic's is believed, another nic's is not."""
    from runtime.backends import nft

    _, made = late_only()
    marks = {1: bundle.MARK_PASSED, 2: bundle.MARK_PASSED | 1 << 24}
    sent = [frames.build(ir.PacketSpec("udp", "203.0.113.9", "198.51.100.7", 7, port)) for port in marks]
    place_ = {"family": "netdev", "table": "ntmarks"}
    base = {"type": "filter", "hook": "ingress", "dev": rig.NEAR, "prio": -5, "policy": "accept"}
    commands = [{"add": {"table": {"family": "netdev", "name": "ntmarks"}}}, {"add": {"chain": {**place_, "name": "c", **base}}}]
    for port, mark in marks.items():
        matched = {"match": {"op": "==", "left": {"payload": {"protocol": "udp", "field": "dport"}}, "right": port}}
        written = {"mangle": {"key": {"meta": {"key": "mark"}}, "value": mark | 7}}
        commands.append({"add": {"rule": {**place_, "chain": "c", "expr": [matched, written]}}})
    with rig.wire(netns, tmp_path) as wire:
        nft.run(commands)
        rig.apply(wire.context, made, None, 1)
        wire.send(sent)
        found = packets_of(wire.settled(made, ("conntrack", "wan.in.seen"), 2), "conntrack")
    assert {k: v for k, v in found.items() if v} == {"seen": 2, "carried": 1, "default": 1}


def test_bytes_have_the_ethernet_header_again(netns: str, tmp_path: Path) -> None:
    _, made = late_only()
    sent = [frames.build(ir.PacketSpec("udp", "203.0.113.9", "198.51.100.7", 1, 53, (("payload", size),))) for size in (50, 1000)]
    with rig.wire(netns, tmp_path) as wire:
        rig.apply(wire.context, made, None, 1)
        wire.send(sent)
        found = wire.settled(made, ("conntrack", "wan.in.seen"), 2)
    assert found["conntrack", "wan.in.dns"] == (2, sum(map(len, sent)))
