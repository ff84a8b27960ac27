"""The reference packet parser: what netc reads out of a frame, exactly as docs/packet-model.md says.

The XDP prelude implements the same page in C and shares no code with this file; the differential tests compare the two. Written
to be read beside the page: one function a section, sections named by their numbers. Formats: IEEE 802.1Q, RFC 791 (IPv4),
RFC 8200 (IPv6 and its extension headers), RFC 4302 (AH), RFC 9293 (TCP), RFC 768 (UDP), RFC 9260 (SCTP), RFC 4443, RFC 4861.
"""

from __future__ import annotations

from dataclasses import dataclass

from compiler.ir import CONTROL_KINDS, V4_BASE, Field

MIN_FRAME = 14  # bytes; the kernel refuses shorter frames
VLAN_TYPES = (0x8100, 0x88A8)
MAX_TAGS = 2
MAX_EXTENSIONS = 8
MAX_EXTENSION_BYTES = 256
STP_MAC = 0x0180C2000000
L2_TYPES = (0x88CC, 0x8809, 0x888E)  # LLDP, slow protocols (LACP), EAPOL
EXTENSIONS = (0, 43, 60, 135, 139, 140, 51, 44)  # hop-by-hop, routing, destination, mobility, HIP, shim6; AH; fragment
AH, FRAGMENT_HEADER = 51, 44
ICMP, TCP, UDP, ICMP6, SCTP = 1, 6, 17, 58, 132
PROTO_KINDS = {TCP: "tcp", UDP: "udp", SCTP: "sctp"}
ND_TYPES = range(133, 138)
MLD_TYPES = (130, 131, 132, 143)
_CONTROL = frozenset(CONTROL_KINDS)
_NO_CONTROL: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Packet:
    """What one frame says. A field that is not in `fields` is absent; `kinds` are true, all others false.

    control: those of `kinds` that make it control traffic. transport, end: where the transport header begins and layer 3 ends
    in the frame (bytes; 0 where the packet has no readable transport header).
    """

    fields: dict[Field, int]
    kinds: frozenset[str]
    control: frozenset[str]
    transport: int = 0
    end: int = 0


class _Reading:
    """The state of one frame's parsing: what has been found so far."""

    __slots__ = ("end", "fields", "frame", "kinds", "transport")

    def __init__(self, frame: bytes) -> None:
        self.frame = frame
        self.fields: dict[Field, int] = {}
        self.kinds: set[str] = set()
        self.transport = 0
        self.end = 0


def parse(frame: bytes) -> Packet:
    """Read a frame from its destination MAC on, without FCS. Raises ValueError for fewer than MIN_FRAME bytes."""
    if len(frame) < MIN_FRAME:
        raise ValueError(f"a frame has at least {MIN_FRAME} bytes, this one has {len(frame)}")
    reading = _Reading(frame)
    _ethernet(reading)
    kinds = frozenset(reading.kinds)
    control = kinds & _CONTROL or _NO_CONTROL
    return Packet(reading.fields, kinds, control, reading.transport, reading.end)


def _ethernet(r: _Reading) -> None:
    """Sections 1 to 3: MAC addresses, tags, type."""
    frame, fields = r.frame, r.fields
    fields[Field.ETH_DST] = int.from_bytes(frame[0:6], "big")
    fields[Field.ETH_SRC] = int.from_bytes(frame[6:12], "big")
    start = _tags(r)
    if start is None:
        r.kinds.add("malformed")
        return
    ethertype = fields[Field.ETHERTYPE]
    if ethertype == 0x0800:
        r.kinds.add("ip4")
        _ipv4(r, start)
    elif ethertype == 0x86DD:
        r.kinds.add("ip6")
        _ipv6(r, start)
    elif ethertype == 0x0806:
        r.kinds.add("arp")
    elif ethertype in L2_TYPES or (ethertype < 1536 and fields[Field.ETH_DST] == STP_MAC):
        r.kinds.add("l2")


def _tags(r: _Reading) -> int | None:
    """Section 2. Returns where layer 3 begins, or None where the walk stopped."""
    frame, fields = r.frame, r.fields
    offset = 14
    ethertype = frame[12] << 8 | frame[13]
    ids: list[int] = []
    stopped = False
    while ethertype in VLAN_TYPES:
        if len(ids) == MAX_TAGS or len(frame) - offset < 4:
            stopped = True
            break
        ids.append((frame[offset] & 0x0F) << 8 | frame[offset + 1])
        ethertype = frame[offset + 2] << 8 | frame[offset + 3]
        offset += 4
    if ids and ids[0]:
        r.kinds.add("vlan")
    fields.update(zip((Field.VLAN, Field.VLAN_INNER), ids, strict=False))
    if stopped:
        return None
    fields.setdefault(Field.VLAN, 0)
    fields.setdefault(Field.VLAN_INNER, 0)
    fields[Field.ETHERTYPE] = ethertype
    return offset


