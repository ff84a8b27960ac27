"""An AF_XDP socket in copy mode, by the kernel's own interface (include/uapi/linux/if_xdp.h, Documentation/networking/af_xdp.rst): receives only.

Standard library only, Python 3.9 or later, for it is also the program that a test runs on a rack's machine: `python3 xsk.py DEVICE QUEUES MAP READY` puts a
socket for each receive queue into the pinned map, writes the file READY, and when it is told to end (SIGTERM) prints a JSON list of what came:
[queue, frame as hexadecimal digits].
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import platform
import select
import signal
import socket
import struct
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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


_BPF = {"x86_64": 321, "aarch64": 280}  # the number of bpf(2)
_UPDATE, _OBJ_GET = 2, 7  # BPF_MAP_UPDATE_ELEM, BPF_OBJ_GET


def put(map_path: str, sockets: dict[int, XdpSocket]) -> None:
    """Each socket into the pinned map under the number of its queue. Raises OSError."""
    place = ctypes.create_string_buffer(os.fsencode(map_path))
    descriptor = _bpf(_OBJ_GET, struct.pack("=QII", ctypes.addressof(place), 0, 0))
    try:
        for queue, each in sockets.items():
            key, value = ctypes.c_uint32(queue), ctypes.c_uint32(each.fileno())
            _bpf(_UPDATE, struct.pack("=IIQQQ", descriptor, 0, ctypes.addressof(key), ctypes.addressof(value), 0))
    finally:
        os.close(descriptor)


def _bpf(command: int, attributes: bytes) -> int:
    room = ctypes.create_string_buffer(attributes, len(attributes))
    done = _libc.syscall(_BPF[platform.machine()], command, room, len(attributes))
    if done < 0:
        raise OSError(ctypes.get_errno(), f"bpf({command}): {os.strerror(ctypes.get_errno())}")
    return int(done)


def main(device: str, queues: int, map_path: str, ready: str) -> None:
    """Receive until SIGTERM, then tell."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, lambda *_: None)
    sockets = {queue: XdpSocket(socket.if_nametoindex(device), queue) for queue in range(queues)}
    put(map_path, sockets)
    with open(ready, "w"):
        pass
    found: list[tuple[int, str]] = []
    told = False
    while not told:
        told = reader in select.select([reader, *sockets.values()], [], [])[0]
        for queue, each in sockets.items():
            found += [(queue, frame.hex()) for frame in each.frames()]
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:5])
