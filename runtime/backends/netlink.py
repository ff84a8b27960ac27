"""The one netlink layer: sockets, attributes, generic families, and the kernel's own words when it refuses.

A NetlinkError keeps the extack message (NLMSGERR_ATTR_MSG): that sentence, not the errno, is what a person can act on. A socket
belongs to the network namespace that the thread was in when it was made. Sources: include/uapi/linux/{netlink,genetlink,rtnetlink}.h.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

NETLINK_ROUTE, NETLINK_GENERIC = 0, 16
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
_NLM_F_CAPPED, _NLM_F_ACK_TLVS = 0x100, 0x200
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLMSGERR_ATTR_MSG = 1
_NLA_F_NESTED, _NLA_TYPE_MASK = 0x8000, 0x3FFF
_SOL_NETLINK, _NETLINK_CAP_ACK, _NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK = 270, 10, 11, 12
_GENL_ID_CTRL, _CTRL_CMD_GETFAMILY = 16, 3
_CTRL_FAMILY_ID, _CTRL_FAMILY_NAME, _CTRL_OPS, _CTRL_OP_ID = 1, 2, 6, 1
_HEADER = struct.Struct("=IHHII")
_RECEIVE = 1 << 18  # bytes: larger than any single answer the kernel makes (NLMSG_GOODSIZE dumps, big bitsets)

Attributes = dict[int, bytes]


class NetlinkError(OSError):
    """A refusal. `errno` as ever; `extack` the kernel's sentence or ""; `words` both, for people."""

    def __init__(self, number: int, extack: str = "") -> None:
        super().__init__(number, os.strerror(number))
        self.extack = extack

    @property
    def words(self) -> str:
        reason = os.strerror(self.errno or 0)
        return f"{self.extack} ({reason})" if self.extack else reason

    def __str__(self) -> str:
        return self.words


def attr(kind: int, data: bytes | int | str, size: int = 4) -> bytes:
    """One attribute, padded. A str gets its NUL; an int takes `size` bytes in host order."""
    if isinstance(data, str):
        data = data.encode() + b"\0"
    elif isinstance(data, int):
        data = data.to_bytes(size, "little" if _LITTLE else "big")
    return struct.pack("=HH", 4 + len(data), kind) + data + b"\0" * (-len(data) % 4)


def nest(kind: int, *attributes: bytes) -> bytes:
    return attr(kind | _NLA_F_NESTED, b"".join(attributes))


def each_attribute(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The attributes of a message or nest in order; stops at the first that does not fit."""
    at = 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4 or at + length > len(data):
            return
        yield kind & _NLA_TYPE_MASK, data[at + 4 : at + length]
        at += (length + 3) & ~3


def attributes(data: bytes) -> Attributes:
    """The attributes by type; of a repeated one the last."""
    return dict(each_attribute(data))


def number(data: bytes) -> int:
    return int.from_bytes(data, "little" if _LITTLE else "big")


def text(data: bytes) -> str:
    return data.split(b"\0", 1)[0].decode("utf-8", "replace")


class Socket:
    """A netlink socket of one protocol with extended acknowledgements. Use as a context manager."""

    def __init__(self, protocol: int) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        try:
            for option in (_NETLINK_CAP_ACK, _NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK):
                self._socket.setsockopt(_SOL_NETLINK, option, 1)
            self._socket.bind((0, 0))
        except OSError:
            self._socket.close()
            raise
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._socket.close()

    def request(self, kind: int, payload: bytes, flags: int = 0) -> list[bytes]:
        """Send one request and return the payloads of its answers. Raises NetlinkError with the kernel's words."""
        self._sequence += 1
        flags |= NLM_F_REQUEST | (0 if flags & NLM_F_DUMP == NLM_F_DUMP else NLM_F_ACK)
        self._socket.send(_HEADER.pack(_HEADER.size + len(payload), kind, flags, self._sequence, 0) + payload)
        answers: list[bytes] = []
        while True:
            data, _, received, _ = self._socket.recvmsg(_RECEIVE)
            if received & socket.MSG_TRUNC:
                raise NetlinkError(90, "netc's receive buffer is too small for this answer")
            if self._take(data, answers):
                return answers

    def _take(self, data: bytes, answers: list[bytes]) -> bool:
        """Add the answers in `data`; True when the request is finished."""
        at = 0
        while at + _HEADER.size <= len(data):
            length, kind, flags, sequence, _ = _HEADER.unpack_from(data, at)
            if length < _HEADER.size:
                raise NetlinkError(71, "the kernel's answer is cut")
            body = data[at + _HEADER.size : at + length]
            at += (length + 3) & ~3
            if sequence != self._sequence:
                continue
            if kind in (_NLMSG_ERROR, _NLMSG_DONE):
                _raise_error(kind, flags, body)
                return True
            answers.append(body)
        return False


@dataclass(frozen=True, slots=True)
class Family:
    """A generic netlink family of this kernel: its number and the commands it has."""

    id: int
    commands: frozenset[int]


class Generic:
    """A socket for one generic netlink family by name. Raises NetlinkError (ENOENT) when the kernel lacks the family."""

    def __init__(self, name: str) -> None:
        self._netlink = Socket(NETLINK_GENERIC)
        try:
            self.family = self._find(name)
        except NetlinkError as error:
            self._netlink.__exit__(None, None, None)
            raise NetlinkError(error.errno or 2, f"the kernel has no generic netlink family {name!r}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._netlink.__exit__(kind, value, trace)

    def request(self, command: int, payload: bytes, flags: int = 0) -> list[bytes]:
        """Send one command; the answers without the generic header."""
        answers = self._netlink.request(self.family.id, struct.pack("=BBH", command, 1, 0) + payload, flags)
        return [answer[4:] for answer in answers]

    def _find(self, name: str) -> Family:
        payload = struct.pack("=BBH", _CTRL_CMD_GETFAMILY, 1, 0) + attr(_CTRL_FAMILY_NAME, name)
        found = attributes(self._netlink.request(_GENL_ID_CTRL, payload)[0][4:])
        operations = (attributes(operation) for _, operation in each_attribute(found.get(_CTRL_OPS, b"")))
        return Family(number(found[_CTRL_FAMILY_ID]), frozenset(number(o[_CTRL_OP_ID]) for o in operations))


def _raise_error(kind: int, flags: int, body: bytes) -> None:
    code = struct.unpack_from("=i", body)[0] if len(body) >= 4 else 0
    if code >= 0:
        return
    extack = ""
    if kind == _NLMSG_DONE:
        extack = text(attributes(body[4:]).get(_NLMSGERR_ATTR_MSG, b""))
    elif flags & _NLM_F_ACK_TLVS:
        inner = struct.unpack_from("=I", body, 4)[0]
        start = 4 + (_HEADER.size if flags & _NLM_F_CAPPED else (inner + 3) & ~3)
        extack = text(attributes(body[start:]).get(_NLMSGERR_ATTR_MSG, b""))
    raise NetlinkError(-code, extack)


_LITTLE = struct.pack("=H", 1) == b"\x01\x00"
