"""Packet words to bytes: real Ethernet frames with right lengths and checksums, for tests, traffic and demonstrations.

`tcp 203.0.113.9:40000 -> 192.0.2.1:22 syn vlan 10` is PacketSpec("tcp", "203.0.113.9", "192.0.2.1", 40000, 22, (("syn", 1), ("vlan", 10))).

proto: tcp, udp, sctp; icmp (by the addresses' family), icmp4, icmp6; arp; nd (neighbour solicitation) and mld (listener report);
gre, esp, ah, ospf, igmp, or `ip` with the attribute `proto`; without addresses: lldp, lacp, stp, eapol.

Attributes, in any order. FLAGS stand alone (their value is not looked at), VALUED take one:

| attribute | meaning |
|---|---|
| `syn` `ack` `fin` `rst` `psh` `urg` `ece` `cwr`, `flags N` | TCP flags; without any a TCP packet has `ack` |
| an ICMP name (ICMP_NAMES), `type N`, `code N`, `id N`, `seq N` | ICMP; without a type: echo-request |
| `payload N` | N payload bytes behind the transport header |
| `length N` | layer 3 length: the payload is made to fit |
| `ttl N`, `dscp NAME or N`, `proto N` | IP header (ttl 64; nd and mld 255 and 1) |
| `vlan N`, `vlan N.M` | one tag, or two (outer 802.1ad, inner 802.1Q) |
| `first-fragment`, `later-fragment`, `offset BYTES`, `more` | fragments; `later-fragment` is offset 1480 |
| `malformed` | the IP header promises more bytes than the frame has |
| `reply` | an ARP reply instead of a request |
| `src-mac M`, `dst-mac M` | instead of the locally administered constants |
| `unpadded` | frames under 60 bytes stay as short as they are |

Formats: RFC 791, 8200, 9293, 768, 9260, 792, 4443, 4861, 3810, 826; checksums RFC 1071, SCTP's CRC32c RFC 9260 appendix A.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address

from compiler.ir import PacketSpec

SRC_MAC, DST_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"
MIN_PADDED = 60  # bytes: Ethernet's 64 without FCS
TCP_FLAGS = {"fin": 1, "syn": 2, "rst": 4, "psh": 8, "ack": 16, "urg": 32, "ece": 64, "cwr": 128}
ICMP_NAMES: dict[str, tuple[tuple[int, int] | None, tuple[int, int] | None]] = {
    "echo-request": ((8, 0), (128, 0)),
    "echo-reply": ((0, 0), (129, 0)),
    "destination-unreachable": ((3, 0), (1, 0)),
    "packet-too-big": ((3, 4), (2, 0)),
    "time-exceeded": ((11, 0), (3, 0)),
    "parameter-problem": ((12, 0), (4, 0)),
    "redirect": ((5, 0), (137, 0)),
    "timestamp-request": ((13, 0), None),
    "timestamp-reply": ((14, 0), None),
    "router-solicitation": ((10, 0), (133, 0)),
    "router-advertisement": ((9, 0), (134, 0)),
    "neighbour-solicitation": (None, (135, 0)),
    "neighbour-advertisement": (None, (136, 0)),
    "neighbor-solicitation": (None, (135, 0)),
    "neighbor-advertisement": (None, (136, 0)),
}
"""Name: (type, code) in ICMP, in ICMPv6; None: the family has no such message."""
FLAGS = frozenset(
    (*TCP_FLAGS, *ICMP_NAMES, "first-fragment", "later-fragment", "more", "malformed", "reply", "unpadded")
)
VALUED = frozenset(
    (
        "flags",
        "type",
        "code",
        "id",
        "seq",
        "payload",
        "length",
        "ttl",
        "dscp",
        "proto",
        "vlan",
        "offset",
        "src-mac",
        "dst-mac",
    )
)
PROTOCOLS = {
    "tcp": 6, "udp": 17, "sctp": 132, "icmp4": 1, "icmp6": 58, "gre": 47, "esp": 50, "ah": 51, "ospf": 89, "igmp": 2,
    "nd": 58, "mld": 58,
}  # fmt: skip
LINK_WORDS = {  # word: destination MAC, what follows the source MAC
    "lldp": (
        "01:80:c2:00:00:0e",
        b"\x88\xcc\x02\x07\x04\x02\x00\x00\x00\x00\x01\x04\x03\x03p1\x06\x02\x00\x78\x00\x00",
    ),
    "lacp": ("01:80:c2:00:00:02", b"\x88\x09\x01\x01" + bytes(108)),
    "stp": ("01:80:c2:00:00:00", b"\x00\x26\x42\x42\x03" + bytes(35)),
    "eapol": ("01:80:c2:00:00:03", b"\x88\x8e\x02\x01\x00\x00"),
}
DSCP_NAMES = {
    "cs0": 0, "cs1": 8, "cs2": 16, "cs3": 24, "cs4": 32, "cs5": 40, "cs6": 48, "cs7": 56, "le": 1, "va": 44, "ef": 46,
    **{f"af{c}{d}": c * 8 + d * 2 for c in range(1, 5) for d in range(1, 4)},
}  # fmt: skip
"""RFC 2474, 2597, 3246, 5865, 8622."""
Address = IPv4Address | IPv6Address


class FrameError(ValueError):
    """Packet words that make no frame. The text names the word and what would be right."""


def build(spec: PacketSpec, *, src_mac: str = SRC_MAC, dst_mac: str = DST_MAC) -> bytes:
    """The frame without FCS, padded to 60 bytes. Raises FrameError."""
    words = _Words(spec)
    src_mac, dst_mac = words.text("src-mac", src_mac), words.text("dst-mac", dst_mac)
    if spec.proto in LINK_WORDS:
        fixed_mac, body = LINK_WORDS[spec.proto]
        return _framed(words, words.text("dst-mac", fixed_mac), src_mac, body)
    src, dst = _address(spec.src), _address(spec.dst)
    if src.version != dst.version:
        raise FrameError(f"{src} and {dst} are of two families: a packet has one")
    if spec.proto == "arp":
        return _framed(
            words, words.text("dst-mac", "ff:ff:ff:ff:ff:ff"), src_mac, b"\x08\x06" + _arp(words, src_mac, src, dst)
        )
    proto = _protocol(words, src.version)
    offset = words.number("offset", 1480 if words.has("later-fragment") else 0, 65528)
    if offset % 8:
        raise FrameError(f"offset {offset}: a fragment's offset is a multiple of 8 bytes")
    more = words.has("more") or words.has("first-fragment")
    headers = 20 if src.version == 4 else 48
    body = _payload(words, headers, 8) if offset else _transport(words, spec, proto, src, dst)
    packet = _ipv4 if src.version == 4 else _ipv6
    return _framed(words, dst_mac, src_mac, packet(words, proto, src, dst, body, offset, more))


class _Words:
    """The attributes of one spec, looked up by name and checked as they are read."""

    def __init__(self, spec: PacketSpec) -> None:
        self.proto = spec.proto
        self._values = dict(spec.attributes)
        for key in self._values:
            if key not in FLAGS and key not in VALUED:
                raise FrameError(f"`{key}` is no packet attribute; there are: {', '.join(sorted(FLAGS | VALUED))}")

    def has(self, key: str) -> bool:
        return key in self._values

    def text(self, key: str, default: str) -> str:
        return str(self._values.get(key, default))

    def number(self, key: str, default: int, most: int) -> int:
        value = self._values.get(key, default)
        try:
            number = int(value)
        except ValueError:
            raise FrameError(f"`{key} {value}`: a number from 0 to {most} is wanted") from None
        if not 0 <= number <= most:
            raise FrameError(f"`{key} {value}`: at most {most}, at least 0")
        return number

    def dscp(self) -> int:
        name = self.text("dscp", "0")
        return DSCP_NAMES[name] if name in DSCP_NAMES else self.number("dscp", 0, 63)


def _address(text: str) -> Address:
    try:
        return ip_address(text)
    except ValueError:
        raise FrameError(
            f"`{text}` is no IP address: write 192.0.2.1 or 2001:db8::1 ([2001:db8::1]:53 with a port)"
        ) from None


def _mac(text: str) -> bytes:
    try:
        data = bytes.fromhex(text.replace(":", ""))
    except ValueError:
        data = b""
    if len(data) != 6:
        raise FrameError(f"`{text}` is no MAC address: write 02:00:00:00:00:01")
    return data


def _protocol(words: _Words, version: int) -> int:
    name = words.proto
    if name == "icmp":
        return 1 if version == 4 else 58
    if name in ("icmp4", "igmp") and version == 6 or name in ("icmp6", "nd", "mld") and version == 4:
        raise FrameError(f"`{name}` does not go with IPv{version} addresses")
    if name == "ip":
        if not words.has("proto"):
            raise FrameError("`ip` needs its protocol: ip 192.0.2.1 -> 192.0.2.2 proto 47")
        return words.number("proto", 0, 255)
    if name not in PROTOCOLS:
        known = ", ".join(sorted((*PROTOCOLS, *LINK_WORDS, "icmp", "arp", "ip")))
        raise FrameError(f"`{name}` is no protocol that packets can be written in; there are: {known}")
    return PROTOCOLS[name]


def _framed(words: _Words, dst_mac: str, src_mac: str, typed: bytes) -> bytes:
    """MAC addresses and tags before `typed` (type and what follows), padding behind."""
    frame = _mac(dst_mac) + _mac(src_mac) + _tags(words.text("vlan", "")) + typed
    return frame if words.has("unpadded") else frame.ljust(MIN_PADDED, b"\0")


def _tags(text: str) -> bytes:
    ids = text.split(".") if text else []
    if len(ids) > 2 or not all(i.isascii() and i.isdigit() and int(i) < 4095 for i in ids):
        raise FrameError(f"`vlan {text}`: one or two ids from 0 to 4094: vlan 10, vlan 10.20")
    types = (0x88A8, 0x8100) if len(ids) == 2 else (0x8100,)
    return b"".join(struct.pack("!HH", kind, int(i)) for kind, i in zip(types, ids, strict=False))


def _arp(words: _Words, src_mac: str, src: Address, dst: Address) -> bytes:
    if src.version != 4:
        raise FrameError("`arp` is IPv4's: with IPv6 addresses write `nd`")
    operation = 2 if words.has("reply") else 1
    return struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation) + _mac(src_mac) + src.packed + bytes(6) + dst.packed


def _ipv4(words: _Words, proto: int, src: Address, dst: Address, body: bytes, offset: int, more: bool) -> bytes:
    length = _length(words, 20 + len(body))
    fragment = offset // 8 | (0x2000 if more else 0)
    ttl = words.number("ttl", 64, 255)
    head = (
        struct.pack("!BBHHHBBH", 0x45, words.dscp() << 2, length, 1, fragment, ttl, proto, 0) + src.packed + dst.packed
    )
    return b"\x08\x00" + head[:10] + struct.pack("!H", checksum(head)) + head[12:] + body


def _ipv6(words: _Words, proto: int, src: Address, dst: Address, body: bytes, offset: int, more: bool) -> bytes:
    if words.proto == "mld":  # RFC 3810: behind a router alert
        proto, body = 0, bytes((proto, 0, 5, 2, 0, 0, 1, 0)) + body
    if offset or more:
        proto, body = 44, struct.pack("!BBHI", proto, 0, offset | more, 1) + body
    ttl = words.number("ttl", {"nd": 255, "mld": 1}.get(words.proto, 64), 255)
    length = _length(words, 40 + len(body)) - 40
    first = 6 << 28 | words.dscp() << 22
    return b"\x86\xdd" + struct.pack("!IHBB", first, length, proto, ttl) + src.packed + dst.packed + body


def _length(words: _Words, length: int) -> int:
    """The layer 3 length that the header states; a malformed packet's is beyond its frame, padding included."""
    return min(max(length, MIN_PADDED - 14) + 1, 65535) if words.has("malformed") else length


