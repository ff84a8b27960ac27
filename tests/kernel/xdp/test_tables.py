"""Classification by tables agrees with the interpreter, also where a rule of straight code stands between rules in tables; mutants are caught."""

from __future__ import annotations

import dataclasses
import functools
import os
import random
from collections.abc import Callable

import pytest

from compiler import ir
from compiler.classify import tables
from compiler.classify.shape import Tables
from compiler.targets import c_program, xdp_classifier, xdp_tables
from tests.differential import packets, policies
from tests.kernel.xdp import compare

POLICIES, PACKETS = (int(part) for part in os.environ.get("NETC_DIFFERENTIAL", "10x400").split("x"))
_GROUP = 5


_WIDE = 3  # classes: more have 32 bits


@pytest.fixture(params=["rows", "buckets"], autouse=True)
def _everything_in_tables(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every rule that tables can hold is in them; with buckets even a single narrow rule is filed."""
    monkeypatch.setattr(xdp_classifier, "pick", functools.partial(_in_tables, xdp_classifier.pick))
    monkeypatch.setattr("compiler.classify.tables.MIN_FILED", 1 if request.param == "buckets" else 1 << 30)


def _in_tables(pick: Callable[..., xdp_classifier.Pick], rules: object, sets: object, _: str, record: object) -> xdp_classifier.Pick:
    return pick(rules, sets, "tables", record)


def case(seed: int) -> tuple[ir.Program, list[bytes], list[int]]:
    rng = random.Random(seed)
    program = policies.random_program(rng)
    return program, packets.boundary_packets(program, rng, PACKETS), packets.times(program, rng, PACKETS)


@pytest.mark.parametrize("first", range(0, POLICIES, _GROUP))
def test_the_interpreter_and_the_tables_agree(first: int) -> None:
    for seed in range(first, min(first + _GROUP, POLICIES)):
        assert not compare.differences(*case(seed)), f"seed {seed}"


def test_the_interpreter_and_wide_tables_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "build", functools.partial(_widened, tables.build, _WIDE))
    wide: list[str] = []
    monkeypatch.setattr(xdp_tables, "lookup", lambda c, made, layout, real=xdp_tables.lookup: wide.extend(made.shape.wide) or real(c, made, layout))
    for seed in range(100, 108):
        assert not compare.differences(*case(seed)), f"seed {seed}"
    assert wide, "no table has classes of 32 bits"


def test_a_mutant_of_the_width_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """32-bit classes that are read as 16-bit ones."""
    monkeypatch.setattr(tables, "build", functools.partial(_widened, tables.build, _WIDE))
    narrow = lambda c, made, layout, real=xdp_tables.lookup: real(c, dataclasses.replace(made, shape=dataclasses.replace(made.shape, wide=())), layout)
    monkeypatch.setattr(xdp_tables, "lookup", narrow)
    assert any(compare.differences(*case(seed)) for seed in range(100, 140))


def _widened(build: Callable[..., Tables], narrow: int, *arguments: object) -> Tables:
    return build(*arguments, narrow)


_MUTANTS = {  # file of C, the text as it is, as it must not be
    "an IPv6 search that ends early": ("tables.h", "over = 1 - netc_less(high, key);", "over = 0;"),
    "one bit of an address less": ("tables.h", "address & 0xffff;", "address & 0xff7f;"),
    "half of an IPv6 address": ("tables.h", "if (lows)", "if (0)"),
}


@pytest.mark.parametrize("name", _MUTANTS)
def test_a_mutant_of_the_c_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file, right, wrong = _MUTANTS[name]
    real = c_program.read_part
    assert right in real(file)
    changed = lambda part: real(part).replace(right, wrong) if part == file else real(part)
    monkeypatch.setattr("compiler.targets.xdp_tables.read_part", changed)
    assert any(compare.differences(*case(seed)) for seed in range(40))


def test_a_mutant_of_the_order_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rules of straight code that are forgotten beside the tables."""
    real = xdp_classifier.pick
    monkeypatch.setattr(xdp_classifier, "pick", lambda *arguments: _forgets(real(*arguments)))
    assert any(compare.differences(*case(seed)) for seed in range(40))


def _forgets(picked: xdp_classifier.Pick) -> xdp_classifier.Pick:
    return dataclasses.replace(picked, straight=()) if picked.tables else picked
