"""Tables as a whole: a plain reader of the arena finds what the interpreter finds, on packets at the rules' boundaries."""

from __future__ import annotations

import random

import numpy as np
import pytest

from compiler import ir
from compiler.classify import buckets, groups, sweep, tables, terms
from compiler.interp import Interpreter
from compiler.packet import parse
from compiler.ranges import normalize
from tests.differential import packets, policies
from tests.pure.classify.reader import NONE, Reader
from tests.pure.classify.rulesets import headers, random_rules

F = ir.Field


def reader_of(rules: list[ir.Rule], sets: tuple[ir.Set, ...] = (), narrow: int = tables.NARROW) -> Reader:
    known = {item.name: item for item in sets}
    found = [term for number, rule in enumerate(rules) for term in terms.of_rule(number, rule, known)]
    return Reader(tables.build(found, {number: number << 1 | (rule.verdict == "pass") for number, rule in enumerate(rules)}, narrow))


def differences(seed: int, count: int = 150, narrow: int = tables.NARROW) -> list[str]:
    """A random policy of the differential run, without what is never looked up: reader against interpreter."""
    rng = random.Random(seed)
    program = policies.random_program(rng, tail=False)
    known = {item.name: item for item in program.sets}
    rules = [ir.Rule(rule.name, rule.verdict, rule.when) for rule in program.chains[0].rules if _looked_up(rule, known)]
    chain = ir.Chain("wan.in", "wan", "in", None, tuple(rules), "drop")
    program = ir.Program(nics=program.nics, sets=program.sets, chains=(chain,))
    reader, interpreter = reader_of(rules, program.sets, narrow), Interpreter(program)
    found = []
    for frame in packets.boundary_packets(program, rng, count) if rules else []:
        packet = parse(frame)
        if not packet.control:
            record = reader.find(packet.fields, packet.kinds)
            got = "wan.in.default" if record == NONE else f"wan.in.{rules[record >> 1].name}"
            judged = interpreter.judge(frame, "wan", "in", 1)
            if got != judged.rule or (record != NONE and (record & 1 == 1) != (judged.verdict == "pass")):
                found.append(f"seed {seed}: {judged.verdict} by {judged.rule}, tables {got}: {frame.hex()}")
    return found


def _looked_up(rule: ir.Rule, known: dict[str, ir.Set]) -> bool:
    try:
        terms.of_rule(0, ir.Rule(rule.name, rule.verdict, rule.when), known)
    except terms.Inexpressible:
        return False
    return True


def wrong(seed: int, count: int, narrow: int = tables.NARROW, **how: float) -> list[str]:
    """Many rules, judged by a walk over them."""
    rng = random.Random(seed)
    rules = random_rules(rng, count, **how)
    reader = reader_of(rules, narrow=narrow)
    found, hits = [], 0
    for fields, kinds in headers(rng, rules, 300):
        record = reader.find(fields, kinds)
        right = next((n << 1 | (r.verdict == "pass") for n, r in enumerate(rules) if _meets(r.when, fields, kinds)), NONE)
        hits += right != NONE
        if record != right:
            found.append(f"{fields} {sorted(kinds)}: rule {right >> 1}, tables {record >> 1}")
    assert 60 < hits < 295, f"{hits} hits: too few hits or misses to prove anything"
    return found


def _meets(expr: ir.Expr, fields: dict[F, int], kinds: frozenset[str]) -> bool:
    assert isinstance(expr, ir.And)
    for item in expr.items:
        if isinstance(item, ir.Is) and item.kind not in kinds:
            return False
        if isinstance(item, ir.Within) and not any(low <= fields.get(item.field, -1) <= high for low, high in item.ranges):
            return False
    return True


@pytest.mark.parametrize("first", range(0, 120, 20))
def test_random_policies_are_found_as_the_interpreter_judges(first: int) -> None:
    assert not [text for seed in range(first, first + 20) for text in differences(seed)]


@pytest.mark.parametrize("seed", range(3))
def test_many_rules_with_narrow_addresses_are_filed_and_found(seed: int) -> None:
    rules = random_rules(random.Random(seed), 700, broad=0.2)
    assert max(reader_of(rules).shape.buckets) > 0
    assert not wrong(seed, 700, broad=0.2)


@pytest.mark.parametrize("seed", range(3))
def test_many_rules_without_narrow_addresses_have_rows_with_aggregates(seed: int) -> None:
    reader = reader_of(random_rules(random.Random(seed), 900, broad=1.0))
    assert (reader.shape.aggregates, reader.shape.buckets) == (1, (0, 0))
    assert not wrong(seed, 900, broad=1.0)


