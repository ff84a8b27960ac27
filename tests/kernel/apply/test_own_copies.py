"""What this host sends to a group comes back to its own listeners (dev_loopback_xmit): it never arrived, so `in` neither judges nor shapes it."""

from __future__ import annotations

import socket

import pytest

from runtime.lab import netns
from tests.kernel.apply.hosts import Host
from tests.kernel.apply.test_devices_above import inside, policy, taken

GROUP = "224.0.0.251"
SHAPE = "shape wan in rate 900mbit { class all { default; queue pfifo } }\n"
STATELESS = "nic wan { device wan0; xdp native }\nfilter wan in { pass udp dport 53 as dns; default drop }\n"


@pytest.mark.parametrize("text", ["stateful", "stateful, shaped", "stateless, shaped"])
def test_a_host_hears_its_own_multicast(host: Host, text: str) -> None:
    inside(host.netns, "ip addr add 192.0.2.1/24 dev wan0")
    shaped = SHAPE if "shaped" in text else ""
    host.netc("apply", policy(host, more=shaped) if "stateful" in text else host.write((STATELESS + shaped).encode(), "p.netc"))
    with netns.enter(host.netns), _listener() as heard, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("192.0.2.1"))
        for _ in range(10):
            sender.sendto(b"x", (GROUP, 1000))
        assert taken(heard) == 10
    counts = host.counts()
    assert counts["xdp", "wan.in.seen"] == 0
    assert counts.get(("tc", "wan.shape.in.seen"), 0) == 0
    assert host.json("verify")["ok"]


def _listener() -> socket.socket:
    heard = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    heard.bind(("0.0.0.0", 1000))
    heard.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(GROUP) + socket.inet_aton("192.0.2.1"))
    heard.setblocking(False)
    return heard
