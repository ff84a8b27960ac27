"""Header space: exactly which whole packets an expression matches, as unions of boxes.

A whole packet is one that is not malformed. They fall into a few shapes (IPv4 TCP, IPv6 later fragment, ARP, ...); in one shape every kind
predicate is a constant and every field is either there or absent, so an expression becomes a set of boxes over the fields that are there.
What depends on state is bounded from both sides: MAY is where the expression can be true, MUST where it is true in every state.
(Header space analysis: Kazemian et al., NSDI 2012.)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from compiler import ir, ranges
from compiler.ir import Field, Ranges

Box = Mapping[Field, Ranges]  # a field that is not mentioned may have any value of the shape
_STP_GROUP = 0x0180C2000000


@dataclass(frozen=True, slots=True)
class Shape:
    """kinds: the kind predicates that are true (vlan, nd, mld, l2 depend on fields: see _KIND_FIELDS). domain: the fields that are there."""

    name: str
    kinds: frozenset[str]
    domain: tuple[tuple[Field, Ranges], ...]
    _values: dict[Field, Ranges] = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_values", dict(self.domain))

    def values(self, field: Field) -> Ranges:
        """Every value that the field can have; empty when the field is absent."""
        return self._values.get(field, ())


@dataclass(frozen=True, slots=True)
class Region:
    """A set of packets of one shape: the union of its boxes."""

    shape: Shape
    boxes: tuple[Box, ...]

    def __bool__(self) -> bool:
        return bool(self.boxes)

    def intersect(self, other: Region) -> Region:
        return Region(self.shape, tuple(_products(self.boxes, other.boxes, self.shape)))

    def subtract(self, other: Region) -> Region:
        boxes = self.boxes
        for cut in other.boxes:
            boxes = tuple([piece for box in boxes for piece in (_minus(box, cut, self.shape) if _touch(box, cut) else (box,))])
        return Region(self.shape, boxes)

    def outside(self, cuts: Sequence[Box]) -> Region:
        """One box of the region that none of `cuts` touches; empty when they cover it all. Depth first: a hole is found without the other pieces."""
        pending = [(box, 0) for box in reversed(self.boxes)]
        while pending:
            box, at = pending.pop()
            while at < len(cuts) and not _touch(box, cuts[at]):
                at += 1
            if at == len(cuts):
                return Region(self.shape, (box,))
            pending += [(piece, at + 1) for piece in reversed(list(_minus(box, cuts[at], self.shape)))]
        return Region(self.shape, ())

    def hull(self) -> Box:
        """A box around the region."""
        first, *others = self.boxes
        shared = [field for field in first if all(field in box for box in others)]
        return {field: ranges.normalize(pair for box in self.boxes for pair in box[field]) for field in shared}

    def example(self) -> dict[Field, int]:
        """The field values of one packet of a region that is not empty."""
        return {field: self.boxes[0].get(field, values)[0][0] for field, values in self.shape.domain}


class Space:
    """Expressions of one program as regions."""

    def __init__(self, program: ir.Program) -> None:
        self._sets = {item.name: item for item in program.sets}

    def may(self, when: ir.Expr, shape: Shape) -> Region:
        """The packets for which `when` is true in some state."""
        return Region(shape, tuple(self._boxes(when, shape, True, True)))

    def must(self, when: ir.Expr, shape: Shape) -> Region:
        """The packets for which `when` is true in every state."""
        return Region(shape, tuple(self._boxes(when, shape, True, False)))

    def misses(self, when: ir.Expr, hull: Box, shape: Shape) -> bool:
        """Whether `when` is surely never true inside of the hull; quick, and silent about whatever is not plain."""
        for item in when.items if isinstance(when, ir.And) else (when,):
            if isinstance(item, ir.Within):
                if not ranges.meet(item.ranges, hull.get(item.field) or shape.values(item.field)):
                    return True
            elif isinstance(item, ir.Member):
                known = self._sets[item.set]
                if known.size is None and not ranges.meet(known.ranges, hull.get(item.field) or shape.values(item.field)):
                    return True
            elif isinstance(item, ir.Is) and item.kind not in shape.kinds and item.kind not in _KIND_FIELDS:
                return True
        return False

    def _boxes(self, when: ir.Expr, shape: Shape, want: bool, may: bool) -> list[Box]:
        match when:
            case ir.Const(value):
                return [{}] if value == want else []
            case ir.Is(kind):
                return self._kind(kind, shape, want, may)
            case ir.Within(field, wanted):
                return _field(field, wanted, shape, want)
            case ir.Bits(field, mask, value):
                return _field(field, ranges.from_bits(mask, value, ir.FIELD_BITS[field]), shape, want)
            case ir.Member(field, name):
                return self._member(field, self._sets[name], shape, want, may)
            case ir.Connection():
                return [{}] if may and shape.kinds & {"ip4", "ip6"} else []
            case ir.Not(item):
                return self._boxes(item, shape, not want, may)
            case ir.And(items) | ir.Or(items):
                parts = (self._boxes(item, shape, want, may) for item in items)
                return _all(parts, shape) if isinstance(when, ir.And) == want else [box for part in parts for box in part]

    def _kind(self, kind: str, shape: Shape, want: bool, may: bool) -> list[Box]:
        if (fields := _KIND_FIELDS.get(kind)) is None:
            return [{}] if (kind in shape.kinds) == want else []
        found = self._boxes(fields, shape, True, may)
        return found if want else list(Region(shape, ({},)).subtract(Region(shape, tuple(found))).boxes)

    def _member(self, field: Field, known: ir.Set, shape: Shape, want: bool, may: bool) -> list[Box]:
        if known.size is None:
            return _field(field, known.ranges, shape, want)
        never = ranges.normalize(pair for name in known.never for pair in self._sets[name].ranges)
        if may:  # anything but the members of `never` can be in it, and nothing has to be
            return _field(field, never, shape, False) if want else _field(field, (), shape, False)
        return [] if want else _field(field, never, shape, True)


def _field(field: Field, wanted: Ranges, shape: Shape, want: bool) -> list[Box]:
    there = shape.values(field)
    found = ranges.intersect(there, wanted) if want else ranges.subtract(there, wanted)
    return [{field: found}] if found else []


def _all(parts: Iterable[list[Box]], shape: Shape) -> list[Box]:
    found: list[Box] = [{}]
    for part in parts:
        if not (found := list(_products(found, part, shape))):
            break
    return found


def _products(left: Iterable[Box], right: Iterable[Box], shape: Shape) -> Iterator[Box]:
    right = tuple(right)
    for a in left:
        for b in right:
            if (both := _meet(a, b)) is not None:
                yield both


def _touch(a: Box, b: Box) -> bool:
    """Whether a packet is in both."""
    return all(field not in a or ranges.meet(a[field], values) for field, values in b.items())


def _meet(a: Box, b: Box) -> Box | None:
    if not _touch(a, b):
        return None
    both = dict(a)
    for field, values in b.items():
        both[field] = ranges.intersect(both[field], values) if field in both else values
    return both


def _minus(box: Box, cut: Box, shape: Shape) -> Iterator[Box]:
    """`box` without `cut`: one piece for each field of the cut, disjoint from one another."""
    kept = dict(box)
    for field, values in cut.items():
        whole = kept.get(field, shape.values(field))
        if outside := ranges.subtract(whole, values):
            yield {**kept, field: outside}
        kept[field] = ranges.intersect(whole, values)
        if not kept[field]:
            return


_KIND_FIELDS: dict[str, ir.Expr] = {
    "vlan": ir.Within(Field.VLAN, ((1, 4095),)),
    "nd": ir.And((ir.Is("icmp6"), ir.Not(ir.Is("fragment")), ir.Within(Field.ICMP_TYPE, ((133, 137),)), ir.Within(Field.TTL, ((255, 255),)))),
    "mld": ir.And((ir.Is("icmp6"), ir.Within(Field.ICMP_TYPE, ((130, 132), (143, 143))))),
    "l2": ir.Or((
        ir.Within(Field.ETHERTYPE, ((0x8809, 0x8809), (0x888E, 0x888E), (0x88CC, 0x88CC))),
        ir.And((ir.Within(Field.ETH_DST, ((_STP_GROUP, _STP_GROUP),)), ir.Within(Field.ETHERTYPE, ((0, 1535),)))),
    )),
}  # fmt: skip

_LINK = (Field.ETH_SRC, Field.ETH_DST, Field.VLAN, Field.VLAN_INNER)
_NETWORK = (Field.DSCP, Field.TTL, Field.LENGTH)
_PORTS = (Field.SPORT, Field.DPORT)
_FAMILIES = {"ip4": (0x0800, (ir.V4_BASE, ir.V4_LAST), 1), "ip6": (0x86DD, (0, ir.V4_BASE - 1), 58)}
_FRAGMENTS = {
    "": (), "first": ("fragment", "first-fragment"), "later": ("fragment", "later-fragment"),
    "first and later": ("fragment", "first-fragment", "later-fragment"),  # an IPv6 packet with two fragment headers
}  # fmt: skip


@cache
def whole_shapes() -> tuple[Shape, ...]:
    """Every shape of packets that are not malformed; they are disjoint and cover them all."""
    transports = ("tcp", "udp", "sctp", "icmp", "other")
    parts = [(family, part) for family in _FAMILIES for part in _FRAGMENTS if family == "ip6" or part != "first and later"]
    network = [_ip_shape(family, name, part) for family, part in parts for name in transports]
    other = ranges.subtract(((0, 0xFFFF),), ((0x0800, 0x0800), (0x0806, 0x0806), (0x8100, 0x8100), (0x86DD, 0x86DD), (0x88A8, 0x88A8)))
    return (*network, _link_shape("arp", frozenset({"arp"}), ((0x0806, 0x0806),)), _link_shape("other", frozenset(), other))


def _full(field: Field) -> tuple[Field, Ranges]:
    return field, ((0, (1 << ir.FIELD_BITS[field]) - 1),)


def _link_shape(name: str, kinds: frozenset[str], types: Ranges) -> Shape:
    return Shape(name, kinds, (*map(_full, _LINK), (Field.ETHERTYPE, types)))


def _ip_shape(family: str, transport: str, part: str) -> Shape:
    ethertype, addresses, icmp = _FAMILIES[family]
    numbers = {"tcp": 6, "udp": 17, "sctp": 132, "icmp": icmp}
    known = ranges.normalize((number, number) for number in numbers.values())
    proto = ((numbers[transport],) * 2,) if transport != "other" else ranges.subtract(((0, 255),), known)
    kinds = {family, *_FRAGMENTS[part], *({"icmp": {f"icmp{family[2]}"}, "other": set()}.get(transport, {transport}))}
    inner: tuple[Field, ...] = ()
    if "later" not in part:
        inner = {"tcp": (*_PORTS, Field.TCP_FLAGS), "udp": _PORTS, "sctp": _PORTS, "icmp": (Field.ICMP_TYPE, Field.ICMP_CODE)}.get(transport, ())
    domain = [*map(_full, _LINK + _NETWORK + inner), (Field.ETHERTYPE, ((ethertype, ethertype),)), (Field.PROTO, proto)]
    domain += [(Field.SRC, (addresses,)), (Field.DST, (addresses,))]
    return Shape(" ".join(filter(None, (family, transport, part))), frozenset(kinds), tuple(domain))
