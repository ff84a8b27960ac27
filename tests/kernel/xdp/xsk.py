"""An AF_XDP socket in copy mode, by the kernel's own interface (include/uapi/linux/if_xdp.h, Documentation/networking/af_xdp.rst): receives only."""

from __future__ import annotations

import ctypes
import mmap
import os
import select
import socket
import struct
import time
from typing import Self

AF_XDP, SOL_XDP = 44, 283
MMAP_OFFSETS, RX_RING, UMEM_REG, FILL_RING, COMPLETION_RING = 1, 2, 4, 5, 6
PGOFF_RX, PGOFF_FILL = 0, 0x100000000
COPY = 1 << 1
FRAMES, SIZE = 64, 2048
_libc = ctypes.CDLL(None, use_errno=True)


class Ring:
    """One ring of a socket, mapped: producer, consumer, and its descriptors."""

    def __init__(self, fd: int, offsets: tuple[int, ...], entries: int, width: int, page: int) -> None:
        self._producer, self._consumer, self._desc, _ = offsets
        self._entries, self._width = entries, width
        self.memory = mmap.mmap(fd, self._desc + entries * width, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE, offset=page)

    def _word(self, at: int) -> int:
        return int(struct.unpack_from("=I", self.memory, at)[0])

    def fill(self, addresses: list[int]) -> None:
        made = self._word(self._producer)
        for number, address in enumerate(addresses):
            struct.pack_into("=Q", self.memory, self._desc + (made + number) % self._entries * self._width, address)
        struct.pack_into("=I", self.memory, self._producer, made + len(addresses))

    def take(self) -> list[tuple[int, int]]:
        """(address, length) of what came."""
        taken, made = self._word(self._consumer), self._word(self._producer)
        found = [struct.unpack_from("=QI", self.memory, self._desc + at % self._entries * self._width) for at in range(taken, made)]
        struct.pack_into("=I", self.memory, self._consumer, made)
        return found


class XdpSocket:
    """Bound to one receive queue of a device. A context manager."""

    def __init__(self, ifindex: int, queue: int) -> None:
        self._umem = mmap.mmap(-1, FRAMES * SIZE)
        self._socket = socket.socket(AF_XDP, socket.SOCK_RAW, 0)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._umem))
        self._option(UMEM_REG, struct.pack("=2Q4I", start, FRAMES * SIZE, SIZE, 0, 0, 0))
        for ring in (FILL_RING, COMPLETION_RING, RX_RING):
            self._option(ring, struct.pack("=I", FRAMES))
        offsets = struct.unpack("=16Q", self._socket.getsockopt(SOL_XDP, MMAP_OFFSETS, 128))
        self._received = Ring(self.fileno(), offsets[0:4], FRAMES, 16, PGOFF_RX)
        self._free = Ring(self.fileno(), offsets[8:12], FRAMES, 8, PGOFF_FILL)
        self._free.fill([at * SIZE for at in range(FRAMES)])
        address = struct.pack("=2H3I", AF_XDP, COPY, ifindex, queue, 0)
        if _libc.bind(self.fileno(), address, len(address)) != 0:
            raise OSError(ctypes.get_errno(), f"bind an AF_XDP socket to queue {queue}: {os.strerror(ctypes.get_errno())}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def frames(self) -> list[bytes]:
        """What has come; its room is given back."""
        taken = self._received.take()
        found = [self._umem[address : address + length] for address, length in taken]
        self._free.fill([address // SIZE * SIZE for address, _ in taken])
        return found

    def _option(self, name: int, value: bytes) -> None:
        self._socket.setsockopt(SOL_XDP, name, value)


def received(sockets: list[XdpSocket], count: int, seconds: float = 5.0) -> list[bytes]:
    """Frames of all these sockets, until so many have come or the time is up."""
    found: list[bytes] = []
    until = time.monotonic() + seconds
    while len(found) < count and time.monotonic() < until:
        select.select(sockets, [], [], 0.1)
        for each in sockets:
            found += each.frames()
    return found
