"""The far end of each emulated NIC, in this process: what it sends is a frame received here, and what is sent here it receives.

Two kinds: a pair of datagram sockets (one datagram is one frame, no root needed), and a tap in a network namespace of its own with a packet
socket on it, for NICs with several queues on the host's side too (virtio with RSS). No frame of the machine itself gets on either.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import select
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from hwtests.virtual.errors import RackError

_SHORTEST = 60  # bytes of an Ethernet frame without its checksum; NICs count shorter ones as errors
LONGEST = 65536 + 64  # bytes: a frame of segmentation offload, and its headers
_BUFFER = 8 << 20  # bytes of a socket: frames that wait for the reader, none is lost before that
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_CLONE_NEWNET = 0x40000000
_TUNSETIFF, _SIOCGIFFLAGS, _SIOCSIFFLAGS, _SIOCSIFMTU = 0x400454CA, 0x8913, 0x8914, 0x8922  # linux/if_tun.h, linux/sockios.h
_IFF_TAP, _IFF_MULTI_QUEUE, _IFF_NO_PI, _IFF_VNET_HDR, _IFF_UP = 0x2, 0x100, 0x1000, 0x4000, 0x1
_ETH_P_ALL, _SOL_PACKET, _PACKET_AUXDATA, _PACKET_VNET_HDR, _PACKET_IGNORE_OUTGOING = 3, 263, 8, 15, 23
_AUXDATA = struct.Struct("=IIIHHHH")  # struct tpacket_auxdata
_VLAN_VALID, _TPID_VALID = 0x10, 0x40
_VNET = struct.Struct("=BBHHHH")  # struct virtio_net_hdr
_NEEDS_CSUM = 1
_TAP_MTU = 9216  # bytes: jumbo frames pass, the guest's own MTU decides


class Wire:
    """One NIC's far end. name: the NIC's name in the guest."""

    def __init__(self, name: str, end: socket.socket) -> None:
        self.name = name
        self._end = end

    def fileno(self) -> int:
        """For select and poll."""
        return self._end.fileno()

    def send(self, frame: bytes, timeout: float = 5.0) -> None:
        """A whole Ethernet frame without its checksum to the NIC, padded to 60 bytes as NICs do.

        Raises RackError when the NIC takes none for `timeout` seconds.
        """
        if not select.select([], [self._end], [], timeout)[1]:
            raise RackError(f"{self.name} has taken no frame for {timeout:g} s: is it up, and is the guest alive?")
        try:
            self._put(frame.ljust(_SHORTEST, b"\0"))
        except OSError as error:
            raise RackError(f"{self.name}: a frame of {len(frame)} bytes: {error.strerror}") from None

    def receive(self, timeout: float = 1.0) -> bytes | None:
        """The next frame that the NIC sent, or None when none comes within `timeout` seconds. One of segmentation offload comes in one piece."""
        end = time.monotonic() + timeout
        while select.select([self._end], [], [], max(0.0, end - time.monotonic()))[0]:
            frame = self._take()
            if frame:
                return frame
            if frame is None:
                raise RackError(f"{self.name}: the machine has ended")
        return None

    def drain(self) -> int:
        """Throw away what has arrived; how many frames that were."""
        count = 0
        while self.receive(0.0) is not None:
            count += 1
        return count

    def close(self) -> None:
        self._end.close()

    def _put(self, frame: bytes) -> None:
        self._end.send(frame)

    def _take(self) -> bytes | None:
        """A frame, b"" where there was none after all, None when there will be no more."""
        with suppress(BlockingIOError):
            return self._end.recv(LONGEST, socket.MSG_DONTWAIT) or None
        return b""


class TapWire(Wire):
    """A packet socket on a tap: it puts back what the kernel took out of a frame (a VLAN tag) or left for hardware (a checksum)."""

    def _put(self, frame: bytes) -> None:
        self._end.send(bytes(_VNET.size) + frame)

    def _take(self) -> bytes | None:
        try:
            data, ancillary, _, _ = self._end.recvmsg(LONGEST, 256, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return b""
        except OSError as error:
            if error.errno in (errno.ENETDOWN, errno.ENXIO):  # the tap went with QEMU
                return None
            raise
        return _with_tag(_with_checksum(data), ancillary)


def _with_checksum(data: bytes) -> bytes:
    """The frame behind a virtio_net_hdr, with the checksum that the sender left to the NIC."""
    flags, _, _, _, start, offset = _VNET.unpack_from(data)
    frame = bytearray(data[_VNET.size :])
    if flags & _NEEDS_CSUM:
        summed = frame[start:] + bytes(len(frame[start:]) % 2)
        total = sum(struct.unpack(f"!{len(summed) // 2}H", summed))
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        struct.pack_into("!H", frame, start + offset, ~total & 0xFFFF or 0xFFFF)
    return bytes(frame)


def _with_tag(frame: bytes, ancillary: list[tuple[int, int, bytes]]) -> bytes:
    for level, kind, data in ancillary:
        if (level, kind) == (_SOL_PACKET, _PACKET_AUXDATA):
            status, _, _, _, _, tag, protocol = _AUXDATA.unpack_from(data)
            if status & _VLAN_VALID:
                return frame[:12] + struct.pack("!HH", protocol if status & _TPID_VALID else 0x8100, tag) + frame[12:]
    return frame


def datagrams(name: str) -> tuple[Wire, int]:
    """(wire, descriptor for QEMU's -netdev dgram). The caller closes the descriptor when QEMU has it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for end in (ours, theirs):
        _widen(end)
    return Wire(name, ours), theirs.detach()


def tap(name: str, queues: int) -> tuple[TapWire, list[int]]:
    """(wire, descriptors for QEMU's -netdev tap, one a queue). Raises RackError (root and /dev/net/tun are needed)."""
    try:
        with ThreadPoolExecutor(1) as short_lived:  # unshare changes a thread for good; the namespace lives as long as these descriptors
            return short_lived.submit(_tap, name, queues).result()
    except OSError as error:
        raise RackError(f"a tap of {queues} queues for {name}: {error.strerror} ({error.filename or 'root is needed, and the module tun'})") from None


def _tap(name: str, queues: int) -> tuple[TapWire, list[int]]:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    request = struct.pack("16sH22x", b"wire", _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR | _IFF_MULTI_QUEUE)
    descriptors = []
    for _ in range(queues):
        descriptors.append(os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
        fcntl.ioctl(descriptors[-1], _TUNSETIFF, request)
    with suppress(FileNotFoundError), open("/proc/sys/net/ipv6/conf/wire/disable_ipv6", "w") as silence:  # of this thread's namespace
        silence.write("1")
    end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
    fcntl.ioctl(end, _SIOCSIFMTU, struct.pack("16si20x", b"wire", _TAP_MTU))
    flags = struct.unpack_from("16sH", fcntl.ioctl(end, _SIOCGIFFLAGS, struct.pack("16s24x", b"wire")))[1]
    fcntl.ioctl(end, _SIOCSIFFLAGS, struct.pack("16sH22x", b"wire", flags | _IFF_UP))
    end.bind(("wire", _ETH_P_ALL))
    for option in (_PACKET_AUXDATA, _PACKET_VNET_HDR, _PACKET_IGNORE_OUTGOING):
        end.setsockopt(_SOL_PACKET, option, 1)
    _widen(end)
    return TapWire(name, end), descriptors


def _widen(end: socket.socket) -> None:
    """Room for many frames; without root as much as the machine allows."""
    for forced, plain in ((_SO_SNDBUFFORCE, socket.SO_SNDBUF), (_SO_RCVBUFFORCE, socket.SO_RCVBUF)):
        try:
            end.setsockopt(socket.SOL_SOCKET, forced, _BUFFER)
        except PermissionError:
            end.setsockopt(socket.SOL_SOCKET, plain, _BUFFER)