def test_nothing_at_all_is_found_in_empty_tables() -> None:
    assert reader_of([]).find({F.SRC: 0, F.DPORT: 53}, frozenset({"ip6", "udp"})) == NONE


def _random_port_sets(count: int, values: int) -> list[ir.Rule]:
    rng = random.Random(0)
    chosen = [normalize((value, value) for value in range(values) if rng.random() < 0.5) for _ in range(count)]
    return [ir.Rule(f"r{n}", "drop", ir.Within(F.DPORT, ranges)) for n, ranges in enumerate(chosen)]


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_policies_whose_classes_have_32_bits(first: int) -> None:
    """Beyond three classes, so that tables of either width, and rows for each interval, stand beside each other."""
    assert not [text for seed in range(first, first + 20) for text in differences(seed, narrow=3)]


@pytest.mark.parametrize("broad", [0.2, 1.0])
def test_many_rules_whose_classes_have_32_bits(broad: float) -> None:
    rules = random_rules(random.Random(3), 800, broad=broad)
    shape = reader_of(rules, narrow=5).shape
    assert shape.wide and (broad == 1.0 or "src.broad" in shape.wide)
    assert not wrong(3, 800, narrow=5, broad=broad)


def test_a_class_for_each_port() -> None:
    """65,536 ports in as many different combinations of sets."""
    rules = _random_port_sets(40, 1 << 16)
    reader, right = reader_of(rules), dict.fromkeys(range(1 << 16), NONE)
    assert reader.shape.wide == ("dport",)
    for number, rule in reversed(list(enumerate(rules))):
        right |= {low: number << 1 for first, last in rule.when.ranges for low in range(first, last + 1)}
    ports = [0, 65535, *random.Random(1).choices(range(1 << 16), k=500)]
    assert [reader.find({F.DPORT: port}, frozenset({"ip4", "udp"})) for port in ports] == [right[port] for port in ports]


BASE = ir.V4_BASE + (10 << 24)


def _crossing_sets(count: int, values: int, field: F = F.SRC) -> tuple[list[ir.Rule], list[set[int]]]:
    rng = random.Random(0)
    chosen = [{BASE + 2 * at for at in range(values) if rng.random() < 0.5} for _ in range(count)]
    return [ir.Rule(f"b{n}", "drop", ir.Within(field, normalize((v, v) for v in members))) for n, members in enumerate(chosen)], chosen


def test_seventy_thousand_classes_beside_lists() -> None:
    broad, members = _crossing_sets(24, 70_000)
    narrow = [ir.Rule(f"n{n}", "pass", ir.Within(F.DST, ((BASE + n, BASE + n),))) for n in range(tables.MIN_FILED)]
    reader = reader_of([*broad, *narrow])
    assert reader.shape.wide == ("src.broad",) and max(reader.shape.buckets)
    for at in random.Random(1).choices(range(140_010), k=400):
        right = next((n << 1 for n, part in enumerate(members) if BASE + at in part), 24 << 1 | 1)
        assert reader.find({F.SRC: BASE + at, F.DST: BASE}, frozenset({"ip4"})) == right


def test_one_address_alone_has_no_more_classes_than_rules() -> None:
    rules, members = _crossing_sets(24, 40_000)
    reader = reader_of([*rules[:20], ir.Rule("all", "pass", ir.Const(True)), *rules[20:]])
    assert (reader.shape.trees, reader.shape.wide, reader.shape.words) == (("src",), (), 0)
    assert reader.find({}, frozenset({"arp"})) == reader.find({F.SRC: 0}, frozenset({"ip6"})) == 20 << 1 | 1
    for at in random.Random(1).choices(range(80_010), k=400):
        right = next((n << 1 for n, part in enumerate(members[:20]) if BASE + at in part), 20 << 1 | 1)
        assert reader.find({F.SRC: BASE + at}, frozenset({"ip4"})) == right


def test_the_first_of_nested_ranges_of_any_length_stays() -> None:
    rng = random.Random(5)
    spans = [(low := rng.randrange(3000), low + rng.choice((0, 1, 2, rng.randrange(3000)))) for _ in range(300)]
    reader = reader_of([ir.Rule(f"r{n}", "drop", ir.Within(F.DST, ((BASE + a, BASE + b),))) for n, (a, b) in enumerate(spans)])
    for at in range(6100):
        right = next((n << 1 for n, (a, b) in enumerate(spans) if a <= at <= b), NONE)
        assert reader.find({F.DST: BASE + at}, frozenset({"ip4"})) == right


