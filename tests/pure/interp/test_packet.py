"""The reference parser against docs/packet-model.md, line by line, and against scapy on well-formed packets."""

from __future__ import annotations

import struct
from ipaddress import ip_address
from random import Random
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_RR
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether
from scapy.layers.sctp import SCTP
from scapy.packet import Raw

from compiler.ir import V4_BASE, Field
from compiler.packet import parse

MACS = bytes.fromhex("020000000002020000000001")
F = Field


def ordinal(text: str) -> int:
    address = ip_address(text)
    return int(address) + (V4_BASE if address.version == 4 else 0)


def ipv4(
    body: bytes, proto: int = 17, *, ihl: int = 5, length: int | None = None, fragment: int = 0, version: int = 4
) -> bytes:
    options = bytes(max(0, ihl - 5) * 4)
    total = 20 + len(options) + len(body) if length is None else length
    return (
        MACS
        + struct.pack(
            "!HBBHHHBBHII", 0x0800, version << 4 | ihl, 0xB8, total, 1, fragment, 64, proto, 0, 0xC0000201, 0xC0000202
        )
        + options
        + body
    )


def ipv6(body: bytes, following: int = 17, *, length: int | None = None, hops: int = 64) -> bytes:
    payload = len(body) if length is None else length
    return (
        MACS + struct.pack("!HIHBB", 0x86DD, 6 << 28, payload, following, hops) + bytes(15) + b"\x01" + bytes(16) + body
    )


def udp(length: int | None = None, payload: bytes = b"") -> bytes:
    return struct.pack("!HHHH", 1000, 53, 8 + len(payload) if length is None else length, 0) + payload


def tcp(offset: int = 5, options: bytes = b"") -> bytes:
    return struct.pack("!HHIIBBHHH", 1000, 22, 1, 0, offset << 4, 2, 0, 0, 0) + options


def kinds(frame: bytes) -> set[str]:
    return set(parse(frame).kinds)


def random_layers(rng: Random) -> tuple[Any, dict[Field, int], set[str]]:
    """A well-formed packet by scapy, with what must be read from it."""
    sport, dport, ttl, dscp = rng.randrange(65536), rng.randrange(65536), rng.randrange(1, 256), rng.randrange(64)
    four = rng.random() < 0.5
    src, dst = ("203.0.113.9", "192.0.2.1") if four else ("2001:db8::9", "2001:db8:1::1")
    fields = {
        F.SRC: ordinal(src),
        F.DST: ordinal(dst),
        F.TTL: ttl,
        F.DSCP: dscp,
        F.ETH_SRC: 0x020000000001,
        F.ETH_DST: 0x020000000002,
    }
    packet: Any = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    tags = [rng.randrange(1, 4095) for _ in range(rng.randint(0, 2))]
    fields |= dict(zip((F.VLAN, F.VLAN_INNER), (*tags, 0, 0), strict=False)) | {F.ETHERTYPE: 0x0800 if four else 0x86DD}
    for index, tag in enumerate(tags):
        packet /= Dot1AD(vlan=tag) if index == 0 and len(tags) == 2 else Dot1Q(vlan=tag, prio=5)
    options = [IPOption_RR(routers=["1.2.3.4"] * rng.randint(1, 3))] if rng.random() < 0.3 else []
    packet /= (
        IP(src=src, dst=dst, ttl=ttl, tos=dscp << 2, options=options)
        if four
        else IPv6(src=src, dst=dst, hlim=ttl, tc=dscp << 2)
    )
    if not four:
        for _ in range(rng.randint(0, 3)):
            packet /= rng.choice(
                (
                    IPv6ExtHdrHopByHop(),
                    IPv6ExtHdrDestOpt(),
                    IPv6ExtHdrRouting(addresses=["2001:db8::1"]),
                    IPv6ExtHdrFragment(),
                )
            )
    expected = {"ip4" if four else "ip6"} | ({"vlan"} if tags else set())
    choice = rng.choice(("tcp", "udp", "sctp", "icmp"))
    if choice == "icmp":
        packet /= ICMP(type=8, code=0) if four else ICMPv6EchoRequest()
        fields |= {F.ICMP_TYPE: 8 if four else 128, F.ICMP_CODE: 0, F.PROTO: 1 if four else 58}
        return packet, fields, expected | {"icmp4" if four else "icmp6"}
    fields |= {F.SPORT: sport, F.DPORT: dport, F.PROTO: {"tcp": 6, "udp": 17, "sctp": 132}[choice]}
    if choice == "tcp":
        fields[F.TCP_FLAGS] = flags = rng.randrange(256)
        packet /= TCP(sport=sport, dport=dport, flags=flags, options=[("MSS", 1460)] if rng.random() < 0.5 else [])
    else:
        packet /= (UDP if choice == "udp" else SCTP)(sport=sport, dport=dport)
    return packet / Raw(bytes(rng.randrange(40))), fields, expected | {choice}


