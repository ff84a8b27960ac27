"""An expression as nft matches, for one layout: a list of alternatives, each a list of matches that all have to hold.

`not` is pushed to the leaves. In a layout it is known whether a field is there, so an absent field gives no alternative, plain or under
`not`: that is the three-valued logic of LANGUAGE.md, meaning 2. No alternative: never true. One empty alternative: always true.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from ipaddress import IPv4Address, IPv6Address

from compiler import ranges as rng
from compiler.ir import (
    FIELD_BITS,
    V4_BASE,
    V4_LAST,
    And,
    Bits,
    Connection,
    Const,
    Expr,
    Field,
    Is,
    Member,
    Not,
    Or,
    Ranges,
    Within,
)
from compiler.targets import nft_json as nft
from compiler.targets.nft_json import Json
from compiler.targets.nft_layout import IP4, IP6, LLC, TRANSPORTS, VLAN_TYPES, Layout, fragment4, fragment6

Alternatives = list[list[Json]]
NEVER: Alternatives = []
ALWAYS: Alternatives = [[]]
MAX_ALTERNATIVES = 512  # of one rule in one layout
CT_STATES = ("invalid", "established", "related", "new", "untracked")  # all that `ct state` can say: one of them
FRAGMENTS = ("fragment", "first-fragment", "later-fragment")
TYPE, INNER_TYPE, TAG = nft.raw("ll", 96, 16), nft.raw("ll", 128, 16), nft.raw("ll", 112, 16)
UNTAGGED = nft.match(TYPE, {"set": [low for low, _ in VLAN_TYPES]}, "!=")
TAGGED = nft.among(TYPE, VLAN_TYPES)


class TooComplexError(Exception):
    """More alternatives than a chain should hold."""


BEHIND = frozenset({Field.PROTO, Field.SPORT, Field.DPORT, Field.TCP_FLAGS, Field.ICMP_TYPE, Field.ICMP_CODE})
"""What an opaque packet hides."""


def reveal(expr: Expr, helping: bool) -> Expr:
    """The expression for an opaque packet: what it hides helps the whole to be true, or hinders it, also under `not`.

    helping: true whenever the whole could be. Not helping: true only where the whole surely is.
    """
    match expr:
        case Not(item):
            return Not(reveal(item, not helping))
        case And(items) | Or(items):
            return type(expr)(tuple(reveal(item, helping) for item in items))
        case Is("tcp" | "udp" | "sctp" | "icmp6" | "nd" | "mld" | "fragment" | "first-fragment" | "later-fragment"):
            return Const(helping)
        case Within(field, _) | Member(field, _) | Bits(field, _, _) if field in BEHIND:
            return Const(helping)
    return expr


def alternatives(expr: Expr, layout: Layout, connections: bool, wanted: bool = True) -> Alternatives:
    """When `expr` is `wanted` for packets of this layout. connections: connection tracking can be asked here.

    Raises TooComplexError.
    """
    match expr:
        case Not(item):
            return alternatives(item, layout, connections, not wanted)
        case And(items) | Or(items):
            parts = (alternatives(item, layout, connections, wanted) for item in items)
            return _all(parts) if isinstance(expr, And) == wanted else _any(parts)
        case Const(value):
            return ALWAYS if value == wanted else NEVER
        case Connection(states):
            return _connection(states, layout, wanted) if connections else NEVER
        case Is(kind):
            return _kind(kind, layout, wanted)
        case Bits(field, mask, value):
            tested = nft.match(nft.masked(nft.raw("th", 104, 8), mask), value, "==" if wanted else "!=")
            return [[tested]] if field in layout.fields else NEVER
        case Member(field, name):
            return _member(field, name, layout, wanted)
        case Within(field, ranges):
            return within(field, ranges if wanted else rng.subtract(_domain(field), ranges), layout)


def names_control(expr: Expr, kind: str) -> bool:
    """The expression names this control kind outside `not`."""
    match expr:
        case Is(name):
            return name == kind
        case And(items) | Or(items):
            return any(names_control(item, kind) for item in items)
    return False


def _all(parts: Iterable[Alternatives]) -> Alternatives:
    return reduce(lambda a, b: _bounded([x + [m for m in y if m not in x] for x in a for y in b]), parts, ALWAYS)


def _any(parts: Iterable[Alternatives]) -> Alternatives:
    found: Alternatives = []
    for part in parts:
        found += [one for one in part if one not in found]
    return ALWAYS if [] in found else _bounded(found)


def _bounded(found: Alternatives) -> Alternatives:
    if len(found) > MAX_ALTERNATIVES:
        raise TooComplexError
    return found


def _const(value: bool) -> Alternatives:
    return ALWAYS if value else NEVER


def _connection(states: tuple[str, ...], layout: Layout, wanted: bool) -> Alternatives:
    if not layout.family:
        return NEVER
    chosen = [state for state in CT_STATES if (state in states) == wanted]
    return [[nft.match({"ct": {"key": "state"}}, chosen, "in")]] if chosen else NEVER


def _kind(kind: str, layout: Layout, wanted: bool) -> Alternatives:
    if kind in FRAGMENTS:
        if not layout.whole_header:
            return _const(not wanted)
        return fragment4(kind, wanted) if layout.family == 4 else fragment6(kind, wanted)
    if kind == "vlan":
        return within(Field.VLAN, ((1, 4095),) if wanted else ((0, 0),), layout)
    if kind in ("ip4", "ip6"):
        return _const((layout.family == int(kind[2])) == wanted)
    if kind in ("arp", "nd", "mld", "l2"):
        return _const((layout.control == kind) == wanted)
    proto, family = {"icmp4": (1, 4), "icmp6": (58, 6)}.get(kind) or (TRANSPORTS[kind][0], layout.family)
    if Field.PROTO not in layout.fields or family != layout.family:
        return _const(not wanted)
    return within(Field.PROTO, ((proto, proto),) if wanted else rng.subtract(_domain(Field.PROTO), ((proto, proto),)), layout)


def _member(field: Field, name: str, layout: Layout, wanted: bool) -> Alternatives:
    if field not in layout.fields:
        return NEVER
    left = nft.payload("th", field.value) if field in (Field.SPORT, Field.DPORT) else _address(field, layout)
    part = "port" if field in (Field.SPORT, Field.DPORT) else str(layout.family)
    return [[nft.match(left, "@" + set_name(name, part), "==" if wanted else "!=")]]


def set_name(name: str, part: str) -> str:
    """The nft set that holds one part (4, 6, port) of a policy's set; nft_sets.settle puts its content's hash behind it."""
    return f"{nft.object_name(name)}.{part}"


def within(field: Field, ranges: Ranges, layout: Layout) -> Alternatives:
    """The field's value lies in the ranges."""
    ranges = rng.intersect(ranges, _domain(field))
    if field not in layout.fields or not ranges:
        return NEVER
    if field in (Field.SRC, Field.DST):
        return _addresses(field, ranges, layout)
    if field == Field.VLAN:
        return _vlan(ranges)
    if field == Field.ETHERTYPE:
        return _ethertype(ranges, layout)
    if field == Field.PROTO and layout.proto is not None:
        return _const(rng.contains(ranges, layout.proto))
    if ranges == _domain(field):
        return ALWAYS
    if field == Field.LENGTH:
        ranges = _lengths(ranges, layout.family)
        if not ranges:
            return NEVER
    return [[_number(field, ranges, layout.family == 4)]]


