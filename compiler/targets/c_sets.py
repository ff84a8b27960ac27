"""Sets in maps: tries for prefixes, hashes for addresses, bit arrays for ports, hashes with a ring for dynamic sets.

Keys are those of prelude.h: family (u32), address (16 bytes, network order, IPv4 in the first 4); a trie's begin with the prefix length.
"""

from __future__ import annotations

import hashlib
import struct

from compiler import bundle, ir
from compiler.diagnostics import CompileError
from compiler.tables.members import prefixes
from compiler.targets.c_program import CProgram

_NO_PREALLOC = 1  # BPF_F_NO_PREALLOC, which tries demand
_PORTS = 65536
RING_HEAD = 24  # bytes: u64 count, u64 hand, u64 free (struct ring of keyed.h)
RING_SLOT = 24  # bytes: u64 family, address
MEMBER_SIZE, BUCKET_SIZE = 24, 8  # values: struct member; ticks alone
KEY_SIZE = 20
CHANGE_MAP, CHANGE_SIZE = "sets.change", 16  # u64 the last change by hand that holds, u64 the one that is not yet ended


def by_family(ranges: ir.Ranges) -> tuple[ir.Ranges, ir.Ranges]:
    """Ranges of ordinals as IPv4 ranges and IPv6 ranges, each counted from its own 0. A range may span both families."""
    v4 = tuple((max(low, ir.V4_BASE) - ir.V4_BASE, high - ir.V4_BASE) for low, high in ranges if high >= ir.V4_BASE)
    v6 = tuple((low, min(high, ir.V4_BASE - 1)) for low, high in ranges if low < ir.V4_BASE)
    return v4, v6


def address_key(family: int, value: int) -> bytes:
    """struct address of prelude.h."""
    return struct.pack("=I", family) + (value.to_bytes(4, "big") + bytes(12) if family == 4 else value.to_bytes(16, "big"))


def address_lookup(c: CProgram, name: str, ranges: ir.Ranges) -> str:
    """C condition: the address is in a map with these ranges. Equal ranges share one map."""
    v4, v6 = by_family(ranges)
    if all(low == high for low, high in (*v4, *v6)):
        keys = [address_key(4, low) for low, _ in v4] + [address_key(6, low) for low, _ in v6]
        number = _static_map(c, "hash", KEY_SIZE, keys, 0)
        return f"(bpf_map_lookup_elem(MAP({number}), (void *)&p->{name}.at) != NULL)"
    parts = ((family, bits, low, high) for family, bits, part in ((4, 32, v4), (6, 128, v6)) for low, high in part)
    keys = [
        struct.pack("=I", 32 + length) + address_key(family, value)
        for family, bits, low, high in parts
        for value, length in prefixes(low, high, bits)
    ]
    number = _static_map(c, "lpm_trie", 4 + KEY_SIZE, keys, _NO_PREALLOC)
    return f"(bpf_map_lookup_elem(MAP({number}), (void *)&p->{name}) != NULL)"


def _static_map(c: CProgram, kind: str, key_size: int, keys: list[bytes], flags: int) -> int:
    """Found again by its content: the name is a hash of it."""
    entries = b"".join(key + b"\1" for key in keys)
    name = f"in.{hashlib.sha256(entries).hexdigest()[:16]}"
    return c.add_map(name, kind, key_size, 1, len(keys), flags=flags, entries=entries)


def port_lookup(c: CProgram, value: str, ranges: ir.Ranges) -> str:
    """C condition: bit `value` of an 8 KiB array is set."""
    bits = 0
    for low, high in ranges:
        bits |= (1 << high + 1) - (1 << low)
    content = bits.to_bytes(_PORTS // 8, "little")
    number = c.add_array(f"in.{hashlib.sha256(content).hexdigest()[:16]}", len(content), content=content)
    return f"netc_bit(VALUE({number}), {value})"


def dynamic_set(c: CProgram, known: ir.Set) -> tuple[int, int]:
    """Ids of a dynamic set's hash and ring; both live on over an apply."""
    if known.type != "address":
        message = f"the set {known.name} is dynamic and holds ports; XDP keeps dynamic sets of addresses only"
        raise CompileError([c.refusal("N903", message, "make it a set of addresses", known.span)])
    assert known.size is not None
    return keyed_table(c, f"set.{known.name}", known.size, "set", MEMBER_SIZE)


def described(known: ir.Set, nic: str, number: int) -> bundle.DynamicSet:
    """What the runtime is told of a dynamic set whose map has this number."""
    return bundle.DynamicSet(known.name, nic, number, known.size or 0, known.timeout or 0, known.full, known.never)


def clock_lines(c: CProgram) -> str:
    """C that notes the time, and which change of sets by hand holds: read once, so that a packet never sees half of one."""
    if all(known.size is None for known in c.sets.values()):
        return "    p->now = netc_now(VALUE(CLOCK));\n"
    change = c.add_array(CHANGE_MAP, CHANGE_SIZE, scope="persistent", role="change")
    return f"    p->now = netc_now(VALUE(CLOCK));\n    p->change = netc_change(VALUE({change}));\n"


def keyed_table(c: CProgram, name: str, size: int, role: str, value_size: int = BUCKET_SIZE) -> tuple[int, int]:
    """A hash from addresses and the ring of its keys (struct ring), persistent."""
    table = c.add_map(name, "hash", KEY_SIZE, value_size, size, scope="persistent", role=role)
    ring = c.add_array(f"{name}.ring", RING_HEAD + RING_SLOT * size, scope="persistent", role="ring")
    return table, ring
