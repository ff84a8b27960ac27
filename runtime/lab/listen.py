"""What arrives at a lab's peer, off a packet socket: frames with their times, VLAN tags put back where the kernel took them out."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from typing import Self

_SOL_PACKET, _PACKET_AUXDATA = 263, 8
_AUXDATA = struct.Struct("=IIIHHHH")  # struct tpacket_auxdata
_TP_STATUS_VLAN_VALID, _TP_STATUS_VLAN_TPID_VALID = 1 << 4, 1 << 6
_ETH_P_ALL, _PACKET_OUTGOING = 3, 4
_MAX_FRAME = 1 << 17


class Listener:
    """Open before traffic is sent, so that nothing is missed. Belongs to the namespace it was made in. A context manager."""

    def __init__(self, device: str) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        self._socket.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
        self._socket.bind((device, _ETH_P_ALL))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def frames(self, seconds: float) -> Iterator[tuple[int, bytes]]:
        """(ns since the epoch, frame) of what arrives, until nothing did for `seconds`."""
        self._socket.settimeout(seconds)
        while True:
            try:
                data, ancillary, _, address = self._socket.recvmsg(_MAX_FRAME, 256)
            except TimeoutError:
                return
            if address[2] != _PACKET_OUTGOING:
                yield time.time_ns(), _with_tag(data, ancillary)


def _with_tag(data: bytes, ancillary: list[tuple[int, int, bytes]]) -> bytes:
    for level, kind, content in ancillary:
        if (level, kind) == (_SOL_PACKET, _PACKET_AUXDATA):
            status, _, _, _, _, tci, tpid = _AUXDATA.unpack_from(content)
            if status & _TP_STATUS_VLAN_VALID:
                tag = struct.pack("!HH", tpid if status & _TP_STATUS_VLAN_TPID_VALID else 0x8100, tci)
                return data[:12] + tag + data[12:]
    return data
