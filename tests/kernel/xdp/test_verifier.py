"""Every shape of program, as large as it can be, costs the verifier less than 200,000 instructions: it loads on any kernel, at the first try."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable

import pytest

from compiler import ir
from compiler.classify import buckets, groups, tables
from compiler.classify.shape import Shape, Tables
from compiler.targets import xdp, xdp_tables
from runtime.backends import bpf
from tests.kernel.xdp import rig, small
from tests.kernel.xdp.test_programs import pairs
from tests.pure.classify.rulesets import random_rules

F = ir.Field
MOST = 200_000
Rules = list[ir.Rule]
FULL_ROWS = {"words": tables.MAX_ROWS // 64, "aggregates": tables.MAX_ROWS // 64 // 64}
HALF = ((0x20010DB8 << 96, (0x20010DB8 << 96) + 1000), (ir.V4_BASE + (10 << 24), ir.V4_BASE + (11 << 24)))


def one_by_one() -> Rules:
    """Straight code: a thousand rules, limits of both kinds."""
    return [*pairs(1000), *stateful()]


def stateful() -> Rules:
    """Rules that stand beside tables, in front of them and behind."""
    limits = [ir.Limit(f"wan.in.slow{n}", 64 * small.SECOND, 5, per=F.SRC if n % 2 else None, size=64) for n in range(6)]
    return [ir.Rule(f"slow{n}", "pass", ir.And((ir.Is("udp"), ir.Within(F.SRC, HALF))), limit) for n, limit in enumerate(limits)]


def alone() -> Rules:
    return [ir.Rule(f"s{n}", "drop", ir.Within(F.SRC, tuple((low + n, high + 9 * n) for low, high in HALF))) for n in range(20)]


def one_product() -> Rules:
    return [ir.Rule(f"p{n}", "drop", ir.And((ir.Is("tcp"), ir.Within(F.DPORT, ((n, 5 * n),)), ir.Within(F.SRC, HALF)))) for n in range(40)]


def rows() -> Rules:
    return random_rules(random.Random(1), 500, broad=1.0)


def many_rows() -> Rules:
    return random_rules(random.Random(1), 700, broad=1.0)


def filed() -> Rules:
    return random_rules(random.Random(2), 500, broad=0.3)


FAMILIES: dict[str, tuple[Callable[[], Rules], str, dict[str, object]]] = {  # rules; classifier; how the shape is made larger than theirs
    "straight code": (one_by_one, "straight", {}),
    "one address alone": (alone, "tables", {}),
    "one cross-product": (one_product, "tables", {}),
    "rows without aggregates": (rows, "tables", {}),
    "rows with aggregates": (many_rows, "tables", FULL_ROWS),
    "lists of sources": (filed, "tables", {**FULL_ROWS, "buckets": (buckets.MAX_BUCKET, 0)}),
    "lists of destinations": (filed, "tables", {**FULL_ROWS, "buckets": (0, buckets.MAX_BUCKET)}),
    "lists of both": (filed, "tables", {**FULL_ROWS, "buckets": (buckets.MAX_BUCKET, buckets.MAX_BUCKET)}),
}


def walked(rules: Rules, classifier: str, mode: str) -> int:
    """Instructions that the verifier walked."""
    placed = rig.placed_of(small.program(*rules, xdp=mode))
    with rig.rig_of(placed.program, made=rig.bundle_of(placed, xdp.lower(placed, classifier))) as kernel:
        return bpf.prog_info(kernel.program).verified_insns


CASES = [(family, narrow) for family, (_, classifier, _) in FAMILIES.items() for narrow in ((tables.NARROW, 3) if classifier == "tables" else (tables.NARROW,))]


@pytest.mark.parametrize("mode", ["native", "generic"])
@pytest.mark.parametrize(("family", "narrow"), CASES, ids=[f"{family}, {'16' if narrow > 3 else '32'} bits" for family, narrow in CASES])
def test_every_shape_is_cheap_to_verify(family: str, mode: str, narrow: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rules, classifier, larger = FAMILIES[family]
    shapes: list[Shape] = []

    def enlarged(c: object, made: Tables, layout: object, real: Callable[..., str] = xdp_tables.lookup) -> str:
        shape = dataclasses.replace(made.shape, **larger)
        assert (not larger or made.shape.words) and ("buckets" not in larger or any(made.shape.buckets)), "not the family that is meant"
        shapes.append(shape)
        return real(c, dataclasses.replace(made, shape=shape), layout)

    monkeypatch.setattr(xdp_tables, "lookup", enlarged)
    monkeypatch.setattr(tables, "build", lambda *arguments, real=tables.build: real(*arguments, narrow))
    beside = stateful() if classifier == "tables" else []
    found = walked([*beside[:3], *rules(), *beside[3:]], classifier, mode)
    assert len(shapes) == (classifier == "tables") and 100 < found < MOST
    print(f"{family}, {mode}: {found}")


def test_as_many_groups_as_there_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight rows at once, each as long as it can be."""
    monkeypatch.setattr(groups, "join", lambda found, *_: list(found))
    monkeypatch.setattr(xdp_tables, "lookup", lambda c, made, layout, real=xdp_tables.lookup: real(c, dataclasses.replace(made, shape=dataclasses.replace(made.shape, **FULL_ROWS)), layout))
    fields = (F.SRC, F.DST, F.SPORT, F.DPORT, F.TTL, F.DSCP, F.LENGTH)
    spans = {field: HALF if field in (F.SRC, F.DST) else ((1, 9),) for field in fields}
    rules = [ir.Rule(f"g{n}", "drop", ir.And((ir.Is("tcp"), *(ir.Within(field, tuple((a, b + n) for a, b in spans[field])) for field in fields)))) for n in range(40)]
    assert 100 < walked(rules, "tables", "native") < MOST