def _transport(words: _Words, spec: PacketSpec, proto: int, src: Address, dst: Address) -> bytes:
    """The transport header with its payload and checksum."""
    above = 20 if src.version == 4 else 40
    if words.has("more") or words.has("first-fragment"):
        above += 0 if src.version == 4 else 8
    if words.proto == "nd":
        target = struct.pack("!BBHI", 135, 0, 0, 0) + dst.packed
        return _summed(target + _payload(words, above + 24), 2, proto, src, dst)
    if words.proto == "mld":  # an exclude report for the destination group
        return _summed(struct.pack("!BBHHHBBH", 143, 0, 0, 0, 1, 4, 0, 0) + dst.packed, 2, proto, src, dst)
    if proto in (1, 58):
        return _icmp(words, proto, src, dst, above)
    if proto not in (6, 17, 132):
        return _payload(words, above)
    if spec.sport is None or spec.dport is None:
        raise FrameError(f"`{spec.proto}` needs ports: {spec.proto} 192.0.2.1:1024 -> 192.0.2.2:53")
    ports = struct.pack("!HH", spec.sport, spec.dport)
    if proto == 6:
        payload = _payload(words, above + 20)
        return _summed(
            ports + struct.pack("!IIBBHHH", 1, 0, 0x50, _tcp_flags(words), 64240, 0, 0) + payload, 16, proto, src, dst
        )
    if proto == 17:
        payload = _payload(words, above + 8)
        return _summed(ports + struct.pack("!HH", 8 + len(payload), 0) + payload, 6, proto, src, dst)
    chunks = _payload(words, above + 12)
    return ports + struct.pack("!I", 1) + struct.pack("<I", crc32c(ports + struct.pack("!II", 1, 0) + chunks)) + chunks


