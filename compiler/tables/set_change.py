"""The program that changes a dynamic set's members in the kernel (compiler/targets/set_change.h), and the bytes that it is told by.

It takes the same steps as the programs that judge packets, so that a set's hash and ring agree while they add members on other CPUs.
"""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path

SET, RING, BATCH = 1, 2, 3  # symbolic map ids
ENTRIES = 4096  # of a batch
SIZE_MARK = 0x5E7512E  # stands in the bytecode for the set's size
ADD, DELETE, SETTLE, UNDO, SWEEP = range(1, 6)
RENEW, EVICT = 1, 2  # flags of an entry
NOT_DONE, ADDED, LIVE, NO_ROOM, MADE_ROOM, ABSENT, LEAVES, BUSY, TWICE, DONE = range(10)  # results

KEY = struct.Struct("=I16s")  # family 4 or 6, address with IPv4 in the first 4 bytes
MEMBER = struct.Struct("=3Q")  # expiry (ns of CLOCK_MONOTONIC, 0: never), change, ring slot
HEAD = struct.Struct("=6Q")  # next, count, op, now, number, freed
ENTRY = struct.Struct("=20sI2Q")  # key, flags, expiry, result
BATCH_SIZE = HEAD.size + ENTRY.size * ENTRIES
_MOV64_IMM = 0xB7


def code(size: int) -> bytes:
    """The program for a set of this size, with symbolic map ids."""
    kept = json.loads(Path(__file__).with_name("set_change.json").read_bytes())
    made = bytearray(base64.b64decode(kept["code"]))
    for at in range(0, len(made), 8):
        if made[at] == _MOV64_IMM and struct.unpack_from("=I", made, at + 4)[0] == SIZE_MARK:
            struct.pack_into("=I", made, at + 4, size)
    return bytes(made)
