"""Frames built from packet words are what scapy, an independent dissector, reads, with right checksums."""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP  # noqa: F401
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6ND_NS,
    IPv6,
    IPv6ExtHdrFragment,
)
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.layers.sctp import SCTP

from compiler import frames, ir
from compiler.packet import parse


def spec(
    proto: str, src: str, dst: str, sport: int | None = None, dport: int | None = None, **words: int | str
) -> ir.PacketSpec:
    return ir.PacketSpec(proto, src, dst, sport, dport, tuple((k.replace("_", "-"), v) for k, v in words.items()))


A4, B4, A6, B6 = "203.0.113.9", "192.0.2.1", "2001:db8::9", "2001:db8:1::1"
WHOLE = [
    spec("tcp", A4, B4, 40000, 22, syn=1),
    spec("tcp", A6, B6, 40000, 22, ack=1, payload=33),
    spec("udp", A4, B4, 5353, 53, payload=5, ttl=3, dscp="ef"),
    spec("udp", A6, B6, 5353, 53, length=1400),
    spec("icmp", A4, B4, echo_request=1, id=77),
    spec("icmp", A6, B6, echo_reply=1),
    spec("nd", A6, B6),
    spec("mld", A6, "ff02::16"),
    spec("sctp", A4, B4, 1, 2),
    spec("gre", A4, B4, payload=9),
    spec("udp", A4, B4, 1, 2, vlan="10.20"),
]


@pytest.mark.parametrize("words", WHOLE, ids=lambda s: f"{s.proto}-{s.src}-{s.attributes}")
def test_a_rebuilt_packet_has_the_same_checksums(words: ir.PacketSpec) -> None:
    """Scapy, asked to compute lengths and checksums anew, comes to the same bytes."""
    frame = frames.build(words)
    assert len(frame) >= 60
    packet: Any = Ether(frame)
    layer = packet
    while layer:
        for name in ("chksum", "cksum", "len", "plen"):
            if name in layer.fields and layer.name not in ("Ethernet", "Router Alert"):
                layer.delfieldval(name)
        layer = layer.payload
    assert bytes(packet) == frame
    assert "malformed" not in parse(frame).kinds


def test_fields_are_where_scapy_finds_them() -> None:
    packet: Any = Ether(frames.build(spec("tcp", A4, B4, 40000, 22, syn=1, ece=1, ttl=9, dscp=10, vlan=5)))
    assert (packet[IP].src, packet[IP].dst, packet[IP].ttl, packet[IP].tos >> 2) == (A4, B4, 9, 10)
    assert (packet[TCP].sport, packet[TCP].dport, packet[TCP].flags) == (40000, 22, "SE")
    assert packet[Dot1Q].vlan == 5
    packet = Ether(frames.build(spec("icmp", A6, B6, id=3, seq=4)))
    assert (packet[ICMPv6EchoRequest].id, packet[ICMPv6EchoRequest].seq) == (3, 4)
    packet = Ether(frames.build(spec("nd", A6, B6)))
    assert (packet[IPv6].hlim, packet[ICMPv6ND_NS].tgt) == (255, B6)
    packet = Ether(frames.build(spec("arp", A4, B4, reply=1)))
    assert (packet[ARP].op, packet[ARP].psrc, packet[ARP].pdst) == (2, A4, B4)


def test_fragments() -> None:
    first: Any = Ether(frames.build(spec("udp", A4, B4, 1, 2, first_fragment=1, payload=64)))
    assert (first[IP].flags, first[IP].frag, first[UDP].dport) == ("MF", 0, 2)
    later: Any = Ether(frames.build(spec("udp", A6, B6, 1, 2, offset=1480, more=1, length=100)))
    assert (later[IPv6ExtHdrFragment].offset, later[IPv6ExtHdrFragment].m, later[IPv6].plen) == (185, 1, 60)
    assert parse(bytes(later)).kinds == {"ip6", "udp", "fragment", "later-fragment"}


def test_the_malformed_word_is_malformed_also_behind_padding() -> None:
    for payload in (0, 17, 18, 19, 500):
        for words in (
            spec("udp", A4, B4, 1, 2, payload=payload, malformed=1),
            spec("tcp", A6, B6, 1, 2, payload=payload, malformed=1),
        ):
            assert "malformed" in parse(frames.build(words)).kinds


@pytest.mark.parametrize(
    ("word", "kind"),
    [("arp", "arp"), ("lldp", "l2"), ("stp", "l2"), ("lacp", "l2"), ("eapol", "l2"), ("nd", "nd"), ("mld", "mld")],
)
def test_control_words_are_control_packets(word: str, kind: str) -> None:
    ends = ("", "") if kind == "l2" else (A4, B4) if word == "arp" else (A6, B6)
    assert parse(frames.build(spec(word, *ends))).control == {kind}


def test_short_frames_and_macs_by_wish() -> None:
    frame = frames.build(
        spec("udp", A4, B4, 1, 2, unpadded=1, src_mac="02:00:00:00:00:aa"), dst_mac="02:00:00:00:00:bb"
    )
    assert len(frame) == 42 and frame[:12].hex() == "0200000000bb0200000000aa"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (spec("tcp", A4, B4), "needs ports"),
        (spec("udp", A4, B6, 1, 2), "two families"),
        (spec("udp", A4, "example", 1, 2), "no IP address"),
        (spec("xyz", A4, B4), "no protocol"),
        (spec("udp", A4, B4, 1, 2, colour=1), "no packet attribute"),
        (spec("udp", A4, B4, 1, 2, ttl=256), "at most 255"),
        (spec("udp", A4, B4, 1, 2, ttl="x"), "a number from 0 to 255"),
        (spec("udp", A4, B4, 1, 2, offset=7), "multiple of 8"),
        (spec("udp", A4, B4, 1, 2, vlan="1.2.3"), "one or two ids"),
        (spec("udp", A4, B4, 1, 2, length=27), "too short"),
        (spec("udp", A4, B4, 1, 2, payload=65535), "room for 65535"),
        (spec("arp", A6, B6), "write `nd`"),
        (spec("nd", A4, B4), "does not go with IPv4"),
        (spec("icmp", A4, B4, neighbour_solicitation=1), "not a message of ICMP over IPv4"),
        (spec("ip", A4, B4), "needs its protocol"),
        (spec("udp", A4, B4, 1, 2, src_mac="02:00"), "no MAC address"),
    ],
)  # fmt: skip
def test_words_that_make_no_frame_are_refused(words: ir.PacketSpec, said: str) -> None:
    with pytest.raises(frames.FrameError, match=said):
        frames.build(words)


def test_sctp_checksum_is_the_published_one() -> None:
    assert frames.crc32c(b"123456789") == 0xE3069283  # the check value of CRC-32C/iSCSI
    assert SCTP(frames.build(WHOLE[8])[34:]).dport == 2
