"""Layouts: the kinds of packets whose fields are all known to be there or not. A chain is lowered once for each layout.

nft has no way to ask whether a field is absent, and reads past the end of the IP packet into padding. So the entry chain sorts packets by
what docs/packet-model.md finds in them, with its bounds, and jumps to a chain in which every kind and every field's presence is a constant.
IPv6 extension headers that only the model looks through, or that stand behind a fragment header, make a packet opaque; chains of them that the model calls malformed (more than
eight, over 256 octets) are judged as the stack sees them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from compiler.ir import Field
from compiler.targets import nft_json as nft
from compiler.targets.nft_json import Json

VLAN_TYPES = ((0x8100, 0x8100), (0x88A8, 0x88A8))
ARP, IP4, IP6 = 0x0806, 0x0800, 0x86DD
L2_TYPES = ((0x8809, 0x8809), (0x888E, 0x888E), (0x88CC, 0x88CC))
EXTENSIONS = ((0, 0), (43, 44), (51, 51), (60, 60), (135, 135), (139, 140))
UNWALKED = ((51, 51), (135, 135), (139, 140))  # AH, mobility, HIP, shim6: nft takes them for the protocol, the model walks on
LLC = ((0x0001, 0x0001), (0x0004, 0x0004))  # ETH_P_802_3, ETH_P_802_2: what skb->protocol says of a type under 1536
STP_MAC = 0x0180C2000000
TRANSPORTS = {"tcp": (6, 20), "udp": (17, 8), "sctp": (132, 12)}  # protocol number, octets that have to be there
PORTS = frozenset({Field.SPORT, Field.DPORT})
ICMP = frozenset({Field.ICMP_TYPE, Field.ICMP_CODE})
LINK = frozenset({Field.ETH_SRC, Field.ETH_DST, Field.ETHERTYPE, Field.VLAN})
NETWORK = frozenset({Field.SRC, Field.DST, Field.DSCP, Field.TTL, Field.LENGTH})


@dataclass(frozen=True, slots=True)
class Layout:
    """family 4, 6 or 0 (not IP). fields: what is there. proto: its number where it is one constant, else None.

    control: the control kind that every packet of this layout is, or "". opaque: what lies behind the IP header cannot be read here,
    though the model can; such a packet is dropped wherever a drop rule might match, and passed only by what surely does.
    """

    name: str
    family: int
    fields: frozenset[Field]
    proto: int | None = None
    control: str = ""
    opaque: bool = False

    @property
    def whole_header(self) -> bool:
        """The IP header could be read."""
        return Field.SRC in self.fields


def _transport(family: int) -> Iterator[Layout]:
    header = LINK | NETWORK | {Field.PROTO}
    for name, (proto, _) in TRANSPORTS.items():
        flags = {Field.TCP_FLAGS} if name == "tcp" else set()
        yield Layout(f"ip{family}-{name}", family, header | PORTS | flags, proto)
    yield Layout(f"ip{family}-icmp", family, header | ICMP, 1 if family == 4 else 58)
    yield Layout(f"ip{family}-other", family, header)


LAYOUTS = (
    *_transport(4),
    Layout("ip4-broken", 4, LINK),
    *_transport(6),
    Layout("ip6-unknown", 6, LINK | NETWORK),  # lengths or extension headers that do not add up: no protocol
    Layout("ip6-broken", 6, LINK),
    Layout("ip6-opaque", 6, LINK | NETWORK, opaque=True),
    Layout("ip6-nd", 6, LINK | NETWORK | {Field.PROTO} | ICMP, 58, "nd"),
    Layout("ip6-mld", 6, LINK | NETWORK | {Field.PROTO} | ICMP, 58, "mld"),
    Layout("arp", 0, LINK, None, "arp"),
    Layout("l2", 0, LINK, None, "l2"),
    Layout("not-ip", 0, LINK),
)

Sorted = list[tuple[str, list[Json], str]]
"""Rules of the sorting chains: (sorting chain, matches, chain or layout to go to)."""


def sorting(ip_only: bool) -> Sorted:
    """How packets find their layout. ip_only: in the inet family, where nothing else comes by."""
    protocol = nft.meta("protocol")
    rules: Sorted = [
        ("sort", [nft.match(protocol, IP4)], "sort-ip4"),
        ("sort", [nft.match(protocol, IP6)], "sort-ip6"),
    ]
    if not ip_only:
        rules += [
            ("sort", [nft.match(protocol, ARP)], "arp"),
            ("sort", [nft.among(protocol, L2_TYPES)], "l2"),
            ("sort", [nft.among(protocol, LLC), nft.match(nft.raw("ll", 0, 48), STP_MAC)], "l2"),
            ("sort", [], "not-ip"),
        ]
    return rules + _sort_ip4() + _sort_ip6() + _sort_icmp6()


def _sort_ip4() -> Sorted:
    rules: Sorted = [
        ("sort-ip4", [nft.match(nft.raw("nh", 0, 4), 4, "!=")], "ip4-broken"),
        ("sort-ip4", [nft.match(nft.raw("nh", 4, 4), 5, "<")], "ip4-broken"),
        ("sort-ip4", [nft.readable("nh", 19)], "sort-ip4-header"),
        ("sort-ip4", [], "ip4-broken"),
        ("sort-ip4-header", [nft.match(nft.masked(nft.raw("nh", 48, 16), 0x1FFF), 0, "!=")], "ip4-other"),
    ]
    for name, (proto, needed) in {**TRANSPORTS, "icmp": (1, 8)}.items():
        rules.append(("sort-ip4-header", [nft.match(nft.meta("l4proto"), proto), _ip4_holds(needed)], f"ip4-{name}"))
    return [*rules, ("sort-ip4-header", [], "ip4-other")]


def _ip4_holds(needed: int) -> Json:
    """Total length is at least IHL×4 + needed: one look-up of the header's first word without version, DSCP and ECN."""
    pairs = tuple(((ihl << 24) | (ihl * 4 + needed), (ihl << 24) | 0xFFFF) for ihl in range(5, 16))
    return nft.among(nft.masked(nft.raw("nh", 0, 32), 0x0F00FFFF), pairs)


