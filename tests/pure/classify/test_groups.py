"""Joined groups keep who meets what: rows against brute force over every combination of classes."""

from __future__ import annotations

import itertools
import random
import tracemalloc

import numpy as np
import pytest

from compiler.classify import groups, sweep
from compiler.classify.groups import Group
from compiler.classify.sweep import Classes

Field = tuple[Group, list[set[int]], list[int]]


def random_field(rng: random.Random, name: str, terms: int, most: int = 6) -> Field:
    """A field made by hand: of each class the atoms in it (class 0: none), of each term the wish (-1: any)."""
    atoms = rng.randint(1, most)
    members = [set(), *({atom for atom in range(atoms) if rng.random() < 0.4} or {0} for _ in range(rng.randint(1, most)))]
    wishes = [rng.randrange(-1, atoms) for _ in range(terms)]
    covered = [(number, atom) for number, inside in enumerate(members) for atom in inside]
    rng.shuffle(covered)
    column = [np.array([pair[at] for pair in covered], np.int64) for at in (0, 1)]
    classes = Classes(np.zeros(0, np.int64), len(members), column[0], column[1])
    return groups.of_field(name, np.array(wishes, np.int64), classes), members, wishes


def class_of(group: Group, chosen: dict[str, int]) -> int:
    if group.left is None or group.right is None or group.table is None:
        return chosen[group.name]
    return int(group.table[class_of(group.left, chosen), class_of(group.right, chosen)])


def terms_in(row: np.ndarray, terms: int) -> set[int]:  # type: ignore[type-arg]
    number = int.from_bytes(row.tobytes(), "little")
    assert number >> terms == 0, "a bit of a term that there is not"
    return {term for term in range(terms) if number >> term & 1}


@pytest.mark.parametrize("seed", range(30))
def test_the_terms_of_a_joined_class_are_those_that_every_field_meets(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(seed)
    monkeypatch.setattr(groups, "_SLICE", rng.choice((1, 150, 1000, 1 << 22)))
    terms = rng.choice((1, 2, 63, 64, 65, 200))
    fields = {name: random_field(rng, name, terms) for name in "abcd"[: rng.randint(1, 4)]}
    left = groups.join([field[0] for field in fields.values()], most=rng.choice((4, 30, 4096)), product=rng.choice((1, 60, 1 << 16)))
    found = [(group, groups.rows(group, terms)) for group in left]
    assert all(rows.shape == (group.size, (terms + 63) // 64) for group, rows in found)
    for numbers in itertools.product(*(range(len(members)) for _, members, _ in fields.values())):
        chosen = dict(zip(fields, numbers, strict=True))
        right = {
            term for term in range(terms)
            if all(wishes[term] < 0 or wishes[term] in members[chosen[name]] for name, (_, members, wishes) in fields.items())
        }  # fmt: skip
        got = set.intersection(*(terms_in(rows[class_of(group, chosen)], terms) for group, rows in found))
        assert got == right, chosen


@pytest.mark.parametrize("seed", range(10))
def test_the_members_of_a_joined_class_are_the_combinations_that_it_meets(seed: int) -> None:
    rng = random.Random(seed)
    terms = 150
    fields = {name: random_field(rng, name, terms, 9) for name in "abc"}
    (group,) = groups.join([field[0] for field in fields.values()])
    for numbers in itertools.product(*(range(len(members)) for _, members, _ in fields.values())):
        chosen = dict(zip(fields, numbers, strict=True))
        row = int.from_bytes(group.members[class_of(group, chosen)].tobytes(), "little")
        for term in range(terms):
            met = all(wishes[term] < 0 or wishes[term] in members[chosen[name]] for name, (_, members, wishes) in fields.items())
            assert row >> int(group.combination[term]) & 1 == met
    part = groups.part_of(group, np.arange(terms) % 3 == 0, "part")
    assert (groups.rows(part, terms // 3) != 0).any() and part.size == group.size


def test_joining_stops_at_the_limits() -> None:
    rng = random.Random(1)
    fields = [random_field(rng, name, 100, 12)[0] for name in "abcde"]
    for most, product in ((10, 1 << 16), (4096, 50), (60, 400)):
        left = groups.join(fields, most, product)
        joined = [group for group in left if group.table is not None]
        assert all(group.size <= most and group.table is not None and group.table.size <= product for group in joined)
        assert sorted("".join(group.name.replace("+", "") for group in left)) == list("abcde")


@pytest.mark.parametrize("room", [1, 300, 1 << 22])
def test_equal_pairs_are_one_kind_and_others_are_not(room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "_SLICE", room)
    rng = np.random.default_rng(2)
    ours, theirs = (rng.integers(0, 1 << 63, (size, 5), dtype=np.uint64) for size in (37, 23))
    ours[:20] &= np.uint64(1 << 62)  # pairs that differ in single high bits, or not at all
    theirs[::3] |= np.uint64(1 << 62)
    found, kind = groups.distinct_pairs(ours, theirs)
    both = (ours[:, None] & theirs[None]).reshape(-1, 5)
    assert (found[kind] == both).all() and len(found) == len({row.tobytes() for row in both}) == len({row.tobytes() for row in found})


def test_a_large_table_is_joined_in_a_small_part_of_its_memory() -> None:
    """A thousand source ports by a thousand destination ports of 16,000 rules: all pairs at once would be 2 GiB."""
    rng = random.Random(8)
    sport, dport = ([rng.randrange(1000) for _ in range(16_000)] for _ in range(2))
    partition = sweep.numbers([((port, port),) for port in range(1000)], 16)
    classes = sweep.classes(partition, np.ones(1000, bool))
    fields = [groups.of_field(name, np.array(wishes, np.int64), classes) for name, wishes in (("s", sport), ("d", dport))]
    tracemalloc.start()
    (joined,) = groups.join(fields, 65_535, 1 << 20)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert joined.size > 10_000 and most < 200 << 20
    for term in rng.sample(range(16_000), 200):
        at = {name: int(classes.of_interval[wishes[term]]) for name, wishes in (("s", sport), ("d", dport))}
        row = joined.members[class_of(joined, at)]
        assert int(row[joined.combination[term] >> 6]) >> (int(joined.combination[term]) & 63) & 1


def test_every_bit_is_found_where_it_was_set() -> None:
    rng = random.Random(4)
    places = sorted({(rng.randrange(9), rng.choice((0, 63, 64, 127, 128, 191, rng.randrange(192)))) for _ in range(80)})
    words = np.zeros((9, 3), np.uint64)
    groups.set_bits(words, *(np.array(column, np.int64) for column in zip(*places, strict=True)))
    row, bit = groups.bits_of(words)
    assert list(zip(row.tolist(), bit.tolist(), strict=True)) == places


def test_a_field_s_row_says_of_real_classes_what_they_lie_in() -> None:
    atoms = [((0, 9),), ((5, 20),), ((20, 20), (30, 31))]
    partition = sweep.numbers(atoms, 8)
    group = groups.of_field("x", np.array([2, -1, 0, 1, 0], np.int64), sweep.classes(partition, np.ones(3, bool)))
    assert {frozenset(terms_in(row, 5)) for row in groups.rows(group, 5)} == {
        frozenset({1}), frozenset({1, 2, 4}), frozenset({1, 2, 3, 4}), frozenset({1, 3}), frozenset({0, 1, 3}), frozenset({0, 1}),
    }  # fmt: skip
