"""Every rule of the legality check refuses a program that breaks it, and a legal program passes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from compiler import ir, ir_spec, passes

F = ir.Field
LEGAL = ir.Program(
    nics=(ir.Nic("wan", "eth0"), ir.Nic("lan", "eth1")),
    sets=(
        ir.Set("office", "address", ((1, 2), (ir.V4_BASE, ir.V4_LAST))),
        ir.Set("web", "port", ((80, 80),)),
        ir.Set("banned", "address", size=10, timeout=5, never=("office",), full="evict"),
    ),
    chains=(
        ir.Chain("wan.in", "wan", "in", None, (ir.Rule("a", "pass", ir.Is("tcp")),), "drop"),
        ir.Chain("wan->lan", "wan", "forward", "lan", (), "pass"),
    ),
    steers=(ir.Steer("wan.steer", "wan", (ir.SteerRule("a", ir.Is("udp"), ir.Target("cpus", (0, 1))),), ir.Target("queues", (0,))),),
    shapes=(ir.Shape("wan.shape.out", "wan", "out", 100, 0, (ir.Class("v", ir.Is("udp"), 50, 60, urgent=True), ir.Class("d", None))),),
    settings=(ir.Setting("", "sysctl", "net.core.x", 1),),
    protects=(ir.Protect("wan", ir.Is("tcp")),),
    expects=(ir.Expect("wan", 5, "warn", (ir.Assertion("wan.in.a", "packets", ">", 0),)),),
    tests=(ir.Scenario("t", (ir.Step("wait", over=5), ir.Step("given", set="banned", member=3))),),
)  # fmt: skip


def test_a_legal_program_passes() -> None:
    ir_spec.check(LEGAL)


def with_when(when: ir.Expr) -> ir.Program:
    return with_rule(ir.Rule("a", "pass", when))


def with_rule(*rules: ir.Rule, **changes: object) -> ir.Program:
    chain = replace(LEGAL.chains[0], rules=rules, **changes)  # type: ignore[arg-type]
    return replace(LEGAL, chains=(chain,))


def with_set(**changes: object) -> ir.Program:
    return replace(LEGAL, sets=(*LEGAL.sets[:2], replace(LEGAL.sets[2], **changes)))  # type: ignore[arg-type]


def with_classes(*classes: ir.Class) -> ir.Program:
    return replace(LEGAL, shapes=(replace(LEGAL.shapes[0], classes=classes),))


def with_step(step: ir.Step) -> ir.Program:
    return replace(LEGAL, tests=(ir.Scenario("t", (step,)),))


def nested(depth: int) -> ir.Expr:
    expr: ir.Expr = ir.Is("tcp")
    for _ in range(depth - 1):
        expr = ir.Not(expr)
    return expr


TCP = ir.Is("tcp")
LIMIT = ir.Limit("wan.in.a", 5, 5)
DEFAULT = ir.Class("d", None)
PACKET = ir.PacketSpec("arp", "192.0.2.1", "192.0.2.2")
ILLEGAL = [
    (with_when(ir.Is("quic")), "`quic` is no kind"),
    (with_when(ir.Within(F.SPORT, ((5, 4),))), "5..4 is no range inside 0..65535"),
    (with_when(ir.Within(F.SPORT, ((0, 65536),))), "no range inside"),
    (with_when(ir.Within(F.SRC, ((0, ir.V4_LAST + 1),))), "no range inside"),
    (with_when(ir.Within(F.SPORT, ((1, 2), (3, 4)))), "touches"),
    (with_when(ir.Within(F.SPORT, ((5, 6), (1, 2)))), "precedes"),
    (with_when(ir.Within(F.SPORT, ())), "has no ranges"),
    (with_when(ir.Bits(F.SPORT, 1, 1)), "only tcp.flags"),
    (with_when(ir.Bits(F.TCP_FLAGS, 1, 2)), "can never be"),
    (with_when(ir.Bits(F.TCP_FLAGS, 256, 0)), "can never be"),
    (with_when(ir.Member(F.SRC, "nobody")), "no set `nobody`"),
    (with_when(ir.Member(F.SRC, "web")), "a set of type port"),
    (with_when(ir.Member(F.TTL, "web")), "cannot be in"),
    (with_when(ir.Connection(())), "no list of different"),
    (with_when(ir.Connection(("old",))), "no list of different"),
    (with_when(ir.And(())), "And has no items"),
    (with_when(nested(65)), "deeper than 64"),
    (with_when(nested(100_000)), "deeper than 64"),
    (with_rule(ir.Rule("a b", "pass", TCP)), "`a b` is no name"),
    (with_rule(ir.Rule("a\n", "pass", TCP)), "is no name"),
    (with_rule(ir.Rule("default", "pass", TCP)), "reserved"),
    (with_rule(ir.Rule("a", "reject", TCP)), "verdict `reject`"),
    (with_rule(ir.Rule("a", "pass", TCP), ir.Rule("a", "drop", TCP)), "there are 2"),
    (with_rule(default=""), "default ``"),
    (with_rule(name="wan.out"), "should be wan.in"),
    (with_rule(nic="dmz"), "no nic `dmz`"),
    (with_rule(direction="sideways", name="wan.sideways"), "direction `sideways`"),
    (replace(LEGAL, chains=LEGAL.chains[:1] * 2), "there are 2"),
    (with_rule(ir.Rule("a", "pass", TCP, replace(LIMIT, interval=0))), "at least 1"),
    (with_rule(ir.Rule("a", "pass", TCP, replace(LIMIT, name="x"))), "its limit is named x"),
    (with_rule(ir.Rule("a", "pass", TCP, replace(LIMIT, per=F.SPORT))), "per sport"),
    (with_rule(ir.Rule("a", "pass", TCP, replace(LIMIT, v4_prefix=33))), "prefix lengths"),
    (with_rule(ir.Rule("a", "pass", TCP, effects=(ir.Add("office", F.SRC, None),))), "no dynamic set"),
    (with_rule(ir.Rule("a", "pass", TCP, effects=(ir.Add("banned", F.SPORT, None),))), "addresses go into"),
    (with_rule(ir.Rule("a", "pass", TCP, effects=(ir.Add("banned", F.SRC, 0),))), "timeout of 0"),
    (with_rule(ir.Rule("a", "pass", TCP, effects=(ir.Sample(0),))), "sample 1/0"),
    (with_rule(ir.Rule("a", "pass", TCP, effects=(ir.SetDscp(64),))), "6 bits"),
    (with_set(size=0), "size of 0"),
    (with_set(timeout=0), "timeout of 0"),
    (with_set(type="colour"), "no type of sets"),
    (with_set(full="burst"), "keep or evict"),
    (with_set(never=("nobody",)), "no set `nobody`"),
    (with_set(never=("web",)), "another type"),
    (with_set(ranges=((1, 1),)), "begins empty"),
    (with_set(size=None), "a static set has no timeout"),
    (replace(LEGAL, nics=(ir.Nic("wan", "a b"), ir.Nic("lan", "x"))), "no device name"),
    (replace(LEGAL, nics=(ir.Nic("wan", "a", "fast"), ir.Nic("lan", "x"))), "no XDP mode"),
    (replace(LEGAL, nics=(*LEGAL.nics, ir.Nic("wan", "eth9"))), "nic wan: there are 2"),
    (replace(LEGAL, steers=(ir.Steer("wan.steer", "wan", (), ir.Target("queues")),)), "at least one"),
    (replace(LEGAL, steers=(ir.Steer("wan.steer", "wan", (), ir.Target("moon")),)), "`moon` is no target"),
    (replace(LEGAL, steers=(ir.Steer("wan.steer", "wan", (), ir.Target("nic", name="dmz")),)), "no nic `dmz`"),
    (with_classes(ir.Class("a", TCP)), "exactly one is the default"),
    (with_classes(DEFAULT, ir.Class("d", TCP)), "there are 2"),
    (with_classes(ir.Class("a", TCP, min=60), ir.Class("d", None, min=50)), "guarantees exceed"),
    (with_classes(DEFAULT, ir.Class("a", TCP, min=60, max=50)), "min 60, max 50"),
    (with_classes(DEFAULT, ir.Class("a", TCP, urgent=True)), "urgent needs a max"),
    (with_classes(replace(DEFAULT, classes=(ir.Class("x", TCP),))), "exactly one is the default"),
    (replace(LEGAL, settings=(ir.Setting("dmz", "ring", "rx", 1),)), "no nic `dmz`"),
    (replace(LEGAL, protects=(ir.Protect("wan", ir.Is("x")),)), "no kind"),
    (replace(LEGAL, expects=(ir.Expect("wan", 0, "warn", ()),)), "over 0 ns"),
    (replace(LEGAL, expects=(ir.Expect("wan", 1, "warn", (ir.Assertion("a", "packets", "~", 1),)),)), "a packets ~"),
    (replace(LEGAL, expects=(ir.Expect("wan", 1, "warn", (ir.Assertion("a", "packets", "<", float("inf")),)),)), "bound of inf"),
    (with_step(ir.Step("dance")), "no kind of step"),
    (with_step(ir.Step("given", set="office")), "no dynamic set"),
    (with_step(ir.Step("packet", "wan", "in", None, "pass")), "packet None"),
    (with_step(ir.Step("send", "wan", "in", PACKET, "pass", count=5, low=4, high=6)), "gives 4..6 of 5"),
]  # fmt: skip


@pytest.mark.parametrize(("program", "said"), ILLEGAL, ids=[said for _, said in ILLEGAL])
def test_an_illegal_program_is_refused(program: ir.Program, said: str) -> None:
    with pytest.raises(ir_spec.IrError) as caught:
        ir_spec.check(program)
    assert said in str(caught.value)


def test_all_violations_are_told_at_once() -> None:
    with pytest.raises(ir_spec.IrError) as caught:
        ir_spec.check(with_rule(ir.Rule("a b", "maybe", ir.Is("quic"))))
    assert len(caught.value.violations) == 3


def test_a_pass_that_breaks_the_program_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(program: ir.Program) -> tuple[ir.Program, list[object]]:
        return with_when(ir.Is("quic")), []

    monkeypatch.setattr(passes, "PIPELINE", (("broken", broken),))
    with pytest.raises(ir_spec.IrError, match="after broken: chain wan.in: rule a"):
        passes.run(LEGAL)
