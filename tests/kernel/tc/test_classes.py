"""Every packet is in the class that the policy says, and counted there exactly."""

from __future__ import annotations

import socket
import threading

from compiler import bundle, ir
from runtime.backends.tc import Tc
from runtime.lab import netns
from runtime.steps import tc as steps
from tests.kernel.tc.shaped import (
    FAR_IP,
    MBIT,
    NEAR,
    Attached,
    Pair,
    compiled,
    out_frame,
    packet_socket,
    port,
    rest,
    run,
    shape,
    udp_socket,
)


def install(pair: Pair, attached: Attached, new: bundle.Bundle, generation: int = 1, old: bundle.Bundle | None = None) -> None:
    """An apply, in the order of runtime.plan."""
    with netns.enter(pair.near):
        made = steps.steps(pair.context, new, old, generation)
        run(made, "stage")
        attached.flip(attached.load(new, generation))
        run(made, "flip")
        for step in made:
            step.check()
        run(made, "clean")


def test_first_match_counts_v4_v6_and_tags(pair: Pair, attached: Attached) -> None:
    nested = ir.Class(
        "site", ir.Within(ir.Field.DPORT, ((1000, 1999),)), classes=(ir.Class("tagged", ir.Within(ir.Field.VLAN, ((10, 10),))), rest_inside())
    )
    voice = ir.Class("voice", ir.Within(ir.Field.DSCP, ((46, 46),)), min=MBIT, max=4 * MBIT, urgent=True)
    install(pair, attached, compiled(shape("out", 100 * MBIT, voice, nested, rest())))
    sent = {
        "voice": [out_frame(1500, dscp=46), out_frame(1500, dscp=46, version=6), out_frame(9, 700, dscp=46, tags=(5, 6))],
        "tagged": [out_frame(1500, tags=(10,)), out_frame(1999, 300, tags=(10, 20), version=6)],
        "inside": [out_frame(1000), out_frame(1999, version=6), out_frame(1500, tags=(20, 10))],
        "rest": [out_frame(2000), out_frame(999, version=6), b"\xff" * 12 + b"\x08\x06" + bytes(46), out_frame(1500)[:30]],
    }
    with packet_socket(pair.near, NEAR) as raw:
        for number, frames in enumerate(sent.values(), start=3):
            for frame in frames * number:
                raw.send(frame)
    found = attached.counters()
    expected = {name: (n * len(frames), n * sum(map(len, frames))) for n, (name, frames) in enumerate(sent.items(), start=3)}
    assert {name: found[f"wan.shape.out.{name}"] for name in expected} == expected
    assert found["wan.shape.out.site"] == tuple(map(sum, zip(expected["tagged"], expected["inside"], strict=True)))
    assert found["wan.shape.out.seen"] == tuple(map(sum, zip(*expected.values(), strict=True)))
    assert sent_by_class(pair, compiled(shape("out", 100 * MBIT, voice, nested, rest()))) == expected


def rest_inside() -> ir.Class:
    return ir.Class("inside", None)


def sent_by_class(pair: Pair, installed: bundle.Bundle) -> dict[str, tuple[int, int]]:
    """What HTB itself counts for each leaf, once nothing waits any more."""
    with netns.enter(pair.near):
        found = wait_until_empty(pair, installed)
    leaves = {leaf.parent for leaf in installed.trees[0].leaves} - {"1:2"}
    names = [item.counter for item in installed.trees[0].classes if item.classid in leaves]
    return {name.rpartition(".")[2]: (found[name]["packets"], found[name]["bytes"]) for name in names}


def wait_until_empty(pair: Pair, installed: bundle.Bundle) -> dict[str, dict[str, int]]:
    while True:
        found = steps.read_counters(pair.context, installed)
        if not any(item["backlog"] for item in found.values()):
            return found


def test_segments_of_tcp_are_counted_as_packets_on_the_wire(pair: Pair, attached: Attached) -> None:
    """GSO hands the qdisc up to 64 KB at once; the counters say what leaves: the kernel's own OutSegs, with every segment's headers."""
    new = compiled(shape("out", 1000 * MBIT, port("bulk", 5001, min=MBIT), rest()))
    install(pair, attached, new)
    before, payload = segments(pair.near), b"x" * 2_000_000
    with netns.enter(pair.far):
        server = socket.create_server((FAR_IP, 5001))
    with server:
        receiver = threading.Thread(target=drain, args=(server,))
        receiver.start()
        with netns.enter(pair.near):
            client = socket.socket()
        with client:
            client.connect((FAR_IP, 5001))
            client.sendall(payload)
            client.shutdown(socket.SHUT_WR)
            client.recv(1)
        receiver.join()
    after = segments(pair.near)
    assert after[1] == before[1], "retransmissions: this wire loses nothing"
    packets, octets = attached.counters()["wan.shape.out.bulk"]
    assert packets == after[0] - before[0]
    assert octets == len(payload) + packets * (14 + 20 + 32) + 8  # timestamps in every header, and the SYN's has 8 bytes more
    with netns.enter(pair.near), Tc() as tc:
        assert max(item.stats.packets for item in tc.classes(pair.ifindex).values()) == packets, "HTB counts segments too"


def drain(server: socket.socket) -> None:
    peer, _ = server.accept()
    with peer:
        while peer.recv(1 << 16):
            pass


def segments(namespace: str) -> tuple[int, int]:
    """(sent segments, retransmitted segments) of TCP in a namespace."""
    with netns.enter(namespace), open("/proc/thread-self/net/snmp", encoding="ascii") as file:
        names, values = [line.split() for line in file if line.startswith("Tcp:")]
    found = dict(zip(names, values, strict=True))
    return int(found["OutSegs"]), int(found["RetransSegs"])


def test_without_a_classifier_nothing_leaves_past_the_rate(pair: Pair) -> None:
    """What no program has classified is shaped as well: 1:2, never HTB's unlimited direct queue."""
    new = compiled(shape("out", 100 * MBIT, rest()))
    with netns.enter(pair.near):
        run(steps.steps(pair.context, new, None, 1), "stage", "flip")
    with packet_socket(pair.near, NEAR) as raw, udp_socket(pair.far, (FAR_IP, 7)) as receiver:
        for _ in range(5):
            raw.send(out_frame(7))
            receiver.recv(2000)
        with netns.enter(pair.near):
            assert steps.read_counters(pair.context, new)["wan.shape.out.unclassified"]["packets"] == 5
