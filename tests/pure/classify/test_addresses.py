"""What finds an address's interval agrees with a walk over the intervals, at every beginning and one beside it."""

from __future__ import annotations

import random
from bisect import bisect_right

import numpy as np
import pytest

from compiler.tables import address_ranges, address_trie

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
    found = address_ranges.build(keys_of(starts, 4))
    assert len(found.begins) == (1 << 16) + 1 and found.begins[0] == 0 and found.begins[-1] == len(starts)
    for value in probes(rng, starts, V4):
        first, end = (int(number) for number in found.begins[value >> 16 : (value >> 16) + 2])
        got = first + sum(1 for at in range(first, end) if found.lower[at] <= value & 0xFFFF) - 1
        assert got == bisect_right(starts, value) - 1, hex(value)


def test_all_65536_ends_of_one_upper_half_are_found() -> None:
    starts = [0, *range(7 << 16, 8 << 16)]
    found = address_ranges.build(keys_of(starts, 4))
    assert (found.begins[7], found.begins[8], found.begins[9]) == (1, 65537, 65537)
    assert (found.lower[1:] == np.arange(1 << 16)).all()


def looked_up(trie: address_trie.Trie, octets: bytes) -> int:
    """Its leaf's class; how deep it went is the caller's to bound."""
    entry = int(trie.root[octets[0] << 8 | octets[1]])
    for octet in octets[2:]:
        if entry < 0:
            break
        entry = int(trie.chunks[entry << 8 | octet])
    assert entry < 0, "a trie without an end"
    return -1 - entry


@pytest.mark.parametrize(("size", "count"), [(4, 1), (4, 2), (4, 500), (16, 1), (16, 2), (16, 3), (16, 60), (16, 1500)])
def test_the_trie_s_leaf_is_the_interval(size: int, count: int) -> None:
    rng = random.Random(1000 * size + count)
    starts = random_starts(rng, 8 * size, count)
    trie = address_trie.build(keys_of(starts, size), np.arange(len(starts)))
    assert len(trie.root) == 1 << 16 and len(trie.chunks) % 256 == 0
    for value in probes(rng, starts, (1 << 8 * size) - 1):
        assert looked_up(trie, value.to_bytes(size, "big")) == bisect_right(starts, value) - 1, hex(value)


def test_the_trie_gives_the_class_of_the_interval_not_its_number() -> None:
    starts = random_starts(random.Random(5), 128, 50)
    classes = np.array([7 * at % 11 for at in range(50)])
    trie = address_trie.build(keys_of(starts, 16), classes)
    assert all(looked_up(trie, start.to_bytes(16, "big")) == classes[at] for at, start in enumerate(starts))


def test_a_trie_has_no_chunk_that_nothing_leads_to() -> None:
    starts = random_starts(random.Random(6), 128, 300)
    trie = address_trie.build(keys_of(starts, 16), np.arange(300))
    numbers = [int(entry) for part in (trie.root, trie.chunks) for entry in part if entry >= 0]
    assert sorted(numbers) == list(range(len(trie.chunks) // 256))
