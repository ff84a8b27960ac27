"""Looks at what arrives on a device, behind the driver and XDP: of each packet its receive queue, its CPU and its first bytes.

A small program on the device's tcx ingress hook, before everybody else's there, by a bpf_link that nothing pins: it goes with its descriptor, whatever
becomes of the process. It changes no packet and hands each to the next program. What it copied is read from a BPF ring buffer; it stops copying behind
MOST packets, and counts what found no room. skb->queue_mapping is the receive queue and one (skb_record_rx_queue), 0 where no driver recorded any: after a
cpumap redirect, for one.
"""

from __future__ import annotations

import mmap
import os
import struct
from typing import NamedTuple, Self

from runtime.backends import bpf
from runtime.backends.bpf_ring import Ring

NAME = "netc_observer"
MOST = 200_000
HEAD = 128  # bytes of a packet
_ROOM = 1 << 22
_BEFORE = 1 << 3  # BPF_F_BEFORE without a relative: before all others
_RING, _COUNTS = 1, 2  # symbolic map ids
_FIELDS = struct.Struct("=6I")  # queue, cpu, hash, length, vlan, copied
_RECORD = _FIELDS.size + HEAD
_SKB = {"length": 0, "queue": 12, "vlan_present": 20, "vlan": 24, "hash": 68}  # struct __sk_buff
_CPU, _LOAD_BYTES, _RING_OUTPUT = 8, 26, 130  # enum bpf_func_id
_R0, _R1, _R2, _R3, _R4, _R5, _R6, _R7, _R8, _FP = 0, 1, 2, 3, 4, 5, 6, 7, 8, 10


class Seen(NamedTuple):
    """One packet. queue: -1 where none was recorded. length: bytes as the stack has it (GRO may have merged several). vlan: -1 for none beside the frame."""

    queue: int
    cpu: int
    hash: int
    length: int
    vlan: int
    head: bytes


class Observer:
    """Use as a context manager. ifindex 0: it is made and looks at nothing. room: bytes for what was seen. Raises BpfError."""

    def __init__(self, ifindex: int, room: int = _ROOM) -> None:
        self._fds: list[int] = []
        self._ring: Ring | None = None
        self._counts: mmap.mmap | None = None
        try:
            ring = self._own(bpf.create_map("ringbuf", 0, 0, room, 0, "netc_seen"))
            counts = self._own(bpf.create_map("array", 4, 16, 1, bpf.F_MMAPABLE, "netc_counts"))
            self._ring, self._counts = Ring(ring, room), bpf.map_array(counts, 16)
            self._program = self._own(bpf.load_program("sched_cls", _code(), {_RING: ring, _COUNTS: counts}, NAME, bpf.TCX_INGRESS))
            if ifindex:
                self._own(bpf.link_create(self._program, ifindex, bpf.TCX_INGRESS, _BEFORE))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """The link first: from then on no packet comes by."""
        while self._fds:
            os.close(self._fds.pop())
        if self._ring is not None:
            self._ring.__exit__()
            self._ring = None
        if self._counts is not None:
            self._counts.close()
            self._counts = None

    def is_like(self, number: int) -> bool:
        """Is the program with this id an observer, too? By its tag, the kernel's hash of the code: a name anybody can give. Raises BpfError."""
        other = bpf.prog_by_id(number)
        try:
            return bpf.prog_info(other).tag == bpf.prog_info(self._program).tag
        finally:
            os.close(other)

    def packets(self) -> list[Seen]:
        """What came since it was asked last."""
        return [_seen(record) for record in self._ring.records()] if self._ring is not None else []

    def counts(self) -> tuple[int, int]:
        """Packets that came by (those behind MOST are not all counted), and how many of them found no room."""
        return struct.unpack_from("=QQ", self._counts) if self._counts is not None else (0, 0)

    def _own(self, descriptor: int) -> int:
        self._fds.append(descriptor)
        return descriptor


def _seen(record: bytes) -> Seen:
    queue, cpu, flow_hash, length, vlan, copied = _FIELDS.unpack_from(record)
    tag = (vlan & 0xFFFF) if vlan >> 16 else -1
    return Seen(queue - 1, cpu, flow_hash, length, tag, record[_FIELDS.size : _FIELDS.size + copied])


def _insn(code: int, dst: int = 0, src: int = 0, offset: int = 0, value: int = 0) -> bytes:
    return struct.pack("=BBhi", code, src << 4 | dst, offset, value)


def _wide(dst: int, kind: int, number: int) -> bytes:
    return _insn(0x18, dst, kind, 0, number) + _insn(0)


def _load(dst: int, field: str) -> bytes:
    return _insn(0x61, dst, _R6, _SKB[field])


def _code() -> bytes:
    """The program: count, stop behind MOST, copy, put into the ring."""
    at = -_RECORD  # of the record on the stack
    put = [*_fields(at), *_copy(at)]
    skipped = sum(map(len, put)) // 8
    head = [
        _insn(0xBF, _R6, _R1),
        _wide(_R8, 2, _COUNTS),
        _insn(0x79, _R1, _R8),  # r1 = seen
        _insn(0x35, _R1, 0, 2 + skipped, MOST),  # if r1 >= MOST: out
        _insn(0xB7, _R1, value=1),
        _insn(0xDB, _R8, _R1),  # lock seen += 1
    ]
    return b"".join([*head, *put, _insn(0xB7, _R0, value=-1), _insn(0x95)])  # TCX_NEXT


def _fields(at: int) -> list[bytes]:
    clear = [_insn(0xB7, _R1), *(_insn(0x7B, _FP, _R1, at + word) for word in range(0, _RECORD, 8))]
    plain = [part for place, field in ((0, "queue"), (8, "hash"), (12, "length")) for part in (_load(_R1, field), _insn(0x63, _FP, _R1, at + place))]
    vlan = [_load(_R1, "vlan_present"), _insn(0x67, _R1, value=16), _load(_R2, "vlan"), _insn(0x57, _R2, value=0xFFFF), _insn(0x4F, _R1, _R2),
            _insn(0x63, _FP, _R1, at + 16)]  # fmt: skip
    return [*clear, *plain, *vlan, _insn(0x85, value=_CPU), _insn(0x63, _FP, _R0, at + 4)]


def _copy(at: int) -> list[bytes]:
    """At most HEAD bytes; what is shorter than an Ethernet header or cannot be copied is told without bytes."""
    load = [_insn(0xBF, _R1, _R6), _insn(0xB7, _R2), _insn(0xBF, _R3, _FP), _insn(0x07, _R3, value=at + _FIELDS.size), _insn(0xBF, _R4, _R7),
            _insn(0x85, value=_LOAD_BYTES), _insn(0x55, _R0, 0, 1), _insn(0x63, _FP, _R7, at + 20)]  # fmt: skip
    out = [_wide(_R1, 1, _RING), _insn(0xBF, _R2, _FP), _insn(0x07, _R2, value=at), _insn(0xB7, _R3, value=_RECORD), _insn(0xB7, _R4),
           _insn(0x85, value=_RING_OUTPUT), _insn(0x15, _R0, 0, 2), _insn(0xB7, _R1, value=1), _insn(0xDB, _R8, _R1, 8)]  # fmt: skip
    return [_load(_R7, "length"), _insn(0x25, _R7, 0, 1, HEAD), _insn(0x05, 0, 0, 1), _insn(0xB7, _R7, value=HEAD),
            _insn(0xA5, _R7, 0, len(load), 14), *load, *out]  # fmt: skip
