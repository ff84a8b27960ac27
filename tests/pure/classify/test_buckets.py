"""Terms under addresses: filed once or not at all, and in the list of every interval that they ask for, in the order of the rules."""

from __future__ import annotations

import random

import numpy as np
import pytest

from compiler.classify import buckets, groups, sweep
from compiler.classify.buckets import BROAD, EVERYTHING, MAX_BUCKET, Side
from compiler.ir import V4_BASE, V4_LAST, Ranges
from tests.pure.classify.rulesets import random_atom


def random_sides(rng: random.Random, terms: int, broad: float = 0.2) -> tuple[list[Side], list[list[Ranges | None]]]:
    sides, asked = [], []
    wide = [((V4_BASE, V4_LAST),), ((0, V4_BASE - 1),), ((0, V4_LAST),), ((V4_BASE + (10 << 24), V4_BASE + (11 << 24) - 1),)]
    several = [((V4_BASE + 9, V4_BASE + 9), (V4_BASE + 99, V4_BASE + 100)), ((5, 6), (V4_BASE - 1, V4_BASE))]
    for _ in range(2):
        wanted = [
            None if rng.random() < broad / 2 else rng.choice(wide) if rng.random() < broad else rng.choice(several) if rng.random() < 0.05 else random_atom(rng)
            for _ in range(terms)
        ]  # fmt: skip
        atoms, wishes = groups.numbered(wanted)
        sides.append(Side(sweep.addresses(atoms), wishes))
        asked.append(wanted)
    return sides, asked


def intervals_of(side: Side, term: int) -> set[int]:
    """All that the term asks for; of a term without a wish every interval, and `absent` behind the last."""
    partition, wish = side.partition, int(side.wishes[term])
    if wish < 0:
        return set(range(partition.intervals + 1))
    here = np.flatnonzero(partition.atom == wish)
    return {at for row in here for at in range(int(partition.first[row]), int(partition.last[row]) + 1)}


@pytest.mark.parametrize("seed", range(12))
def test_lists_hold_every_filed_term_where_it_belongs_and_no_other(seed: int) -> None:
    rng = random.Random(seed)
    terms = rng.choice((1, 40, 300))
    sides, _ = random_sides(rng, terms)
    where = buckets.divide(sides)
    assert set(where.tolist()) <= {0, 1, BROAD}
    records = np.sort(np.array(rng.choices(range(1, 2 * terms), k=terms), np.int64))
    combination = np.array([rng.randrange(50) for _ in range(terms)], np.int64)
    for number in (0, 1):
        own, other = sides[number], sides[1 - number]
        filed = where == number
        made = buckets.fill(own, other, filed, records, combination)
        assert len(made.start) == len(made.count) == own.partition.intervals
        asked = {term: (intervals_of(own, term), intervals_of(other, term)) for term in np.flatnonzero(filed).tolist()}
        for interval in range(own.partition.intervals):
            entries = made.entries[made.start[interval] : made.start[interval] + made.count[interval]].tolist()
            right = [term for term, (mine, _) in asked.items() if interval in mine]
            assert len(entries) == len(right) <= MAX_BUCKET and [entry[0] for entry in entries] == [int(records[term]) for term in right]
            assert sorted((e[0], e[3], e[1], e[1] + e[2]) for e in entries) == sorted(_entry(asked[t][1], other, t, records, combination) for t in right)


def _entry(wanted: set[int], other: Side, term: int, records: np.ndarray, combination: np.ndarray) -> tuple[int, int, int, int]:  # type: ignore[type-arg]
    """Record, combination and the first and last interval of the other side, which are all that it wants there."""
    low, high = min(wanted), max(wanted)
    assert len(wanted) == high - low + 1, "a term whose other address is no run cannot stand in a list"
    return int(records[term]), int(combination[term]), low, EVERYTHING if other.wishes[term] < 0 else high


@pytest.mark.parametrize("seed", range(6))
def test_only_narrow_terms_are_filed_and_most_of_them_are(seed: int) -> None:
    sides, asked = random_sides(random.Random(seed), 600, broad=0.3)
    where = buckets.divide(sides)
    for number in (0, 1):
        assert all(asked[number][term] not in (None, ((0, V4_LAST),), ((V4_BASE, V4_LAST),)) for term in np.flatnonzero(where == number))
    exact = [t for t in range(600) if any(a[t] is not None and len(a[t]) == 1 and a[t][0][0] == a[t][0][1] for a in asked)]  # type: ignore[index, arg-type]
    assert sum(where[term] != BROAD for term in exact) > 0.6 * len(exact) > 30


def test_a_thousand_terms_of_one_address_are_too_many_for_a_list() -> None:
    wishes = np.concatenate([np.zeros(1000, np.int64), np.arange(1, 41)])
    atoms: list[Ranges] = [((V4_BASE + 2 * n, V4_BASE + 2 * n),) for n in range(41)]
    nothing = Side(sweep.addresses([]), np.full(1040, -1))
    where = buckets.divide([Side(sweep.addresses(atoms), wishes), nothing])
    assert (where[:1000] == BROAD).all() and (where[1000:] == 0).all()


def test_terms_of_one_crowded_source_are_filed_under_their_destinations() -> None:
    atoms: list[Ranges] = [((V4_BASE + 2 * n, V4_BASE + 2 * n),) for n in range(500)]
    crowded = Side(sweep.addresses(atoms[:1]), np.zeros(500, np.int64))
    spread = Side(sweep.addresses(atoms), np.arange(500))
    assert (buckets.divide([crowded, spread]) == 1).all()
    assert (buckets.divide([spread, crowded]) == 0).all()
