"""`protect` finds the same rule whether cuts are taken away one by one or wait until they are asked for."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from compiler import ir, protect, ranges
from compiler.frontend import load
from compiler.source import Sources
from compiler.space import Space, whole_shapes

HEAD = "nic wan { device a }\nset office = { 198.51.100.0/28, 2001:db8::/124 }\n"


def policy(rng: random.Random) -> str:
    """Rules that overlap one another and what is protected in all manners; most policies keep the promise nearly or just."""

    def rule(number: int, last: bool) -> str:
        verdict = "pass" if last or rng.random() < 0.7 else "drop"
        tests = [
            rng.choice(("tcp", "tcp", "udp", "")),
            f"src 198.51.100.{4 * rng.randrange(5)}/{rng.choice((30, 31, 32))}" if rng.random() < 0.5 else rng.choice(("", "src in office")),
            f"dst 192.0.2.{rng.randrange(4)}" if rng.random() < 0.3 else "",
            f"dport {rng.choice(('22', '20-30', '23-90', '22-443'))}" if rng.random() < 0.7 else "sport 1024-65535",
        ]
        return f"  {verdict} {' '.join(filter(None, tests))} as r{number}"

    count = rng.randint(2, 14)
    rules = [rule(number, False) for number in range(count)]
    if rng.random() < 0.7:
        rules.insert(rng.randrange(count + 1), "  pass tcp dport 22 src in office as all")
    body = "\n".join(rules)
    return f"{HEAD}protect wan {{ tcp dport 22 src in office }}\nfilter wan in {{\n{body}\n  default {rng.choice(('drop', 'pass'))}\n}}\n"


def one_by_one(program: ir.Program) -> set[str]:
    """The places that cut the protected packets, by taking every rule away in turn."""
    space, chain, found = Space(program), program.chains[0], set()
    for shape in whole_shapes():
        region = space.may(program.protects[0].when, shape)
        for rule in chain.rules:
            if rule.verdict == "drop" and region.intersect(space.may(rule.when, shape)):
                found.add(str(rule.span))
                break
            if rule.verdict == "pass":
                region = region.subtract(space.must(rule.when, shape))
        else:
            if region and chain.default == "drop":
                found.add(str(chain.span))
    return found


@pytest.mark.parametrize("most", [0, 1, 32])
@pytest.mark.parametrize("seed", range(60))
def test_the_same_rules_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, most: int) -> None:
    monkeypatch.setattr(protect, "_MOST_PIECES", most)
    path = tmp_path / "policy.netc"
    path.write_text(policy(random.Random(seed)), encoding="utf-8")
    program = load(path, Sources()).program
    assert {str(finding.notes[0][0]) for finding in protect.prove(program)} == one_by_one(program)


def test_both_outcomes_are_drawn(tmp_path: Path) -> None:
    path, kept = tmp_path / "policy.netc", 0
    for seed in range(60):
        path.write_text(policy(random.Random(seed)), encoding="utf-8")
        kept += not protect.prove(load(path, Sources()).program)
    assert 10 <= kept <= 50


def test_many_narrow_passes_below_a_wide_one(tmp_path: Path) -> None:
    """Ten thousand of them broke the region into as many pieces each time, for minutes."""
    rng = random.Random(3)
    rules = [f"  pass tcp dst 10.{n >> 8}.{n & 255}.1 sport {rng.randrange(65536)} as r{n}" for n in range(2000)]
    path = tmp_path / "policy.netc"
    text = HEAD + "protect wan { tcp dport 22 src in office }\nfilter wan in {\n" + "\n".join(rules)
    path.write_text(text + "\n  pass tcp dport 22 src in office as all\n  default drop\n}\n", encoding="utf-8")
    assert protect.prove(load(path, Sources()).program) == []
    path.write_text(text + "\n  default drop\n}\n", encoding="utf-8")
    assert [finding.code for finding in protect.prove(load(path, Sources()).program)] == ["N602"]


@pytest.mark.parametrize("seed", range(20))
def test_a_few_ranges_are_cut_out_of_many(seed: int) -> None:
    rng = random.Random(seed)

    def drawn(count: int) -> ir.Ranges:
        return ranges.normalize((low, low + rng.randrange(5)) for low in (rng.randrange(2000) for _ in range(count)))

    many, few = drawn(400), drawn(rng.randint(0, 6))
    values = {n for low, high in many for n in range(low, high + 1)} - {n for low, high in few for n in range(low, high + 1)}
    assert ranges.subtract(many, few) == ranges.normalize((n, n) for n in values)
    assert ranges.meet(many, few) == bool(ranges.intersect(many, few))
