"""`to socket NAME` on a NIC: AF_XDP sockets (copy mode) get what their rule takes, by the queue that it came in by; without a socket the stack gets it."""

from __future__ import annotations

from collections import Counter

from hwtests.rack import ethtool, flows, program
from hwtests.rack.flows import FLOWS
from hwtests.rack.installed import Installed
from hwtests.rack.port import Port
from hwtests.rack.requires import requires

POLICY = """nic wan { device DEVICE; xdp native }
filter wan in { drop udp dport 9 as nine; default pass }
steer wan { udp dport 5000-5001 to socket capture as taken }
"""


def receive_queues(port: Port) -> int:
    """How many there are now: a driver may have added some for XDP."""
    inside = ("ip", "netns", "exec", port.machine.netns) if port.machine.netns else ()
    return int(port.machine.run(*inside, "sh", "-c", f"ls /sys/class/net/{port.device}/queues | grep -c rx-").out)


def dport(frame: str) -> int:
    return int(frame[72:76], 16)


@requires("xdp.native", "xdp.redirect")
def test_sockets_get_what_the_rule_takes(port: Port, installed: Installed) -> None:
    """Every frame of two kinds and none of the others, each in the queue that the NIC's hash says where the NIC has one."""
    installed.apply(POLICY)
    (told,) = port.machine.netc_json("status")["sockets"]
    sent = [*flows.udp(port, 5000), *flows.udp(port, 5001)]
    queues = receive_queues(port)
    with program.running(port, "xsk", port.device, str(queues), told["map"]) as ended:
        others = flows.taken(port, [*sent, *flows.udp(port, 5002), *flows.udp(port, 9)], "cpu", int(port.profile["cpus"]))
        port.settle()
        got = ended()
    assert Counter(frame.dport for frame in others) == {5002: FLOWS}, "what goes to a socket does not come to the stack, nor does what is dropped"
    assert Counter(dport(frame) for _, frame in got) == {5000: FLOWS, 5001: FLOWS}
    by_flow = {(int(frame[68:72], 16), dport(frame)): queue for queue, frame in got}
    if port.profile["rss"]["indirection"] > 1 and port.profile["rss"]["fields"]:
        assert by_flow == flows.predicted(port, sent)
        assert len(set(by_flow.values())) == len(set(ethtool.table(port)))
    counted = installed.counters()
    assert [counted["wan.steer.taken"], counted["wan.in.nine"]] == [2 * FLOWS, FLOWS]
    installed.verify()


@requires("xdp.native", "xdp.redirect")
def test_without_a_socket_the_stack_gets_it(port: Port, installed: Installed) -> None:
    """As before a program came, so after it went: its place in the map is empty again."""
    installed.apply(POLICY)
    (told,) = port.machine.netc_json("status")["sockets"]
    with program.running(port, "xsk", port.device, str(receive_queues(port)), told["map"]) as ended:
        assert ended() == []
    frames = flows.taken(port, flows.udp(port, 5000), "cpu", int(port.profile["cpus"]))
    assert Counter(frame.dport for frame in frames) == {5000: FLOWS}
    assert installed.counters()["wan.steer.taken"] == FLOWS