def _ranges_anywhere(fields: tuple[F, ...], count: int) -> list[ir.Rule]:
    rng = random.Random(0)
    pairs = lambda: ((low := rng.randrange(1 << 15), rng.randrange(low, 1 << 16)),)
    return [ir.Rule(f"r{n}", "drop", ir.And(tuple(ir.Within(field, pairs()) for field in fields))) for n in range(count)]


def test_rows_that_do_not_fit_are_refused_before_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "rows", lambda *_: pytest.fail("rows were made"))
    monkeypatch.setattr(tables, "MAX_ARENA", 4 << 20)
    with pytest.raises(tables.TooLarge, match=r"^tables of \d+ MiB; 4 MiB are possible$"):
        reader_of(_ranges_anywhere((F.SPORT, F.DPORT, F.LENGTH), 3000))


def test_ranges_that_all_overlap_are_refused_before_they_take_gigabytes() -> None:
    with pytest.raises(tables.TooLarge, match=r"^the ranges of one field overlap \d+ times; 33554432 are possible$"):
        reader_of(_ranges_anywhere((F.SPORT,), 16_000))


# Mutants: each is a mistake that a table can have; the checks above notice it.


def _caught() -> bool:
    for attempt in (lambda: wrong(0, 700, broad=0.2), lambda: wrong(0, 900, broad=1.0), *(lambda seed=seed: differences(seed) for seed in range(40))):
        try:
            if attempt():
                return True
        except (AssertionError, IndexError):
            return True
    return False


def test_without_a_mutant_nothing_is_caught() -> None:
    assert not _caught()


def _sweep_off_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    real = sweep._signatures
    monkeypatch.setattr(sweep, "_signatures", lambda count, first, last, row: real(count, first, (last - 1).clip(first), row))


def _lost_atom(monkeypatch: pytest.MonkeyPatch) -> None:
    real = groups.bits_of
    monkeypatch.setattr(groups, "bits_of", lambda words: tuple(part[:-1] for part in real(words)))


def _lists_backwards(monkeypatch: pytest.MonkeyPatch) -> None:
    real = buckets.fill
    monkeypatch.setattr(buckets, "fill", lambda own, other, filed, records, wishes: real(own, other, filed, records[::-1].copy(), wishes))


def _list_one_short(monkeypatch: pytest.MonkeyPatch) -> None:
    real = buckets.fill

    def short(*arguments: object) -> buckets.Buckets:
        made = real(*arguments)  # type: ignore[arg-type]
        return buckets.Buckets(made.entries, made.start, (made.count - 1).clip(0))

    monkeypatch.setattr(buckets, "fill", short)


def _wrong_combination(monkeypatch: pytest.MonkeyPatch) -> None:
    real = buckets.fill
    monkeypatch.setattr(buckets, "fill", lambda own, other, filed, records, wishes: real(own, other, filed, records, wishes ^ 1))


def _roots_shifted(monkeypatch: pytest.MonkeyPatch) -> None:
    real = tables.address_trie.build

    def shifted(*arguments: object) -> object:
        made = real(*arguments)  # type: ignore[arg-type]
        return tables.address_trie.Trie(np.roll(made.root, 1), made.tables)

    monkeypatch.setattr(tables.address_trie, "build", shifted)


def _an_aggregate_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    real = tables._aggregated

    def missing(bits: groups.Packed, aggregates: int) -> groups.Packed:
        made = real(bits, aggregates)
        made[:, :1] &= ~(made[:, :1] & -made[:, :1])
        return made

    monkeypatch.setattr(tables, "_aggregated", missing)


def _class_of_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    real = tables.address_trie.build
    monkeypatch.setattr(tables.address_trie, "build", lambda keys, values: real(keys, np.roll(values, 1)))


def _absent_counts_as_present(monkeypatch: pytest.MonkeyPatch) -> None:
    real = terms._leaf
    monkeypatch.setattr(terms, "_leaf", lambda field, wanted, want: real(field, wanted, want) if want else [terms.Box({})])


def _of_two_families_one(monkeypatch: pytest.MonkeyPatch) -> None:
    real = tables.sweep.addresses
    monkeypatch.setattr(tables.sweep, "addresses", lambda atoms: real([tuple(r for r in a if r[0] >= ir.V4_BASE) for a in atoms]))


MUTANTS = (
    _sweep_off_by_one, _lost_atom, _lists_backwards, _list_one_short, _wrong_combination, _roots_shifted, _an_aggregate_missing,
    _class_of_the_next, _absent_counts_as_present, _of_two_families_one,
)  # fmt: skip


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_mutant_of_the_tables_is_caught(mutant: object, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant(monkeypatch)  # type: ignore[operator]
    assert _caught()
