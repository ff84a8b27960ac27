"""Flows and oracle of a measurement: the headers are what they claim, and many at once are judged as the interpreter judges one."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from compiler import ir, profile
from compiler.bench import inputs, material
from compiler.bench.flows import Drawing
from compiler.bench.oracle import Oracle
from compiler.bundle import BundleError
from compiler.diagnostics import CompileError
from compiler.interp import Interpreter
from compiler.packet import parse
from compiler.source import Sources
from compiler.tables import flows
from tests.differential.packets import boundary_packets
from tests.differential.policies import random_program

ROOT = Path(__file__).parents[3]
SMALL = ROOT / "bench" / "small.netc"


@pytest.mark.parametrize("seed", range(12))
def test_the_oracle_judges_as_the_interpreter(seed: int) -> None:
    rng = Random(seed)
    program = random_program(rng, plain=True, tail=False)
    chain = next(c for c in program.chains if c.direction == "in")
    frames = [frame for frame in boundary_packets(program, rng, 150) if not parse(frame).control]
    packets = [parse(frame) for frame in frames]
    rules = [rule for rule in chain.rules if rule.limit is None]
    bare = ir.Program(nics=program.nics, sets=program.sets, chains=(ir.Chain(chain.name, chain.nic, "in", None, tuple(rules), "drop"),))
    found = Oracle([(p.fields, p.kinds) for p in packets], {s.name: s for s in program.sets}).first_matches(rules)
    names = [f"{chain.name}.{rule.name}" for rule in rules] + [f"{chain.name}.default"]
    for frame, index in zip(frames, found, strict=True):
        assert names[index] == Interpreter(bare).judge(frame, chain.nic, "in", 1).rule, parse(frame)


@pytest.mark.parametrize("seed", range(4))
def test_drawn_headers_are_what_the_reference_parser_reads(seed: int) -> None:
    rng = Random(seed)
    program = random_program(rng, plain=True)
    chain = next(c for c in program.chains if c.direction == "in")
    drawing = Drawing(rng, chain.rules, {s.name: s for s in program.sets})
    drawn = [drawing.of_rule(rng.randrange(len(chain.rules))) for _ in range(100)] + [drawing.anything() for _ in range(100)]
    found = [flow for flow in drawn if flow]
    assert len(found) > 100
    for flow in found:
        packet = parse(flow.frame)
        assert (packet.fields, packet.kinds, packet.control) == (flow.fields, flow.kinds, frozenset())


def test_a_policy_s_flows_are_of_three_kinds_and_outcomes_are_right() -> None:
    made = material.make(SMALL, profile.default(), Sources(), material.Wanted(256))
    again = material.make(SMALL, profile.default(), Sources(), material.Wanted(256))
    assert flows.encode(made) == flows.encode(again), "the same seed gives the same bytes"
    assert flows.decode(flows.encode(made)) == made
    kinds = {s.name: s for s in made.scenarios}
    assert set(kinds) == {"hits", "misses", "worst"} and not made.notes and made.checked_by == "the interpreter"
    assert {made.outcomes[i].counter for i in kinds["misses"].expected} == {"wan.in.default"}
    assert {made.outcomes[i].counter for i in kinds["worst"].expected} == {"wan.in.tunnel"}
    assert len({made.outcomes[i].counter for i in kinds["hits"].expected}) >= 10, "nearly every rule is hit"
    assert {len(s.frames) for s in made.scenarios} == {256 * made.length}
    assert {c.name for c in made.bundle.programs if c.name.startswith("bench.")} == {"bench.generator", "bench.floor"}


def test_limits_and_sets_are_followed_in_order(tmp_path: Path) -> None:
    policy = tmp_path / "limit.netc"
    policy.write_text("nic wan { device wan0 }\nfilter wan in {\n  pass udp dport 53 limit 10pps burst 5 as dns\n  default drop\n}\n")
    made = material.make(policy, profile.default(), Sources(), material.Wanted(64))
    hits = next(s for s in made.scenarios if s.name == "hits")
    assert made.stateful and hits.expected.count(0) == 5 and hits.expected[:5] == (0,) * 5


def test_what_cannot_be_measured_is_said(tmp_path: Path) -> None:
    policy = tmp_path / "none.netc"
    policy.write_text("nic wan { device wan0; xdp none }\nfilter wan in {\n  pass tcp as tcp\n  default drop\n}\n")
    with pytest.raises(CompileError, match="nothing to measure"):
        material.make(policy, profile.default(), Sources(), material.Wanted(16))
    by_hand = tmp_path / "wrong.c"
    by_hand.write_text("INLINE int judge(struct xdp_md *ctx, struct counter *counters) { return nothing; }\n")
    with pytest.raises(CompileError, match=r"wrong.c does not compile(.|\n)*nothing"):
        material.make(SMALL, profile.default(), Sources(), material.Wanted(16, by_hand=by_hand))
    with pytest.raises(BundleError, match="no material"):
        flows.decode(b"anything")


def test_filter_sets_and_prefixes_become_policies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    filters = tmp_path / "set"
    filters.write_text("@10.0.0.0/8 0.0.0.0/0 0 : 65535 0 : 65535 0x06/0xFF\n@10.0.0.0/8 0.0.0.0/0 0 : 65535 0 : 65535 0x11/0xFF\n")
    assert "as r2" not in inputs.policy(filters, "classbench", 1).read_text()
    prefixes = tmp_path / "prefixes"
    prefixes.write_text("192.0.2.0/24\n2001:db8::/32\n198.51.100.0/24\n")
    made = material.make(inputs.policy(prefixes, "prefixes", 2), profile.default(), Sources(), material.Wanted(64))
    assert {made.outcomes[i].verdict for s in made.scenarios if s.name == "hits" for i in s.expected} == {"drop"}
    assert (tmp_path / "prefixes.txt").read_text().count("\n") == 2
