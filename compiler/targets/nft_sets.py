"""Static sets as nft sets: one for each address family that has members, one for ports. A set without elements matches nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from compiler import ir
from compiler import ranges as rng
from compiler.targets.nft_expr import FAMILIES, address_texts, set_name
from compiler.targets.nft_json import Json

TYPES = {"4": "ipv4_addr", "6": "ipv6_addr", "port": "inet_service"}


def members(expr: ir.Expr) -> set[str]:
    """The names of the sets that an expression asks."""
    match expr:
        case ir.Member(_, name):
            return {name}
        case ir.Not(item):
            return members(item)
        case ir.And(items) | ir.Or(items):
            return set().union(*map(members, items))
    return set()


def lower(family: str, sets: Iterable[ir.Set]) -> list[Json]:
    """`add set` commands with all elements, for a table of this family."""
    return [_add(family, item, part) for item in sets for part in (("port",) if item.type == "port" else ("4", "6"))]


def _add(family: str, item: ir.Set, part: str) -> Json:
    pairs: list[tuple[Any, Any]] = list(item.ranges)
    if part != "port":
        pairs = list(address_texts(rng.intersect(item.ranges, (FAMILIES[int(part)],))))
    elements = [low if low == high else {"range": [low, high]} for low, high in pairs]
    body: Json = {"family": family, "table": "netc", "name": set_name(item.name, part), "type": TYPES[part], "flags": ["interval"]}
    return {"add": {"set": {**body, "elem": elements} if elements else body}}
