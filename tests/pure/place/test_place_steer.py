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
FULL = msgspec.structs.replace(
    RICH, name="full", ntuple=profile.Ntuple(rules=16, drop=True, contexts=True), rss=profile.Rss(indirection=128, contexts=2, key_size=40)
)
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
    shapes: tuple[ir.Shape, ...] = (), xdp: str = "native", expects: tuple[ir.Expect, ...] = (),
) -> ir.Program:  # fmt: skip
    nics = (ir.Nic("wan", "wan0", xdp), ir.Nic("lan", "lan0"))
    steer = ir.Steer("wan.steer", "wan", rules, default)
    return ir.Program(nics=nics, chains=chains, settings=settings, shapes=shapes, steers=(steer,), expects=expects)


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


@pytest.mark.parametrize("target", [to("nic", name="lan"), to("socket", name="capture"), to("drop")])
def test_what_leaves_the_stack_must_be_judged_before(target: ir.Target) -> None:
    rule = ir.SteerRule("vips", TO_VIP, target)
    assert error(steered(rule, chains=(incoming(MALFORMED, ESTABLISHED),))) == "N706"
    covered = incoming(MALFORMED, ir.Rule("vip", "pass", Within(Field.DST, ((VIP[0] - 1, VIP[0] + 1),))), ESTABLISHED)
    assert [w for _, w, _ in where(place.place(steered(rule, chains=(covered,)), GENERIC))] == [{"nic": "devmap", "socket": "xskmap", "drop": "drop"}[target.kind]]
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


def nic_words(placed: place.Placed) -> list[tuple[str, str, object]]:
    """What the NIC is told, without the require and vlan settings."""
    return [(s.group, s.key, s.value) for s in placed.settings if s.group in ("ntuple", "rss-context", "rss", "rps")]


def test_queues_for_some_flows_are_an_rss_context_that_flow_rules_name() -> None:
    rules = (
        ir.SteerRule("web", WEB, to("queues", 0, 1)), ir.SteerRule("dns", DNS, to("queues", 0, 1)),
        ir.SteerRule("one", ir.And((Is("sctp"), Is("ip4"))), to("queues", 5)),
    )  # fmt: skip
    placed = place.place(steered(*rules, default=to("queues", 2, 3)), FULL)
    assert [w for _, w, _ in where(placed)] == ["rss-context", "rss-context", "ntuple", "rss"]
    found = nic_words(placed)
    assert [item for item in found if item[0] == "rss-context"] == [("rss-context", "web", (0, 1))], "two rules to the same queues share it"
    assert ("ntuple", "wan.steer.dns/0", ("udp4", "dst-port", 53, "context", "web")) in found
    assert ("ntuple", "wan.steer.one/0", ("sctp4", "action", 5)) in found
    assert ("rss", "indirection", (2, 3)) in found, "context 0 keeps a table of its own"
    assert next(s.group for s in ethtool.lower(placed) if s.group in ("rss-context", "ntuple")) == "rss-context", "made before it is named"


def test_contexts_are_counted_and_without_them_xdp_does_it() -> None:
    rules = tuple(ir.SteerRule(f"r{n}", ir.And((Is("udp"), Within(Field.DPORT, ((n, n),)))), to("queues", n, n + 1)) for n in range(3))
    placed = place.place(steered(*rules), FULL)
    assert [w for _, w, _ in where(placed)] == ["rss-context", "rss-context", "cpumap"]
    assert "has 2 RSS context(s), and rules before it have them" in reason(placed, "wan.steer.r2")
    unnamed = msgspec.structs.replace(FULL, ntuple=profile.Ntuple(rules=16))
    placed = place.place(steered(rules[0]), unnamed)
    assert where(placed)[0][1] == "cpumap" and "no RSS contexts" in reason(placed, "wan.steer.r0")


def test_flow_types_that_the_nic_was_seen_to_refuse_stay_with_xdp() -> None:
    only4 = msgspec.structs.replace(FULL, ntuple=profile.Ntuple(rules=16, kinds=("tcp4", "udp4")))
    placed = place.place(steered(ir.SteerRule("dns", DNS, to("queues", 1)), ir.SteerRule("four", ir.And((Is("tcp"), Is("ip4"))), to("queues", 2))), only4)
    assert [w for _, w, _ in where(placed)] == ["cpumap", "ntuple"]
    assert "no flow rules of udp6" in reason(placed, "wan.steer.dns")


def test_a_drop_is_xdp_s_and_the_nic_helps_where_nothing_is_missed() -> None:
    drop = ir.SteerRule("junk", DNS, to("drop"))
    placed = place.place(steered(drop), FULL)
    assert where(placed) == [("junk", "drop", ())]
    assert [(s.value, s.prefer) for s in placed.settings if s.group == "ntuple"] == [
        (("udp4", "dst-port", 53, "action", -1), True), (("udp6", "dst-port", 53, "action", -1), True),
    ]  # fmt: skip
    assert "not counted" in reason(placed, "wan.steer.junk")
    placed = place.place(steered(drop), RICH)
    assert where(placed) == [("junk", "drop", ())] and not nic_words(placed)
    assert "no flow rules that drop" in reason(placed, "wan.steer.junk")
    assert where(place.place(steered(default=to("drop")), FULL)) == [("default", "drop", ())]
    assert error(steered(drop, xdp="none"), FULL) == "N708"


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        (ir.Rule("slow", "pass", Is("udp"), ir.Limit("wan.in.slow", 64, 1), text="pass udp limit 1pps"), "`pass udp limit 1pps` counts or remembers"),
        (ir.Rule("seen", "pass", Is("udp"), effects=(ir.Sample(10),)), "`seen` counts or remembers"),
        (ir.Rule("web", "pass", Is("tcp"), ir.Limit("wan.in.web", 64, 1)), ""),
        (ir.Rule("udp", "pass", Is("udp")), ""),
    ],
)
def test_the_nic_does_not_drop_what_the_filter_counts_tokens_of(rule: ir.Rule, why: str) -> None:
    placed = place.place(steered(ir.SteerRule("junk", DNS, to("drop")), chains=(incoming(rule),)), FULL)
    assert bool(nic_words(placed)) == (not why)
    assert why in reason(placed, "wan.steer.junk")


