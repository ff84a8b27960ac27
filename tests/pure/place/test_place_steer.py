"""Where steer rules run: in the NIC only where that is exact, else by XDP, else refused or skipped."""

from __future__ import annotations

import msgspec
import pytest

from compiler import ir, place, profile
from compiler.diagnostics import CompileError
from compiler.ir import V4_BASE, Field, Is, Within
from compiler.targets import ethtool

GENERIC = profile.default()
RICH = msgspec.structs.replace(GENERIC, name="rich", ntuple=profile.Ntuple(rules=16), rss=profile.Rss(indirection=128))
DNS = ir.And((Is("udp"), Within(Field.DPORT, ((53, 53),))))
WEB = ir.And((Is("tcp"), Within(Field.DPORT, ((80, 80), (443, 443)))))
VIP = (0xC0000201 + V4_BASE,) * 2
TO_VIP = ir.And((Is("udp"), Within(Field.DST, (VIP,))))
ESTABLISHED = ir.Rule("est", "pass", ir.Connection(("established",)), text="pass established")
MALFORMED = ir.Rule("junk", "drop", Is("malformed"))


def to(kind: str, *numbers: int, name: str = "") -> ir.Target:
    return ir.Target(kind, numbers, name)


def steered(
    *rules: ir.SteerRule, default: ir.Target | None = None, chains: tuple[ir.Chain, ...] = (), settings: tuple[ir.Setting, ...] = (),
    shapes: tuple[ir.Shape, ...] = (), xdp: str = "native",
) -> ir.Program:  # fmt: skip
    nics = (ir.Nic("wan", "wan0", xdp), ir.Nic("lan", "lan0"))
    return ir.Program(nics=nics, chains=chains, settings=settings, shapes=shapes, steers=(ir.Steer("wan.steer", "wan", rules, default),))


def incoming(*rules: ir.Rule) -> ir.Chain:
    return ir.Chain("wan.in", "wan", "in", None, rules, "drop")


def where(placed: place.Placed) -> list[tuple[str, str, tuple[int, ...]]]:
    return [(s.rule.name, s.where, s.cpus) for s in placed.nics[0].steer]


def reason(placed: place.Placed, what: str) -> str:
    return next(r.reason for r in placed.reasons if r.what == what)


def error(program: ir.Program, target: profile.Profile = GENERIC) -> str:
    with pytest.raises(CompileError) as caught:
        place.place(program, target)
    assert all(found.help for found in caught.value.diagnostics)
    return caught.value.diagnostics[0].code


def test_queues_without_a_nic_table_go_to_the_cpus_that_serve_them() -> None:
    rule = ir.SteerRule("dns", DNS, to("queues", 0, 1, 2))
    assert where(place.place(steered(rule), GENERIC)) == [("dns", "cpumap", (0, 1, 2))]
    served = ir.Setting("wan", "irq", "cpus", (4, 6))
    placed = place.place(steered(rule, settings=(served,)), GENERIC)
    assert where(placed) == [("dns", "cpumap", (4, 6))]
    assert "no ntuple table" in reason(placed, "wan.steer.dns")
    assert [(s.group, s.key, s.value) for s in placed.settings if s.group == "require"] == [("require", "wan.steer.dns.cpus", (4, 6))]


def test_the_nic_takes_one_queue_flows_for_both_families() -> None:
    placed = place.place(steered(ir.SteerRule("dns", DNS, to("queues", 7))), RICH)
    assert where(placed) == [("dns", "ntuple", ())]
    assert [s.value for s in placed.settings] == [("udp4", "dst-port", 53, "action", 7), ("udp6", "dst-port", 53, "action", 7)]
    assert [s.key for s in ethtool.lower(placed)] == ["wan.steer.dns/0", "wan.steer.dns/1"]


