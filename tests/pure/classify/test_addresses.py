"""What finds an address's interval agrees with a walk over the intervals, at every beginning and one beside it."""

from __future__ import annotations

import random
from bisect import bisect_right

import numpy as np
import pytest

from compiler.tables import address_trie


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


def looked_up(trie: address_trie.Trie, starts: list[int], octets: bytes) -> tuple[int, bool]:
    """The interval of an address, and whether a leaf told it; leaves hold intervals here."""
    entry = int(trie.root[octets[0] << 8 | octets[1]])
    for octet in octets[2:]:
        if not entry & address_trie.TABLE:
            break
        entry = int(trie.tables[(entry & ~address_trie.TABLE) + octet])
    assert not entry & address_trie.TABLE, "a trie without an end"
    if not entry & address_trie.RUN:
        return entry, True
    first, many = entry & (1 << address_trie.RUN_BITS) - 1, entry >> address_trie.RUN_BITS & 0x3F
    return first - 1 + bisect_right(starts[first : first + many], int.from_bytes(octets, "big")), False


@pytest.mark.parametrize(("size", "count"), [(4, 1), (4, 2), (4, 40), (4, 3000), (16, 1), (16, 2), (16, 3), (16, 60), (16, 1500)])
def test_an_address_lies_in_the_last_interval_that_does_not_begin_behind_it(size: int, count: int) -> None:
    rng = random.Random(1000 * size + count)
    starts = random_starts(rng, 8 * size, count)
    trie = address_trie.build(keys_of(starts, size), np.arange(len(starts)))
    assert len(trie.root) == 1 << 16 and len(trie.tables) % 256 == 0
    for value in probes(rng, starts, (1 << 8 * size) - 1):
        assert looked_up(trie, starts, value.to_bytes(size, "big"))[0] == bisect_right(starts, value) - 1, hex(value)


def test_a_leaf_gives_the_value_of_its_interval() -> None:
    starts = [0, *(number << 16 for number in range(1, 50))]
    trie = address_trie.build(keys_of(starts, 4), np.array([7 * at % 11 for at in range(50)]))
    assert [int(trie.root[at]) for at in range(50)] == [7 * at % 11 for at in range(50)] and len(trie.tables) == 0


def test_sparse_hosts_are_runs_and_crowded_prefixes_tables() -> None:
    hosts = [0, *((7 << 16) + 3 * number for number in range(1, 17))]
    assert len(address_trie.build(keys_of(hosts, 4), np.arange(len(hosts))).tables) == 0
    prefixes = [0, *((7 << 16) + (number << 8) for number in range(1, 256))]
    trie = address_trie.build(keys_of(prefixes, 4), np.arange(len(prefixes)))
    assert len(trie.tables) == 256 and all(looked_up(trie, prefixes, start.to_bytes(4, "big")) == (at, True) for at, start in enumerate(prefixes))


def test_all_65536_addresses_of_one_upper_half_are_found() -> None:
    starts = [0, *range(7 << 16, 8 << 16)]
    trie = address_trie.build(keys_of(starts, 4), np.arange(len(starts)))
    assert all(looked_up(trie, starts, start.to_bytes(4, "big"))[0] == at for at, start in enumerate(starts))


def test_no_table_is_there_that_nothing_leads_to() -> None:
    starts = random_starts(random.Random(6), 128, 300)
    trie = address_trie.build(keys_of(starts, 16), np.arange(300))
    tables = [int(entry) & ~address_trie.TABLE for part in (trie.root, trie.tables) for entry in part if entry & address_trie.TABLE]
    assert sorted(tables) == list(range(0, len(trie.tables), 256)) and tables
