"""`shape in`: through an ifb and back, with mark, tags and counts as they were."""

from __future__ import annotations

import socket

from compiler import bundle, ir, placed
from runtime.backends.tc import Tc
from runtime.lab import netns
from runtime.steps import tc as steps
from tests.kernel.tc.shaped import (
    FAR,
    MBIT,
    NEAR_IP,
    Attached,
    Pair,
    compiled,
    frame,
    packet_socket,
    port,
    rest,
    shape,
    udp_socket,
)
from tests.kernel.tc.test_classes import install

SO_RCVMARK = 75
SO_MARK = 36


def carried_chain() -> placed.ChainPlacement:
    """XDP passes one port for good and hands the rest on."""
    passes = ir.Rule("known", "pass", ir.Within(ir.Field.DPORT, ((5000, 5000),)))
    stateful = ir.Rule("established", "pass", ir.Connection(("established",)))
    return placed.ChainPlacement(ir.Chain("wan.in", "wan", "in", None, (passes, stateful), "drop"), "xdp", 1, "conntrack")


def test_mark_and_counts_survive_the_ifb(pair: Pair, attached: Attached) -> None:
    new = compiled(shape("in", 100 * MBIT, port("known", 5000, min=MBIT), rest()), chain=carried_chain())
    install(pair, attached, new)
    assert marks(pair, 5000, 7) == [bundle.MARK_PASSED] * 7
    assert marks(pair, 6000, 5) == [bundle.MARK_PENDING] * 5
    size = len(frame(1))
    found = attached.counters()
    assert {name: found[f"wan.shape.in.{name}"] for name in ("known", "rest", "seen")} == {
        "known": (7, 7 * size), "rest": (5, 5 * size), "seen": (12, 12 * size)
    }  # fmt: skip
    with netns.enter(pair.near):
        sent = steps.read_counters(pair.context, new)
    assert [sent[f"wan.shape.in.{name}"]["packets"] for name in ("known", "rest", "unclassified")] == [7, 5, 0]


def marks(pair: Pair, number: int, count: int) -> list[int]:
    """skb->mark of UDP packets as a socket behind the stack sees it."""
    with udp_socket(pair.near, (NEAR_IP, number)) as receiver, packet_socket(pair.far, FAR) as raw:
        receiver.setsockopt(socket.SOL_SOCKET, SO_RCVMARK, 1)
        for _ in range(count):
            raw.send(frame(number))
        found = []
        for _ in range(count):
            _, ancillary, _, _ = receiver.recvmsg(2000, 64)
            found += [int.from_bytes(data, "little") for level, kind, data in ancillary if (level, kind) == (socket.SOL_SOCKET, SO_MARK)]
        return found


def test_the_outer_tag_beside_the_frame_is_seen_and_counted(pair: Pair, attached: Attached) -> None:
    """The kernel takes the outer tag out of the frame before tcx; it is still matched, and its four bytes are still counted."""
    tagged = ir.Class("tagged", ir.Within(ir.Field.VLAN, ((10, 10),)), min=MBIT)
    double = ir.Class("double", ir.And((ir.Within(ir.Field.VLAN, ((20, 20),)), ir.Within(ir.Field.VLAN_INNER, ((30, 30),)))), min=MBIT)
    install(pair, attached, compiled(shape("in", 100 * MBIT, tagged, double, rest())))
    one, two, none = frame(1, tags=(10,)), frame(1, tags=(20, 30), version=6), frame(9)
    with udp_socket(pair.near, (NEAR_IP, 9)) as receiver, packet_socket(pair.far, FAR) as raw:
        for packet in (one, one, two, none):
            raw.send(packet)
        receiver.recv(2000)  # the last one has come through, so the others have been counted
    found = attached.counters()
    assert found["wan.shape.in.tagged"] == (2, 2 * len(one))
    assert found["wan.shape.in.double"] == (1, len(two))
    assert found["wan.shape.in.rest"] == (1, len(none))


def test_the_ifb_goes_with_the_shape(pair: Pair, attached: Attached) -> None:
    new = compiled(shape("in", 100 * MBIT, rest()))
    install(pair, attached, new)
    with netns.enter(pair.near), Tc() as tc:
        made = tc.device(f"netc-ifb{pair.ifindex}")
        assert made is not None and made.kind == "ifb" and made.alias == "netc wan"
        attached.close_links()
        for step in steps.steps(pair.context, None, new, 2):
            step.do()
        assert tc.device(f"netc-ifb{pair.ifindex}") is None
