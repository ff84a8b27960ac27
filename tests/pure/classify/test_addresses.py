"""What finds an address's interval agrees with a walk over the intervals, at every beginning and one beside it."""

from __future__ import annotations

import random
from bisect import bisect_right

import numpy as np
import pytest

from compiler.tables import address_ranges

V4, V6 = (1 << 32) - 1, (1 << 128) - 1


def keys_of(starts: list[int], size: int) -> np.ndarray:  # type: ignore[type-arg]
    return np.frombuffer(b"".join(start.to_bytes(size, "big") for start in starts), np.uint8).reshape(-1, size)


def probes(rng: random.Random, starts: list[int], last: int) -> list[int]:
    near = {start + step for start in starts for step in (-1, 0, 1)}
    return sorted(value for value in {*near, 0, last, *(rng.randint(0, last) for _ in range(200))} if 0 <= value <= last)


def random_starts(rng: random.Random, bits: int, count: int) -> list[int]:
    """Few common beginnings, so that some share 16 bits, a byte, all but the last bit; the ends of every level."""
    last, found = (1 << bits) - 1, {0}
    bases = [rng.getrandbits(bits) for _ in range(4)] + [0, last]
    while len(found) < count:
        keep = rng.choice((0, 8, 16, 17, 24, 25, bits - 8, bits - 1))
        shift = bits - keep
        base = rng.choice(bases) >> shift << shift
        found.add(min(last, base + rng.choice((0, 1 << shift - 1, (1 << shift) - 1, rng.getrandbits(shift)))))
    return sorted(found)


@pytest.mark.parametrize("count", [1, 2, 3, 40, 3000])
def test_an_ipv4_address_lies_in_the_last_interval_that_does_not_begin_behind_it(count: int) -> None:
    rng = random.Random(count)
    starts = random_starts(rng, 32, count)
    found = address_ranges.build4(keys_of(starts, 4))
    assert len(found.begins) == (1 << 16) + 1 and found.begins[0] == 0 and found.begins[-1] == len(starts)
    for value in probes(rng, starts, V4):
        first, end = (int(number) for number in found.begins[value >> 16 : (value >> 16) + 2])
        got = first + sum(1 for at in range(first, end) if found.lower[at] <= value & 0xFFFF) - 1
        assert got == bisect_right(starts, value) - 1, hex(value)


def test_all_65536_ends_of_one_upper_half_are_found() -> None:
    starts = [0, *range(7 << 16, 8 << 16)]
    found = address_ranges.build4(keys_of(starts, 4))
    assert (found.begins[7], found.begins[8], found.begins[9]) == (1, 65537, 65537)
    assert (found.lower[1:] == np.arange(1 << 16)).all()


def looked_up(found: address_ranges.Ranges6, value: int) -> int:
    """The interval of an address, by the tables and a walk over what they leave."""
    high, low = divmod(value, 1 << 64)
    upper = high >> 48
    begins, at = (found.begins, upper) if not found.splits[upper] else (found.tables, int(found.splits[upper]) - 1 + (high >> 36 & 0xFFF))
    first, end = int(begins[at]), int(begins[at + 1])
    lows = found.low if len(found.low) else np.zeros(len(found.high), np.uint64)
    return first + sum(1 for at in range(first, end) if (int(found.high[at]), int(lows[at])) <= (high, low)) - 1


@pytest.mark.parametrize("count", [1, 2, 3, 60, 1500])
def test_an_ipv6_address_too(count: int) -> None:
    rng = random.Random(1000 + count)
    starts = random_starts(rng, 128, count)
    found = address_ranges.build6(keys_of(starts, 16))
    for value in probes(rng, starts, V6):
        assert looked_up(found, value) == bisect_right(starts, value) - 1, hex(value)


def test_upper_bits_with_many_intervals_are_split() -> None:
    starts = [0, *(0x2001 << 112 | number << 80 for number in range(1, 500))]
    found = address_ranges.build6(keys_of(starts, 16))
    assert np.count_nonzero(found.splits) == 1 and found.splits[0x2001] == 1 and len(found.tables) == (1 << 12) + 1
    assert len(found.low) == 0
    assert all(looked_up(found, start + step) == at for at, start in enumerate(starts) for step in (0, 1))
