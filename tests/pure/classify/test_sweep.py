"""A field's classes are sets of covering atoms: each address has the class of exactly those atoms that it lies in."""

from __future__ import annotations

import random

import numpy as np
import pytest

from compiler import ir
from compiler.classify import sweep
from compiler.ir import V4_BASE, V4_LAST
from compiler.ranges import normalize
from tests.pure.classify.rulesets import random_atom

ENDS = (0, 1, V4_BASE - 1, V4_BASE, V4_BASE + 1, V4_LAST)


def random_atoms(rng: random.Random, count: int) -> list[ir.Ranges]:
    """Distinct atoms of one to five ranges; some begin or end where others do, some lie side by side."""
    atoms = [normalize(piece for _ in range(rng.choice((1, 1, 2, 5))) for piece in random_atom(rng)) for _ in range(count)]
    for at in range(0, count, 4):
        first, last = rng.choice(atoms[at])
        atoms[at] = rng.choice((((first, last),), ((min(last + 1, V4_LAST), min(last + 3, V4_LAST)),), ((first, first),)))
    return list(dict.fromkeys([*atoms, *rng.sample([((0, V4_LAST),), ((0, V4_BASE - 1),), ((V4_BASE, V4_LAST),), ((0, 0),)], 2)]))


def boundaries(atoms: list[ir.Ranges]) -> list[int]:
    near = {value + step for ranges in atoms for pair in ranges for value in pair for step in (-1, 0, 1)}
    return sorted({*ENDS, *(value for value in near if 0 <= value <= V4_LAST)})


def starts(partition: sweep.Partition) -> list[int]:
    """Ordinals where the intervals of both families begin."""
    v6, v4 = partition.keys
    return [int.from_bytes(key.tobytes(), "big") for key in v6] + [V4_BASE + int.from_bytes(key.tobytes(), "big") for key in v4]


def interval_of(begins: list[int], value: int) -> int:
    """The last interval that does not begin behind the value: by a walk."""
    return max(at for at, first in enumerate(begins) if first <= value)


def check(atoms: list[ir.Ranges], wanted: list[bool]) -> None:
    partition = sweep.addresses(atoms)
    found = sweep.classes(partition, np.array(wanted, bool))
    begins = starts(partition)
    assert begins == sorted(set(begins)) and begins[0] == 0 and V4_BASE in begins
    atoms_of = {number: frozenset(found.atom[found.covered == number].tolist()) for number in range(found.count)}
    assert len(found.atom) == sum(map(len, atoms_of.values())), "an atom is listed twice in a class"
    assert len(set(atoms_of.values())) == found.count and not atoms_of[0], "two classes are one, or class 0 is not empty"
    for value in boundaries(atoms):
        here = frozenset(n for n, ranges in enumerate(atoms) if wanted[n] and any(low <= value <= high for low, high in ranges))
        assert atoms_of[int(found.of_interval[interval_of(begins, value)])] == here, hex(value)


@pytest.mark.parametrize("seed", range(25))
def test_an_address_has_the_class_of_the_atoms_that_it_lies_in(seed: int) -> None:
    rng = random.Random(seed)
    atoms = random_atoms(rng, rng.choice((1, 5, 25)))
    check(atoms, [True] * len(atoms))
    check(atoms, [rng.random() < 0.6 for _ in atoms])


def test_the_last_value_of_a_family_does_not_leak_into_the_next() -> None:
    check([((V4_BASE - 1, V4_BASE),), ((V4_BASE - 1, V4_BASE - 1),), ((V4_LAST, V4_LAST),), ((0, 0), (V4_LAST - 1, V4_LAST))], [True] * 4)


def test_every_range_is_a_run_of_its_intervals() -> None:
    rng = random.Random(7)
    atoms = random_atoms(rng, 30)
    partition = sweep.addresses(atoms)
    begins = [*starts(partition), V4_LAST + 1]
    runs = sorted((int(a), begins[int(i)], begins[int(j) + 1] - 1) for a, i, j in zip(partition.atom, partition.first, partition.last, strict=True))
    cut = [(n, a, b) for n, ranges in enumerate(atoms) for low, high in ranges
           for a, b in ((low, min(high, V4_BASE - 1)), (max(low, V4_BASE), high)) if a <= b]  # fmt: skip
    assert runs == sorted(cut)


@pytest.mark.parametrize("bits", [6, 8, 16])
def test_a_number_has_the_class_of_its_atoms(bits: int) -> None:
    rng, last = random.Random(bits), (1 << bits) - 1
    atoms = [normalize((low, min(last, low + rng.choice((0, 1, 9, last)))) for low in rng.sample(range(last + 1), rng.randint(1, 6))) for _ in range(20)]
    atoms = list(dict.fromkeys([*atoms, ((0, 0),), ((last, last),), ((0, last),)]))
    partition = sweep.numbers(atoms, bits)
    found = sweep.classes(partition, np.ones(len(atoms), bool))
    begins = [int.from_bytes(key.tobytes(), "big") for key in partition.keys[0]]
    assert max(begins) <= last
    for value in range(0, last + 1, max(1, last // 500)):
        number = int(found.of_interval[np.searchsorted(begins, value, side="right") - 1])
        here = {n for n, ranges in enumerate(atoms) if any(low <= value <= high for low, high in ranges)}
        assert set(found.atom[found.covered == number].tolist()) == here, value


def test_the_class_of_a_set_of_kinds_is_which_masks_it_meets() -> None:
    rng = random.Random(3)
    masks = list(dict.fromkeys((mask := rng.getrandbits(16) & rng.getrandbits(16), mask & rng.getrandbits(16)) for _ in range(40)))
    found = sweep.kinds(masks)
    bit = {kind: 1 << at for at, kind in enumerate(ir.KINDS)}
    links, transports = ("ip4", "ip6", "arp", "l2", None), ("tcp", "udp", "sctp", "icmp4", "icmp6", None)
    others = [kind for kind in ir.KINDS if kind not in (*links, *transports)]
    for _ in range(3000):
        chosen = [rng.choice(links), rng.choice(transports), *(kind for kind in others if rng.random() < 0.3)]
        value = sum(bit[kind] for kind in chosen if kind)
        number = int(found.of_interval[value])
        assert set(found.atom[found.covered == number].tolist()) == {n for n, (mask, want) in enumerate(masks) if value & mask == want}


def test_signatures_that_collide_are_drawn_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first numbers give two atoms the same signature in one of the two sums: noticed, and others are taken."""
    real, calls = np.random.default_rng, []

    class Colliding:
        def integers(self, *_: object, **__: object) -> np.ndarray:  # type: ignore[type-arg]
            return np.array([[5, 5, 9], [3, 4, 8]], np.uint64)

    def drawn(seed: int) -> object:
        calls.append(seed)
        return Colliding() if seed == 0 else real(seed)

    monkeypatch.setattr(np.random, "default_rng", drawn)
    check([((3, 4),), ((9, 10),), ((V4_BASE, V4_BASE),)], [True] * 3)
    assert calls == [0, 1]
