"""Which place of a nic's counter map belongs to which counter. Pure: the state directory keeps the answer (slots.json).

A name keeps its slot over applies, so its numbers go on; a program learns its slots from its `slots` map. Slot 0 belongs to nobody: what a
program counts before its table was filled would be seen there.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping

from compiler.bundle import COUNTER_SLOTS, Bundle, Counter

FIRST = 1


class SlotsError(Exception):
    """More counters at once than a nic has slots."""


def assign_slots(names: Iterable[str], known: Mapping[str, int]) -> dict[str, int]:
    """`known` plus a slot for every name that has none. Names that are no longer used keep theirs until no slot is free.

    `names` are all that the old and the new bundle use. Raises SlotsError.
    """
    wanted = list(dict.fromkeys(names))
    slots = dict(known)
    missing = [name for name in wanted if name not in slots]
    free = _free(slots)
    if len(missing) > len(free):
        slots = {name: slot for name, slot in slots.items() if name in set(wanted)}
        free = _free(slots)
    if len(missing) > len(free):
        raise SlotsError(f"{len(wanted)} counters on one nic, {COUNTER_SLOTS - FIRST} are possible")
    return slots | dict(zip(missing, free, strict=False))


def _free(slots: Mapping[str, int]) -> list[int]:
    taken = set(slots.values())
    return [slot for slot in range(FIRST, COUNTER_SLOTS) if slot not in taken]


def counters_of(bundle: Bundle, program: str) -> list[Counter]:
    """A program's counters in the order of its slot table."""
    return sorted((c for c in bundle.counters if c.program == program), key=lambda c: c.index)


def assign(bundles: Iterable[Bundle], known: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    """nic → name → slot for every program of these bundles, beside what is known. Raises SlotsError."""
    names: dict[str, list[str]] = {}
    for bundle in bundles:
        for code in bundle.programs:
            names.setdefault(code.nic, []).extend(c.name for c in counters_of(bundle, code.name))
    assigned = {nic: assign_slots(wanted, known.get(nic, {})) for nic, wanted in names.items()}
    return {nic: dict(slots) for nic, slots in known.items()} | assigned


def table(counters: Iterable[Counter], slots: Mapping[str, int], size: int) -> bytes:
    """The content of a program's `slots` map of so many bytes: a u32 for each of its counters, 0 for one that is gone.

    Counters behind its end are of rules that came since (runtime.steps.xdp_changes). Raises KeyError for a counter without a slot.
    """
    words = [0] * (size // 4)
    for counter in counters:
        if counter.index < len(words):
            words[counter.index] = slots[counter.name]
    return struct.pack(f"={len(words)}I", *words)
