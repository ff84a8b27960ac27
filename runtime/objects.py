"""A bundle's maps and programs in the kernel: made, filled, loaded. Nothing is attached or pinned here.

`runtime.steps.xdp` pins and attaches them; replay, test runs and tests use `load_fresh`, which needs no device: maps of its own, nothing
shared with what is installed.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Self

from compiler.bundle import BUCKET_SLOTS, CONFIG_WORDS, COUNTER_SLOTS, CPU_MAX, SCRATCH_SIZE, Bundle, Code, Map
from runtime import changed_rules
from runtime import slots as slot_tables
from runtime.backends import bpf
from runtime.steps import StepError

HOOKS = {
    "xdp": ("xdp", bpf.XDP), "tcx_ingress": ("sched_cls", bpf.TCX_INGRESS), "tcx_egress": ("sched_cls", bpf.TCX_EGRESS),
}  # fmt: skip  # hook: program type, attach type
_PAIR = struct.Struct("=QQ")  # packets, bytes
_BUCKET = 8
_FEW = 1000  # counters, which are read one by one; more are quicker in batches of the whole map


@dataclass(slots=True)
class Objects:
    """Descriptors by map id and by program name. Use as a context manager or call `close`."""

    maps: dict[int, int] = field(default_factory=dict)
    programs: dict[str, int] = field(default_factory=dict)

    def close(self) -> None:
        for descriptor in (*self.maps.values(), *self.programs.values()):
            os.close(descriptor)
        self.maps.clear()
        self.programs.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_SIZES = {  # role: kind, key and value size that the runtime reads and writes by
    "counters": ("percpu_array", 4, _PAIR.size), "scratch": ("array", 4, CPU_MAX * SCRATCH_SIZE), "clock": ("array", 4, 8),
    "buckets": ("array", 4, BUCKET_SLOTS * _BUCKET), "config": ("array", 4, 4 * len(CONFIG_WORDS)), "devices": ("devmap", 4, 4),
    "cpus": ("cpumap", 4, 4), "mac": ("array", 4, 8), "set": ("hash", 20, 24), "change": ("array", 4, 16),
}  # fmt: skip


def validate(bundle: Bundle) -> None:
    """What only a bundle that no netc compiled can get wrong: unknown kinds, sizes that do not fit a role, code that is no code.

    Raises StepError before anything is made.
    """
    mend = "compile the policy again with this netc"
    for what, names in (("map", [m.name for m in bundle.maps]), ("map number", [m.id for m in bundle.maps]), ("program", _names(bundle))):
        if len(set(names)) != len(names):
            raise StepError(f"{what}s of the bundle", "the same one stands there twice", mend)
    for item in bundle.maps:
        keyed = item.role == "buckets" and item.kind == "hash"
        wanted = ("hash", 20, 8) if keyed else _SIZES.get(item.role, (item.kind, item.key_size, item.value_size))
        few = item.role == "counters" and item.max_entries not in COUNTER_SLOTS or item.role == "changes" and not changed_rules.is_sound(item)
        if item.kind not in bpf.MAP_TYPES or (item.kind, item.key_size, item.value_size) != wanted or item.inner or few:
            raise StepError(f"map {item.name}", f"a {item.kind} of {item.key_size}+{item.value_size} bytes as {item.role or 'table'}", mend)
    for code in bundle.programs:
        if not code.code or len(code.code) % 8 or not set(code.maps) <= {item.id for item in bundle.maps}:
            raise StepError(f"program {code.name}", "it is cut, or refers to maps that are not in the bundle", mend)
        for item in bundle.maps:
            most = max((counter.index for counter in slot_tables.counters_of(bundle, code.name)), default=0)
            if item.id in code.maps and item.role == "bucket-slots":
                _check_bucket_slots(item, {counter.index for counter in slot_tables.counters_of(bundle, code.name)}, mend)
            if item.id not in code.maps or item.role != "slots":
                continue
            if (item.kind, item.key_size) != ("array", 4) or most >= item.value_size // 4 + changed_rules.counters_behind(bundle, code):
                raise StepError(f"map {item.name}", f"{item.value_size} bytes for the slots of {most + 1} counters", mend)


def _check_bucket_slots(item: Map, counters: set[int], mend: str) -> None:
    size = item.key_size + item.value_size
    if (item.kind, item.key_size, item.max_entries, len(item.entries), item.value_size % 4) != ("array", 4, 1, size, 0):
        raise StepError(f"map {item.name}", f"a {item.kind} with {len(item.entries)} bytes of entries as bucket-slots", mend)
    if any(index not in counters for (index,) in struct.iter_unpack("<I", item.entries[4:])):
        raise StepError(f"map {item.name}", f"it names a counter that is not among the program's {len(counters)}", mend)


def _names(bundle: Bundle) -> list[str]:
    return [code.name for code in bundle.programs]


def load_fresh(bundle: Bundle, wanted: Callable[[Code], bool] = lambda code: True) -> Objects:
    """Programs of a bundle with new maps, for test runs: slots assigned as on an empty host. Raises BpfError, StepError."""
    validate(bundle)
    codes = [code for code in bundle.programs if wanted(code)]
    needed = {number for code in codes for number in code.maps}
    assigned = slot_tables.assign([bundle], {})
    made = Objects()
    try:
        for item in bundle.maps:
            if item.id in needed:
                made.maps[item.id] = create_map(item)
                fill_map(made.maps[item.id], item, bundle)
        for code in codes:
            fill_slots(made.maps, bundle, code, assigned)
            made.programs[code.name] = load(code, made.maps)
    except BaseException:
        made.close()
        raise
    return made


def create_map(item: Map) -> int:
    """A map as the bundle describes it, empty."""
    return bpf.create_map(item.kind, item.key_size, item.value_size, item.max_entries, item.flags, item.name)


def same_shape(fd: int, item: Map) -> bool:
    """Whether a kernel map has this type, these sizes and flags: only then may a program use it as `item`."""
    info = bpf.map_info(fd)
    # BPF_F_RDONLY_PROG, which the kernel adds to devmaps so that programs cannot write them
    flags = info.flags & ~bpf.F_RDONLY_PROG if item.kind in ("devmap", "devmap_hash") else info.flags
    shape = (bpf.MAP_NAMES.get(info.type), info.key_size, info.value_size, info.max_entries, flags)
    return shape == (item.kind, item.key_size, item.value_size, item.max_entries, item.flags)


def fill_map(fd: int, item: Map, bundle: Bundle) -> None:
    """Put the bundle's entries in. Raises StepError when they do not fit the map, or a CPU of a cpumap is not there."""
    if not item.entries:
        return
    size = item.key_size + item.value_size
    count, rest = divmod(len(item.entries), size) if item.kind != "array" or item.max_entries != 1 else (1, 0)
    if rest or count > item.max_entries or len(item.entries) > count * size:
        raise StepError(f"map {item.name}", "its entries do not fit its sizes", "compile the policy again")
    entries = item.entries.ljust(count * size, b"\0")
    if item.role == "cpus":
        _fill_cpus(fd, entries, _spare_cpus(item, bundle))
        return
    keys = b"".join(entries[at : at + item.key_size] for at in range(0, len(entries), size))
    values = b"".join(entries[at + item.key_size : at + size] for at in range(0, len(entries), size))
    bpf.map_update_batch(fd, keys, values, count)