_FRAGMENT_NEXT: Json = {"exthdr": {"name": "frag", "field": "nexthdr"}}


def _sort_ip6() -> Sorted:
    plain = {**TRANSPORTS, "icmp": (58, 8)}
    protocols = tuple(sorted((proto, proto) for proto, _ in plain.values()))
    next_header, length = nft.raw("nh", 48, 8), nft.raw("nh", 32, 16)
    rules: Sorted = [
        ("sort-ip6", [nft.match(nft.raw("nh", 0, 4), 6, "!=")], "ip6-broken"),
        ("sort-ip6", [nft.readable("nh", 39)], "sort-ip6-header"),
        ("sort-ip6", [], "ip6-broken"),
        ("sort-ip6-header", [nft.among(next_header, protocols)], "sort-ip6-plain"),
        ("sort-ip6-header", [nft.among(_FRAGMENT_NEXT, EXTENSIONS)], "ip6-opaque"),  # a second fragment header would be missed
        ("sort-ip6-header", [*fragment6("later-fragment", True)[0], nft.among(nft.meta("l4proto"), ((0, 255),))], "ip6-other"),
        ("sort-ip6-header", [nft.among(nft.meta("l4proto"), UNWALKED)], "ip6-opaque"),
    ]
    for name, (proto, needed) in plain.items():
        target = "sort-icmp6" if name == "icmp" else f"ip6-{name}"
        is_it = nft.match(nft.meta("l4proto"), proto)
        rules.append(("sort-ip6-plain", [is_it, nft.among(length, ((needed, 0xFFFF),))], target))
        rules.append(("sort-ip6-header", [is_it, nft.readable("th", needed - 1)], target))
    for chain in ("sort-ip6-plain", "sort-ip6-header"):
        rules += [(chain, [nft.among(nft.meta("l4proto"), ((0, 255),))], "ip6-other"), (chain, [], "ip6-unknown")]
    return rules


def _sort_icmp6() -> Sorted:
    kind, hops = nft.raw("th", 0, 8), nft.match(nft.raw("nh", 56, 8), 255)
    rules: Sorted = [("sort-icmp6", [nft.among(kind, ((130, 132), (143, 143)))], "ip6-mld")]
    rules += [("sort-icmp6", [nft.among(kind, ((133, 137),)), hops, *whole], "ip6-nd") for whole in fragment6("fragment", False)]
    return [*rules, ("sort-icmp6", [], "ip6-icmp")]


def fragment4(kind: str, wanted: bool) -> list[list[Json]]:
    """The alternatives under which an IPv4 packet is (not) a fragment of this kind."""
    word = nft.raw("nh", 48, 16)
    if kind == "fragment":
        return [[nft.match(nft.masked(word, 0x3FFF), 0, "!=" if wanted else "==")]]
    if kind == "later-fragment":
        return [[nft.match(nft.masked(word, 0x1FFF), 0, "!=" if wanted else "==")]]
    return [[nft.match(nft.masked(word, 0x3FFF), 0x2000, "==" if wanted else "!=")]]


def fragment6(kind: str, wanted: bool) -> list[list[Json]]:
    """The same for IPv6, by its fragment header, which may be missing."""
    offset = {"exthdr": {"name": "frag", "field": "frag-off"}}
    more = {"exthdr": {"name": "frag", "field": "more-fragments"}}
    later, not_later = nft.match(offset, 0, "!="), nft.match(offset, 0)
    first, last = nft.match(more, 1), nft.match(more, 0)
    none = nft.match({"exthdr": {"name": "frag"}}, False)
    if kind == "fragment":
        return [[later], [not_later, first]] if wanted else [[none], [not_later, last]]
    if kind == "later-fragment":
        return [[later]] if wanted else [[none], [not_later]]
    return [[not_later, first]] if wanted else [[none], [later], [not_later, last]]
