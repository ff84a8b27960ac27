"""A steering expression as the NIC's flow rules (ethtool -N), only where they say exactly the same.

A flow rule matches one flow type (tcp4 ... sctp6) with masks: one prefix an address, one port. Everything else is left to XDP.
"""

from __future__ import annotations

import ipaddress
from itertools import product

from compiler import ir
from compiler.ir import Field
from compiler.place_reach import conjuncts
from compiler.space import Space, whole_shapes

_ADDRESS = {Field.SRC: "src-ip", Field.DST: "dst-ip"}
_PORT = {Field.SPORT: "src-port", Field.DPORT: "dst-port"}
_MOST_VALUES = 64  # flow rules for one steer rule: NIC tables are small
Words = tuple[int | str, ...]


def overlaps(a: ir.Expr, b: ir.Expr, space: Space) -> bool:
    """Whether a whole packet can match both."""
    return any(space.may(a, shape).intersect(space.may(b, shape)) for shape in whole_shapes())


def flow_specs(when: ir.Expr, program: ir.Program) -> list[Words] | None:
    """The flow rules in ethtool's words, without the action; None when they cannot say `when` exactly."""
    transport, families = "", {"4", "6"}
    values: dict[Field, ir.Ranges] = {}
    for part in conjuncts(when):
        match part:
            case ir.Is("tcp" | "udp" | "sctp" as kind) if transport in ("", kind):
                transport = kind
            case ir.Is("ip4" | "ip6" as kind):
                families &= {kind[2]}
            case ir.Within(field, wanted) if field not in values and (field in _ADDRESS or field in _PORT):
                values[field] = wanted
            case ir.Member(field, name) if field not in values and (known := _static(name, program)) is not None:
                values[field] = known
            case _:
                return None
    if not transport:
        return None
    return _combine(transport, families, values)


def _static(name: str, program: ir.Program) -> ir.Ranges | None:
    return next((item.ranges for item in program.sets if item.name == name and item.size is None), None)


def _combine(transport: str, families: set[str], values: dict[Field, ir.Ranges]) -> list[Words] | None:
    specs: list[Words] = []
    for family in sorted(families):
        choices = [_choices(field, wanted, family) for field, wanted in sorted(values.items())]
        if any(choice is None for choice in choices):
            return None
        for chosen in product(*(choice for choice in choices if choice is not None)):
            specs.append((f"{transport}{family}", *(word for pair in chosen for word in pair)))
            if len(specs) > _MOST_VALUES:
                return None
    return specs or None


def _choices(field: Field, wanted: ir.Ranges, family: str) -> list[Words] | None:
    if field in _PORT:
        if sum(high - low + 1 for low, high in wanted) > _MOST_VALUES:
            return None
        return [(_PORT[field], port) for low, high in wanted for port in range(low, high + 1)]
    prefixes = [str(prefix) for low, high in wanted for prefix in _prefixes(low, high, family)]
    return [(_ADDRESS[field], prefix) for prefix in prefixes] if len(prefixes) <= _MOST_VALUES else None


def _prefixes(low: int, high: int, family: str) -> list[ipaddress.IPv4Network] | list[ipaddress.IPv6Network]:
    if family == "4":
        if high < ir.V4_BASE:
            return []
        first, last = (ipaddress.IPv4Address(max(value, ir.V4_BASE) - ir.V4_BASE) for value in (low, high))
        return list(ipaddress.summarize_address_range(first, last))
    if low >= ir.V4_BASE:
        return []
    start, end = (ipaddress.IPv6Address(min(value, ir.V4_BASE - 1)) for value in (low, high))
    return list(ipaddress.summarize_address_range(start, end))
