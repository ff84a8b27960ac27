"""Members of sets: addresses as words and as bytes, lines of a file of members, and a set's ranges in a bundle.

The compiler reads the files that a policy names with this, the runtime those that `netc set` is given: one reader for both.
"""

from __future__ import annotations

import re
import socket
import struct
import sys
from bisect import bisect_right
from collections.abc import Iterable, Iterator

Range = tuple[int, int]
V4_BASE = 1 << 128  # the ordinal of 0.0.0.0; an IPv6 address is its own (compiler.ir)
_COUNT = struct.Struct("=I")
_V4, _V6 = struct.Struct("=2I"), struct.Struct(">16s16s")
_LOOKS_V4 = re.compile(r"[0-9.]+")


def lines(text: str) -> Iterator[tuple[int, str, str]]:
    """(number, whole line, word) of every line that has a member: one a line, `#` comments, empty lines."""
    for number, line in enumerate(text.split("\n"), 1):
        word = line.partition("#")[0].strip()
        if word:
            yield number, line, word


def packed(text: str) -> bytes:
    """The 4 or 16 bytes of an address. Raises ValueError with what is wrong with it and how it would be right."""
    try:
        return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
    except (OSError, ValueError):
        raise ValueError(address_help(text)) from None


def address_help(text: str) -> str:
    """Why this is no address, and what to write."""
    if "%" in text:
        return "an address in a policy has no zone: leave out what stands behind `%`"
    if _LOOKS_V4.fullmatch(text):
        parts = text.split(".")
        if any(part.isdigit() and int(part) > 255 for part in parts):
            return "each of an IPv4 address's four numbers is at most 255"
        if len(parts) < 4 and all(part.isdigit() for part in parts):
            return "write all four numbers: " + ".".join([*parts, *["0"] * (4 - len(parts))])
        if any(len(part) > 1 and part[0] == "0" for part in parts):
            return "write its numbers without leading zeros"
    if "." in text and re.search("[A-Za-z]", text) and ":" not in text:
        return "names are not looked up in DNS: write the address"
    return "write it like this: 192.0.2.1, 198.51.100.0/24, 2001:db8::/32, 192.0.2.1-192.0.2.9"


def ordinal(address: bytes) -> int:
    """4 or 16 bytes as a number of the one domain of addresses."""
    return int.from_bytes(address, "big") + (V4_BASE if len(address) == 4 else 0)


def written(number: int) -> str:
    """The usual spelling of an address's ordinal."""
    if number >= V4_BASE:
        return socket.inet_ntop(socket.AF_INET, (number - V4_BASE).to_bytes(4, "big"))
    return socket.inet_ntop(socket.AF_INET6, number.to_bytes(16, "big"))


def encode(ranges: Iterable[Range]) -> bytes:
    """Ascending, disjoint ranges of ordinals (or of ports) as bytes: those below 2^32 and IPv4 in 8 bytes each, IPv6 in 32."""
    four, six = [], []
    for low, high in ranges:
        if low < V4_BASE:
            last = min(high, V4_BASE - 1)
            six.append(_V6.pack(low.to_bytes(16, "big"), last.to_bytes(16, "big")))
        if high >= V4_BASE:
            four.append(_V4.pack(max(low, V4_BASE) - V4_BASE, high - V4_BASE))
    return _COUNT.pack(len(six)) + b"".join(six) + b"".join(four)


def decode(data: bytes) -> list[Range]:
    """What `encode` was given. Raises ValueError for bytes that are not its."""
    try:
        (count,) = _COUNT.unpack_from(data)
        end = _COUNT.size + count * _V6.size
        six = [(int.from_bytes(low, "big"), int.from_bytes(high, "big")) for low, high in _V6.iter_unpack(data[_COUNT.size : end])]
        four = [(V4_BASE + low, V4_BASE + high) for low, high in _V4.iter_unpack(data[end:])]
    except struct.error:
        raise ValueError("the members of a set are cut") from None
    if len(six) != count:
        raise ValueError("the members of a set are cut")
    return six + four


def missing(have: bytes, want: bytes) -> list[Range]:
    """What the ranges in `want` hold and those in `have` do not (both of `encode`). Raises ValueError."""
    if have == want:
        return []
    first, second = decode(have), decode(want)
    same = set(first).intersection(second)  # a range of both meets no other: only the rest needs care
    cuts = [each for each in first if each not in same]
    found, at = [], 0
    for low, high in second:
        if (low, high) in same:
            continue
        while at < len(cuts) and cuts[at][1] < low:
            at += 1
        after = at
        while after < len(cuts) and cuts[after][0] <= high:
            if cuts[after][0] > low:
                found.append((low, cuts[after][0] - 1))
            low = cuts[after][1] + 1
            after += 1
        if low <= high:
            found.append((low, high))
    return found


def held(data: bytes, addresses: Iterable[bytes]) -> list[bytes]:
    """The addresses (4 or 16 bytes) that are in the ranges of `encode`, which are searched as they are: `decode` takes a second for a million."""
    end = _COUNT.size + _COUNT.unpack_from(data)[0] * _V6.size
    parts = {4: (_V4.size, memoryview(data)[end:]), 16: (_V6.size, memoryview(data)[_COUNT.size : end])}
    return [each for each in addresses if _held(each, *parts[len(each)])]


def _held(address: bytes, size: int, ranges: memoryview) -> bool:
    width = len(address)

    def bound(at: int) -> bytes:
        """The `width` bytes there, in network order."""
        some = bytes(ranges[at : at + width])
        return some[::-1] if width == 4 and sys.byteorder == "little" else some

    at = bisect_right(range(len(ranges) // size), address, key=lambda index: bound(index * size)) - 1
    return at >= 0 and address <= bound(at * size + width)


def prefixes(low: int, high: int, bits: int) -> Iterable[tuple[int, int]]:
    """(address, prefix length) pairs that are exactly low..high."""
    while low <= high:
        room = (low & -low).bit_length() - 1 if low else bits
        size = min(room, (high - low + 1).bit_length() - 1)
        yield low, bits - size
        low += 1 << size


def words(low: int, high: int) -> Iterator[str]:
    """A range of addresses as the prefixes that make it up."""
    bits, base = (32, V4_BASE) if low >= V4_BASE else (128, 0)
    for address, length in prefixes(low - base, high - base, bits):
        yield written(base + address) + (f"/{length}" if length < bits else "")
