"""BPF maps: create, fill, read, map into memory."""

from __future__ import annotations

import errno
import mmap
import struct
from collections.abc import Iterator

from runtime.backends import bpf_sys as sys

MAP_TYPES = {
    "hash": 1, "array": 2, "prog_array": 3, "percpu_hash": 5, "percpu_array": 6, "lru_hash": 9, "lru_percpu_hash": 10,
    "lpm_trie": 11, "array_of_maps": 12, "hash_of_maps": 13, "devmap": 14, "cpumap": 16, "xskmap": 17, "devmap_hash": 25,
    "ringbuf": 27,
}  # fmt: skip  # enum bpf_map_type
MAP_NAMES = {number: name for name, number in MAP_TYPES.items()}

F_NO_PREALLOC, F_RDONLY_PROG, F_MMAPABLE = 1 << 0, 1 << 7, 1 << 10
ANY, NOEXIST, EXIST = 0, 1, 2  # flags of an update
_READ_BATCH = 4096


def create_map(
    kind: str, key_size: int, value_size: int, max_entries: int, flags: int = 0, name: str = "", inner_fd: int | None = None,
    offload: int = 0,
) -> int:  # fmt: skip
    """A new map's file descriptor (O_CLOEXEC). offload: the ifindex of the NIC in whose memory it is (0: the host's). Raises BpfError; ValueError for a kind that is not in MAP_TYPES."""
    if kind not in MAP_TYPES:
        raise ValueError(f"unknown map kind {kind!r}; known are {', '.join(MAP_TYPES)}")
    sizes = (MAP_TYPES[kind], key_size, value_size, max_entries, flags)
    attr = struct.pack("=7I16s4I", *sizes, inner_fd or 0, 0, sys.object_name(name), offload, 0, 0, 0)
    return sys.call(sys.MAP_CREATE, attr, f"create map {name or kind} ({kind}, {max_entries} entries)")


def map_update(fd: int, key: bytes, value: bytes, flags: int = ANY) -> None:
    """Set one entry. Raises BpfError (EEXIST, ENOENT by flags; E2BIG when the map is full)."""
    keys, values = sys.buffer_of(key), sys.buffer_of(value)
    sys.call(sys.MAP_UPDATE, struct.pack("=2I3Q", fd, 0, sys.pointer(keys), sys.pointer(values), flags), "update map entry")


def map_lookup(fd: int, key: bytes, value_size: int) -> bytes | None:
    """One entry's value, None when there is none. For a per-CPU map value_size is possible CPUs × the size rounded up to 8."""
    keys, values = sys.buffer_of(key), sys.buffer_of(bytes(value_size))
    attr = struct.pack("=2I3Q", fd, 0, sys.pointer(keys), sys.pointer(values), 0)
    try:
        sys.call(sys.MAP_LOOKUP, attr, "look up map entry")
    except sys.BpfError as error:
        if error.errno == errno.ENOENT:
            return None
        raise
    return values.raw


def map_delete(fd: int, key: bytes) -> bool:
    """Remove one entry; False when there was none."""
    keys = sys.buffer_of(key)
    try:
        sys.call(sys.MAP_DELETE, struct.pack("=2I3Q", fd, 0, sys.pointer(keys), 0, 0), "delete map entry")
    except sys.BpfError as error:
        if error.errno == errno.ENOENT:
            return False
        raise
    return True


def map_next_key(fd: int, key: bytes | None, key_size: int) -> bytes | None:
    """The key after `key` (None: the first), None at the end."""
    keys, after = sys.buffer_of(key) if key is not None else None, sys.buffer_of(bytes(key_size))
    try:
        sys.call(sys.MAP_NEXT_KEY, struct.pack("=2I3Q", fd, 0, sys.pointer(keys), sys.pointer(after), 0), "next map key")
    except sys.BpfError as error:
        if error.errno == errno.ENOENT:
            return None
        raise
    return after.raw


def map_update_batch(fd: int, keys: bytes, values: bytes, count: int, flags: int = ANY) -> None:
    """Set `count` entries given as concatenated keys and concatenated values. Raises BpfError; entries before the failure stay."""
    if count == 0:
        return
    key_size, value_size = len(keys) // count, len(values) // count
    if key_size * count != len(keys) or value_size * count != len(values):
        raise ValueError(f"{len(keys)} bytes of keys and {len(values)} of values are not {count} entries")
    key_buffer, value_buffer = sys.buffer_of(keys), sys.buffer_of(values)
    done = 0
    while done < count:
        key_at, value_at = sys.pointer(key_buffer) + done * key_size, sys.pointer(value_buffer) + done * value_size
        attr = sys.buffer_of(struct.pack("=4Q2I2Q", 0, 0, key_at, value_at, count - done, fd, flags, 0))
        sys.call(sys.MAP_UPDATE_BATCH, attr, f"update {count} map entries")
        done += struct.unpack_from("=I", attr.raw, 32)[0]


def map_items(fd: int, key_size: int, value_size: int) -> Iterator[tuple[bytes, bytes]]:
    """Every (key, value) of a hash, array or trie, read in batches. Entries that come or go meanwhile may be missed."""
    position: bytes | None = None
    batch = _READ_BATCH
    while True:
        keys, values = sys.buffer_of(bytes(batch * key_size)), sys.buffer_of(bytes(batch * value_size))
        start = sys.buffer_of(position) if position is not None else None
        after = sys.buffer_of(bytes(max(key_size, 4)))
        places = (sys.pointer(start), sys.pointer(after), sys.pointer(keys), sys.pointer(values))
        attr = sys.buffer_of(struct.pack("=4Q2I2Q", *places, batch, fd, 0, 0))
        last = False
        try:
            sys.call(sys.MAP_LOOKUP_BATCH, attr, "read map entries")
        except sys.BpfError as error:
            if error.errno == errno.ENOSPC:  # one hash bucket has more entries than the batch
                batch *= 2
                continue
            if error.errno != errno.ENOENT:
                raise
            last = True
        count = struct.unpack_from("=I", attr.raw, 32)[0]
        key_bytes, value_bytes = keys.raw, values.raw
        for i in range(count):
            yield key_bytes[i * key_size : (i + 1) * key_size], value_bytes[i * value_size : (i + 1) * value_size]
        if last:
            return
        position = after.raw


def map_freeze(fd: int) -> None:
    """Nobody can write the map by a system call any more, not even root; programs still can. For good."""
    sys.call(sys.MAP_FREEZE, struct.pack("=I", fd), "freeze a map")


def map_is_frozen(fd: int) -> bool:
    """Whether `map_freeze` was done: only fdinfo tells (bpf_map_show_fdinfo)."""
    with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as file:
        return any(line.split() == ["frozen:", "1"] for line in file)


def map_array(fd: int, size: int) -> mmap.mmap:
    """A BPF_F_MMAPABLE array's memory, readable and writable; `size` is max_entries × the value size rounded up to 8."""
    pages = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
    return mmap.mmap(fd, pages, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ | mmap.PROT_WRITE)


def possible_cpus() -> int:
    """How many CPUs the kernel may ever have: the width of a per-CPU map's value."""
    with open("/sys/devices/system/cpu/possible", encoding="ascii") as file:
        text = file.read().strip()
    return 1 + max(int(part.rpartition("-")[2]) for part in text.split(","))
