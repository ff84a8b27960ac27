"""The reference interpreter's model of connection tracking: enough for new, established, related, invalid.

Source: net/netfilter/nf_conntrack_core.c and nf_conntrack_proto_*.c of Linux. What is not modelled is named in `Connections`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from compiler.ir import V4_BASE
from compiler.ir import Field as F
from compiler.packet import ICMP, ICMP6, SCTP, TCP, UDP, Packet

SECOND = 1_000_000_000
# Seconds that a flow is remembered: before and after a reply was seen (net/netfilter/nf_conntrack_proto_*.c, defaults).
FLOW_SECONDS = {TCP: (120, 432_000), UDP: (30, 120), SCTP: (3, 210), ICMP: (30, 30), ICMP6: (30, 30)}
OTHER_SECONDS = (600, 600)
ICMP_REQUESTS = {8: 0, 13: 14, 15: 16, 17: 18}  # request: its reply (RFC 792, RFC 950)
ICMP6_REQUESTS = {128: 129, 139: 140}
ICMP_ERRORS = (3, 4, 5, 11, 12)
_TYPE_BASE = 1 << 16  # above any id
_SYN, _SYN_ACK_RST_FIN = 0x02, 0x17
Flow = tuple[int, int, int, int, int]  # protocol, source, destination, source port or id, destination port or id


@dataclass(slots=True)
class _Entry:
    reply_seen: bool = False
    expiry: int = 0


@dataclass(slots=True)
class Connections:
    """A simple model of conntrack, enough for the language's four states.

    new: the flow's first direction, before a reply; established: after a reply was seen; related: an ICMP error that
    quotes a known flow; invalid: malformed, TCP that does not begin with SYN (nf_conntrack_tcp_loose=0), an ICMP reply or error of nothing known.
    Later fragments have no state (the kernel joins them first). A flow is remembered once a packet of it was passed. Not modelled: TCP windows
    and closing, NAT, expectations of helpers.
    """

    flows: dict[Flow, _Entry] = field(default_factory=dict)

    def state(self, packet: Packet, frame: bytes, now: int) -> str | None:
        """The packet's state, None where it has none; a packet in the reply direction marks its flow as answered."""
        if "malformed" in packet.kinds:
            return "invalid"
        flow = _flow(packet, frame)
        if flow is None:
            return None
        if _is_icmp_error(packet):
            return self._error_state(packet, frame, now)
        answered = self._live(_reversed(flow), now)
        if answered is not None:
            answered.reply_seen = True
            return "established"
        entry = self._live(flow, now)
        if entry is not None:
            return "established" if entry.reply_seen else "new"
        return "new" if _may_begin(packet) else "invalid"

    def remember(self, packet: Packet, frame: bytes, now: int) -> None:
        """Note that the packet was passed: its flow is known from now on, or lives longer."""
        flow = _flow(packet, frame)
        if flow is None or "malformed" in packet.kinds or _is_icmp_error(packet):
            return
        entry = self._live(_reversed(flow), now) or self._live(flow, now)
        if entry is None:
            if not _may_begin(packet):
                return
            entry = self.flows[flow] = _Entry()
        seconds = FLOW_SECONDS.get(flow[0], OTHER_SECONDS)[entry.reply_seen]
        entry.expiry = now + seconds * SECOND

    def _live(self, flow: Flow, now: int) -> _Entry | None:
        entry = self.flows.get(flow)
        if entry is not None and entry.expiry <= now:
            del self.flows[flow]
            return None
        return entry

    def _error_state(self, packet: Packet, frame: bytes, now: int) -> str:
        flow = _quoted_flow(frame[packet.transport + 8 : packet.end], 4 if "ip4" in packet.kinds else 6)
        known = flow is not None and (self._live(flow, now) or self._live(_reversed(flow), now))
        return "related" if known else "invalid"


def _reversed(flow: Flow) -> Flow:
    return flow[0], flow[2], flow[1], flow[4], flow[3]


def _flow(packet: Packet, frame: bytes) -> Flow | None:
    """The packet's flow in its own direction; None for a later fragment and for what is not whole."""
    fields = packet.fields
    proto, src, dst = fields.get(F.PROTO), fields.get(F.SRC), fields.get(F.DST)
    if proto is None or src is None or dst is None or "later-fragment" in packet.kinds:
        return None
    if F.ICMP_TYPE in fields:
        number = int.from_bytes(frame[packet.transport + 4 : packet.transport + 6], "big")
        return _icmp_flow(proto, src, dst, fields[F.ICMP_TYPE], number)
    return proto, src, dst, fields.get(F.SPORT, 0), fields.get(F.DPORT, 0)


def _icmp_flow(proto: int, src: int, dst: int, kind: int, number: int) -> Flow:
    """Requests and replies of one id are the two directions of one flow: the request's type stands on its far side."""
    requests = ICMP_REQUESTS if proto == ICMP else ICMP6_REQUESTS
    for request, reply in requests.items():
        if kind == reply:
            return proto, src, dst, _TYPE_BASE + request, number
    return proto, src, dst, number, _TYPE_BASE + kind


def _quoted_flow(quoted: bytes, version: int) -> Flow | None:
    """The flow of the packet inside an ICMP error: its IP header and at least 8 bytes more (RFC 792, RFC 4443).

    IPv6 extension headers inside the quotation are not walked.
    """
    header = (quoted[0] & 0x0F) * 4 if version == 4 and quoted else 40
    if len(quoted) < header + 8 or header < 20 or quoted[0] >> 4 != version:
        return None
    if version == 4:
        proto, base, start, size = quoted[9], V4_BASE, 12, 4
    else:
        proto, base, start, size = quoted[6], 0, 8, 16
    src = base + int.from_bytes(quoted[start : start + size], "big")
    dst = base + int.from_bytes(quoted[start + size : start + 2 * size], "big")
    if proto in (ICMP, ICMP6):
        return _icmp_flow(proto, src, dst, quoted[header], int.from_bytes(quoted[header + 4 : header + 6], "big"))
    if proto not in (TCP, UDP, SCTP):
        return proto, src, dst, 0, 0
    sport, dport = quoted[header : header + 2], quoted[header + 2 : header + 4]
    return proto, src, dst, int.from_bytes(sport, "big"), int.from_bytes(dport, "big")


def _is_icmp_error(packet: Packet) -> bool:
    kind = packet.fields.get(F.ICMP_TYPE)
    if kind is None:
        return False
    return kind in ICMP_ERRORS if "icmp4" in packet.kinds else kind < 128


def _may_begin(packet: Packet) -> bool:
    """Whether an unknown flow may begin with this packet."""
    if "tcp" in packet.kinds:
        return packet.fields[F.TCP_FLAGS] & _SYN_ACK_RST_FIN == _SYN
    kind = packet.fields.get(F.ICMP_TYPE)
    if kind is None:
        return True
    return kind in (ICMP_REQUESTS if "icmp4" in packet.kinds else ICMP6_REQUESTS)
