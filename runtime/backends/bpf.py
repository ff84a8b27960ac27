"""Thin typed bpf(2), standard library only: maps, programs, links, pins, test runs. One import for all of it.

Functions return plain file descriptors (all O_CLOEXEC, the caller closes them; `Fd` owns one). Every refusal is a `BpfError` with the
kernel's errno and, for a program, the end of the verifier's log.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from runtime.backends import bpf_sys as sys
from runtime.backends import kernel_calls
from runtime.backends.bpf_map import (
    ANY,
    EXIST,
    F_MMAPABLE,
    F_NO_PREALLOC,
    F_RDONLY_PROG,
    MAP_NAMES,
    MAP_TYPES,
    NOEXIST,
    create_map,
    map_array,
    map_delete,
    map_freeze,
    map_is_frozen,
    map_items,
    map_lookup,
    map_next_key,
    map_update,
    map_update_batch,
    possible_cpus,
)  # fmt: skip
from runtime.backends.bpf_sys import BpfError, Fd

__all__ = [
    "ANY",
    "EXIST",
    "F_MMAPABLE",
    "F_NO_PREALLOC",
    "F_RDONLY_PROG",
    "MAP_NAMES",
    "MAP_TYPES",
    "NOEXIST",
    "PROG_TYPES",
    "TCX_EGRESS",
    "TCX_INGRESS",
    "TEST_XDP_LIVE_FRAMES",
    "XDP",
    "XDP_FLAGS_DRV",
    "XDP_FLAGS_SKB",
    "BpfError",
    "Fd",
    "LinkInfo",
    "MapInfo",
    "ProgInfo",
    "TestRun",
    "create_map",
    "get_pinned",
    "is_bpffs",
    "is_program",
    "link_create",
    "link_detach",
    "link_info",
    "link_update",
    "load_program",
    "map_array",
    "map_delete",
    "map_freeze",
    "map_ifindex",
    "map_info",
    "map_is_frozen",
    "map_items",
    "map_lookup",
    "map_next_key",
    "map_update",
    "map_update_batch",
    "mount_bpffs",
    "pin",
    "possible_cpus",
    "prog_info",
    "prog_maps",
    "test_run",
]  # fmt: skip

PROG_TYPES = {"sched_cls": 3, "xdp": 6}  # enum bpf_prog_type
XDP, TCX_INGRESS, TCX_EGRESS = 37, 46, 47  # enum bpf_attach_type
XDP_FLAGS_SKB, XDP_FLAGS_DRV, XDP_FLAGS_HW = 2, 4, 8  # include/uapi/linux/if_link.h
TEST_XDP_LIVE_FRAMES = 2  # BPF_F_TEST_XDP_LIVE_FRAMES
_F_XDP_HAS_FRAGS = 1 << 5
_F_REPLACE = 1 << 2
_PSEUDO_MAP_FD, _PSEUDO_MAP_VALUE = 1, 2
_LD_IMM64 = 0x18
_LOG_SIZE = 1 << 16  # bytes; kernels since 6.4 keep the log's end when it does not fit
_LOG_SHOWN = 1500  # characters
_BPFFS_MAGIC = 0xCAFE4A11


class ProgInfo(NamedTuple):
    """Of struct bpf_prog_info. verified_insns: what the verifier walked, 0 on kernels before 5.16."""

    type: int
    id: int
    tag: bytes
    name: str
    xlated_size: int
    verified_insns: int


class MapInfo(NamedTuple):
    """Of struct bpf_map_info."""

    type: int
    id: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    name: str


class LinkInfo(NamedTuple):
    """Of struct bpf_link_info; ifindex 0: the link is detached. attach_type only for tcx links."""

    type: int
    id: int
    prog_id: int
    ifindex: int
    attach_type: int


class TestRun(NamedTuple):
    """What BPF_PROG_TEST_RUN said. data_out: metadata and packet; duration: ns a run."""

    retval: int
    data_out: bytes
    duration: int
    ctx_out: bytes = b""


def load_program(kind: str, code: bytes, fds: Mapping[int, int], name: str = "", attach_type: int = 0, frags: bool = False, offload: int = 0) -> int:
    """Load bytecode whose ld_imm64 hold symbolic map ids (source register 1: a map, 2: its value); `fds` says what they stand for.

    offload: the ifindex of the NIC that is to run it (0: the host).

    Raises BpfError with the verifier's words; KeyError names an id without a descriptor.
    """
    patched = _patch(code, fds)
    if kernel_calls.asks(patched):
        known = kernel_calls.of_this_kernel()
        if known:
            with contextlib.suppress(BpfError):  # a kernel that names the function may still refuse it
                return _load(kind, kernel_calls.resolved(patched, known), name, attach_type, frags, offload)
        patched = kernel_calls.without(patched)
    return _load(kind, patched, name, attach_type, frags, offload)


def _load(kind: str, code: bytes, name: str, attach_type: int, frags: bool, offload: int) -> int:
    insns, license_ = sys.buffer_of(code), sys.buffer_of(b"GPL\0")
    flags = _F_XDP_HAS_FRAGS if frags else 0
    what = f"load {kind} program {name or '(unnamed)'} ({len(code) // 8} instructions)"

    def attempt(log: ctypes.Array[ctypes.c_char] | None) -> int:
        log_part = (1, _LOG_SIZE, sys.pointer(log)) if log is not None else (0, 0, 0)
        head = (PROG_TYPES[kind], len(code) // 8, sys.pointer(insns), sys.pointer(license_))
        tail = (0, flags, sys.object_name(name), offload, attach_type)
        return sys.call(sys.PROG_LOAD, struct.pack("=2I2Q2IQ2I16s2I", *head, *log_part, *tail), what)

    try:
        return attempt(None)
    except BpfError as first:
        log = sys.buffer_of(bytes(_LOG_SIZE))
        try:
            return attempt(log)
        except BpfError:
            raise BpfError(first.errno or 0, what, log.value.decode(errors="replace")[-_LOG_SHOWN:].strip()) from None


def _patch(code: bytes, fds: Mapping[int, int]) -> bytes:
    patched = bytearray(code)
    at = 0
    while at < len(code):
        wide = code[at] == _LD_IMM64
        if wide and code[at + 1] >> 4 in (_PSEUDO_MAP_FD, _PSEUDO_MAP_VALUE):
            struct.pack_into("=i", patched, at + 4, fds[struct.unpack_from("=i", code, at + 4)[0]])
        at += 16 if wide else 8
    return bytes(patched)


def link_create(prog_fd: int, target_ifindex: int, attach_type: int, flags: int = 0) -> int:
    """Attach by a link; it holds until its last descriptor and pin are gone. flags: XDP_FLAGS_* for XDP, BPF_F_BEFORE... for tcx."""
    attr = struct.pack("=4I4Q", prog_fd, target_ifindex, attach_type, flags, 0, 0, 0, 0)
    return sys.call(sys.LINK_CREATE, attr, f"attach to ifindex {target_ifindex} (attach type {attach_type})")


def link_update(link_fd: int, new_fd: int, old_fd: int | None = None) -> None:
    """Put another program on the link in one step; with old_fd only if that one is on it now (else BpfError EPERM)."""
    attr = struct.pack("=4I", link_fd, new_fd, _F_REPLACE if old_fd is not None else 0, old_fd or 0)
    sys.call(sys.LINK_UPDATE, attr, "replace the program of a link")


def link_detach(link_fd: int) -> None:
    """Take the program off; the link stays, without a device."""
    sys.call(sys.LINK_DETACH, struct.pack("=I", link_fd), "detach a link")


def pin(fd: int, path: Path | str) -> None:
    """Give a map, program or link a name in a bpf file system. Raises BpfError (EEXIST when the name is taken)."""
    name = sys.buffer_of(os.fsencode(path) + b"\0")
    sys.call(sys.OBJ_PIN, struct.pack("=Q2I", sys.pointer(name), fd, 0), f"pin {path}")


def get_pinned(path: Path | str) -> int:
    """A descriptor of what is pinned at `path`. Raises BpfError (ENOENT)."""
    name = sys.buffer_of(os.fsencode(path) + b"\0")
    return sys.call(sys.OBJ_GET, struct.pack("=Q2I", sys.pointer(name), 0, 0), f"open the pin {path}")


def _info(fd: int, size: int, what: str) -> bytes:
    info = sys.buffer_of(bytes(size))
    sys.call(sys.OBJ_INFO, struct.pack("=2IQ", fd, size, sys.pointer(info)), what)
    return info.raw


def _text(name: bytes) -> str:
    return name.split(b"\0", 1)[0].decode("ascii", "replace")


def prog_by_id(number: int) -> int:
    """A file descriptor of a loaded program. Raises BpfError (ENOENT: it is gone)."""
    return sys.call(sys.PROG_FD_BY_ID, struct.pack("=3I", number, 0, 0), f"open program {number}")


def is_program(fd: int) -> bool:
    """Whether a descriptor of a pin is a program's, and not a map's or a link's."""
    return os.readlink(f"/proc/self/fd/{fd}") == "anon_inode:bpf-prog"