def _ipv4(r: _Reading, start: int) -> None:
    """Section 4."""
    frame, fields, kinds = r.frame, r.fields, r.kinds
    left = len(frame) - start
    header = (frame[start] & 0x0F) * 4 if left else 0
    if left < 20 or frame[start] >> 4 != 4 or header < 20:
        kinds.add("malformed")
        return
    length = frame[start + 2] << 8 | frame[start + 3]
    fragment = frame[start + 6] << 8 | frame[start + 7]
    fields[Field.DSCP] = frame[start + 1] >> 2
    fields[Field.LENGTH] = length
    fields[Field.TTL] = frame[start + 8]
    fields[Field.PROTO] = proto = frame[start + 9]
    fields[Field.SRC] = V4_BASE + int.from_bytes(frame[start + 12 : start + 16], "big")
    fields[Field.DST] = V4_BASE + int.from_bytes(frame[start + 16 : start + 20], "big")
    offset = fragment & 0x1FFF
    _fragment_kinds(kinds, offset, more=bool(fragment & 0x2000))
    if proto == ICMP:
        kinds.add("icmp4")
    elif proto in PROTO_KINDS:
        kinds.add(PROTO_KINDS[proto])
    if length < header or length > left or header > left:
        kinds.add("malformed")
    elif not offset:
        _transport(r, start + header, start + length)


def _ipv6(r: _Reading, start: int) -> None:
    """Section 5, up to the extension headers."""
    frame, fields, kinds = r.frame, r.fields, r.kinds
    left = len(frame) - start
    if left < 40 or frame[start] >> 4 != 6:
        kinds.add("malformed")
        return
    length = (frame[start + 4] << 8 | frame[start + 5]) + 40
    fields[Field.DSCP] = (frame[start] & 0x0F) << 2 | frame[start + 1] >> 6
    fields[Field.LENGTH] = length
    fields[Field.TTL] = frame[start + 7]
    fields[Field.SRC] = int.from_bytes(frame[start + 8 : start + 24], "big")
    fields[Field.DST] = int.from_bytes(frame[start + 24 : start + 40], "big")
    if length > left:
        kinds.add("malformed")
        return
    _extensions(r, start + 40, start + length)


def _extensions(r: _Reading, offset: int, end: int) -> None:
    """Section 5, the walk over extension headers between `offset` and `end`; then the transport."""
    frame, kinds = r.frame, r.kinds
    following = frame[offset - 34]  # the fixed header's next-header value
    count = total = 0
    readable = True
    while following in EXTENSIONS:
        left = end - offset
        size = _extension_size(following, frame[offset + 1]) if left >= 8 else 8
        if count == MAX_EXTENSIONS or left < 8 or size > left or total + size > MAX_EXTENSION_BYTES:
            kinds.add("malformed")
            return
        next_following = frame[offset]
        if following == FRAGMENT_HEADER:
            place = frame[offset + 2] << 8 | frame[offset + 3]
            _fragment_kinds(kinds, place >> 3, more=bool(place & 1))
            readable = place >> 3 == 0
        following = next_following
        offset, count, total = offset + size, count + 1, total + size
        if not readable:
            break
    r.fields[Field.PROTO] = following
    if following == ICMP6:
        kinds.add("icmp6")
    elif following in PROTO_KINDS:
        kinds.add(PROTO_KINDS[following])
    if readable:
        _transport(r, offset, end)


def _extension_size(kind: int, length: int) -> int:
    """Bytes of an extension header with this length octet (RFC 8200 section 4, RFC 4302 section 2.2)."""
    if kind == FRAGMENT_HEADER:
        return 8
    return (length + 2) * 4 if kind == AH else (length + 1) * 8


def _fragment_kinds(kinds: set[str], offset: int, *, more: bool) -> None:
    if offset:
        kinds.update(("fragment", "later-fragment"))
    elif more:
        kinds.update(("fragment", "first-fragment"))


def _transport(r: _Reading, start: int, end: int) -> None:
    """Sections 6 and 7: the transport header between `start` and `end`."""
    kinds, fields = r.kinds, r.fields
    left = end - start
    if "tcp" in kinds:
        needs = 20
    elif "sctp" in kinds:
        needs = 12
    elif "udp" in kinds or "icmp4" in kinds or "icmp6" in kinds:
        needs = 8
    else:
        return
    if left < needs:
        kinds.add("malformed")
        return
    r.transport, r.end = start, end
    frame = r.frame
    if "icmp4" in kinds or "icmp6" in kinds:
        fields[Field.ICMP_TYPE], fields[Field.ICMP_CODE] = frame[start], frame[start + 1]
        _icmp_control(r)
        return
    fields[Field.SPORT] = frame[start] << 8 | frame[start + 1]
    fields[Field.DPORT] = frame[start + 2] << 8 | frame[start + 3]
    if "tcp" in kinds:
        fields[Field.TCP_FLAGS] = frame[start + 13]
        header = (frame[start + 12] >> 4) * 4
        if header < 20 or header > left:
            kinds.add("malformed")
    elif "udp" in kinds:
        length = frame[start + 4] << 8 | frame[start + 5]
        if length < 8 or (length > left and "first-fragment" not in kinds):
            kinds.add("malformed")


def _icmp_control(r: _Reading) -> None:
    """Section 7: neighbour discovery and multicast listener discovery. An ICMPv6 packet is not malformed when it gets here."""
    if "icmp6" not in r.kinds:
        return
    kind = r.fields[Field.ICMP_TYPE]
    if kind in ND_TYPES and r.fields[Field.TTL] == 255 and "fragment" not in r.kinds:
        r.kinds.add("nd")
    elif kind in MLD_TYPES:
        r.kinds.add("mld")
