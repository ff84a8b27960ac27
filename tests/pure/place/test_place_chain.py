"""Where filter rules run, with which reason, and what is refused there."""

from __future__ import annotations

import msgspec
import pytest

from compiler import ir, place, profile
from compiler.diagnostics import CompileError
from compiler.ir import Field, Is, Within
from compiler.source import Span

GENERIC = profile.default()
NO_CARRIER = msgspec.structs.replace(GENERIC, name="old", xdp=msgspec.structs.replace(GENERIC.xdp, metadata=False))
DNS = ir.And((Is("udp"), Within(Field.DPORT, ((53, 53),))))
ESTABLISHED = ir.Rule("est", "pass", ir.Connection(("established",)), text="pass established")
LIMIT = ir.Limit("wan.in.ping", 64, 10)


def rule(name: str, verdict: str = "pass", when: ir.Expr = DNS, limit: ir.Limit | None = None, line: int = 1) -> ir.Rule:
    return ir.Rule(name, verdict, when, limit, text=f"{verdict} {name}", span=Span("p.netc", line, 3, line, 20))


def chain(*rules: ir.Rule, direction: str = "in", to: str | None = None) -> ir.Chain:
    return ir.Chain(f"wan.{direction}", "wan", direction, to, rules, "drop", Span("p.netc", 9, 1, 9, 5))


def program(*chains: ir.Chain, xdp: str = "native") -> ir.Program:
    return ir.Program(nics=(ir.Nic("wan", "wan0", xdp), ir.Nic("lan", "lan0")), chains=chains)


def reasons(placed: place.Placed) -> dict[str, tuple[str, str]]:
    return {reason.what: (reason.stage, reason.reason) for reason in placed.reasons}


def errors(*args: object) -> list[tuple[str, str]]:
    with pytest.raises(CompileError) as caught:
        place.place(*args)  # type: ignore[arg-type]
    assert all(found.help for found in caught.value.diagnostics), "every refusal says what to do"
    return [(found.code, found.message) for found in caught.value.diagnostics]


def test_a_stateless_list_is_judged_by_xdp_alone() -> None:
    placed = place.place(program(chain(rule("dns"), rule("web"))), GENERIC)
    first = placed.nics[0].chains[0]
    assert (first.early, first.split, first.late) == ("xdp", 2, "")
    assert reasons(placed)["wan.in.dns"] == ("xdp", "the first stage that can judge it")


def test_the_list_is_split_at_the_first_stateful_rule() -> None:
    nested = rule("odd", when=ir.Or((DNS, ir.Not(ir.And((Is("tcp"), ir.Connection(("new",))))))))
    placed = place.place(program(chain(rule("dns"), nested, rule("web"))), GENERIC)
    first = placed.nics[0].chains[0]
    assert (first.early, first.split, first.late) == ("xdp", 1, "conntrack")
    assert reasons(placed)["wan.in.odd"] == ("conntrack", "needs connection tracking")
    assert reasons(placed)["wan.in.web"] == ("conntrack", "after `pass odd`, which needs connection tracking")


def test_a_stateful_first_rule_leaves_xdp_what_is_not_ip() -> None:
    first = place.place(program(chain(ESTABLISHED)), GENERIC).nics[0].chains[0]
    assert (first.early, first.split, first.late) == ("xdp", 0, "conntrack")


def test_without_xdp_nft_judges_at_ingress() -> None:
    placed = place.place(program(chain(rule("dns"), ESTABLISHED), xdp="none"), GENERIC)
    first = placed.nics[0].chains[0]
    assert (first.early, first.split, first.late) == ("ingress", 1, "conntrack")
    assert "xdp none" in reasons(placed)["wan.in.dns"][1]


def test_without_a_carrier_only_leading_drops_move_up() -> None:
    placed = place.place(program(chain(rule("a", "drop"), rule("b", "drop"), rule("c"), rule("d", "drop"), ESTABLISHED)), NO_CARRIER)
    assert placed.nics[0].chains[0].split == 2
    assert "no XDP metadata" in reasons(placed)["wan.in.c"][1]
    assert place.place(program(chain(rule("c"), rule("d", "drop"))), NO_CARRIER).nics[0].chains[0].split == 2, "stateless: nothing to carry"


def test_without_a_carrier_a_pulled_down_limit_is_refused() -> None:
    assert errors(program(chain(rule("c"), rule("ping", limit=LIMIT), ESTABLISHED)), NO_CARRIER)[0][0] == "N704"