def prog_info(fd: int) -> ProgInfo:
    info = _info(fd, 232, "read program info")
    kind, number, tag, _, xlated = struct.unpack_from("=2I8s2I", info)
    return ProgInfo(kind, number, tag, _text(info[64:80]), xlated, struct.unpack_from("=I", info, 216)[0])


def prog_maps(fd: int) -> set[int]:
    """The ids of the maps that a program uses; nr_map_ids and map_ids stand at 52 and 56 of struct bpf_prog_info."""
    count = struct.unpack_from("=I", _info(fd, 232, "read program info"), 52)[0]
    numbers, info = sys.buffer_of(bytes(4 * count)), sys.buffer_of(bytes(52) + struct.pack("=IQ", count, 0) + bytes(232 - 64))
    struct.pack_into("=Q", info, 56, sys.pointer(numbers))
    sys.call(sys.OBJ_INFO, struct.pack("=2IQ", fd, 232, sys.pointer(info)), "read a program's maps")
    return set(struct.unpack_from(f"={count}I", numbers.raw))


def map_info(fd: int) -> MapInfo:
    info = _info(fd, 40, "read map info")
    kind, number, key_size, value_size, max_entries, flags = struct.unpack_from("=6I", info)
    return MapInfo(kind, number, key_size, value_size, max_entries, flags, _text(info[24:40]))


