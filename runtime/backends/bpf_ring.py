"""Reads a BPF ring buffer through its memory, as libbpf does (include/uapi/linux/bpf.h, kernel/bpf/ringbuf.c).

Page 0 holds how far was read (ours to write), page 1 how far was written, then come the data, mapped twice in a row so that a record never
wraps. A record: u32 length with two bits on top, u32 of the kernel's, the data, up to a multiple of 8 bytes.
"""

from __future__ import annotations

import mmap
import select
import struct
from collections.abc import Iterator
from typing import Self

_POSITION, _LENGTH = struct.Struct("=Q"), struct.Struct("=I")
_HEADER_SIZE = 8  # BPF_RINGBUF_HDR_SZ
_BUSY, _DISCARD = 1 << 31, 1 << 30  # BPF_RINGBUF_BUSY_BIT, BPF_RINGBUF_DISCARD_BIT


class Ring:
    """One reader of a ring buffer map. `size` is the map's max_entries. There must be no second reader. A context manager."""

    def __init__(self, fd: int, size: int) -> None:
        self._fd, self._size = fd, size
        self._read = mmap.mmap(fd, mmap.PAGESIZE, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        try:
            self._written = mmap.mmap(fd, mmap.PAGESIZE + 2 * size, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ, offset=mmap.PAGESIZE)
        except BaseException:
            self._read.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._written.close()
        self._read.close()

    def records(self) -> Iterator[bytes]:
        """What is there now, the oldest first. A record that was given is read: nobody gets it again."""
        at = int(_POSITION.unpack_from(self._read)[0])
        while at < _POSITION.unpack_from(self._written)[0]:
            start = mmap.PAGESIZE + at % self._size
            head = int(_LENGTH.unpack_from(self._written, start)[0])
            if head & _BUSY:  # still being written; those behind it wait, too
                return
            length = head & ~(_BUSY | _DISCARD)
            record = bytes(self._written[start + _HEADER_SIZE : start + _HEADER_SIZE + length])
            at += (_HEADER_SIZE + length + 7) & ~7
            _POSITION.pack_into(self._read, 0, at)
            if not head & _DISCARD:
                yield record

    def wait(self, seconds: float) -> bool:
        """Until there is something to read, at most so long. Does the kernel say that there is?"""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))