def _icmp(words: _Words, proto: int, src: Address, dst: Address, above: int) -> bytes:
    name = next((n for n in ICMP_NAMES if words.has(n)), "echo-request")
    known = ICMP_NAMES[name][proto == 58]
    if known is None:
        raise FrameError(f"`{name}` is not a message of ICMP over IPv{src.version}")
    kind, code = words.number("type", known[0], 255), words.number("code", 0 if words.has("type") else known[1], 255)
    head = struct.pack("!BBHHH", kind, code, 0, words.number("id", 1, 65535), words.number("seq", 1, 65535))
    least = 16 if proto == 58 and kind in (135, 136) else 0  # neighbour discovery carries a target
    return _summed(head + _payload(words, above + 8, least), 2, proto, src, dst)


def _tcp_flags(words: _Words) -> int:
    if words.has("flags"):
        return words.number("flags", 0, 255)
    return sum(bit for name, bit in TCP_FLAGS.items() if words.has(name)) or TCP_FLAGS["ack"]


def _payload(words: _Words, above: int, default: int = 0) -> bytes:
    """Payload bytes (0, 1, 2 …): as many as `payload` says, or what `length` leaves after `above` bytes of headers."""
    count = words.number("payload", default, 65535)
    if words.has("length"):
        count = words.number("length", 0, 65535) - above
        if count < 0:
            raise FrameError(f"`length {words.text('length', '')}` is too short: the headers alone have {above} bytes")
    if above + count > 65535:
        raise FrameError(f"the packet would have {above + count} bytes; IP has room for 65535")
    return (bytes(range(256)) * (count // 256 + 1))[:count]


def _summed(body: bytes, place: int, proto: int, src: Address, dst: Address) -> bytes:
    """`body` with its checksum at `place`, over the pseudo header except for ICMPv4; UDP writes 0 as 0xffff (RFC 768)."""
    pseudo = b"" if proto == 1 else src.packed + dst.packed + struct.pack("!IHBB", len(body), 0, 0, proto)
    value = checksum(pseudo + body)
    if value == 0 and proto == 17:
        value = 0xFFFF
    return body[:place] + struct.pack("!H", value) + body[place + 2 :]


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of `data`; 0 over data that holds its own right checksum."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli), which SCTP puts into its header in little-endian order (RFC 9260, appendix A)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return ~crc & 0xFFFFFFFF