def map_ifindex(fd: int) -> int:
    """The NIC in whose memory a map is; 0: the host's. Raises BpfError (ENODEV: the NIC is gone)."""
    return int(struct.unpack_from("=I", _info(fd, 48, "read map info"), 40)[0])


def link_info(fd: int) -> LinkInfo:
    info = _info(fd, 32, "read link info")
    return LinkInfo(*struct.unpack_from("=3I", info), *struct.unpack_from("=2I", info, 16))


def test_run(
    fd: int, data: bytes, ctx: bytes = b"", repeat: int = 1, flags: int = 0, batch: int = 0, cpu: int = 0
) -> TestRun:
    """Run a program on one packet; ctx is its struct xdp_md or __sk_buff. With TEST_XDP_LIVE_FRAMES the packets really travel.

    The program counts as it does on a device. Frames under 14 bytes are refused (BpfError EINVAL).
    """
    live = bool(flags & TEST_XDP_LIVE_FRAMES)
    data_in, ctx_in = sys.buffer_of(data), sys.buffer_of(ctx) if ctx else None
    data_out = None if live else sys.buffer_of(bytes(len(data) + 512))
    ctx_out = None if live or not ctx else sys.buffer_of(bytes(len(ctx)))
    sizes = (fd, 0, len(data), len(data_out) if data_out is not None else 0)
    ctx_sizes = (len(ctx), len(ctx_out) if ctx_out is not None else 0, sys.pointer(ctx_in), sys.pointer(ctx_out))
    tail = (flags, cpu, batch, 0)
    places = (sys.pointer(data_in), sys.pointer(data_out))
    attr = sys.buffer_of(struct.pack("=4I2Q4I2Q4I", *sizes, *places, repeat, 0, *ctx_sizes, *tail))
    sys.call(sys.PROG_TEST_RUN, attr, f"test run on {len(data)} bytes")
    retval, _, size_out = struct.unpack_from("=3I", attr.raw, 4)
    duration = struct.unpack_from("=I", attr.raw, 36)[0]
    packet = data_out.raw[:size_out] if data_out is not None else b""
    return TestRun(retval, packet, duration, ctx_out.raw if ctx_out is not None else b"")


def is_bpffs(path: Path | str) -> bool:
    """Whether `path` lies in a bpf file system (statfs f_type)."""
    statfs = ctypes.create_string_buffer(256)
    if ctypes.CDLL(None, use_errno=True).statfs(os.fsencode(path), statfs) != 0:
        return False
    return int(struct.unpack_from("=q", statfs.raw)[0]) & 0xFFFFFFFF == _BPFFS_MAGIC


def mount_bpffs(path: Path | str) -> None:
    """Make `path` a directory (0700) in a bpf file system: mounted there unless it lies in one already. Raises BpfError."""
    os.makedirs(path, mode=0o700, exist_ok=True)
    if is_bpffs(path):
        return
    nosuid_nodev_noexec = 2 | 4 | 8
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"bpf", os.fsencode(path), b"bpf", ctypes.c_ulong(nosuid_nodev_noexec), b"mode=0700") != 0:
        number = ctypes.get_errno()
        if number != errno.EBUSY:
            raise BpfError(number, f"mount a bpf file system on {path}")
