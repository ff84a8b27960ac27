"""netdev ingress against the reference interpreter: the same packets, every counter equal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from compiler import bundle, frames, ir, place
from compiler.interp import Interpreter, names_connection
from compiler.targets import nft_layout
from tests.differential import packets
from tests.kernel.nft import nft_rig as rig
from tests.kernel.nft import restrict

F = ir.Field
CASES = 8
PACKETS = 200


def split_of(chain: ir.Chain) -> int:
    return next((i for i, rule in enumerate(chain.rules) if names_connection(rule.when)), len(chain.rules))


def ingress(program: ir.Program) -> tuple[bundle.Bundle, int]:
    chain = program.chains[0]
    split = split_of(chain)
    late = "conntrack" if split < len(chain.rules) else ""
    return rig.bundle_of(rig.placed(program, place.ChainPlacement(chain, "ingress", split, late))), split


def differences(program: ir.Program, made: bundle.Bundle, wire: rig.Wire, sent: list[bytes]) -> dict[str, tuple[int, int]]:
    """Counter -> (interpreter's, kernel's packets) wherever they differ."""
    oracle = Interpreter(program, {"wan.in": split_of(program.chains[0])})
    for frame in sent:
        oracle.judge(frame, "wan", "in", 1)
    wire.send(sent)
    found = wire.settled(made, ("ingress", "wan.in.seen"), len(sent))
    mine = {name: value[0] for (stage, name), value in found.items() if stage == "ingress"}
    wanted = {name: oracle.counters.get(name, [0])[0] for name in mine}
    assert sum(v for k, v in mine.items() if k != "wan.in.seen") == mine["wan.in.seen"], "the stage does not balance"
    return {name: (wanted[name], mine[name]) for name in mine if wanted[name] != mine[name]}


@pytest.mark.parametrize("seed", range(1000, 1000 + CASES))
def test_every_counter_is_the_interpreters(netns: str, tmp_path: Path, seed: int) -> None:
    program = restrict.ingress_program(seed)
    made, _ = ingress(program)
    boundary = packets.boundary_packets(program, Random(seed), PACKETS)
    sent = [frame for frame in boundary if not restrict.stack_differs(frame) and restrict.tags(frame) < 2]
    assert len(sent) > PACKETS * 0.6
    with rig.wire(netns, tmp_path) as wire:
        rig.apply(wire.context, made, None, 1)
        assert differences(program, made, wire, sent) == {}


def test_a_wrong_bound_in_the_lowering_is_caught(netns: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant: TCP ports are taken to be there from 19 octets on."""
    rule = ir.Rule("web", "drop", ir.Within(F.DPORT, ((80, 80),)))
    program = ir.Program(nics=(ir.Nic("wan", "wan0", "none"),), chains=(ir.Chain("wan.in", "wan", "in", None, (rule,), "pass"),))
    frame = bytearray(frames.build(ir.PacketSpec("tcp", "203.0.113.9", "192.0.2.1", 1, 80)))
    frame[16:18] = (39).to_bytes(2, "big")
    monkeypatch.setattr(nft_layout, "TRANSPORTS", {**nft_layout.TRANSPORTS, "tcp": (6, 19)})
    made, _ = ingress(program)
    with rig.wire(netns, tmp_path) as wire:
        rig.apply(wire.context, made, None, 1)
        assert differences(program, made, wire, [bytes(frame)]) == {"wan.in.web": (0, 1), "wan.in.default": (1, 0)}


def one_rule(when: ir.Expr, verdict: str = "drop", default: str = "pass", **more: object) -> ir.Program:
    rule = ir.Rule("r", verdict, when, **more)  # type: ignore[arg-type]
    chain = ir.Chain("wan.in", "wan", "in", None, (rule,), default)
    return ir.Program(nics=(ir.Nic("wan", "wan0", "none"),), chains=(chain,), settings=(rig.GRO_OFF,))


