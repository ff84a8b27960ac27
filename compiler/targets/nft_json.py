"""The libnftables JSON words that netc uses, as libnftables-json(5) spells them: matches, statements, commands.

Header fields are read as raw payload (base, offset, length in bits) wherever a named field would make libnftables add matches of its own.
A load from beyond the packet, or a header that is not there, ends the rule without a match (NFT_BREAK, net/netfilter/nft_payload.c).
"""

from __future__ import annotations

from typing import Any

from compiler.bundle import MARK_MASK
from compiler.ir import Ranges

Json = dict[str, Any]
NAME_MAX = 255  # NFT_OBJ_MAXNAMELEN - 1, include/uapi/linux/netfilter/nf_tables.h
COMMENT_MAX = 120  # NFTNL_UDATA_COMMENT_MAXLEN is 128, with the closing zero
PREFIX_MAX = 127  # NF_LOG_PREFIXLEN - 1, include/uapi/linux/netfilter/nf_log.h
GENERATION = "_g$gen"
"""The end of every name that belongs to one generation; the runtime puts the number in."""


def object_name(name: str) -> str:
    """netc's name as an nft identifier: what the scanner does not take is `/` and two hexadecimal digits; injective.

    Raises ValueError when the kernel could not hold it.
    """
    coded = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "".join(f"/{b:02x}" for b in c.encode()) for c in name)
    if len(coded) > NAME_MAX - 20:  # room for the layout and the generation
        raise ValueError(f"the name {name!r} is too long for nftables")
    return coded


def raw(base: str, offset: int, length: int) -> Json:
    """Bits of the packet: base ll, nh or th; offset and length in bits."""
    return {"payload": {"base": base, "offset": offset, "len": length}}


def payload(protocol: str, field: str) -> Json:
    return {"payload": {"protocol": protocol, "field": field}}


def meta(key: str) -> Json:
    return {"meta": {"key": key}}


def masked(left: Json, mask: int) -> Json:
    return {"&": [left, mask]}


def match(left: Json, right: object, op: str = "==") -> Json:
    return {"match": {"op": op, "left": left, "right": right}}


def among(left: Json, ranges: Ranges) -> Json:
    """The number on the left lies in one of the ranges (at least one)."""
    return match(left, values([(low, high) for low, high in ranges]))


def values(pairs: list[tuple[Any, Any]]) -> object:
    """The right side for ranges of numbers or of addresses: a value, a range, or an anonymous set of them."""
    items = [low if low == high else {"range": [low, high]} for low, high in pairs]
    return items[0] if len(items) == 1 else {"set": items}


def readable(base: str, octet: int) -> Json:
    """True where the packet has this octet, counted from the header's start."""
    return among(raw(base, octet * 8, 8), ((0, 255),))


MARK = meta("mark")
NETC_MARK = masked(MARK, MARK_MASK)


def set_mark(value: int) -> Json:
    """Write netc's byte of the mark and leave the other bits alone."""
    rest = masked(MARK, 0xFFFFFFFF & ~MARK_MASK)
    return {"mangle": {"key": MARK, "value": {"|": [rest, value]} if value else rest}}


def count(name: str) -> Json:
    return {"counter": object_name(name)}


def goto(chain: str) -> Json:
    return {"goto": {"target": chain}}


ACCEPT: Json = {"accept": None}
DROP: Json = {"drop": None}


def comment(text: str) -> str:
    """Policy text as a rule's comment: nothing that could end the string, name a device or drive a terminal."""
    clean = "".join(c if c.isascii() and c.isprintable() and c not in '"\\$@' else "?" for c in " ".join(text.split()))
    return clean[:COMMENT_MAX]


def add_table(family: str) -> list[Json]:
    """The table, and the empty chain by which netc knows it again as its own (1.0.6 has no table comments in JSON)."""
    return [
        {"add": {"table": {"family": family, "name": "netc"}}},
        {"add": {"chain": {"family": family, "table": "netc", "name": OWNER}}},
    ]


OWNER = "netc-made-this-table"


def add_chain(family: str, name: str, **base: object) -> Json:
    """A chain; with `base` (type, hook, prio, policy, dev) one that packets enter by themselves."""
    return {"add": {"chain": {"family": family, "table": "netc", "name": name, **base}}}


def add_rule(family: str, chain: str, exprs: list[Json], note: str) -> Json:
    rule = {"family": family, "table": "netc", "chain": chain, "expr": exprs, "comment": comment(note)}
    return {"add": {"rule": rule}}


def add_counter(family: str, name: str) -> Json:
    return {"add": {"counter": {"family": family, "table": "netc", "name": object_name(name)}}}
