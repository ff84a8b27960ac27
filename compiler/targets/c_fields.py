"""Which fields of the parsed packet a program reads: the parser writes no others.

The C text says it: every `p->FIELD` in the body, and in those functions of the shared headers that the body reaches and that take a packet.
"""

from __future__ import annotations

import re

_ADDRESSES = ("src", "dst")
_PLAIN = (
    "eth_src", "eth_dst", "length", "ethertype", "vlan", "vlan_inner", "proto", "dscp", "ttl", "tos", "sport", "dport", "tcp_flags", "icmp_type",
    "icmp_code", "src_hi", "src_lo", "dst_hi", "dst_lo", "layer3", "at", "bytes", "handed", "absent",
)  # fmt: skip
_FIELD = re.compile(r"\bp->(\w+)((?:\.\w+)*)")
_FUNCTION = re.compile(r"^INLINE \w+ \**(netc_\w+)\([^)]*\)\n\{.*?^\}", re.MULTILINE | re.DOTALL)
_UNGUARDED = {"netc_flow"}  # these read addresses also where there are none, and of IPv4 the half that only IPv6 has
_NAME = re.compile(r"\bnetc_\w+")


def definitions(body: str, headers: str) -> list[str]:
    """`#define READS_FIELD 0 or 1` for every field. headers: the text in which the body's functions stand; not the parser's."""
    read = _read(body, headers)
    return [f"#define READS_{name} {int(name in read)}" for name in (*_PLAIN, *_ADDRESSES, *(f"{name}_family" for name in _ADDRESSES))]


def _read(body: str, headers: str) -> set[str]:
    functions = {found[1]: found[0] for found in _FUNCTION.finditer(headers)}
    known: set[str] = set()
    texts, left = [body], [body]
    while left:
        for name in set(_NAME.findall(left.pop())) & functions.keys() - known:
            known.add(name)
            texts.append(functions[name])
            left.append(functions[name])
    read = {item for text in texts for field, rest in _FIELD.findall(text) for item in _names(field, rest)}
    return read | ({"absent"} if known & _UNGUARDED else set())


def _names(field: str, rest: str) -> tuple[str, ...]:
    if field not in _ADDRESSES:
        return (field,)
    return (f"{field}_family",) if rest == ".at.family" else (field, f"{field}_family")