def test_leaving_and_forwarded_packets() -> None:
    stateless = place.place(program(chain(rule("dns"), direction="out")), GENERIC)
    assert [(c.early, c.split, c.late) for c in stateless.nics[0].chains] == [("", 0, "egress")]
    stateful = place.place(program(chain(rule("dns"), ESTABLISHED, direction="out")), GENERIC)
    assert stateful.nics[0].chains[0].late == "conntrack"
    assert "`pass established`" in reasons(stateful)["wan.out.dns"][1]
    forwarded = place.place(program(chain(rule("dns"), direction="forward", to="lan")), GENERIC)
    assert [(c.early, c.late) for c in forwarded.forwards] == [("", "conntrack")]
    assert not forwarded.nics[0].chains


@pytest.mark.parametrize(
    ("late", "code"),
    [
        (rule("f", when=ir.Not(Is("later-fragment"))), "N703"),
        (rule("p", limit=LIMIT), "N704"),
        (rule("l", when=Within(Field.LENGTH, ((0, 100),))), "N705"),
    ],
)
def test_what_means_something_else_behind_a_stateful_rule_is_refused(late: ir.Rule, code: str) -> None:
    assert errors(program(chain(ESTABLISHED, late)), GENERIC)[0][0] == code
    assert place.place(program(chain(late, ESTABLISHED)), GENERIC).nics[0].chains[0].split == 1


def test_several_findings_come_in_source_order() -> None:
    late = chain(ESTABLISHED, rule("b", limit=LIMIT, line=5), rule("a", when=Is("fragment"), line=3))
    assert [code for code, _ in errors(program(late), GENERIC)] == ["N703", "N704"]


def test_offload_and_missing_modes_are_refused_not_replaced() -> None:
    assert errors(program(chain(rule("dns")), xdp="offload"), GENERIC) == [("N702", "nic wan asks for `xdp offload`, which the target 'generic' does not have")]
    uncounted = msgspec.structs.replace(GENERIC, name="nfp", xdp=profile.Xdp(offload=True))
    words = "nic wan: the NIC of the target 'nfp' runs programs, and has no room for their counters"
    assert errors(program(chain(rule("dns")), xdp="offload"), uncounted) == [("N701", words)]
    none = msgspec.structs.replace(GENERIC, name="e1000", xdp=profile.Xdp(native=False, generic=True))
    assert errors(program(chain(rule("dns"))), none)[0] == ("N702", "nic wan asks for `xdp native`, which the target 'e1000' does not have")
    place.place(program(chain(rule("dns")), xdp="generic"), none)


def test_tags_must_be_in_the_frame_only_where_a_rule_asks_for_them() -> None:
    def wish(when: ir.Expr) -> ir.Setting:
        return next(s for s in place.place(program(chain(rule("r", when=when))), GENERIC).settings if s.group == "vlan")

    assert wish(DNS).prefer
    assert not wish(ir.And((DNS, ir.Not(Within(Field.VLAN, ((0, 0),)))))).prefer
    placed = place.place(program(chain(rule("dns")), xdp="none"), GENERIC)
    assert not placed.settings, "without XDP nothing has to see tags"


def test_every_rule_and_default_has_a_reason() -> None:
    lists = (chain(rule("a"), ESTABLISHED), chain(rule("b"), direction="out"), chain(rule("c"), direction="forward", to="lan"))
    said = reasons(place.place(program(*lists), GENERIC))
    assert {f"{c.name}.{name}" for c in lists for name in [*(r.name for r in c.rules), "default"]} <= set(said)
    assert all(words for _, words in said.values())


def test_a_filter_s_rules_are_not_the_nic_s_for_it_does_not_count_them() -> None:
    full = msgspec.structs.replace(GENERIC, ntuple=profile.Ntuple(rules=16, drop=True))
    chain = ir.Chain("wan.in", "wan", "in", None, (ir.Rule("junk", "drop", ir.Is("udp")),), "pass")
    made = ir.Program(nics=(ir.Nic("wan", "wan0"),), chains=(chain,))
    placed = place.place(made, full)
    assert [s.group for s in placed.settings] == ["vlan"]
    assert any(r.what == "wan.in" and "counts no flow rules" in r.reason for r in placed.reasons)
    assert not any(r.what == "wan.in" for r in place.place(made, profile.default()).reasons)
