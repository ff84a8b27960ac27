"""The map of rules that changed since a program's tables were built, in the kernel: filled, read, and changed by one store.

The layout is compiler.tables.changes's; here stand the words that only the kernel's copy has: the half in force, and the slots of its counters.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct
from collections.abc import Iterable, Mapping

from compiler.bundle import Bundle, Code, Counter, Map
from compiler.tables import changes
from runtime.backends import bpf, membarrier

_HEAD = struct.Struct("=4I")
_IN_ORDER = os.uname().machine == "x86_64"  # other CPUs see a process's stores in their order; elsewhere a barrier stands before the last one
_SETTLING = 2  # beside the half in force: packets may still be judged by the other one


def counters_behind(bundle: Bundle, code: Code) -> int:
    """How many counters a program may have behind its slot table."""
    return changes.MOST if any(item.role == "changes" and item.id in code.maps for item in bundle.maps) else 0


def is_sound(item: Map) -> bool:
    """Whether a bundle's map is one that the runtime can work on: sizes within it, nothing in force but half 0."""
    content = item.entries[item.key_size :]
    if (item.kind, item.key_size, item.max_entries, item.scope) != ("array", 4, 1, "generation") or len(content) < changes.HALVES_AT:
        return False
    in_force, half, entries_at, _ = _HEAD.unpack_from(content)
    fits = changes.HALVES_AT + 2 * half <= item.value_size and entries_at + changes.MOST * changes.ENTRY <= half
    return bool(fits and in_force == 0 and half % 64 == 0 and entries_at % 8 == 0 and len(content) <= changes.HALVES_AT + half)


def wanted(item: Map) -> bytes:
    """The bundle's half 0."""
    half = _HEAD.unpack_from(item.entries, item.key_size)[1]
    return item.entries[item.key_size + changes.HALVES_AT :][:half].ljust(half, b"\0")


def fill_slots(fd: int, item: Map, counters: Iterable[Counter], slots: Mapping[str, int]) -> None:
    """Tell a program that was just loaded where the entries of half 0 count. Raises KeyError for a counter without a slot."""
    first = _HEAD.unpack_from(item.entries, item.key_size)[3]
    behind = {counter.index - first: slots[counter.name] for counter in counters if counter.index >= first}
    with bpf.map_array(fd, item.value_size) as memory:
        _put_slots(memory, 0, behind)


def half_in_force(fd: int, size: int) -> int:
    """The number of the half that the kernel's programs go by. size: of the map's value."""
    with bpf.map_array(fd, size) as memory:
        return memory[0] & 1


def in_force(fd: int, size: int) -> bytes:
    """What the kernel's programs go by, as half 0 would have it."""
    with bpf.map_array(fd, size) as memory:
        now, half, entries_at, _ = _HEAD.unpack_from(memory)
        at = changes.HALVES_AT + (now & 1) * half
        return changes.in_half(memory[at : at + half], entries_at, -(now & 1))


def publish(fd: int, size: int, content: bytes, slots: Mapping[int, int]) -> None:
    """Put this half in force by one store, and wait until no packet is judged by the other. slots: nth counter → its slot.

    The half that is written is one that no packet can be in: the last change has waited, or left a sign that it has not.
    Raises OSError where the kernel cannot tell (membarrier.is_there): then what was in force is in force; ValueError for a half of another size.
    """
    with bpf.map_array(fd, size) as memory:
        now, half, entries_at, _ = _HEAD.unpack_from(memory)
        if len(content) != half:
            raise ValueError(f"a half has {half} bytes, not {len(content)}")
        if now & _SETTLING:
            _settle()
        other = 1 - (now & 1)
        at = changes.HALVES_AT + other * half
        memory[at : at + half] = changes.in_half(content, entries_at, other)
        _put_slots(memory, other, slots)
        if not _IN_ORDER:
            _settle()
        word = ctypes.c_uint32.from_buffer(memory)
        try:
            word.value = other | _SETTLING
            _settle()
            word.value = other
        except OSError:  # a change that is refused is not in force; who comes next waits for the packets that it judged
            word.value = now & 1 | _SETTLING
            raise
        finally:
            del word  # the memory cannot be closed while something points into it


def _settle() -> None:
    if not membarrier.wait():
        raise OSError(errno.ENOSYS, "this kernel cannot tell when packets have been judged (membarrier; booted with nohz_full?)")


def _put_slots(memory: mmap.mmap, half: int, slots: Mapping[int, int]) -> None:
    for nth, slot in slots.items():
        struct.pack_into("=I", memory, changes.SLOTS_AT + 4 * (half * changes.MOST + nth), slot)
