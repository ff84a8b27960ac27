"""The embedded lab: a device under test and a peer, network namespaces of this machine joined by veth, made for one run and gone with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hwtests.rack.channel import Channel
from hwtests.rack.errors import RackError

FAR_TX_QUEUES = 2  # veth refuses XDP where the peer has more transmit queues than it has receive queues: room for `queues 2`


@contextmanager
def wired(channel: Channel, prefix: str, ports: list[str], queues: int) -> Iterator[tuple[str, str]]:
    """Two namespaces and a cable for each port; devices are named as ports, far ends with an `f`. The namespaces' names.

    GRO is on at the far ends: veth takes redirected frames (`to nic`) only while its other end runs XDP or GRO. Tags are sent within
    the frame, as on a cable: veth would hand them over beside it, where XDP does not see them.
    """
    dut, peer = f"{prefix}-dut", f"{prefix}-peer"
    for name in (dut, peer):
        channel.ask("undo", ["ip", "netns", "delete", name])
        _run(channel, "ip", "netns", "add", name)
        _run(channel, "sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1", netns=name)  # no frame but the tests' own
        _run(channel, "ip", "link", "set", "lo", "up", netns=name)
    for name in ports:
        near, far = device(name), far_device(name)
        _run(channel, "ip", "-n", dut, "link", "add", near, "numrxqueues", str(queues), "numtxqueues", str(queues), "type", "veth",
             "peer", "name", far, "numrxqueues", str(FAR_TX_QUEUES), "numtxqueues", str(FAR_TX_QUEUES), "netns", peer)  # fmt: skip
        _run(channel, "ip", "-n", peer, "link", "set", far, "up")
        _run(channel, "ethtool", "-K", far, "gro", "on", "txvlan", "off", "tx-vlan-stag-hw-insert", "off", netns=peer)
    yield dut, peer


def device(port: str) -> str:
    """The name of a port's device in the lab: at most 15 characters, and never one that a machine has by itself."""
    return f"lab-{port}"[:14]


def far_device(port: str) -> str:
    return f"{device(port)}f"


def _run(channel: Channel, *argv: str, netns: str | None = None) -> None:
    answer = channel.ask("run", list(argv), netns=netns)
    if answer["code"]:
        raise RackError(f"the lab cannot be made: {' '.join(argv)}: {answer['err'].strip()}; it needs root and iproute2")
