"""Whole messages over a stream socket, between netc and the processes that it starts: four bytes of length, then so many."""

from __future__ import annotations

import socket

MAX_MESSAGE = 8 << 20  # bytes: C text of a program that is far too long is refused before it is sent


def send(link: socket.socket, message: bytes) -> None:
    """Raises OSError (TimeoutError, BrokenPipeError) when the other side does not take it."""
    link.sendall(len(message).to_bytes(4, "big") + message)


def receive(link: socket.socket) -> bytes | None:
    """The next message; None when the other side has ended, also amid a message. Raises TimeoutError, and ValueError for one that is too long."""
    head = _exactly(link, 4)
    size = int.from_bytes(head, "big")
    if size > MAX_MESSAGE:
        raise ValueError(f"a message of {size} bytes; {MAX_MESSAGE} are possible")
    message = _exactly(link, size)
    return message if len(head) == 4 and len(message) == size else None


def _exactly(link: socket.socket, size: int) -> bytes:
    """So many bytes, or what there is before the end."""
    found = bytearray()
    while len(found) < size:
        try:
            part = link.recv(min(size - len(found), 1 << 16))
        except ConnectionResetError:
            break
        if not part:
            break
        found += part
    return bytes(found)