def spec(proto: str, src: str, dst: str, sport: int | None = None, dport: int | None = None, **attributes: int | str) -> bytes:
    return frames.build(ir.PacketSpec(proto, src, dst, sport, dport, tuple(attributes.items())))


def test_a_second_tag_is_dropped_and_counted(netns: str, tmp_path: Path) -> None:
    program = one_rule(ir.Within(F.DPORT, ((22, 22),)))
    made, _ = ingress(program)
    tagged = spec("tcp", "203.0.113.9", "192.0.2.1", 1, 80, vlan="10.20")
    with rig.wire(netns, tmp_path) as wire:
        rig.apply(wire.context, made, None, 1)
        wire.send([tagged])
        found = wire.settled(made, ("ingress", "wan.in.seen"), 1)
    assert found["ingress", "wan.in.unreadable"][0] == 1
    assert found["ingress", "wan.in.default"][0] == 0


@pytest.mark.parametrize(("verdict", "default", "counter"), [("drop", "pass", "unreadable"), ("pass", "drop", "default")])
def test_what_hides_behind_ah_is_never_let_through(netns: str, tmp_path: Path, verdict: str, default: str, counter: str) -> None:
    program = one_rule(ir.And((ir.Is("tcp"), ir.Within(F.DPORT, ((22, 22),)))), verdict, default)
    made, _ = ingress(program)
    plain = spec("tcp", "2001:db8::9", "2001:db8::1", 1, 22, unpadded=1)
    header = bytes([6, 2, *bytes(14)])
    length = int.from_bytes(plain[18:20], "big") + len(header)
    hidden = plain[:18] + length.to_bytes(2, "big") + bytes([51]) + plain[21:54] + header + plain[54:]
    with rig.wire(netns, tmp_path) as wire:
        rig.apply(wire.context, made, None, 1)
        wire.send([hidden])
        found = wire.settled(made, ("ingress", "wan.in.seen"), 1)
    assert found["ingress", f"wan.in.{counter}"][0] == 1
    assert sum(v[0] for k, v in found.items() if not k[1].endswith("seen")) == 1


def test_bytes_are_the_frames(netns: str, tmp_path: Path) -> None:
    made, _ = ingress(one_rule(ir.Is("udp")))
    sent = [spec("udp", "203.0.113.9", "192.0.2.1", 1, 2, payload=size) for size in (0, 1, 100, 1400)]
    with rig.wire(netns, tmp_path) as wire:
        rig.apply(wire.context, made, None, 1)
        wire.send(sent)
        found = wire.settled(made, ("ingress", "wan.in.seen"), len(sent))
    assert found["ingress", "wan.in.r"] == (4, sum(map(len, sent)))


@pytest.mark.parametrize("over", [False, True])
def test_a_limit_lets_its_burst_through_and_asks_once_a_packet(netns: str, tmp_path: Path, over: bool) -> None:
    """Two alternatives match the same packet: the bucket must lose one token, not two. One packet in 1000 s: only the burst counts."""
    limit = ir.Limit("wan.in.r", 1000 * 10**9 * 64, 3, over)
    when = ir.Or((ir.Within(F.SPORT, ((1, 1),)), ir.Within(F.DPORT, ((2, 2),))))
    program = one_rule(when, "pass", "drop", limit=limit)
    with pytest.raises(Exception, match="N802"):
        ingress(replace(program, settings=()))
    limit = replace(limit, interval=10**9 * 64)
    made, _ = ingress(one_rule(when, "pass", "drop", limit=limit))
    with rig.wire(netns, tmp_path) as wire:
        rig.apply(wire.context, made, None, 1)
        wire.send([spec("udp", "203.0.113.9", "192.0.2.1", 1, 2)] * 10)
        found = wire.settled(made, ("ingress", "wan.in.seen"), 10)
        matched = found["ingress", "wan.in.r"][0]
        rig.apply(wire.context, made, made, 2)
        wire.send([spec("udp", "203.0.113.9", "192.0.2.1", 1, 2)] * 10)
        again = wire.settled(made, ("ingress", "wan.in.seen"), 20)["ingress", "wan.in.r"][0]
    assert matched in ((7, 6) if over else (3, 4)), "the burst is 3; one more may have come in by a second of waiting"
    assert again - matched in ((10, 9, 8) if over else (0, 1, 2)), "an apply must not refill the bucket"


