"""A NIC behind ioctl(SIOCETHTOOL): RSS with contexts, and flow rules, byte for byte as include/uapi/linux/ethtool.h has them.

No driver in a kernel without hardware has contexts or flow rules. What the kernel's core checks is checked here as it does it
(net/ethtool/ioctl.c: sizes, contexts that are not there or in use, keys that contexts cannot have).
"""

from __future__ import annotations

import errno
import os
import struct
from dataclasses import dataclass, field
from typing import Self

from runtime.backends.netlink import NetlinkError

_HEAD = struct.Struct("=IIIIBB6x")


def refuse(number: int) -> None:
    raise OSError(number, os.strerror(number))


@dataclass
class Nic:
    """queues: in use. in_blocks: the driver's default table, which is the kernel's otherwise. chooses: the driver gives rules their places. own_keys: contexts have keys. bends: it makes another queue of what it is told."""

    queues: int = 8
    entries: int = 16
    most: int = 4
    chooses: bool = True
    own_keys: bool = True
    own_fields: bool = False
    bends: bool = False
    ntuple: bool = True
    key: bytes = bytes(range(40))
    transform: int = 1
    tables: dict[int, list[int]] = field(default_factory=dict)
    keys: dict[int, bytes] = field(default_factory=dict)
    fields: dict[tuple[int, int], int] = field(default_factory=dict)
    rules: dict[int, tuple[bytes, int]] = field(default_factory=dict)
    configured: bool = False
    in_blocks: bool = False

    def __post_init__(self) -> None:
        self.tables[0] = self.default()

    def default(self) -> list[int]:
        """As the driver makes it."""
        return [entry * self.queues // self.entries for entry in range(self.entries)] if self.in_blocks else self.in_turn()

    def in_turn(self) -> list[int]:
        """As the kernel makes it (ethtool_rxfh_indir_default)."""
        return [entry % self.queues for entry in range(self.entries)]

    def ioctl(self, _device: str, request: bytes) -> bytes:
        command = struct.unpack_from("=I", request)[0]
        answers = {0x46: self.get_rss, 0x47: self.set_rss, 0x29: self.get_fields, 0x2A: self.set_fields, 0x2D: self.rings,
                   0x2E: self.count, 0x2F: self.rule, 0x30: self.every, 0x31: self.delete, 0x32: self.insert}  # fmt: skip
        if command not in answers:
            refuse(errno.EOPNOTSUPP)
        return answers[command](bytearray(request))

    def get_rss(self, request: bytearray) -> bytes:
        _, context, entries, key_size, _, _ = _HEAD.unpack_from(request)
        if context not in self.tables:
            refuse(errno.ENOENT)
        key = self.key if not context else self.keys.get(context, b"") if self.own_keys else b""
        if (entries, key_size) == (0, 0):
            return _HEAD.pack(0x46, context, self.entries, len(key), 1, self.transform)
        assert (entries, key_size) == (self.entries, len(key))
        return _HEAD.pack(0x46, context, entries, key_size, 1, self.transform) + struct.pack(f"={entries}I", *self.tables[context]) + key

    def set_rss(self, request: bytearray) -> bytes:
        _, context, entries, key_size, _, transform = _HEAD.unpack_from(request)
        self.transform = transform
        if entries not in (0, 0xFFFFFFFF, self.entries) or key_size not in (0, 40):
            refuse(errno.EINVAL)
        if context and key_size and not self.own_keys:
            refuse(errno.EOPNOTSUPP)
        if context == 0xFFFFFFFF:
            free = [number for number in range(1, self.most + 1) if number not in self.tables]
            if not free:
                refuse(errno.ENOSPC)
            context = free[0]
            self.keys[context] = bytes(40)
        elif context not in self.tables:
            refuse(errno.ENOENT)
        if entries == 0:
            return self._reset(context, request)
        if entries != 0xFFFFFFFF:
            table = list(struct.unpack_from(f"={entries}I", request, _HEAD.size))
            if max(table) >= self.queues:
                refuse(errno.EINVAL)
            self.tables[context] = table
            self.configured |= context == 0
        if key_size:
            key = bytes(request[_HEAD.size + (4 * entries if entries != 0xFFFFFFFF else 0) :])
            if context:
                self.keys[context] = key
            else:
                self.key = key
        return _HEAD.pack(0x47, context, entries, key_size, 0, transform)

    def _reset(self, context: int, request: bytearray) -> bytes:
        if not context:
            self.tables[0], self.configured = self.in_turn(), False
        elif any(number == context for _, number in self.rules.values()):
            refuse(errno.EBUSY)
        else:
            del self.tables[context]
        return bytes(request)

    def _flow(self, request: bytearray) -> tuple[int, int]:
        _, kind, _ = struct.unpack_from("=IIQ", request)
        context = struct.unpack_from("=I", request, 184)[0] if kind & 0x20000000 else 0
        if context and (context not in self.tables or not self.own_fields):
            refuse(errno.EOPNOTSUPP)
        return kind & 0xFF, context

    def get_fields(self, request: bytearray) -> bytes:
        flow, context = self._flow(request)
        struct.pack_into("=Q", request, 8, self.fields.get((flow, context), 0x30))
        return bytes(request)

    def set_fields(self, request: bytearray) -> bytes:
        self.fields[self._flow(request)] = struct.unpack_from("=Q", request, 8)[0]
        return bytes(request)

    def rings(self, request: bytearray) -> bytes:
        struct.pack_into("=Q", request, 8, self.queues)
        return bytes(request)

    def count(self, request: bytearray) -> bytes:
        if not self.ntuple:
            refuse(errno.EOPNOTSUPP)
        struct.pack_into("=Q", request, 8, 8 | (0x80000000 if self.chooses else 0))
        struct.pack_into("=I", request, 184, len(self.rules))
        return bytes(request)

    def every(self, request: bytearray) -> bytes:
        struct.pack_into("=Q", request, 8, 8)
        for at, location in enumerate(sorted(self.rules)):
            struct.pack_into("=I", request, 188 + 4 * at, location)
        return bytes(request)

    def rule(self, request: bytearray) -> bytes:
        location = struct.unpack_from("=I", request, 176)[0]
        if location not in self.rules:
            refuse(errno.ENOENT)
        spec, context = self.rules[location]
        request[16:184] = spec
        struct.pack_into("=I", request, 176, location)
        struct.pack_into("=I", request, 184, context)
        return bytes(request)

    def delete(self, request: bytearray) -> bytes:
        if self.rules.pop(struct.unpack_from("=I", request, 176)[0], None) is None:
            refuse(errno.ENOENT)
        return bytes(request)

    def insert(self, request: bytearray) -> bytes:
        spec, location = bytearray(request[16:184]), struct.unpack_from("=I", request, 176)[0]
        kind, cookie = struct.unpack_from("=I", spec)[0], struct.unpack_from("=Q", spec, 152)[0]
        context = struct.unpack_from("=I", request, 184)[0] if kind & 0x20000000 else 0
        if context not in self.tables or (cookie != 0xFFFFFFFFFFFFFFFF and cookie >= self.queues):
            refuse(errno.EINVAL)
        if location == 0xFFFFFFFF:
            if not self.chooses:
                refuse(errno.EINVAL)
            location = next(at for at in range(8) if at not in self.rules)
        if self.bends:
            struct.pack_into("=Q", spec, 152, 0)
        self.rules[location] = (bytes(spec), context)
        struct.pack_into("=I", request, 176, location)
        return bytes(request)


class NoMessages:
    """The ethtool family of a kernel before 6.12: no dump of contexts, no messages that make them."""

    class family:
        commands = frozenset({38})

    def __init__(self, _name: str) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def request(self, *_: object) -> list[bytes]:
        raise NetlinkError(errno.EOPNOTSUPP)