def test_addresses_become_prefixes_of_their_family_only() -> None:
    low, high = VIP[0], VIP[0] + 2  # 192.0.2.1-3: a /32 and a /31
    when = ir.And((Is("udp"), Within(Field.DST, ((low, high),)), Within(Field.DPORT, ((53, 53),))))
    placed = place.place(steered(ir.SteerRule("vip", when, to("queues", 1))), RICH)
    assert [s.value[:5] for s in placed.settings if isinstance(s.value, tuple)] == [
        ("udp4", "dst-port", 53, "dst-ip", "192.0.2.1/32"), ("udp4", "dst-port", 53, "dst-ip", "192.0.2.2/31"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "when",
    [
        ir.And((Is("tcp"), ir.Not(Within(Field.DPORT, ((22, 22),))))),
        Within(Field.DPORT, ((53, 53),)),
        ir.And((Is("tcp"), Within(Field.DPORT, ((0, 65535),)))),
        ir.And((Is("tcp"), ir.Bits(Field.TCP_FLAGS, 2, 2))),
        ir.And((Is("tcp"), Within(Field.DPORT, ((1, 1),)), Within(Field.DPORT, ((1, 2),)))),
        ir.Or((Is("tcp"), Is("udp"))),
    ],
)
def test_what_flow_rules_cannot_say_exactly_stays_with_xdp(when: ir.Expr) -> None:
    placed = place.place(steered(ir.SteerRule("r", when, to("queues", 1))), RICH)
    assert where(placed) == [("r", "cpumap", (1,))]
    assert "cannot say it exactly" in reason(placed, "wan.steer.r")


def test_a_rule_that_overlaps_an_earlier_one_stays_out_of_the_nic() -> None:
    first, second = ir.SteerRule("vip", TO_VIP, to("cpus", 1)), ir.SteerRule("dns", DNS, to("queues", 0))
    placed = place.place(steered(first, second), RICH)
    assert where(placed)[1] == ("dns", "cpumap", (0,))
    assert "overlaps `vip`" in reason(placed, "wan.steer.dns")
    assert where(place.place(steered(ir.SteerRule("web", WEB, to("cpus", 1)), second), RICH))[1] == ("dns", "ntuple", ())


def test_a_full_table_is_not_overfilled() -> None:
    small = msgspec.structs.replace(RICH, ntuple=profile.Ntuple(rules=5))
    rules = (ir.SteerRule("web", WEB, to("queues", 1)), ir.SteerRule("dns", DNS, to("queues", 2)))
    placed = place.place(steered(*rules), small)
    assert [w for _, w, _ in where(placed)] == ["ntuple", "cpumap"]
    assert "room for 1" in reason(placed, "wan.steer.dns")


def test_the_default_spreads_by_rss_or_else_by_xdp() -> None:
    placed = place.place(steered(default=to("queues", 0, 1, 2)), RICH)
    assert where(placed) == [("default", "rss", ())]
    assert [(s.group, s.key, s.value) for s in placed.settings] == [("rss", "indirection", (0, 1, 2))]
    assert where(place.place(steered(default=to("queues", 0, 1)), GENERIC)) == [("default", "cpumap", (0, 1))]


def test_cpus_beyond_the_target_are_refused_or_skipped() -> None:
    two = msgspec.structs.replace(GENERIC, cpus=2)
    rule = ir.SteerRule("v", DNS, to("cpus", 1, 2))
    assert error(steered(rule), two) == "N709"
    assert where(place.place(steered(msgspec_prefer(rule)), two)) == [("v", "", ())]
    assert where(place.place(steered(rule), GENERIC)) == [("v", "cpumap", (1, 2))], "an unknown machine: the runtime checks"


def msgspec_prefer(rule: ir.SteerRule) -> ir.SteerRule:
    return ir.SteerRule(rule.name, rule.when, rule.target, prefer=True)


def test_without_xdp_a_redirect_is_refused_or_skipped() -> None:
    rule = ir.SteerRule("v", DNS, to("cpus", 1))
    assert error(steered(rule, xdp="none")) == "N708"
    assert where(place.place(steered(msgspec_prefer(rule), xdp="none"), GENERIC)) == [("v", "", ())]


def test_a_lost_carrier_over_cpumap_is_refused() -> None:
    old = msgspec.structs.replace(GENERIC, xdp=msgspec.structs.replace(GENERIC.xdp, cpumap_metadata=False))
    rule = ir.SteerRule("v", DNS, to("cpus", 1))
    assert error(steered(rule, chains=(incoming(ESTABLISHED),)), old) == "N710"
    assert where(place.place(steered(rule, chains=(incoming(MALFORMED),)), old)) == [("v", "cpumap", (1,))]


@pytest.mark.parametrize("target", [to("nic", name="lan"), to("socket", name="capture")])
def test_what_leaves_the_stack_must_be_judged_before(target: ir.Target) -> None:
    rule = ir.SteerRule("vips", TO_VIP, target)
    assert error(steered(rule, chains=(incoming(MALFORMED, ESTABLISHED),))) == "N706"
    covered = incoming(MALFORMED, ir.Rule("vip", "pass", Within(Field.DST, ((VIP[0] - 1, VIP[0] + 1),))), ESTABLISHED)
    assert [w for _, w, _ in where(place.place(steered(rule, chains=(covered,)), GENERIC))] == ["devmap" if target.kind == "nic" else "xskmap"]
    assert where(place.place(steered(rule, chains=(incoming(MALFORMED),)), GENERIC)), "a stateless filter judges all of it"


def test_a_limit_or_an_uncovered_malformed_packet_leaves_some_unjudged() -> None:
    rule = ir.SteerRule("vips", TO_VIP, to("nic", name="lan"))
    limited = ir.Rule("vip", "pass", Within(Field.DST, (VIP,)), ir.Limit("wan.in.vip", 64, 1))
    assert error(steered(rule, chains=(incoming(MALFORMED, limited, ESTABLISHED),))) == "N706"
    narrow = ir.Rule("vip", "pass", ir.And((Within(Field.DST, (VIP,)), ir.Not(Is("malformed")))))
    assert error(steered(rule, chains=(incoming(narrow, ESTABLISHED),))) == "N706"


def test_a_redirect_goes_around_nothing() -> None:
    rule = ir.SteerRule("vips", TO_VIP, to("nic", name="lan"))
    out = ir.Chain("lan.out", "lan", "out", None, (), "pass")
    forward = ir.Chain("wan->lan", "wan", "forward", "lan", (), "pass")
    shape = ir.Shape("lan.shape.out", "lan", "out", 10**9, 0, (ir.Class("all", None),))
    assert error(steered(rule, chains=(out,))) == "N707"
    assert error(steered(rule, chains=(forward,))) == "N707"
    assert error(steered(rule, shapes=(shape,))) == "N707"
    assert where(place.place(steered(rule), GENERIC)) == [("vips", "devmap", ())]