@pytest.mark.parametrize("per_second", [2.5, 0.5, 0.001])
def test_the_kernel_takes_a_limit_below_a_packet_a_second(netns: str, tmp_path: Path, per_second: float) -> None:
    """A whole number a second would have been 2, or the rate 0 that the kernel refuses."""
    limit = ir.Limit("wan.in.r", round(10**9 * ir.TICKS_PER_NS / per_second), 3)
    made, _ = ingress(one_rule(ir.Is("udp"), "pass", "drop", limit=limit))
    with rig.wire(netns, tmp_path) as wire:
        rig.apply(wire.context, made, None, 1)
        rig.apply(wire.context, made, made, 2)
        wire.send([spec("udp", "203.0.113.9", "192.0.2.1", 1, 2)] * 10)
        found = wire.settled(made, ("ingress", "wan.in.seen"), 10)["ingress", "wan.in.r"][0]
    assert found in ((3, 4) if per_second > 1 else (3,))


def test_dscp_is_set_and_the_checksum_stays_right(netns: str, tmp_path: Path) -> None:
    """What the host hears after `set dscp ef`: DSCP 46 in both families, and IPv4 packets that the stack accepts."""
    import socket

    made, _ = ingress(one_rule(ir.Is("udp"), "pass", "drop", effects=(ir.SetDscp(46), ir.Log())))
    with rig.wire(netns, tmp_path) as wire:
        rig.apply(wire.context, made, None, 1)
        for family, address, level, option in (
            (socket.AF_INET, "192.0.2.1", socket.IPPROTO_IP, socket.IP_RECVTOS),
            (socket.AF_INET6, "2001:db8::1", socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS),
        ):
            with socket.socket(family, socket.SOCK_DGRAM) as heard:
                heard.settimeout(2)
                heard.bind((address, 53))
                heard.setsockopt(level, option, 1)
                source = "192.0.2.9" if family == socket.AF_INET else "2001:db8::9"
                wire.send([spec("udp", source, address, 1, 53, payload=4)])
                _, ancillary, _, _ = heard.recvmsg(100, 100)
            assert ancillary[0][2][0] == 46 << 2


@pytest.mark.parametrize(("verdict", "default", "counter"), [("drop", "pass", "unreadable"), ("pass", "drop", "default")])
def test_nested_fragment_headers_are_never_let_through(netns: str, tmp_path: Path, verdict: str, default: str, counter: str) -> None:
    """The first fragment header says whole, the second says later fragment: nft would read ports out of the middle of a payload."""
    made, _ = ingress(one_rule(ir.And((ir.Is("udp"), ir.Within(F.DPORT, ((53, 53),)))), verdict, default))
    plain = spec("udp", "2001:db8::9", "2001:db8::1", 1, 53, unpadded=1, payload=8)
    nested = bytes([44, 0, 0, 0, 0, 0, 0, 1]) + bytes([17, 0, 0, 8, 0, 0, 0, 1])
    length = int.from_bytes(plain[18:20], "big") + len(nested)
    hidden = plain[:18] + length.to_bytes(2, "big") + bytes([44]) + plain[21:54] + nested + plain[54:]
    with rig.wire(netns, tmp_path) as wire:
        rig.apply(wire.context, made, None, 1)
        wire.send([hidden])
        found = wire.settled(made, ("ingress", "wan.in.seen"), 1)
    assert {name: v[0] for (_, name), v in found.items() if v[0]} == {"wan.in.seen": 1, f"wan.in.{counter}": 1}
