"""Toeplitz in software: which receive queue a NIC's RSS hash sends a flow to.

The hash runs over the bytes source address, destination address, source port, destination port, as far as the NIC's fields for that
flow type have them; bit i of that input, when set, adds (xor) the 32 bits of the key that begin at bit i. The low bits of the hash choose
the entry of the indirection table, and the entry is the queue. Source: Microsoft, "RSS Hashing Functions", and the vectors of "Verifying the
RSS Hash Calculation" (learn.microsoft.com/windows-hardware/drivers/network), which tests/pure/tables holds it to; Linux: the symmetric
functions RXH_XFRM_SYM_XOR and RXH_XFRM_SYM_OR_XOR of include/uapi/linux/ethtool.h.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

FIELDS = ("src-ip", "dst-ip", "src-port", "dst-port")
SYMMETRIC_WORD = bytes.fromhex("6d5a")  # repeated it is a key under which both directions of a flow hash alike (Woo and Park, 2012)
TRANSFORMS = ("", "symmetric-xor", "symmetric-or-xor")  # what is done to the input before it is hashed; "": nothing
_MOST_INPUT = 36  # bytes: two IPv6 addresses and two ports


def symmetric_key(size: int) -> bytes:
    """The key of `size` bytes under which a flow and its reply have the same hash."""
    return (SYMMETRIC_WORD * (size // 2 + 1))[:size]


def flow_input(
    src: bytes, dst: bytes, sport: int | None = None, dport: int | None = None, fields: Iterable[str] = FIELDS, transform: str = ""
) -> bytes:
    """What is hashed of one flow. sport, dport: None where the packet has none (ICMP, fragments): then a NIC hashes its addresses alone.

    A field that is left out of `fields` is left out of the input, as the Linux drivers' hardware does for the usual sets of fields.
    Raises ValueError for a field or transform that there is not, and for a symmetric transform over a field without its other end.
    """
    wanted = set(fields)
    if wanted - set(FIELDS) or transform not in TRANSFORMS:
        raise ValueError(f"no such hash: {', '.join(sorted(wanted))} {transform}".rstrip())
    ends = [(src if "src-ip" in wanted else b"", dst if "dst-ip" in wanted else b"")]
    if sport is not None and dport is not None:
        ends.append((sport.to_bytes(2, "big") if "src-port" in wanted else b"", dport.to_bytes(2, "big") if "dst-port" in wanted else b""))
    return b"".join(_joined(first, second, transform) for first, second in ends)


def toeplitz(key: bytes, data: bytes) -> int:
    """The 32-bit hash of `data`. Raises ValueError for a key that is too short: it needs four bytes more than the input (at most 36 bytes)."""
    found = 0
    for row, byte in zip(_rows_for(key, len(data)), data, strict=True):
        found ^= row[byte]
    return found


def queue_of_hash(table: Sequence[int], value: int) -> int:
    """The queue for a hash: entry `value` modulo the table's size (sizes are powers of two in every NIC that Linux drives). Raises ValueError."""
    if not table:
        raise ValueError("an indirection table of no entries sends flows nowhere")
    return table[value % len(table)]


def queue(
    key: bytes, table: Sequence[int], src: bytes, dst: bytes, sport: int | None, dport: int | None,
    fields: Iterable[str] = FIELDS, transform: str = "",
) -> int:  # fmt: skip
    """The receive queue of a flow. src, dst: 4 or 16 bytes; fields: what the NIC hashes of this flow type (ethtool -n DEV rx-flow-hash tcp4).

    No field at all: the hash is 0. Raises ValueError as `flow_input`, `toeplitz` and `queue_of_hash` do.
    """
    return queue_of_hash(table, toeplitz(key, flow_input(src, dst, sport, dport, fields, transform)))


def queues(key: bytes, table: Sequence[int], inputs: np.ndarray) -> np.ndarray:
    """The queues of many flows at once, by NumPy: `inputs` has one row of bytes (flow_input) a flow, all of one length."""
    import numpy as np

    if not table:
        raise ValueError("an indirection table of no entries sends flows nowhere")
    rows = np.array(_rows_for(key, inputs.shape[1]), dtype=np.uint32)
    found = np.zeros(len(inputs), dtype=np.uint32)
    for at in range(inputs.shape[1]):
        found ^= rows[at][inputs[:, at]]
    chosen: np.ndarray = np.asarray(table)[found % np.uint32(len(table))]
    return chosen


def _joined(first: bytes, second: bytes, transform: str) -> bytes:
    """Both ends of a flow, in their order or so that their order does not matter."""
    if not transform:
        return first + second
    if len(first) != len(second):
        raise ValueError(f"{transform} hashes both ends of a flow or none")
    mixed = bytes(a ^ b for a, b in zip(first, second, strict=True))
    return mixed * 2 if transform == "symmetric-xor" else bytes(a | b for a, b in zip(first, second, strict=True)) + mixed


def _rows_for(key: bytes, length: int) -> tuple[tuple[int, ...], ...]:
    rows = _rows(bytes(key))
    if length > len(rows):
        raise ValueError(f"a key of {len(key)} bytes hashes at most {len(rows)}, not {length}")
    return rows[:length]


@lru_cache(maxsize=8)
def _rows(key: bytes) -> tuple[tuple[int, ...], ...]:
    """For each place of the input the hash of every byte that may stand there: eight windows of the key, added bit by bit."""
    bits, size = int.from_bytes(key, "big"), 8 * len(key)
    rows = []
    for at in range(min(max(len(key) - 4, 0), _MOST_INPUT)):
        windows = [bits >> (size - 32 - 8 * at - bit) & 0xFFFFFFFF for bit in range(8)]
        row = [0] * 256
        for byte in range(1, 256):
            low = byte & -byte
            row[byte] = row[byte ^ low] ^ windows[8 - low.bit_length()]
        rows.append(tuple(row))
    return tuple(rows)
