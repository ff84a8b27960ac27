"""Whose the slots of a nic's counters and buckets are, as the kernel remembers it: a persistent map of owners beside each. A slot that last
belonged to another name starts at zero, also when slots.json was lost. And the end of a counter map that a policy has outgrown.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass

from compiler.bundle import BUCKET_SLOTS, Bundle, Map
from runtime import objects, slots
from runtime.backends import bpf, membarrier

CLEAR = {"counters": objects.clear_counters, "buckets": objects.clear_buckets}
_OWNER = 8  # bytes of a name's hash
_NOBODY = bytes(_OWNER)
_GRACE = 1.0  # seconds, where the kernel cannot tell when packets have been judged: none is judged for so long


def owned(bundle: Bundle, nic: str, tables: slots.Tables) -> list[tuple[str, Map, dict[str, int]]]:
    """For the counters of a nic, and for its buckets where it has such: role, the map of owners, name → slot."""
    found = [("counters", _owners(f"{nic}.owners", slots.size_of(bundle, nic)), slots.of_nic(bundle, nic, tables))]
    if any(item.role == "buckets" and item.name == f"{nic}.buckets" for item in bundle.maps):
        found.append(("buckets", _owners(f"{nic}.bucket-owners", BUCKET_SLOTS), dict(tables.get(slots.buckets_name(nic), {}))))
    return [part for part in found if part[1].value_size]


def counter_maps(bundle: Bundle, nic: str) -> list[Map]:
    """The map of a nic's counters and that of their owners, which are exchanged together."""
    return [*(item for item in bundle.maps if item.role == "counters" and item.name == f"{nic}.counters"), owned(bundle, nic, {})[0][1]]


def _owners(name: str, size: int) -> Map:
    return Map(0, name, "array", 4, _OWNER * size, 1, bpf.F_MMAPABLE, "persistent")


def take(fd: int, size: int, wanted: Mapping[str, int]) -> set[int]:
    """Write down the owners in their map of so many bytes; gives the slots that belonged to somebody else."""
    memory = bpf.map_array(fd, size)
    changed = set()
    try:
        for name, slot in wanted.items():
            owner = _mark(name)
            at = slot * _OWNER
            if memory[at : at + _OWNER] not in (owner, _NOBODY):
                changed.add(slot)
            memory[at : at + _OWNER] = owner
    finally:
        memory.close()
    return changed


def not_theirs(fd: int, size: int, wanted: Mapping[str, int]) -> list[str]:
    """The names whose slots belong to others, by the map of owners."""
    with bpf.map_array(fd, size) as memory:
        return [name for name, slot in wanted.items() if memory[slot * _OWNER : (slot + 1) * _OWNER] != _mark(name)]


def _mark(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()[:_OWNER]


@dataclass(slots=True)
class MoveStep:
    """Behind the last flip: nothing counts into the old map any more. What it says then is written down in the instant in which the new
    generation is what is installed (runtime.counters.ledger_after); and if the change is taken back, what the new map counted (runtime.steps.record).
    """

    nic: str
    size: int
    before: int
    phase: str = "flip"
    flips: str = "xdp off"

    @property
    def text(self) -> str:
        return f"move the counters of {self.nic} from {self.before:,} places to {self.size:,}"

    def do(self) -> None:
        if not membarrier.wait():
            time.sleep(_GRACE)

    def undo(self) -> None:
        """Nothing was done: the old map is still there, and what runs again counts into it."""

    def check(self) -> None:
        """Nothing to read back: LoadStep's check has read the maps."""
