"""Whose the slots of a nic's counters and buckets are, as the kernel remembers it: a persistent map of owners beside each.

A slot that last belonged to another name starts at zero, also when slots.json was lost.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from compiler.bundle import BUCKET_SLOTS, Bundle, Map
from runtime import objects, slots
from runtime.backends import bpf

CLEAR = {"counters": objects.clear_counters, "buckets": objects.clear_buckets}
_OWNER = 8  # bytes of a name's hash
_NOBODY = bytes(_OWNER)


def owned(bundle: Bundle, nic: str, tables: slots.Tables) -> list[tuple[str, Map, dict[str, int]]]:
    """For the counters of a nic, and for its buckets where it has such: role, the map of owners, name → slot."""
    found = [("counters", _owners(f"{nic}.owners", slots.size_of(bundle, nic)), slots.of_nic(bundle, nic, tables))]
    if any(item.role == "buckets" and item.name == f"{nic}.buckets" for item in bundle.maps):
        found.append(("buckets", _owners(f"{nic}.bucket-owners", BUCKET_SLOTS), dict(tables.get(slots.buckets_name(nic), {}))))
    return [part for part in found if part[1].value_size]


def _owners(name: str, size: int) -> Map:
    return Map(0, name, "array", 4, _OWNER * size, 1, bpf.F_MMAPABLE, "persistent")


def take(fd: int, owners: Map, wanted: Mapping[str, int]) -> set[int]:
    """Write down the owners; gives the slots that belonged to somebody else."""
    memory = bpf.map_array(fd, owners.value_size)
    changed = set()
    try:
        for name, slot in wanted.items():
            owner = hashlib.sha256(name.encode()).digest()[:_OWNER]
            at = slot * _OWNER
            if memory[at : at + _OWNER] not in (owner, _NOBODY):
                changed.add(slot)
            memory[at : at + _OWNER] = owner
    finally:
        memory.close()
    return changed