@pytest.mark.parametrize("seed", range(150))
def test_what_scapy_builds_is_read(seed: int) -> None:
    rng = Random(seed)
    layers, fields, expected = random_layers(rng)
    frame = bytes(layers)
    whole = Ether(frame)
    fields[F.LENGTH] = whole[IP].len if IP in whole else whole[IPv6].plen + 40
    for trailing in (b"", bytes(7)):
        packet = parse(frame + trailing)
        assert packet.fields == fields
        assert packet.kinds == expected


def test_short_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 14"):
        parse(bytes(13))
    assert parse(bytes(14)).fields == {F.ETH_DST: 0, F.ETH_SRC: 0, F.ETHERTYPE: 0, F.VLAN: 0, F.VLAN_INNER: 0}


def test_every_truncation_is_read_without_going_beyond() -> None:
    """A cut packet has a subset of the fields of the whole one, with the same values, and is malformed while layer 3 is cut."""
    for frame in (
        ipv4(tcp(), 6),
        ipv6(bytes((17, 0)) + bytes(6) + udp(), 0),
        MACS + bytes.fromhex("81000005") + ipv4(udp())[12:],
    ):
        whole = parse(frame)
        assert "malformed" not in whole.kinds
        for size in range(14, len(frame)):
            cut = parse(frame[:size])
            assert cut.fields.items() <= whole.fields.items()
            assert "malformed" in cut.kinds


TAG, TAG0, QINQ = bytes.fromhex("8100a00a"), bytes.fromhex("81000000"), bytes.fromhex("88a80014")


@pytest.mark.parametrize(
    ("tags", "outer", "inner", "vlan", "malformed"),
    [
        (b"", 0, 0, False, False),
        (TAG, 10, 0, True, False),
        (TAG0, 0, 0, False, False),
        (QINQ + TAG, 20, 10, True, False),
        (TAG0 + TAG, 0, 10, False, False),
        (QINQ + TAG + TAG, 20, 10, True, True),
    ],
)
def test_tags(tags: bytes, outer: int, inner: int, vlan: bool, malformed: bool) -> None:
    packet = parse(MACS + tags + ipv4(udp())[12:])
    assert (packet.fields.get(F.VLAN), packet.fields.get(F.VLAN_INNER)) == (outer, inner)
    assert ("vlan" in packet.kinds, "malformed" in packet.kinds) == (vlan, malformed)
    assert (F.ETHERTYPE in packet.fields) is not malformed
    assert (F.DPORT in packet.fields) is not malformed


def test_a_cut_tag_leaves_its_id_absent() -> None:
    packet = parse(MACS + QINQ + b"\x81\x00\x00")
    assert packet.fields == {F.ETH_DST: 0x020000000002, F.ETH_SRC: 0x020000000001, F.VLAN: 20}
    assert packet.kinds == {"vlan", "malformed"}


def test_third_tag_of_a_vlan_is_malformed_at_once() -> None:
    packet = parse(MACS + TAG + TAG + b"\x81\x00")
    assert packet.fields[F.VLAN_INNER] == 10 and "malformed" in packet.kinds


