"""A filter set read anew, word by word from its file, and judged by a walk over all its lines, one line for all packets at once."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import numpy.typing as npt

DATA = Path(__file__).parents[4] / "shared" / "data" / "classbench"
SETS = tuple(sorted(DATA.glob("*.gz"))) if DATA.is_dir() else ()
STANDS_FOR = {"fw4": {7: 6, 8: 17}}  # protocols of anonymised sets: by the ports they come with, TCP and UDP
_WITH_PORTS = (6, 17, 132)
_MACS = bytes.fromhex("0200000000020200000000010800")
Column = npt.NDArray[np.int64]
Span = tuple[int, int]


@dataclass(frozen=True)
class Line:
    src: Span
    dst: Span
    sport: Span
    dport: Span
    proto: int | None
    flags: tuple[int, int]  # value, mask


@dataclass(frozen=True)
class Header:
    src: int
    dst: int
    sport: int
    dport: int
    proto: int
    flags: int  # TCP's flags or ICMP's type in the high octet, ICMP's code in the low one

    def frame(self) -> bytes:
        if self.proto == 6:
            body = struct.pack("!2H2I2B3H", self.sport, self.dport, 1, 1, 0x50, self.flags >> 8, 65535, 0, 0)
        elif self.proto == 1:
            body = struct.pack("!HHI", self.flags, 0, 0)
        else:
            body = struct.pack("!4HI", self.sport, self.dport, 8, 0, 0)
        head = struct.pack("!2B3H2BH2I", 0x45, 0, 20 + len(body), 0, 0, 64, self.proto, 0, self.src, self.dst)
        return _MACS + head + body


def read(path: Path, stands_for: dict[int, int]) -> list[Line]:
    return [_line(text.split(), stands_for) for text in path.read_text().splitlines() if text.startswith("@")]


def _line(words: list[str], stands_for: dict[int, int]) -> Line:
    proto, mask = (int(part, 16) for part in words[8].split("/"))
    flags, flags_mask = (int(part, 16) for part in words[9].split("/"))
    return Line(
        _prefix(words[0][1:]), _prefix(words[1]), (int(words[2]), int(words[4])), (int(words[5]), int(words[7])),
        stands_for.get(proto, proto) if mask else None, (flags & flags_mask, flags_mask),
    )  # fmt: skip


def _prefix(text: str) -> Span:
    address, bits = text.split("/")
    size = 1 << 32 - int(bits)
    first = int.from_bytes(bytes(map(int, address.split("."))), "big") // size * size
    return first, first + size - 1


def drawn(rng: Random, lines: list[Line], count: int) -> list[Header]:
    """On, just inside and just outside the boundaries of one line; a fifth has its addresses from one line and the rest from another."""
    found = []
    for _ in range(count):
        one = rng.choice(lines)
        other = rng.choice(lines) if rng.random() < 0.2 else one
        proto = other.proto if other.proto is not None and rng.random() < 0.95 else rng.choice((1, 6, 6, 17, 17, 47, 132))
        flags = other.flags[0] | rng.getrandbits(16) & ~other.flags[1] if rng.random() < 0.9 else rng.getrandbits(16)
        found.append(Header(_near(rng, one.src, 32), _near(rng, one.dst, 32), _near(rng, other.sport, 16), _near(rng, other.dport, 16), proto, flags))
    return found


def _near(rng: Random, span: Span, bits: int) -> int:
    if rng.random() < 0.08:
        return min(max(rng.choice((span[0] - 1, span[1] + 1)), 0), (1 << bits) - 1)
    return rng.choice((span[0], min(span[0] + 1, span[1]), max(span[1] - 1, span[0]), span[1], rng.randint(*span)))


def first_lines(lines: list[Line], headers: list[Header]) -> list[int]:
    """The number of the first line that each header fits, from 1 on; 0 for none."""
    src, dst, sport, dport, proto, flags = (np.array([getattr(h, name) for h in headers], np.int64) for name in Header.__dataclass_fields__)
    ported = np.isin(proto, _WITH_PORTS)
    found = np.zeros(len(headers), np.int64)
    for number, line in enumerate(lines, 1):
        met = (src >= line.src[0]) & (src <= line.src[1]) & (dst >= line.dst[0]) & (dst <= line.dst[1])
        if not met.any():
            continue
        for span, column in ((line.sport, sport), (line.dport, dport)):
            if span != (0, 65535):
                met &= ported & (column >= span[0]) & (column <= span[1])
        if line.proto is not None:
            met &= proto == line.proto
        if line.flags[1]:
            met &= flags & line.flags[1] == line.flags[0]
        found[met & (found == 0)] = number
    return [int(number) for number in found]
