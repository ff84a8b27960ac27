"""Static sets as nft sets: one for each address family, one for ports. A set without elements matches nothing.

A set's name ends in the hash of its content: what an apply does not change is not loaded again (100,000 prefixes take seconds), and
two generations that differ in a set never share it.
"""

from __future__ import annotations

import hashlib
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


def lower(family: str, sets: Iterable[ir.Set]) -> dict[str, Json]:
    """`add set` commands with all elements, for a table of this family; by the names that expressions use."""
    named = {(item, part): set_name(item.name, part) for item in sets for part in (("port",) if item.type == "port" else ("4", "6"))}
    return {name: _add(family, item, part) for (item, part), name in named.items()}


def settle(commands: list[Json], sets: dict[str, Json]) -> list[Json]:
    """Commands in which every reference to a set has the name that the set got."""
    final = {f"@{name}": f"@{command['add']['set']['name']}" for name, command in sets.items()}
    return [_renamed(command, final) for command in commands]


def _renamed(item: Any, final: dict[str, str]) -> Any:
    if isinstance(item, dict):
        return {key: _renamed(value, final) for key, value in item.items()}
    if isinstance(item, list):
        return [_renamed(value, final) for value in item]
    return final.get(item, item) if isinstance(item, str) else item


def _add(family: str, item: ir.Set, part: str) -> Json:
    pairs: list[tuple[Any, Any]] = list(item.ranges)
    if part != "port":
        pairs = list(address_texts(rng.intersect(item.ranges, (FAMILIES[int(part)],))))
    elements = [low if low == high else {"range": [low, high]} for low, high in pairs]
    digest = hashlib.sha256(repr(elements).encode()).hexdigest()[:12]
    name = f"{set_name(item.name, part)}_{digest}"
    body: Json = {"family": family, "table": "netc", "name": name, "type": TYPES[part], "flags": ["interval"]}
    return {"add": {"set": {**body, "elem": elements} if elements else body}}
