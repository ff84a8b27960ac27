"""What leaves and what is forwarded: judged once, nothing slips past."""

from __future__ import annotations

import socket
from pathlib import Path

from compiler import bundle, frames, ir, place
from tests.kernel.nft import nft_rig as rig

F = ir.Field
DNS = ir.And((ir.Is("udp"), ir.Within(F.DPORT, ((53, 53),))))
PEER = "192.0.2.9"


def out_bundle(rules: tuple[ir.Rule, ...], default: str, late: str) -> bundle.Bundle:
    chain = ir.Chain("wan.out", "wan", "out", None, rules, default)
    program = ir.Program(nics=(ir.Nic("wan", "wan0"),), chains=(chain,))
    return rig.bundle_of(rig.placed(program, place.ChainPlacement(chain, "", 0, late)))


def know_the_peer(wire: rig.Wire) -> None:
    """A static neighbour: no ARP of the kernel's own disturbs the counts."""
    from pyroute2 import IPRoute

    with IPRoute() as route:
        route.neigh("replace", dst=PEER, lladdr=rig.FAR_MAC, ifindex=wire.context.device("wan").ifindex, state="permanent")


def say(*ports: int) -> int:
    """UDP datagrams of the host to the peer; how many the kernel refused (an out chain's drop is EPERM to the sender)."""
    refused = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for port in ports:
            try:
                sender.sendto(b"hello", (PEER, port))
            except PermissionError:
                refused += 1
    return refused


def raw(frame: bytes) -> None:
    """A frame from a packet socket: it never passes postrouting."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sender:
        sender.bind((rig.NEAR, 0))
        try:
            sender.send(frame)
        except OSError:
            return  # dropped at egress: ENOBUFS or EPERM, by kernel version; the counters tell


def counts(wire: rig.Wire, made: bundle.Bundle, stage: str, seen: int) -> dict[str, int]:
    found = wire.settled(made, (stage, "wan.out.seen"), seen)
    return {name.removeprefix("wan.out."): v[0] for (at, name), v in found.items() if at == stage and v[0]}


def test_a_stateless_chain_judges_all_that_leaves(netns: str, tmp_path: Path) -> None:
    made = out_bundle((ir.Rule("dns", "pass", DNS),), "drop", "egress")
    with rig.wire(netns, tmp_path, ip6=False) as wire:
        know_the_peer(wire)
        rig.apply(wire.context, made, None, 1)
        say(53, 80, 81)
        raw(frames.build(ir.PacketSpec("arp", "192.0.2.1", PEER)))
        raw(frames.build(ir.PacketSpec("udp", "192.0.2.1", PEER, 1, 53)))
        raw(bytes(12) + b"\x88\xb5" + bytes(50))
        assert counts(wire, made, "egress", 6) == {"seen": 6, "dns": 2, "default": 3, "control": 1}
        octets = wire.counters(made)["egress", "wan.out.dns"][1]
    assert octets == (14 + 20 + 8 + 5) + 60


def test_a_stateful_chain_lets_nothing_past_postrouting(netns: str, tmp_path: Path) -> None:
    """The host's packets are judged with their connection and carried over egress; packet sockets' have none."""
    rules = (ir.Rule("est", "pass", ir.Connection(("established",))), ir.Rule("dns", "pass", DNS))
    made = out_bundle(rules, "drop", "conntrack")
    with rig.wire(netns, tmp_path, ip6=False) as wire:
        know_the_peer(wire)
        rig.apply(wire.context, made, None, 1)
        assert say(53, 80) == 1
        raw(frames.build(ir.PacketSpec("udp", "192.0.2.1", PEER, 7, 53)))
        raw(frames.build(ir.PacketSpec("udp", "192.0.2.1", PEER, 7, 80)))
        raw(frames.build(ir.PacketSpec("arp", "192.0.2.1", PEER)))
        assert counts(wire, made, "conntrack", 2) == {"seen": 2, "dns": 1, "default": 1}
        assert counts(wire, made, "egress", 4) == {"seen": 4, "carried": 1, "dns": 1, "default": 1, "control": 1}


def test_an_answer_is_established(netns: str, tmp_path: Path) -> None:
    made = out_bundle((ir.Rule("est", "pass", ir.Connection(("established",))),), "drop", "conntrack")
    with rig.wire(netns, tmp_path, ip6=False) as wire, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        know_the_peer(wire)
        server.bind(("192.0.2.1", 53))
        server.settimeout(2)
        rig.apply(wire.context, made, None, 1)
        wire.send([frames.build(ir.PacketSpec("udp", PEER, "192.0.2.1", 1053, 53, (("payload", 3),)))])
        server.recvfrom(100)
        server.sendto(b"answer", (PEER, 1053))
        assert counts(wire, made, "conntrack", 1) == {"seen": 1, "est": 1}


def test_set_dscp_on_what_leaves(netns: str, tmp_path: Path) -> None:
    rule = ir.Rule("dns", "pass", DNS, None, (ir.SetDscp(46),))
    made = out_bundle((rule,), "drop", "egress")
    with rig.wire(netns, tmp_path, ip6=False) as wire, socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800)) as heard:
        heard.bind((rig.FAR, 0x0800))
        heard.settimeout(2)
        know_the_peer(wire)
        rig.apply(wire.context, made, None, 1)
        say(53)
        frame = heard.recv(200)
    words = [int.from_bytes(frame[at : at + 2], "big") for at in range(14, 34, 2)]
    assert frame[15] == 46 << 2
    assert sum(words) % 0xFFFF == 0, "the IPv4 header checksum is wrong"


def test_only_what_is_forwarded_between_the_two_is_judged(netns: str, tmp_path: Path) -> None:
    from pyroute2 import IPRoute

    chain = ir.Chain("wan->lan", "wan", "forward", "lan", (ir.Rule("dns", "pass", DNS),), "drop")
    program = ir.Program(nics=(ir.Nic("wan", "wan0"), ir.Nic("lan", "lan0")), chains=(chain,))
    made = rig.bundle_of(rig.placed(program, forwards=(place.ChainPlacement(chain, "", 0, "conntrack"),)))
    with rig.wire(netns, tmp_path, ip6=False) as wire:
        with IPRoute() as route:
            lan = wire.context.device("lan").ifindex
            route.addr("add", index=lan, address="198.51.100.1", prefixlen=24)
            route.neigh("replace", dst="198.51.100.7", lladdr=rig.NEAR_MAC, ifindex=lan, state="permanent")
        for key in ("all", rig.NEAR):
            Path(f"/proc/sys/net/ipv4/conf/{key}/rp_filter").write_text("0")
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        rig.apply(wire.context, made, None, 1)
        forwarded = [frames.build(ir.PacketSpec("udp", PEER, "198.51.100.7", 1, port, (("ttl", 2),))) for port in (53, 80)]  # lan's peer is wan: 2 hops, not 64
        local = frames.build(ir.PacketSpec("udp", PEER, "192.0.2.1", 1, 80))
        wire.send([*forwarded, local])
        found = wire.settled(made, ("conntrack", "wan->lan.seen"), 2)
    assert {name: v[0] for (_, name), v in found.items() if v[0]} == {"wan->lan.seen": 2, "wan->lan.dns": 1, "wan->lan.default": 1}
