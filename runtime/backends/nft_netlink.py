"""What the kernel holds in an nft table, byte for byte: nfnetlink dumps read without libnftables, so that two readings can be compared.

libnftables prints neither a table's flags nor a chain's devices (1.0.6), merges matches, and needs seconds for a set of 100,000 elements. Here
every object is a digest of the attributes that it was made with; what changes by itself (use counts, values of counters) is left out.
Attribute numbers: include/uapi/linux/netfilter/nf_tables.h. A rule's handle is among its attributes and is never given twice in a table's
life (nf_tables_alloc_handle), so a rule that was replaced differs also when it looks the same.
"""

from __future__ import annotations

import hashlib
import os
import socket
import struct
from collections.abc import Iterator

from runtime.backends.nft import NftError

_NETLINK_NETFILTER, _SUBSYSTEM = 12, 10 << 8  # NFNL_SUBSYS_NFTABLES
_GET_TABLE, _GET_CHAIN, _GET_RULE, _GET_SET, _GET_ELEMENTS, _GET_OBJECT = 1, 4, 7, 10, 13, 19
_GET_GENERATION = 16
_REQUEST, _ACK, _DUMP, _INTERRUPTED = 0x1, 0x4, 0x300, 0x10  # NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR
_ERROR, _DONE = 2, 3
_FAMILIES = {"inet": 1, "netdev": 5}
_HEADER, _GENERAL, _ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=BBH"), struct.Struct("=HH")
_TYPE_MASK = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER
_TRIES = 5
_COUNTER = 1  # NFT_OBJECT_COUNTER

# What each kind is asked by, the attribute with its name and its table, and the attributes that live: use counts, counters' values,
# a rule's NFTA_RULE_POSITION (its neighbour's handle).
_KINDS = {
    "table": (_GET_TABLE, 1, 1, {3}), "chain": (_GET_CHAIN, 3, 1, {6, 8}), "rule": (_GET_RULE, 2, 1, {6}),
    "set": (_GET_SET, 2, 1, set()), "object": (_GET_OBJECT, 2, 1, {5}),
}  # fmt: skip
_OBJECT_TYPE, _OBJECT_DATA = 3, 4

Digests = dict[str, list[str]]  # name → one digest; for kind rule: chain → one for each rule, in order


def fingerprint(family: str, table: str) -> dict[str, Digests]:
    """kind → digests of everything in the table: table, chain, rule, set (without elements), object (counters and limits). Raises NftError."""
    return {kind: _digests(kind, family, table) for kind in _KINDS}


def elements(family: str, table: str, name: str) -> str:
    """A digest of a set's elements; a second for 100,000 prefixes: the kernel walks its tree from the start for every 32 KiB. Raises NftError."""
    body = _text(1, table) + _text(2, name)
    digest = hashlib.sha256()
    for attributes in _dump(_GET_ELEMENTS, family, body):
        for kind, value in attributes:
            if kind == 3:  # NFTA_SET_ELEM_LIST_ELEMENTS: where one message ends and the next begins does not matter
                digest.update(value)
    return digest.hexdigest()[:16]


def generation() -> int:
    """A number that every change to any table of this namespace counts up: where it is the same, nothing has changed. Raises NftError."""
    ((_, value),) = [pair for attributes in _dump(_GET_GENERATION, "inet", b"", _ACK) for pair in attributes if pair[0] == 1]  # NFTA_GEN_ID
    return int.from_bytes(value, "big")


def _digests(kind: str, family: str, table: str) -> Digests:
    request, naming, owning, living = _KINDS[kind]
    found: Digests = {}
    body = b"" if kind == "table" else _text(owning, table)
    for attributes in _dump(request, family, body):
        named = dict(attributes)
        if named.get(owning, b"").rstrip(b"\0").decode() != table:
            continue
        live = living | ({_OBJECT_DATA} if kind == "object" and named[_OBJECT_TYPE] == struct.pack(">I", _COUNTER) else set())
        kept = b"".join(struct.pack("=HI", key, len(value)) + value for key, value in attributes if key not in live)
        found.setdefault(named[naming].rstrip(b"\0").decode(), []).append(hashlib.sha256(kept).hexdigest()[:16])
    return found


def _dump(request: int, family: str, body: bytes, flags: int = _DUMP) -> list[list[tuple[int, bytes]]]:
    """The attributes of every message of a dump; read again when the rules changed meanwhile."""
    try:
        for _ in range(_TRIES):
            with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER) as wire:
                wire.bind((0, 0))
                general = _GENERAL.pack(_FAMILIES[family], 0, 0) + body
                wire.send(_HEADER.pack(_HEADER.size + len(general), _SUBSYSTEM | request, _REQUEST | flags, 1, 0) + general)
                found = _answer(wire)
            if found is not None:
                return found
    except OSError as error:
        raise NftError(f"reading the {family} tables: {os.strerror(error.errno or 0)}") from None
    raise NftError("the rules change faster than they can be read")


def _answer(wire: socket.socket) -> list[list[tuple[int, bytes]]] | None:
    """None: interrupted by a change, what was read is of two rulesets."""
    found: list[list[tuple[int, bytes]]] = []
    interrupted = False
    while True:
        data = wire.recv(1 << 20)
        at = 0
        while at < len(data):
            length, kind, flags, _, _ = _HEADER.unpack_from(data, at)
            interrupted |= bool(flags & _INTERRUPTED)
            if kind in (_ERROR, _DONE):
                number = -struct.unpack_from("=i", data, at + _HEADER.size)[0]
                if number:
                    raise OSError(number, "")
                return None if interrupted else found
            found.append(list(_attributes(data[at + _HEADER.size + _GENERAL.size : at + length])))
            at += (length + 3) & ~3


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        yield kind & _TYPE_MASK, data[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3


def _text(kind: int, text: str) -> bytes:
    value = text.encode() + b"\0"
    return (_ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value).ljust((_ATTRIBUTE.size + len(value) + 3) & ~3, b"\0")
