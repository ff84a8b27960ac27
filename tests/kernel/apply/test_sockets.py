"""`to socket NAME`: a program puts its AF_XDP sockets into netc's map, and gets exactly what the rule takes; without a socket the stack gets it."""

from __future__ import annotations

import struct
from contextlib import ExitStack
from pathlib import Path

from compiler import frames, ir
from hwtests.rack.xsk import XdpSocket, received
from runtime.backends import bpf, link
from runtime.lab import netns
from tests.kernel.apply.hosts import Host, made, program, tcp, udp

RULE = ir.SteerRule("capture", ir.And((ir.Is("udp"), ir.Within(ir.Field.DPORT, ((5000, 5000),)))), ir.Target("socket", (), "capture"), text="to socket capture")
QUEUES = 4


def policy(*rules: ir.Rule) -> bytes:
    filtered = program(*rules, ir.Rule("all", "pass", ir.Const(True), text="pass"))
    return made(ir.Program(nics=filtered.nics, chains=filtered.chains, steers=(ir.Steer("wan.steer", "wan", (RULE,), None),)))


def map_of(host: Host) -> Path:
    """Where the map is, as `netc status` tells it to whoever owns the socket."""
    (told,) = host.json("status")["sockets"]
    assert (told["name"], told["nic"]) == ("capture", "wan")
    return Path(told["map"])


def opened(host: Host, stack: ExitStack) -> list[XdpSocket]:
    """A socket on every queue of wan0, in the map."""
    with netns.enter(host.netns):
        sockets = [stack.enter_context(XdpSocket(link.get("wan0").ifindex, queue)) for queue in range(QUEUES)]
    with bpf.Fd(bpf.get_pinned(map_of(host))) as place:
        for queue, each in enumerate(sockets):
            bpf.map_update(place, struct.pack("=I", queue), struct.pack("=I", each.fileno()))
    return sockets


def test_a_socket_gets_what_its_rule_takes_and_nothing_else(host: Host) -> None:
    host.netc("apply", host.write(policy(ir.Rule("no", "drop", ir.Is("fragment"), text="drop fragment"))))
    with ExitStack() as stack:
        sockets = opened(host, stack)
        host.send(udp(5000), 7)
        host.send(tcp(80), 3)
        found = received(sockets, 7)
        assert len(found) == 7 and {frame[14:] for frame in found} == {frames.build(udp(5000))[14:]}
        assert received(sockets, 1, 0.3) == []
    assert host.counts()["steer", "wan.steer.capture"] == 7


def test_without_a_socket_the_stack_gets_it(host: Host) -> None:
    host.netc("apply", host.write(policy()))
    assert f"socket      capture of wan: put it into {map_of(host)} under the number of its queue" in host.netc("status").stdout
    host.send(udp(5000), 4)
    assert host.counts()["steer", "wan.steer.capture"] == 4
    host.netc("verify")


def test_sockets_stay_over_an_apply(host: Host) -> None:
    """The map is kept while the rule is there: another policy does not take a program's packets away."""
    host.netc("apply", host.write(policy()))
    with ExitStack() as stack:
        sockets = opened(host, stack)
        host.netc("apply", host.write(policy(ir.Rule("no", "drop", ir.Is("fragment"), text="drop fragment")), "other.bundle"))
        host.send(udp(5000), 3)
        assert len(received(sockets, 3)) == 3
