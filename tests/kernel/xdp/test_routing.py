"""`to nic NAME routed` forwards what the stack would: frames addressed to this host, not what a switch floods or broadcasts."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from compiler import frames
from runtime.backends.sysfs import write_proc
from runtime.context import Context, Device
from runtime.lab import netns
from tests.kernel.xdp import rig, small
from tests.kernel.xdp.test_paths import _first_of, _listener, routed
from tests.kernel.xdp.wire import Wire, ip, wired

OTHER_MACS = {"another host's": "02:00:00:00:00:77", "broadcast": "ff:ff:ff:ff:ff:ff", "multicast": "01:00:5e:00:00:09"}


@dataclass
class Router:
    """wan: frames sent here arrive at w0; heard: what leaves by l0."""

    wan: Wire
    heard: socket.socket


@pytest.fixture
def router(make_netns: Callable[[], str], tmp_path: Path) -> Iterator[Router]:
    near, far, lan = make_netns(), make_netns(), make_netns()
    with wired(near, far, tmp_path) as link:
        ip(near, "link", "add", "l0", "type", "veth", "peer", "name", "p0", "netns", lan)
        for namespace, device in ((near, "l0"), (lan, "p0")):
            ip(namespace, "link", "set", device, "addrgenmode", "none", "up")
        subprocess.run(["nsenter", f"--net=/run/netns/{lan}", "ethtool", "-K", "p0", "gro", "on"], check=True, capture_output=True)
        ip(near, "addr", "add", "198.51.100.1/24", "dev", "l0")
        ip(near, "neigh", "add", "198.51.100.9", "lladdr", "02:00:00:00:00:99", "dev", "l0", "nud", "permanent")
        with netns.enter(near):
            write_proc("sys/net/ipv4/ip_forward", "1")
        index = int(ip(near, "-o", "link", "show", "l0").split(":")[0])
        wire = Wire(near, far, Context(link.context.state, link.context.bpffs, (*link.context.devices, Device("lan", "l0", index)), near))
        with netns.enter(lan):
            heard = _listener("p0")
        try:
            wire.apply(rig.bundle_of(routed("lan")[1]))
            yield Router(wire, heard)
        finally:
            heard.close()


@pytest.mark.parametrize("whose", OTHER_MACS)
def test_a_frame_for_somebody_else_is_not_forwarded(router: Router, whose: str) -> None:
    router.wan.send(small.udp("192.0.2.2", "198.51.100.9", ttl=20, **{"dst-mac": OTHER_MACS[whose]}))
    router.wan.send(small.udp("192.0.2.2", "198.51.100.9", ttl=9))
    assert _first_of(router.heard, 0x0800)[22] == 8


def test_what_xdp_forwards_does_not_touch_the_stack(router: Router) -> None:
    """The stack has no route for the source and would answer that it forwards nothing: only XDP can have sent it."""
    with netns.enter(router.wan.near):
        write_proc("sys/net/ipv4/conf/w0/rp_filter", "1")
        write_proc("sys/net/ipv4/conf/all/rp_filter", "1")
    router.wan.send(small.udp("203.0.113.7", "198.51.100.9", ttl=9))
    assert _first_of(router.heard, 0x0800)[22] == 8
    assert frames.DST_MAC == ip(router.wan.near, "-br", "link", "show", "w0").split()[2]
