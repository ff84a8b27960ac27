"""What the nft lowering refuses, and what it makes, without a kernel."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compiler import ir, place
from compiler.diagnostics import CompileError
from compiler.ir import Field as F
from compiler.targets import nft, nft_expr, nft_json
from compiler.targets.nft_layout import LAYOUTS, sorting
from compiler.targets.nft_refuse import RESERVED

CONNECTION = ir.Connection(("established",))
DYNAMIC = ir.Set("banned", "address", size=10)
LIMIT = ir.Limit("l", 64 * 10**7, 5)


def lower(rule: ir.Rule, direction: str = "in", late: str = "", settings: tuple[ir.Setting, ...] = ()) -> nft.NftParts:
    """One rule on nic wan: in (ingress, or prerouting when late), out (egress, or postrouting), forward."""
    chain = ir.Chain(f"wan.{direction}", "wan", direction, "wan" if direction == "forward" else None, (rule,), "drop")
    program = ir.Program((ir.Nic("wan", "wan0", "none"),), (DYNAMIC,), (chain,), settings=settings)
    split = 0 if late or direction != "in" else 1
    item = place.ChainPlacement(chain, "ingress" if direction == "in" else "", split, late or ("" if direction == "in" else "egress"))
    forwards = (item,) if direction == "forward" else ()
    nics = (place.NicPlacement(program.nics[0], 0, () if forwards else (item,), (), ()),)
    return nft.lower(place.Placed(program, nics, forwards, settings, ()))


IN, LATE, OUT, FORWARD = ("in", ""), ("in", "conntrack"), ("out", "egress"), ("forward", "conntrack")
REFUSED = [
    ("N801", ir.Rule("r", "drop", ir.Is("malformed")), (IN, LATE, OUT, FORWARD), "malformed"),
    ("N801", ir.Rule("r", "drop", ir.Not(ir.Is("fragment"))), (LATE, FORWARD), "fragment"),
    ("N801", ir.Rule("r", "drop", ir.Within(F.VLAN, ((10, 10),))), (LATE, FORWARD), "VLAN"),
    ("N801", ir.Rule("r", "drop", ir.Within(F.VLAN_INNER, ((10, 10),))), (IN, OUT, LATE), "second VLAN tag"),
    ("N801", ir.Rule("r", "drop", ir.Within(F.ETH_SRC, ((1, 1),))), (FORWARD, ("out", "conntrack")), "MAC"),
    ("N801", ir.Rule("r", "drop", ir.Within(F.LENGTH, ((0, 99),))), (IN, LATE, OUT, FORWARD), "length"),
    ("N801", ir.Rule("r", "drop", ir.Within(F.ETHERTYPE, ((0, 99),))), (IN, OUT), "1536"),
    ("N802", ir.Rule("r", "pass", ir.Is("udp"), LIMIT), (IN, LATE, OUT, FORWARD), "limit"),
    ("N802", ir.Rule("r", "pass", ir.Is("icmp4"), ir.Limit("l", 64 * 10**7, 5, per=F.SRC)), (IN,), "per src"),
    ("N802", ir.Rule("r", "pass", ir.Is("icmp4"), ir.Limit("l", 64 * 100, 5)), (IN,), "1 Mpps"),
    ("N803", ir.Rule("r", "drop", ir.Member(F.SRC, "banned")), (IN, LATE, OUT, FORWARD), "banned"),
    ("N804", ir.Rule("r", "drop", ir.Is("udp"), None, (ir.Add("banned", F.SRC, None),)), (IN, LATE, OUT), "add to banned"),
    ("N804", ir.Rule("r", "drop", ir.Is("udp"), None, (ir.Sample(10),)), (IN, LATE, OUT), "sample"),
    ("N806", ir.Rule("carried", "drop", ir.Is("udp")), (IN, LATE, OUT), "carried"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "rule", "places", "words"), REFUSED)
def test_what_nft_cannot_mean_is_refused_by_name(code: str, rule: ir.Rule, places: tuple[tuple[str, str], ...], words: str) -> None:
    for direction, late in places:
        with pytest.raises(CompileError) as refused:
            lower(rule, direction, late)
        found = [d for d in refused.value.diagnostics if d.code == code]
        assert found and all(d.help for d in found), (direction, late, refused.value)
        assert any(words in d.message for d in found)


@pytest.mark.parametrize("kind", ["icmp4", "icmp6", "arp"])
def test_what_is_never_merged_may_be_limited(kind: str) -> None:
    objects = b"".join(map(bytes, lower(ir.Rule("r", "pass", ir.Is(kind), LIMIT)).nft[0].objects)).decode()
    assert '"limit":"l.100-5"' in objects
    gro_off = (ir.Setting("wan", "feature", "gro", "off"),)
    assert lower(ir.Rule("r", "pass", ir.Is("tcp"), LIMIT), settings=gro_off)
    with pytest.raises(CompileError, match="N802"):
        lower(ir.Rule("r", "pass", ir.Is("tcp"), LIMIT), settings=(ir.Setting("wan", "feature", "gro", "off", prefer=True),))


def test_too_many_alternatives_are_an_error_and_not_a_hang() -> None:
    pair = [ir.Or((ir.Within(F.SPORT, ((n, n),)), ir.Within(F.DPORT, ((n, n),)))) for n in range(1, 40)]
    with pytest.raises(CompileError, match="N805"):
        lower(ir.Rule("r", "drop", ir.And(tuple(pair))))


def test_every_rule_of_the_late_stage_has_its_counter() -> None:
    parts = lower(ir.Rule("est", "pass", CONNECTION), "in", "conntrack")
    late = {(c.name, c.kind) for c in parts.counters if c.stage == "conntrack"}
    kinds = ("seen", "default", "control", "carried")
    assert late == {("wan.in.est", "rule"), *((f"wan.in.{kind}", kind) for kind in kinds)}
    early = {c.kind for c in parts.counters if c.stage == "ingress"}
    assert "handed-on" in early


def test_the_same_policy_gives_the_same_bytes() -> None:
    rule = ir.Rule("r", "drop", ir.And((ir.Is("udp"), ir.Not(ir.Is("fragment")))))
    assert lower(rule).nft == lower(rule).nft


@given(st.text(), st.text())
def test_names_stay_apart_and_within_the_grammar(one: str, other: str) -> None:
    try:
        names = nft_json.object_name(one), nft_json.object_name(other)
    except (ValueError, UnicodeEncodeError):
        return
    assert (names[0] == names[1]) == (one == other)
    assert all(c.isascii() and (c.isalnum() or c in "/-_.") for c in names[0])


@given(st.text(max_size=400))
def test_comments_can_neither_end_a_string_nor_name_a_device(text: str) -> None:
    comment = nft_json.comment(text)
    assert len(comment) <= 120 and comment.isascii()
    assert not set(comment) & set('"\\$@') and all(c.isprintable() for c in comment)


def test_every_layout_is_reached_and_every_way_leads_somewhere() -> None:
    targets = {target for _, _, target in sorting(False)}
    sources = {source for source, _, _ in sorting(False)}
    assert {layout.name for layout in LAYOUTS} <= targets
    assert targets - {layout.name for layout in LAYOUTS} == sources - {"sort"}
    assert len(RESERVED) == len(set(RESERVED))


def test_absent_stays_absent_under_not() -> None:
    ports = ir.Within(F.DPORT, ((22, 22),))
    by_name = {layout.name: layout for layout in LAYOUTS}
    for name in ("ip4-icmp", "ip4-other", "ip6-unknown", "arp", "not-ip"):
        assert nft_expr.alternatives(ports, by_name[name], False) == []
        assert nft_expr.alternatives(ir.Not(ports), by_name[name], False) == []
    assert nft_expr.alternatives(ir.Not(ir.Is("tcp")), by_name["arp"], False) == [[]]
    assert nft_expr.alternatives(ir.Not(CONNECTION), by_name["arp"], True) == []
    assert nft_expr.alternatives(ir.Or((ports, ir.Is("arp"))), by_name["arp"], False) == [[]]


def test_an_opaque_packet_helps_a_drop_and_never_a_pass() -> None:
    hidden = ir.And((ir.Is("tcp"), ir.Not(ir.Within(F.DPORT, ((22, 22),)))))
    layout = next(layout for layout in LAYOUTS if layout.opaque)
    for expr in (hidden, ir.Not(hidden)):
        assert nft_expr.alternatives(nft_expr.reveal(expr, helping=True), layout, False) == [[]]
        assert nft_expr.alternatives(nft_expr.reveal(expr, helping=False), layout, False) == []


def test_an_empty_part_of_a_set_is_a_set_without_elements() -> None:
    rule = ir.Rule("r", "drop", ir.Member(F.SRC, "six"))
    chain = ir.Chain("wan.out", "wan", "out", None, (rule,), "pass")
    program = ir.Program((ir.Nic("wan", "wan0"),), (ir.Set("six", "address", ((1, 1),)),), (chain,))
    nics = (place.NicPlacement(program.nics[0], 0, (place.ChainPlacement(chain, "", 0, "egress"),), (), ()),)
    objects = [bytes(o).decode() for o in nft.lower(place.Placed(program, nics, (), (), ())).nft[0].objects]
    four, six = [o for o in objects if '"set":{' in o and '"name":"six.' in o]
    assert "elem" not in four and '"elem":["::1"]' in six
