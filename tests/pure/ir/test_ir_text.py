"""The IR's text form gives back what was printed, for every node, and refuses what is no IR with a place."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compiler import ir, ir_text
from compiler.source import NOWHERE, Span

st.register_type_strategy(float, st.floats(allow_nan=False))
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@QUICK
@given(st.from_type(ir.Program))
def test_every_program_comes_back(program: ir.Program) -> None:
    assert ir_text.parse(ir_text.dump(program, spans=True)) == program


@QUICK
@given(st.from_type(ir.Rule))
def test_without_spans_a_rule_comes_back_from_nowhere(rule: ir.Rule) -> None:
    back = ir_text.parse_node(ir_text.dump(rule))
    assert back == dataclasses.replace(rule, span=NOWHERE)


@QUICK
@given(st.text())
def test_any_text_is_read_or_refused_with_a_place(text: str) -> None:
    try:
        ir_text.parse_node(text)
    except ir_text.IrTextError as error:
        assert str(error).split(":")[0].isdigit()


def test_every_node_class_is_covered() -> None:
    """The round trip above reaches all of them: each is reachable from Program's field types."""
    nodes = {item for item in vars(ir).values() if isinstance(item, type) and dataclasses.is_dataclass(item)}
    text = " ".join(str(field.type) for node in nodes for field in dataclasses.fields(node))
    effects = {"Add", "Sample", "Log", "SetDscp"}  # by the alias Effect
    for node in nodes - {ir.Program}:
        name = node.__name__
        assert name in text or name in effects or name in str(ir.Expr), name


def test_text_reads_like_the_policy() -> None:
    when = ir.And((ir.Is("tcp"), ir.Within(ir.Field.DPORT, ((22, 22),)), ir.Not(ir.Member(ir.Field.SRC, "office"))))
    assert ir_text.dump(when) == "(And [(Is tcp) (Within @dport [[22 22]]) (Not (Member @src office))])\n"
    rule = ir.Rule("ssh", "drop", when, text='say "hi"', span=Span("a.netc", 3, 1, 3, 9))
    assert ir_text.dump(rule, spans=True).splitlines() == [
        "(Rule ssh drop",
        "  (And [(Is tcp) (Within @dport [[22 22]]) (Not (Member @src office))])",
        '  :text "say \\"hi\\""',
        "  :span (Span a.netc 3 1 3 9))",
    ]


@pytest.mark.parametrize("depth", [100, 20_000])
def test_depth_is_no_danger(depth: int) -> None:
    expr: ir.Expr = ir.Is("tcp")
    for _ in range(depth):
        expr = ir.Not(expr)
    text = ir_text.dump(expr)
    assert text.count("(Not") == depth
    assert ir_text.dump(ir_text.parse_node(text)) == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("(Is 5)", "1:1: Is: `5` cannot be its kind"),
        ("(Is tcp", "1:1: this bracket is never closed"),
        ("\n (Foo)", "2:2: `Foo` is no IR node"),
        ("(Is tcp))", "1:9: `)` closes nothing"),
        ("(Is tcp]", "1:8: `]` closes nothing"),
        ("(Within @sourc [])", "1:10: 'sourc' is not a valid Field"),
        ("(Is tcp :size 5)", "1:1: Is has the fields kind"),
        ("(Within @src [[1]])", "1:1: Within: a tuple cannot be its ranges"),
        ("(Rule a)", "1:1: "),
        ("", "1:1: one node is wanted"),
        ("(Is tcp) (Is udp)", "1:1: one node is wanted"),
        ("(Nic wan\n  $x)", "2:3: '$x)' is no word"),
    ],
)
def test_what_is_no_ir_is_refused_at_its_place(text: str, said: str) -> None:
    with pytest.raises(ir_text.IrTextError) as caught:
        ir_text.parse_node(text)
    assert str(caught.value).startswith(said)


def test_only_a_program_is_a_program() -> None:
    with pytest.raises(ir_text.IrTextError, match="Program"):
        ir_text.parse("(Is tcp)")