IPV4_WHOLE = {F.SRC, F.DST, F.TTL, F.DSCP, F.PROTO, F.LENGTH}


@pytest.mark.parametrize(
    ("frame", "has_fields", "has_ports", "expected"),
    [
        (ipv4(udp(), ihl=4), False, False, {"ip4", "malformed"}),
        (ipv4(udp(), version=5), False, False, {"ip4", "malformed"}),
        (ipv4(udp())[:33], False, False, {"ip4", "malformed"}),
        (ipv4(udp(), length=19), True, False, {"ip4", "udp", "malformed"}),
        (ipv4(udp(), length=29), True, False, {"ip4", "udp", "malformed"}),
        (ipv4(b"", ihl=15)[:50], True, False, {"ip4", "udp", "malformed"}),
        (ipv4(udp(), ihl=15), True, True, {"ip4", "udp"}),
        (ipv4(udp(), length=27) + bytes(9), True, False, {"ip4", "udp", "malformed"}),
        (ipv4(udp(), fragment=0x2000), True, True, {"ip4", "udp", "fragment", "first-fragment"}),
        (ipv4(udp(), fragment=0x2001), True, False, {"ip4", "udp", "fragment", "later-fragment"}),
        (ipv4(udp(), fragment=0x4000), True, True, {"ip4", "udp"}),
        (ipv4(udp(), fragment=0xC000), True, True, {"ip4", "udp"}),
        (ipv4(udp(), 58), True, False, {"ip4"}),
        (ipv4(udp(), 47), True, False, {"ip4"}),
    ],
)
def test_ipv4(frame: bytes, has_fields: bool, has_ports: bool, expected: set[str]) -> None:
    packet = parse(frame)
    assert packet.kinds == expected
    assert (packet.fields.keys() >= IPV4_WHOLE) is has_fields and (F.SRC in packet.fields) is has_fields
    assert (F.DPORT in packet.fields) is has_ports


def extension(kind: int, following: int, units: int = 0) -> bytes:
    size = 8 if kind == 44 else (units + 2) * 4 if kind == 51 else (units + 1) * 8
    return bytes((following, 0 if kind == 44 else units)) + bytes(size - 2)


def chain(kinds_of: list[int], body: bytes, last: int = 17, units: int = 0) -> bytes:
    data = body
    for index in reversed(range(len(kinds_of))):
        data = extension(kinds_of[index], kinds_of[index + 1] if index + 1 < len(kinds_of) else last, units) + data
    return ipv6(data, kinds_of[0] if kinds_of else last)


@pytest.mark.parametrize("kind", [0, 43, 60, 135, 139, 140, 51, 44])
def test_each_extension_header_is_walked(kind: int) -> None:
    packet = parse(chain([kind], udp()))
    assert (packet.fields[F.PROTO], packet.fields[F.DPORT]) == (17, 53)
    assert packet.kinds == {"ip6", "udp"}


def test_eight_extension_headers_and_256_bytes_are_the_most() -> None:
    assert kinds(chain([60] * 8, udp())) == {"ip6", "udp"}
    ninth = parse(chain([60] * 9, udp()))
    assert ninth.kinds == {"ip6", "malformed"} and F.PROTO not in ninth.fields and F.SRC in ninth.fields
    assert kinds(chain([60], udp(), units=31)) == {"ip6", "udp"}
    assert kinds(chain([60], udp(), units=32)) == {"ip6", "malformed"}
    assert kinds(chain([60, 60], udp(), units=15)) == {"ip6", "udp"}
    assert kinds(chain([60, 60], udp(), units=16)) == {"ip6", "malformed"}
    assert kinds(chain([51], udp(), units=62)) == {"ip6", "udp"}
    assert kinds(chain([51], udp(), units=63)) == {"ip6", "malformed"}


@pytest.mark.parametrize(("following", "body"), [(59, b""), (50, bytes(20)), (41, bytes(40))])
def test_other_next_headers_end_the_walk(following: int, body: bytes) -> None:
    packet = parse(ipv6(body, following))
    assert packet.fields[F.PROTO] == following and packet.kinds == {"ip6"}