def _spare_cpus(item: Map, bundle: Bundle) -> set[int]:
    """CPUs that only preferred rules name: where one is not there, XDP leaves their packets on the CPU that they came to."""
    named: dict[bool, set[int]] = {True: set(), False: set()}
    for setting in bundle.settings:
        if setting.group == "require" and f"{setting.nic}.cpus" == item.name:
            named[setting.prefer].update(int(cpu) for cpu in (setting.value if isinstance(setting.value, tuple) else (setting.value,)))
    return named[True] - named[False]


def _fill_cpus(fd: int, entries: bytes, spare: Collection[int]) -> None:
    for at in range(0, len(entries), 8):
        cpu = struct.unpack_from("=I", entries, at)[0]
        try:
            bpf.map_update(fd, entries[at : at + 4], entries[at + 4 : at + 8])
        except bpf.BpfError as error:
            if error.errno not in (errno.ENODEV, errno.E2BIG, errno.EINVAL):
                raise
            if cpu in spare:
                continue
            mend = f"this host has CPUs 0-{bpf.possible_cpus() - 1}: steer to those"
            raise StepError(f"steering to CPU {cpu}", os.strerror(error.errno or 0), mend) from None


def fill_slots(fds: Mapping[int, int], bundle: Bundle, code: Code, tables: slot_tables.Tables) -> None:
    """Tell a program the slots of its counters and of its buckets. Raises KeyError for a name without one."""
    counters = slot_tables.counters_of(bundle, code.name)
    content: dict[str, Callable[[int], bytes]] = {
        "slots": lambda size: slot_tables.table(counters, slot_tables.of_nic(bundle, code.nic, tables), size),
        "bucket-slots": lambda _: slot_tables.bucket_table(
            slot_tables.limited(bundle, code.name, counters), tables.get(slot_tables.buckets_name(code.nic), {})
        ),
    }
    for item in bundle.maps:
        if item.role in content and item.id in code.maps:
            bpf.map_update(fds[item.id], bytes(4), content[item.role](item.value_size)[: item.value_size].ljust(item.value_size, b"\0"))
        if item.role == "changes" and item.id in code.maps:
            changed_rules.fill_slots(fds[item.id], item, counters, slot_tables.of_nic(bundle, code.nic, tables))


