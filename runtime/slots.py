"""Which place of a nic's counter map belongs to which counter, and of its buckets to which limit. Pure: the state directory keeps the answer
(slots.json).

A name keeps its slot over applies, so its numbers go on; a program learns its slots from its `slots` map. Slot 0 belongs to nobody: what a
program counts before its table was filled would be seen there. Counter maps of other sizes (bundle.COUNTER_SLOTS) have tables of their own:
a policy that outgrows its map moves to another (runtime.retired keeps what it counted), where a name has its old slot if there is such a one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping

from compiler.bundle import BUCKET_SLOTS, COUNTER_SLOTS, Bundle, Counter

FIRST = 1
Tables = Mapping[str, Mapping[str, int]]  # by `table_name` or `buckets_name`: counter name → slot


class SlotsError(Exception):
    """More counters at once than a nic has slots."""


def assign_slots(names: Iterable[str], known: Mapping[str, int], size: int) -> dict[str, int]:
    """`known` plus a slot below `size` for every name that has none. Names that are no longer used keep theirs until no slot is free.

    `names` are all that the old and the new bundle use. Raises SlotsError.
    """
    wanted = list(dict.fromkeys(names))
    slots = dict(known)
    missing = [name for name in wanted if name not in slots]
    free = _free(slots, size)
    if len(missing) > len(free):
        slots = {name: slot for name, slot in slots.items() if name in set(wanted)}
        free = _free(slots, size)
    if len(missing) > len(free):
        raise SlotsError(f"{len(wanted)} counters on one nic, {size - FIRST} are possible")
    return slots | dict(zip(missing, free, strict=False))


def _free(slots: Mapping[str, int], size: int) -> list[int]:
    taken = set(slots.values())
    return [slot for slot in range(FIRST, size) if slot not in taken]


def counters_of(bundle: Bundle, program: str) -> list[Counter]:
    """A program's counters in the order of its slot table."""
    return sorted((c for c in bundle.counters if c.program == program), key=lambda c: c.index)


def size_of(bundle: Bundle, nic: str) -> int:
    """Slots of a nic's counter map; 0 where it has none."""
    return next((item.max_entries for item in bundle.maps if item.role == "counters" and item.name == f"{nic}.counters"), 0)


def moves(old: Bundle, new: Bundle) -> list[tuple[str, int, int]]:
    """The nics whose counters go to a map of another size: nic, slots of the new map, slots of the old one."""
    nics = dict.fromkeys(code.nic for code in old.programs)
    sizes = [(nic, size_of(new, nic), size_of(old, nic)) for nic in nics]
    return [found for found in sizes if found[1] and found[2] and found[1] != found[2]]


def table_name(nic: str, size: int) -> str:
    """What slots.json calls the table of a nic's counter map of this size."""
    return nic if size in (0, COUNTER_SLOTS[0]) else f"{nic}@{size}"


def buckets_name(nic: str) -> str:
    return f"{nic}/buckets"


def of_nic(bundle: Bundle, nic: str, tables: Tables) -> dict[str, int]:
    """name → slot in the counter map of `nic` that this bundle uses. What is no slot of that map is left out."""
    size = size_of(bundle, nic)
    return {name: slot for name, slot in tables.get(table_name(nic, size), {}).items() if slot < size}


def assign(bundles: Iterable[Bundle], known: Tables) -> dict[str, dict[str, int]]:
    """The tables of every program of these bundles, which are all that is installed and is to be; and what is known of other nics. Raises SlotsError."""
    wanted: dict[str, list[str]] = {}
    sizes: dict[str, dict[str, int]] = {}
    for bundle in bundles:
        for nic in dict.fromkeys(code.nic for code in bundle.programs):
            size = size_of(bundle, nic)
            name = table_name(nic, size)
            sizes.setdefault(nic, {})[name] = size
            for code in bundle.programs:
                if code.nic == nic:
                    counters = counters_of(bundle, code.name)
                    wanted.setdefault(name, []).extend(c.name for c in counters)
                    wanted.setdefault(buckets_name(nic), []).extend(limited(bundle, code.name, counters))
    tables = {name: dict(slots) for name, slots in known.items() if name.partition("@")[0] not in sizes}
    for nic, named in sizes.items():
        before: Mapping[str, int] = next((known[name] for name in (table_name(nic, size) for size in COUNTER_SLOTS) if name in known), {})
        for name, size in named.items():
            start = known.get(name) or {each: slot for each, slot in before.items() if slot < size}
            tables[name] = assign_slots(wanted[name], start, size)
        limits = buckets_name(nic)
        if wanted[limits]:
            tables[limits] = assign_slots(wanted[limits], known.get(limits, {}), BUCKET_SLOTS)
    return tables


def limited(bundle: Bundle, program: str, counters: list[Counter]) -> list[str]:
    """The names of the program's rules with a bucket of their own, in the order in which it knows them."""
    code = next(code for code in bundle.programs if code.name == program)
    item = next((item for item in bundle.maps if item.role == "bucket-slots" and item.id in code.maps), None)
    names = {counter.index: counter.name for counter in counters}
    return [] if item is None else [names[index] for (index,) in struct.iter_unpack("<I", item.entries[item.key_size :])]


def table(counters: Iterable[Counter], slots: Mapping[str, int], size: int) -> bytes:
    """The content of a program's `slots` map of so many bytes: a u32 for each of its counters, 0 for one that is gone.

    Counters behind its end are of rules that came since (runtime.steps.xdp_changes). Raises KeyError for a counter without a slot.
    """
    words = [0] * (size // 4)
    for counter in counters:
        if counter.index < len(words):
            words[counter.index] = slots[counter.name]
    return struct.pack(f"={len(words)}I", *words)


def bucket_table(names: Iterable[str], slots: Mapping[str, int]) -> bytes:
    """The content of a program's `bucket-slots` map. Raises KeyError for a limit without a slot."""
    return b"".join(struct.pack("=I", slots[name]) for name in names)
