"""Flows for a measurement: plain headers that hit rules, miss all of them, or go through to the last rule that can be reached.

A header is drawn from a rule's own condition (one alternative of every `or`), what it leaves open at random; where it really ends is
the oracle's to say. Flows are whole TCP, UDP, SCTP, ICMP or other IP packets without tags, options or fragments: rules that only such
packets meet get no flows, and a policy's report says how many that are.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from random import Random

from compiler import ir
from compiler.ir import V4_BASE, V4_LAST, Field

_V4, _V6 = (V4_BASE, V4_LAST), (0x2000 << 112, (0x4000 << 112) - 1)  # IPv6: global unicast
_PROTOS = {"tcp": 6, "udp": 17, "sctp": 132, "icmp4": 1, "icmp6": 58}
_NAMES = {6: "tcp", 17: "udp", 132: "sctp"}
_ND_AND_MLD = range(130, 144)
_MACS = bytes.fromhex("020000000002020000000001")
Values = dict[Field, int]


@dataclass(frozen=True, slots=True)
class Flow:
    """A header as the packet model reads it, and its frame (unpadded)."""

    fields: Values
    kinds: frozenset[str]
    frame: bytes


@dataclass(slots=True)
class _Wish:
    """What a condition asks for, as far as a plain header can give it: it is judged afterwards."""

    ranges: dict[Field, ir.Ranges]
    kinds: set[str]
    not_kinds: set[str]
    set_bits: int = 0
    clear_bits: int = 0


class Drawing:
    """Draws headers for the rules of one chain."""

    def __init__(self, rng: Random, rules: tuple[ir.Rule, ...], sets: dict[str, ir.Set]) -> None:
        self._rng, self._rules, self._sets = rng, rules, sets

    def of_rule(self, index: int) -> Flow | None:
        """A header that the rule asks for; None where its condition is met by no plain header that could be drawn."""
        return self._header(self._wish(index))

    def of_two(self, one: int, other: int) -> Flow | None:
        """The source of one rule's header and the destination of another's: near to both, often in neither."""
        wish, second = self._wish(one), self._wish(other)
        for field in (Field.DST, Field.DPORT):
            wish.ranges.pop(field, None)
            if field in second.ranges:
                wish.ranges[field] = second.ranges[field]
        return self._header(wish)

    def anything(self) -> Flow | None:
        """A header of no rule in particular."""
        return self._header(_Wish({}, set(), set()))

    def _wish(self, index: int) -> _Wish:
        wish = _Wish({}, set(), set())
        self._ask(self._rules[index].when, True, wish)
        return wish

    def _ask(self, expr: ir.Expr, wanted: bool, wish: _Wish) -> None:
        match expr:
            case ir.Not(item):
                self._ask(item, not wanted, wish)
            case ir.And(items) | ir.Or(items):
                every = isinstance(expr, ir.And) == wanted
                for item in items if every else (self._rng.choice(items),):
                    self._ask(item, wanted, wish)
            case ir.Is(kind):
                (wish.kinds if wanted else wish.not_kinds).add(kind)
            case ir.Bits(_, mask, value):
                if wanted:
                    wish.set_bits |= value
                    wish.clear_bits |= mask & ~value
                elif value:  # one wanted bit away is enough
                    wish.clear_bits |= value & -value
                else:
                    wish.set_bits |= mask & -mask
            case ir.Within(field, ranges):
                self._narrow(wish, field, ranges, wanted)
            case ir.Member(field, name) if self._sets[name].size is None:
                self._narrow(wish, field, self._sets[name].ranges, wanted)

    def _narrow(self, wish: _Wish, field: Field, ranges: ir.Ranges, wanted: bool) -> None:
        """Only what is asked for narrows; what is excluded is left to chance and to the oracle."""
        if wanted and field in wish.ranges and len(ranges) * len(wish.ranges[field]) < 10_000:
            both = ((max(a, c), min(b, d)) for a, b in ranges for c, d in wish.ranges[field])
            wish.ranges[field] = tuple((low, high) for low, high in both if low <= high)
        elif wanted:
            wish.ranges[field] = ranges

    def _header(self, wish: _Wish) -> Flow | None:
        version = self._version(wish)
        proto = self._proto(wish, version)
        if proto is None:
            return None
        values: Values = {Field.PROTO: proto}
        for field in (Field.SRC, Field.DST):
            address = self._address(wish.ranges.get(field), version)
            if address is None:
                return None
            values[field] = address
        for field, most in _fields_of(proto, version):
            ranges = wish.ranges.get(field, ((0, most),))
            if not ranges:
                return None
            values[field] = self._rng.randint(*self._rng.choice(ranges))
        if Field.TCP_FLAGS in values:
            values[Field.TCP_FLAGS] = (0x10 if not wish.set_bits else 0) & ~wish.clear_bits | wish.set_bits
        if version == 6 and values.get(Field.ICMP_TYPE, 0) in _ND_AND_MLD:
            return None
        return _built(values, version)

    def _version(self, wish: _Wish) -> int:
        if "ip6" in wish.kinds or "icmp6" in wish.kinds or "ip4" in wish.not_kinds:
            return 6
        if "ip4" in wish.kinds or "icmp4" in wish.kinds or "ip6" in wish.not_kinds:
            return 4
        for field in (Field.SRC, Field.DST):
            if ranges := wish.ranges.get(field):
                return 4 if self._rng.choice(ranges)[0] >= V4_BASE else 6
        return 4

    def _proto(self, wish: _Wish, version: int) -> int | None:
        for kind in wish.kinds:
            if kind in _PROTOS:
                return _PROTOS[kind]
            if kind not in ("ip4", "ip6"):
                return None
        if Field.PROTO in wish.ranges:
            ranges = wish.ranges[Field.PROTO]
            return self._rng.randint(*self._rng.choice(ranges)) if ranges else None
        if Field.ICMP_TYPE in wish.ranges:
            return 1 if version == 4 else 58
        if Field.TCP_FLAGS in wish.ranges or wish.set_bits or wish.clear_bits:
            return 6
        choices = [p for p in (6, 6, 17) if _NAMES[p] not in wish.not_kinds]
        return self._rng.choice(choices or [132])

    def _address(self, ranges: ir.Ranges | None, version: int) -> int | None:
        low, high = _V4 if version == 4 else _V6
        if ranges is None:
            return self._rng.randint(low, high)
        for _ in range(4):
            if not ranges:
                return None
            first, last = self._rng.choice(ranges)
            if (first >= V4_BASE) == (version == 4):
                return self._rng.randint(first, last)
        return None


def _fields_of(proto: int, version: int) -> tuple[tuple[Field, int], ...]:
    if proto in _NAMES:
        ports = ((Field.SPORT, 65535), (Field.DPORT, 65535))
        return (*ports, (Field.TCP_FLAGS, 255)) if proto == 6 else ports
    if proto == (1 if version == 4 else 58):
        return ((Field.ICMP_TYPE, 18), (Field.ICMP_CODE, 0))
    return ()


def _built(values: Values, version: int) -> Flow | None:
    """The frame, with what is the same in all: TTL 64, DSCP 0, 20 bytes of payload where no transport header is known."""
    proto = values[Field.PROTO]
    body = _transport(values, proto, version)
    length = len(body) + (20 if version == 4 else 40)
    if version == 4:
        src, dst = values[Field.SRC] - V4_BASE, values[Field.DST] - V4_BASE
        head = _summed(struct.pack("!2B3H2BH2I", 0x45, 0, length, 0, 0, 64, proto, 0, src, dst))
    elif proto in (0, 43, 44, 51, 60, 135, 139, 140):
        return None  # an extension header, not a protocol
    else:
        head = struct.pack("!IH2B", 6 << 28, len(body), proto, 64)
        head += values[Field.SRC].to_bytes(16, "big") + values[Field.DST].to_bytes(16, "big")
    ethertype = 0x0800 if version == 4 else 0x86DD
    same = {Field.TTL: 64, Field.DSCP: 0, Field.LENGTH: length, Field.ETHERTYPE: ethertype, Field.VLAN: 0, Field.VLAN_INNER: 0,
            Field.ETH_DST: int.from_bytes(_MACS[:6], "big"), Field.ETH_SRC: int.from_bytes(_MACS[6:], "big")}  # fmt: skip
    kinds = {f"ip{version}"} | ({_NAMES[proto]} if proto in _NAMES else set())
    if Field.ICMP_TYPE in values:
        kinds.add(f"icmp{version if version == 6 else 4}")
    return Flow({**same, **values}, frozenset(kinds), _MACS + struct.pack("!H", ethertype) + head + body)


def _summed(head: bytes) -> bytes:
    """An IPv4 header with its checksum (RFC 1071): the stack in front of iptables drops others."""
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    return head[:10] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + head[12:]


def _transport(values: Values, proto: int, version: int) -> bytes:
    if proto == 6:
        return struct.pack("!2H2I2B3H", values[Field.SPORT], values[Field.DPORT], 1, 1, 0x50, values[Field.TCP_FLAGS], 65535, 0, 0)
    if proto == 17:
        return struct.pack("!4H", values[Field.SPORT], values[Field.DPORT], 8, 0)
    if proto == 132:
        return struct.pack("!2H2I", values[Field.SPORT], values[Field.DPORT], 1, 0)
    if Field.ICMP_TYPE in values:
        return struct.pack("!2BHI", values[Field.ICMP_TYPE], values[Field.ICMP_CODE], 0, 0)
    return bytes(20)
