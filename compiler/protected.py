"""What `protect` promises → a handful of flows that stand for it, by which the runtime sees that the promise is kept on the host (runtime/probing.py).

Only what a frame of a few bytes can be is among them: whole IP packets of TCP, UDP, SCTP, ICMP or a protocol by its number, with the fields in _KNOWN.
A condition on anything else (MAC addresses, lengths, two tags) is proved and not probed.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from itertools import islice, zip_longest
from typing import Literal

from compiler import ir, ranges
from compiler.bundle import MAX_PROTECTED, Protected
from compiler.ir import Field, Ranges
from compiler.space import Box, Region, Shape, Space, whole_shapes

_EACH = 4  # flows of one `protect` and shape of packet
_KNOWN = {Field.SRC, Field.DST, Field.SPORT, Field.DPORT, Field.PROTO, Field.ETHERTYPE, Field.ICMP_TYPE, Field.ICMP_CODE,
          Field.TCP_FLAGS, Field.DSCP, Field.TTL, Field.VLAN}  # fmt: skip
_SYN, _ECHO = 2, {4: 8, 6: 128}
_TTL = 64


def flows(program: ir.Program) -> tuple[Protected, ...]:
    """The first range of every field of each `protect`, then the second of each, and so on; so many of all that probing them takes no time."""
    space = Space(program)
    found = [islice(_of(region, protect), _EACH) for protect in program.protects for region in _regions(protect, space)]
    return tuple(islice((flow for turn in zip_longest(*found) for flow in turn if flow is not None), MAX_PROTECTED))


def _regions(protect: ir.Protect, space: Space) -> Iterator[Region]:
    """One for each kind of packet that the condition is about; where it asks for no protocol, TCP stands for all."""
    for family in ("ip4", "ip6"):
        found = {shape: space.may(protect.when, shape) for shape in whole_shapes() if family in shape.kinds and "fragment" not in shape.kinds}
        there = [region for region in found.values() if region]
        yield from there[:1] if len(there) == len(found) else there


def _of(region: Region, protect: ir.Protect) -> Iterator[Protected]:
    for box in region.boxes:
        if set(box) <= _KNOWN:
            for nth in range(max((len(values) for values in box.values()), default=1)):
                yield _flow(region.shape, box, nth, protect)


def _flow(shape: Shape, box: Box, nth: int, protect: ir.Protect) -> Protected:
    def pick(field: Field) -> tuple[int, int]:
        values = box.get(field, shape.values(field))
        return values[nth % len(values)] if values else (-1, -1)

    def one(field: Field, wish: int) -> int:
        values = box.get(field, shape.values(field))
        return wish if _has(values, wish) else pick(field)[0]

    family: Literal[4, 6] = 4 if "ip4" in shape.kinds else 6
    icmp = -1
    if shape.values(Field.ICMP_TYPE):
        icmp = one(Field.ICMP_TYPE, _ECHO[family]) << 8 | one(Field.ICMP_CODE, 0)
    return Protected(
        nic=protect.nic, family=family, proto=one(Field.PROTO, 253), src=_addresses(box, Field.SRC, nth), dst=_addresses(box, Field.DST, nth),
        sport=pick(Field.SPORT)[0] if Field.SPORT in box else -1, dport=pick(Field.DPORT)[0] if Field.DPORT in box else -1,
        icmp=icmp, flags=one(Field.TCP_FLAGS, _SYN) if shape.values(Field.TCP_FLAGS) else -1, vlan=one(Field.VLAN, 0),
        dscp=one(Field.DSCP, 0), ttl=max(1, one(Field.TTL, _TTL)), text=protect.text, file=protect.span.file, line=protect.span.line,
    )  # fmt: skip


def _has(values: Ranges, value: int) -> bool:
    return bool(ranges.meet(values, ((value, value),)))


def _addresses(box: Box, field: Field, nth: int) -> tuple[str, str]:
    if field not in box:
        return "", ""
    low, high = box[field][nth % len(box[field])]
    return _written(low), _written(high)


def _written(value: int) -> str:
    return str(ipaddress.IPv4Address(value - ir.V4_BASE) if value >= ir.V4_BASE else ipaddress.IPv6Address(value))
