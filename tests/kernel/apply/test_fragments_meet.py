"""Fragments of one packet that XDP judged differently meet before connection tracking: the first one's verdict holds, in whatever order they come."""

from __future__ import annotations

import json
import socket
import struct

import pytest

from runtime.lab import netns
from tests.kernel.apply.hosts import Host
from tests.kernel.apply.test_devices_above import addressed, inside, listen, taken

POLICY = """nic wan {{ device wan0; xdp {mode} }}
filter wan in {{
  pass  udp dport 53     as dns
  pass  later-fragment   as later
  pass  established      as est
  default drop
}}
"""


def fragments(mac: str, dport: int, number: int) -> list[bytes]:
    """A UDP packet of 24 octets in two IPv4 fragments of 16."""
    payload = struct.pack("!HHHH", 5353, dport, 32, 0) + bytes(24)
    made = []
    for at, more in ((0, 0x2000), (16, 0)):
        part = payload[at : at + 16]
        head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(part), number, more | at // 8, 64, 17, 0,
                           socket.inet_aton("203.0.113.9"), socket.inet_aton("192.0.2.1"))  # fmt: skip
        total = sum(struct.unpack("!10H", head))
        total = (total & 0xFFFF) + (total >> 16)
        head = head[:10] + struct.pack("!H", ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF) + head[12:]
        made.append(bytes.fromhex(mac.replace(":", "")) + b"\2\0\0\0\0\2" + b"\x08\0" + head + part + bytes(26))
    return made


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["first first", "later first"])
@pytest.mark.parametrize("mode", ["native", "generic", "none"])
def test_the_first_fragment_decides(host: Host, mode: str, order: tuple[int, int]) -> None:
    inside(host.netns, addressed("wan0"))
    host.netc("apply", host.write(POLICY.format(mode=mode).encode(), "p.netc"))
    mac = json.loads(host.run("ip", "-j", "link", "show", "wan0"))[0]["address"]
    with listen(host.netns, 53) as passed, listen(host.netns, 1000) as dropped:
        with netns.enter(host.peer), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
            wire.bind(("wan0p", 0))
            for number in range(10):
                for dport in (53, 1000):
                    parts = fragments(mac, dport, number * 2 + (dport == 53) + 1)
                    for at in order:
                        wire.send(parts[at])
        assert (taken(passed), taken(dropped)) == (10, 0)
    assert host.counts()["conntrack", "wan.in.default"] == 10
    assert host.json("verify")["ok"]
