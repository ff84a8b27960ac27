"""The differential generators keep their promises: legal programs, boundaries, every kind of damage, the same from the same seed."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from compiler import ir, ir_spec, ir_text
from compiler.interp import Interpreter
from compiler.packet import VLAN_TYPES, parse
from tests.differential.boundaries import leaves, share
from tests.differential.packets import boundary_packets, times
from tests.differential.policies import random_program

SEEDS = range(40)


@pytest.mark.parametrize("seed", SEEDS)
def test_programs_are_legal_and_packets_at_their_boundaries(seed: int) -> None:
    rng = Random(seed)
    program = random_program(rng)
    ir_spec.check(program)
    assert ir_text.parse(ir_text.dump(program)) == program
    frames = boundary_packets(program, rng, 300)
    assert len(frames) == 300 and min(map(len, frames)) >= 14
    assert share(program, frames) >= 0.8


def test_the_share_can_be_low() -> None:
    """The measure is one: packets of another policy do not stand on this one's boundaries."""
    when = ir.Within(ir.Field.SPORT, ((31234, 31234),))
    program = ir.Program(
        (ir.Nic("wan", "w"),), chains=(ir.Chain("wan.in", "wan", "in", None, (ir.Rule("a", "pass", when),), "drop"),)
    )
    other = boundary_packets(random_program(Random(1)), Random(1), 200)
    assert share(program, other) < 0.1
    assert share(program, boundary_packets(program, Random(2), 200)) >= 0.8


def test_the_same_seed_gives_the_same_case() -> None:
    one, two = (random_program(Random(7)) for _ in range(2))
    assert one == two
    assert boundary_packets(one, Random(3), 50) == boundary_packets(two, Random(3), 50)
    assert times(one, Random(3), 50) == times(two, Random(3), 50)
    assert random_program(Random(8)) != one


def test_programs_hold_everything_that_the_language_judges_by() -> None:
    seen: Counter[str] = Counter()
    for seed in range(300):
        program = random_program(Random(seed))
        for item in program.sets:
            seen[
                f"{item.type} {'static' if item.size is None else item.full}{'' if item.ranges or item.size else ' empty'}"
            ] += 1
        for rule in program.chains[0].rules:
            seen["limit" if rule.limit else "no limit"] += 1
            if rule.limit:
                seen[f"over {rule.limit.over} per {rule.limit.per}"] += 1
            seen.update(type(effect).__name__ for effect in rule.effects)
            seen.update(type(rule.when).__name__ for _ in range(1))
            for leaf in leaves(rule.when):
                seen[type(leaf).__name__] += 1
                seen[str(getattr(leaf, "field", getattr(leaf, "kind", "")))] += 1
    wanted = {
        *ir.KINDS,
        *map(str, ir.Field),
        "Const",
        "Bits",
        "Member",
        "Connection",
        "Not",
        "And",
        "Or",
        "limit",
        "Add",
    }
    wanted |= {
        "address static",
        "address static empty",
        "port static",
        "port static empty",
        "address keep",
        "address evict",
    }
    wanted |= {f"over {over} per {per}" for over in (True, False) for per in ("src", "dst", None)}
    assert wanted <= seen.keys(), wanted - seen.keys()


def test_plain_programs_hold_only_what_every_backend_can_say() -> None:
    for seed in range(100):
        program = random_program(Random(seed), plain=True, tail=False)
        assert all(item.size is None for item in program.sets)
        for rule in program.chains[0].rules:
            assert rule.limit is None and not rule.effects
            for leaf in leaves(rule.when):
                assert not isinstance(leaf, ir.Connection) and getattr(leaf, "kind", "tcp") in (
                    "ip4", "ip6", "tcp", "udp", "sctp", "icmp4", "icmp6",
                )  # fmt: skip


def extension_chain(frame: bytes) -> list[int]:
    """The next-header values of an untagged IPv6 frame that are extension headers, read without the product's parser."""
    found: list[int] = []
    kind, place = frame[20], 54
    while kind in (0, 43, 44, 51, 60, 135, 139, 140) and place + 8 <= len(frame) and len(found) < 10:
        found.append(kind)
        size = 8 if kind == 44 else (frame[place + 1] + 2) * 4 if kind == 51 else (frame[place + 1] + 1) * 8
        kind, place = frame[place], place + size
    return found


def tag_count(frame: bytes) -> int:
    place = 12
    while int.from_bytes(frame[place : place + 2], "big") in VLAN_TYPES:
        place += 4
    return (place - 12) // 4


def test_every_kind_of_damage_occurs() -> None:
    tags: Counter[int] = Counter()
    chains: Counter[int] = Counter()
    extensions: Counter[int] = Counter()
    kinds: Counter[str] = Counter()
    lengths: set[int] = set()
    options = 0
    for seed in SEEDS:
        rng = Random(seed)
        for frame in boundary_packets(random_program(rng), rng, 1000):
            tags[tag_count(frame)] += 1
            kinds.update(parse(frame).kinds)
            lengths.add(len(frame))
            if len(frame) > 54 and frame[12:15] == b"\x86\xdd\x60":
                walked = extension_chain(frame)
                chains[len(walked)] += 1
                extensions.update(walked)
            options += len(frame) > 40 and frame[12:14] == b"\x08\x00" and 0x46 <= frame[14] <= 0x4F
    assert set(range(4)) <= set(tags)
    assert {0, 1, 2, 3, 7, 8, 9} <= set(chains)
    assert set(extensions) == {0, 43, 44, 51, 60, 135, 139, 140}
    assert set(kinds) == set(ir.KINDS)
    assert set(range(14, 120)) <= lengths
    assert options > 100


def test_truncation_goes_through_every_length() -> None:
    """In each run of packets every tenth is cut, one byte longer each time, until the packets themselves end."""
    program = random_program(Random(5))
    frames = boundary_packets(program, Random(5), 1000)
    assert {len(frame) for frame in frames[9::10]} >= set(range(14, 40))


@pytest.mark.parametrize("seed", range(10))
def test_the_interpreter_balances_on_them(seed: int) -> None:
    """seen = rules + default + control + handed on, in both modes, packets and bytes; and state is really used."""
    rng = Random(seed)
    program = random_program(rng, tail=True)
    split = next(
        i
        for i, rule in enumerate(program.chains[0].rules)
        if any(isinstance(x, ir.Connection) for x in leaves(rule.when)) or i == len(program.chains[0].rules) - 1
    )
    frames = boundary_packets(program, rng, 500)
    for placed in (None, {"wan.in": split}):
        interpreter = Interpreter(program, placed)
        for frame, now in zip(frames, times(program, rng, 500), strict=True):
            interpreter.judge(frame, "wan", "in", now)
        counters = interpreter.counters
        parts = [value for name, value in counters.items() if name.startswith("wan.in.") and name != "wan.in.seen"]
        assert counters["wan.in.seen"] == [500, sum(map(len, frames))]
        assert [sum(column) for column in zip(*parts, strict=True)] == counters["wan.in.seen"]