@pytest.mark.parametrize(("asked", "of", "in_nic"), [("wan.steer.junk", "", False), ("wan.in.a", "wan.in.seen", False), ("wan.shape.out.a", "", True)])
def test_the_nic_does_not_drop_what_an_expectation_counts(asked: str, of: str, in_nic: bool) -> None:
    expect = ir.Expect("wan", 10**9, "warn", (ir.Assertion(asked, "packets", ">", 0, of),))
    placed = place.place(steered(ir.SteerRule("junk", DNS, to("drop")), expects=(expect,)), FULL)
    assert bool(nic_words(placed)) == in_nic


def test_a_drop_behind_an_overlapping_rule_is_not_the_nic_s() -> None:
    kept = ir.SteerRule("vip", TO_VIP, to("cpus", 1))
    placed = place.place(steered(kept, ir.SteerRule("junk", DNS, to("drop"))), FULL)
    assert [w for _, w, _ in where(placed)] == ["cpumap", "drop"] and not nic_words(placed)
    assert "overlaps `vip`" in reason(placed, "wan.steer.junk")


@pytest.mark.parametrize("target", [to("cpus", 0, 1), to("queues", 0, 1)])
def test_without_xdp_all_packets_alike_are_spread_by_the_stack(target: ir.Target) -> None:
    placed = place.place(steered(default=target, xdp="none"), GENERIC)
    assert where(placed) == [("default", "rps", ())]
    assert nic_words(placed) == [("rps", "cpus", (0, 1))]
    still = msgspec.structs.replace(GENERIC, xdp=msgspec.structs.replace(GENERIC.xdp, redirect=False))
    assert where(place.place(steered(default=target), still)) == [("default", "rps", ())]
    two = msgspec.structs.replace(GENERIC, cpus=1)
    assert error(steered(default=target, xdp="none"), two) == "N709"


def test_the_stack_does_not_spread_the_rest_beside_a_rule() -> None:
    """RPS would move what the NIC has put on a queue, too."""
    rule = ir.SteerRule("dns", DNS, to("queues", 7))
    assert error(steered(rule, default=to("cpus", 0, 1), xdp="none"), FULL) == "N708"
    assert [w for _, w, _ in where(place.place(steered(rule, default=to("queues", 0, 1), xdp="none"), FULL))] == ["ntuple", "rss"]


def setting(group: str, key: str, value: object, prefer: bool = False) -> ir.Setting:
    return ir.Setting("wan", group, key, value, prefer)  # type: ignore[arg-type]


@pytest.mark.parametrize("group", ["rps", "rfs"])
def test_rps_and_rfs_do_not_move_what_xdp_has_placed(group: str) -> None:
    wish = ("cpus", (0, 1)) if group == "rps" else ("flows", 4096)
    rule = ir.SteerRule("v", DNS, to("cpus", 1))
    assert error(steered(rule, settings=(setting(group, *wish),))) == "N716"
    placed = place.place(steered(rule, settings=(setting(group, *wish, True),)), GENERIC)
    assert not [s for s in placed.settings if s.group == group] and "skipped: " in reason(placed, f"wan.{group}.{wish[0]}")
    kept = place.place(steered(settings=(setting(group, *wish),)), GENERIC)
    assert [s.value for s in kept.settings if s.group == group] == [wish[1]]


def test_a_hash_key_has_the_nic_s_size() -> None:
    short, right = setting("hash", "key", "6d5a" * 8), setting("hash", "key", "6d5a" * 20)
    assert error(steered(settings=(short,)), FULL) == "N715"
    assert [s.value for s in place.place(steered(settings=(right,)), FULL).settings] == ["6d5a" * 20]
    assert place.place(steered(settings=(short,)), RICH).settings == (short,), "an unknown size: the driver says"
    placed = place.place(steered(settings=(setting("hash", "key", "6d5a" * 8, True),)), FULL)
    assert placed.settings == () and "has 16 bytes" in reason(placed, "wan.hash.key")


def test_symmetric_is_the_nic_s_own_function_where_it_has_one() -> None:
    wish = setting("hash", "symmetric", 1)
    own = msgspec.structs.replace(FULL, rss=profile.Rss(indirection=128, transforms=("symmetric-or-xor", "symmetric-xor")))
    assert [s.value for s in ethtool.lower(place.place(steered(settings=(wish,)), own))] == ["symmetric-or-xor"]
    placed = place.place(steered(settings=(wish,)), FULL)
    assert [s.value for s in placed.settings] == [1] and "6d5a" in reason(placed, "wan.hash.symmetric")


def test_a_knob_that_steering_sets_is_not_set_again() -> None:
    placed = place.place(steered(default=to("cpus", 0, 1), settings=(setting("rps", "cpus", (2, 3)),), xdp="none"), GENERIC)
    with pytest.raises(CompileError, match="wan.rps.cpus is set to 2, 3 and to 0, 1"):
        ethtool.lower(placed)