def load(code: Code, fds: Mapping[int, int]) -> int:
    """Load a program; `fds` are the maps by id. Raises BpfError, StepError for an unknown hook or a map that is missing."""
    if code.hook not in HOOKS:
        raise StepError(f"program {code.name}", f"no hook is called {code.hook!r}", "apply it with the netc that compiled it")
    kind, attach_type = HOOKS[code.hook]
    try:
        return bpf.load_program(kind, code.code, fds, code.name, attach_type, code.frags and kind == "xdp")
    except KeyError as error:
        raise StepError(f"program {code.name}", f"the bundle has no map {error}", "compile the policy again") from None


def read_slots(fd: int, wanted: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """name → (packets, bytes) from a nic's counter map, summed over the CPUs."""
    size = bpf.possible_cpus() * _PAIR.size
    if len(wanted) <= _FEW:
        return {name: _summed(bpf.map_lookup(fd, struct.pack("=I", slot), size) or b"") for name, slot in wanted.items()}
    values = {key: value for key, value in bpf.map_items(fd, 4, size) if any(value)}
    return {name: _summed(values.get(struct.pack("=I", slot), b"")) for name, slot in wanted.items()}


def _summed(values: bytes) -> tuple[int, int]:
    pairs = list(_PAIR.iter_unpack(values))
    return sum(packets for packets, _ in pairs), sum(octets for _, octets in pairs)


def clear_counters(fd: int, slots: set[int]) -> None:
    """Set these slots of a counter map to zero, on every CPU."""
    for slot in slots:
        bpf.map_update(fd, struct.pack("=I", slot), bytes(bpf.possible_cpus() * _PAIR.size))


def clear_buckets(fd: int, slots: set[int]) -> None:
    """Fill the buckets of these slots."""
    memory = bpf.map_array(fd, BUCKET_SLOTS * _BUCKET)
    try:
        for slot in slots:
            memory[slot * _BUCKET : (slot + 1) * _BUCKET] = bytes(_BUCKET)
    finally:
        memory.close()


def read_scratch(fd: int, cpu: int) -> tuple[int, int]:
    """Of the last packet on this CPU: the index of the counter that judged it, and of the steer rule; 2**32 - 1 for none."""
    memory = bpf.map_array(fd, CPU_MAX * SCRATCH_SIZE)
    try:
        judged, steered = struct.unpack_from("=II", memory, cpu * SCRATCH_SIZE)
    finally:
        memory.close()
    return judged, steered