def _number(field: Field, ranges: Ranges, is_ip4: bool) -> Json:
    """A field that stands at one place of its header, by its ranges there."""
    match field:
        case Field.DSCP:
            shift, left = (2, nft.masked(nft.raw("nh", 8, 8), 0xFC)) if is_ip4 else (6, nft.masked(nft.raw("nh", 0, 16), 0xFC0))
            return nft.among(left, tuple((low << shift, high << shift) for low, high in ranges))
        case Field.LENGTH:
            return nft.among(nft.raw("nh", 16 if is_ip4 else 32, 16), ranges)
        case Field.PROTO:
            return nft.among(nft.raw("nh", 72, 8) if is_ip4 else nft.meta("l4proto"), ranges)
        case Field.TTL:
            return nft.among(nft.raw("nh", 64, 8) if is_ip4 else nft.raw("nh", 56, 8), ranges)
        case Field.ETH_SRC | Field.ETH_DST:
            return nft.among(nft.raw("ll", 48 if field == Field.ETH_SRC else 0, 48), ranges)
        case Field.SPORT | Field.DPORT:
            return nft.among(nft.payload("th", field.value), ranges)
        case Field.TCP_FLAGS:
            return nft.among(nft.raw("th", 104, 8), ranges)
        case Field.ICMP_TYPE | Field.ICMP_CODE:
            return nft.among(nft.raw("th", 0 if field == Field.ICMP_TYPE else 8, 8), ranges)
    raise AssertionError(field)


def _lengths(ranges: Ranges, family: int) -> Ranges:
    """Layer 3 lengths as the header's own field: IPv6 does not count its 40 octets."""
    less = 0 if family == 4 else 40
    held = rng.intersect(ranges, ((less, less + 0xFFFF),))
    return tuple((low - less, high - less) for low, high in held)


def _vlan(ranges: Ranges) -> Alternatives:
    found: Alternatives = [[UNTAGGED]] if ranges[0][0] == 0 else []
    return ALWAYS if ranges == _domain(Field.VLAN) else [*found, [TAGGED, nft.among(nft.masked(TAG, 0xFFF), ranges)]]


def _ethertype(ranges: Ranges, layout: Layout) -> Alternatives:
    """Behind a tag, nft sees skb->protocol: of the types under 1536 only that it is one (nft_refuse lets nothing else through)."""
    if layout.family:
        return _const(rng.contains(ranges, IP4 if layout.family == 4 else IP6))
    if ranges == _domain(Field.ETHERTYPE):
        return ALWAYS
    inner = rng.intersect(ranges, ((1536, 0xFFFF),))
    if rng.contains(ranges, 0):
        inner = (*LLC, *inner)
    return [[UNTAGGED, nft.among(TYPE, ranges)], *([[TAGGED, nft.among(INNER_TYPE, inner)]] if inner else [])]


def _address(field: Field, layout: Layout) -> Json:
    return nft.payload("ip" if layout.family == 4 else "ip6", "saddr" if field == Field.SRC else "daddr")


def _addresses(field: Field, ranges: Ranges, layout: Layout) -> Alternatives:
    family = FAMILIES[layout.family]
    pairs = rng.intersect(ranges, (family,))
    if not pairs or pairs == (family,):
        return _const(bool(pairs))
    return [[nft.match(_address(field, layout), nft.values(address_texts(pairs)))]]


FAMILIES = {4: (V4_BASE, V4_LAST), 6: (0, V4_BASE - 1)}


def address_texts(pairs: Ranges) -> list[tuple[str, str]]:
    """Ranges of ordinals of one family as address texts."""
    return [(_text(low), _text(high)) for low, high in pairs]


def _text(ordinal: int) -> str:
    return str(IPv4Address(ordinal - V4_BASE) if ordinal >= V4_BASE else IPv6Address(ordinal))


def _domain(field: Field) -> Ranges:
    top = V4_LAST if field in (Field.SRC, Field.DST) else (1 << FIELD_BITS[field]) - 1
    return ((0, top),)