def test_ipv6_lengths_bound_the_walk() -> None:
    assert kinds(ipv6(udp(), length=9)) == {"ip6", "malformed"}
    padded = ipv6(bytes((17, 0)) + bytes(6) + udp(), 60, length=7)
    assert kinds(padded) == {"ip6", "malformed"}
    assert kinds(ipv6(udp(), length=7)) == {"ip6", "udp", "malformed"}
    assert parse(ipv6(udp(), length=9)).fields[F.LENGTH] == 49


def test_ipv6_fragments() -> None:
    first = bytes((17, 0, 0, 1)) + bytes(4)
    later = bytes((60, 0, 0, 8)) + bytes(4)
    assert kinds(ipv6(first + udp(), 44)) == {"ip6", "udp", "fragment", "first-fragment"}
    packet = parse(ipv6(later + udp(), 44))
    assert packet.kinds == {"ip6", "fragment", "later-fragment"} and packet.fields[F.PROTO] == 60
    both = bytes((44, 0, 0, 1)) + bytes(4) + bytes((17, 0, 0, 9)) + bytes(4)
    assert kinds(ipv6(both, 44)) == {"ip6", "udp", "fragment", "first-fragment", "later-fragment"}


@pytest.mark.parametrize(
    ("frame", "malformed", "ports"),
    [
        (ipv4(tcp(), 6), False, True),
        (ipv4(tcp()[:19], 6), True, False),
        (ipv4(tcp(4), 6), True, True),
        (ipv4(tcp(6), 6), True, True),
        (ipv4(tcp(6, bytes(4)), 6), False, True),
        (ipv4(udp()[:7]), True, False),
        (ipv4(udp(7)), True, True),
        (ipv4(udp(9)), True, True),
        (ipv4(udp(9), fragment=0x2000), False, True),
        (ipv4(udp(7), fragment=0x2000), True, True),
        (ipv4(udp(8, bytes(4))), False, True),
        (ipv4(bytes(11), 132), True, False),
        (ipv4(bytes(12), 132), False, True),
        (ipv4(bytes(7), 1), True, False),
    ],
)
def test_transport(frame: bytes, malformed: bool, ports: bool) -> None:
    packet = parse(frame)
    assert ("malformed" in packet.kinds) is malformed
    assert (F.DPORT in packet.fields) is ports


def icmp6(kind: int, hops: int = 255, chain_first: bytes = b"") -> bytes:
    return ipv6(chain_first + bytes((kind,)) + bytes(23), 44 if chain_first else 58, hops=hops)


@pytest.mark.parametrize(
    ("frame", "control"),
    [
        *((icmp6(kind), {"nd"}) for kind in range(133, 138)),
        *((icmp6(kind, 1), {"mld"}) for kind in (130, 131, 132, 143)),
        (icmp6(132 + 6), set()),
        (icmp6(129), set()),
        (icmp6(142), set()),
        (icmp6(135, 254), set()),
        (icmp6(135, 255, bytes((58, 0, 0, 1)) + bytes(4)), set()),
        (icmp6(135, 255, bytes((58, 0, 0, 0)) + bytes(4)), {"nd"}),
        (ipv6(bytes((135,)) + bytes(6), 58, hops=255), set()),
        (MACS + b"\x08\x06", {"arp"}),
        *((MACS + kind, {"l2"}) for kind in (b"\x88\xcc", b"\x88\x09", b"\x88\x8e")),
        (bytes.fromhex("0180c2000000020000000001") + b"\x05\xff", {"l2"}),
        (bytes.fromhex("0180c2000000020000000001") + b"\x06\x00", set()),
        (MACS + b"\x00\x26", set()),
        (MACS + TAG + b"\x08\x06", {"arp"}),
    ],
    ids=lambda value: value.hex()[24:] if isinstance(value, bytes) else None,
)  # fmt: skip
def test_control_traffic(frame: bytes, control: set[str]) -> None:
    packet = parse(frame)
    assert packet.control == control and packet.kinds >= control
