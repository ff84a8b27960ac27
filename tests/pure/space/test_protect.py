"""`protect` is proved over filter and steering, or refused with the rule that cuts it."""

from __future__ import annotations

from compiler import ir
from compiler.ir import Field
from compiler.protect import prove

OFFICE = ir.Set("office", "address", ((0x2001 << 112, (0x2002 << 112) - 1), (ir.V4_BASE + 100, ir.V4_BASE + 199)))
ELSEWHERE = ir.Set("elsewhere", "address", ((ir.V4_BASE + 1000, ir.V4_BASE + 2000),))
BANNED = ir.Set("banned", "address", size=100, timeout=10**9)
BANNED_BUT = ir.Set("banned", "address", size=100, timeout=10**9, never=("office",))
FROM_OFFICE = ir.Member(Field.SRC, "office")
SSH = ir.And((ir.Is("tcp"), ir.Within(Field.DPORT, ((22, 22),)), FROM_OFFICE))


def rule(verdict: str, when: ir.Expr, name: str = "r", limit: ir.Limit | None = None) -> ir.Rule:
    return ir.Rule(name, verdict, when, limit, text=f"{verdict} {name}")


def codes(*rules: ir.Rule, default: str = "drop", sets: tuple[ir.Set, ...] = (OFFICE, ELSEWHERE, BANNED), **more: object) -> list[str]:
    chain = ir.Chain("wan.in", "wan", "in", None, rules, default)
    chains = (chain, *more.pop("chains", ()))  # type: ignore[misc]
    return [d.code for d in prove(ir.Program(sets=sets, chains=chains, protects=(ir.Protect("wan", SSH),), **more))]  # type: ignore[arg-type]


def test_pass_rule_proves() -> None:
    assert codes(rule("pass", SSH)) == []


def test_default_cuts() -> None:
    assert codes() == ["N602"]


def test_drop_before_pass_cuts() -> None:
    assert codes(rule("drop", ir.Is("tcp")), rule("pass", SSH)) == ["N601"]


def test_disjoint_drop_does_not_cut() -> None:
    assert codes(rule("drop", ir.Member(Field.SRC, "elsewhere")), rule("pass", SSH)) == []


def test_union_of_passes_proves() -> None:
    low = ir.And((ir.Is("tcp"), ir.Within(Field.SPORT, ((0, 1023),))))
    assert codes(rule("pass", low), rule("pass", ir.And((ir.Is("tcp"), ir.Not(ir.Within(Field.SPORT, ((0, 1023),))))))) == []


def test_dynamic_set_may_hold_anything_but_never() -> None:
    drop = rule("drop", ir.Member(Field.SRC, "banned"))
    assert codes(drop, rule("pass", SSH)) == ["N601"]
    assert codes(drop, rule("pass", SSH), sets=(OFFICE, ELSEWHERE, BANNED_BUT)) == []


def test_a_limited_pass_proves_nothing() -> None:
    assert codes(rule("pass", SSH, limit=ir.Limit("x", 64, 1))) == ["N602"]


def test_connection_state_proves_nothing() -> None:
    assert codes(rule("pass", ir.And((ir.Connection(("established",)), SSH)))) == ["N602"]


def test_fragments_are_protected_too() -> None:
    assert codes(rule("drop", ir.Is("first-fragment")), rule("pass", SSH)) == ["N601"]
    assert codes(rule("drop", ir.Is("later-fragment")), rule("pass", SSH)) == [], "a later fragment has no port: the protect does not match it"


def test_malformed_packets_are_not_protected() -> None:
    assert codes(rule("drop", ir.Is("malformed")), rule("pass", SSH)) == []


def test_reply_is_judged_on_the_way_out() -> None:
    out = ir.Chain("wan.out", "wan", "out", None, (rule("drop", ir.And((ir.Is("tcp"), ir.Within(Field.SPORT, ((22, 22),))))),), "pass")
    assert codes(rule("pass", SSH), chains=(out,)) == ["N601"]
    harmless = ir.Chain("wan.out", "wan", "out", None, (rule("drop", ir.And((ir.Is("tcp"), ir.Within(Field.DPORT, ((80, 80),)), ir.Within(Field.SPORT, ((23, 65535),))))),), "pass")
    assert codes(rule("pass", SSH), chains=(harmless,)) == []


def test_steering_may_not_take_it_from_the_stack() -> None:
    away = ir.Steer("wan.steer", "wan", (ir.SteerRule("x", ir.Is("tcp"), ir.Target("nic", name="lan")),))
    kept = ir.Steer("wan.steer", "wan", (ir.SteerRule("x", ir.Is("tcp"), ir.Target("cpus", (0,))), ir.SteerRule("y", ir.Is("tcp"), ir.Target("nic", name="lan"))))
    assert codes(rule("pass", SSH), steers=(away,)) == ["N603"]
    assert codes(rule("pass", SSH), steers=(kept,)) == []


def test_steering_may_not_drop_it() -> None:
    def steer(*rules: ir.SteerRule, default: ir.Target | None = None) -> tuple[ir.Steer, ...]:
        return (ir.Steer("wan.steer", "wan", rules, default),)

    drop = ir.SteerRule("x", ir.Is("tcp"), ir.Target("drop"))
    assert codes(rule("pass", SSH), steers=steer(drop)) == ["N603"]
    assert codes(rule("pass", SSH), steers=steer(default=ir.Target("drop"))) == ["N603"]
    assert codes(rule("pass", SSH), steers=steer(ir.SteerRule("s", SSH, ir.Target("cpus", (0,))), drop)) == []
    assert codes(rule("pass", SSH), steers=steer(ir.SteerRule("u", ir.Is("udp"), ir.Target("drop")))) == []


def test_a_preferred_steer_may_be_skipped() -> None:
    away = ir.SteerRule("away", SSH, ir.Target("socket", name="capture"))
    kept = ir.SteerRule("kept", SSH, ir.Target("queues", (1,)))
    passed = rule("pass", SSH)
    assert codes(passed, steers=(ir.Steer("wan.steer", "wan", (kept, away)),)) == []
    preferred = ir.SteerRule("kept", SSH, ir.Target("queues", (1,)), prefer=True)
    assert codes(passed, steers=(ir.Steer("wan.steer", "wan", (preferred, away)),)) == ["N603"]


def test_control_traffic_meets_only_rules_that_name_it() -> None:
    def cut(kind: str, *rules: ir.Rule) -> list[str]:
        chain = ir.Chain("wan.in", "wan", "in", None, rules, "drop")
        return [d.code for d in prove(ir.Program(chains=(chain,), protects=(ir.Protect("wan", ir.Is(kind)),)))]

    for kind in ir.CONTROL_KINDS:
        assert cut(kind) == [], "the default is not asked"
        assert cut(kind, rule("drop", ir.Within(Field.VLAN, ((5, 5),)))) == []
        assert cut(kind, rule("drop", ir.Is(kind))) == ["N601"]
        assert cut(kind, rule("pass", ir.Is(kind)), rule("drop", ir.Is(kind))) == []
    assert cut("icmp6", rule("pass", ir.And((ir.Is("icmp6"), ir.Not(ir.Or((ir.Is("nd"), ir.Is("mld")))))))) == []
    assert cut("icmp6", rule("pass", ir.Is("icmp6")), rule("drop", ir.Is("nd"))) == ["N601"], "a rule for all of ICMP says nothing of it"
