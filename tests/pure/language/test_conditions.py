"""What each form of condition means, as IR."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler import ir
from compiler.diagnostics import CompileError
from compiler.frontend import parse_expr
from compiler.ir import V4_BASE, And, Bits, Connection, Field, Is, Member, Not, Or, Within

PROGRAM = ir.Program(
    nics=(ir.Nic("wan", "eth0"),),
    sets=(
        ir.Set("office", "address", ((V4_BASE, V4_BASE + 9),)),
        ir.Set("web", "port", ((80, 80),)),
        ir.Set("none", "address"),
    ),
)
V4 = V4_BASE + 0xC0000201  # 192.0.2.1
V6 = 0x20010DB8 << 96  # 2001:db8::

CASES: list[tuple[str, ir.Expr]] = [
    ("tcp", Is("tcp")),
    ("fragment", Is("fragment")),
    ("udp dport 53", And((Is("udp"), Within(Field.DPORT, ((53, 53),))))),
    ("dport 53", Within(Field.DPORT, ((53, 53),))),
    ("not dport 53", Not(Within(Field.DPORT, ((53, 53),)))),
    ("dport { 80, 443, 8080-8089, 81 }", Within(Field.DPORT, ((80, 81), (443, 443), (8080, 8089)))),
    ("sport 1-2", Within(Field.SPORT, ((1, 2),))),
    ("dport in web", Member(Field.DPORT, "web")),
    ("src in office", Member(Field.SRC, "office")),
    ("dst in none", Member(Field.DST, "none")),
    ("src 192.0.2.1", Within(Field.SRC, ((V4, V4),))),
    ("src 192.0.2.0/24", Within(Field.SRC, ((V4 - 1, V4 + 254),))),
    ("src in 192.0.2.0/24", Within(Field.SRC, ((V4 - 1, V4 + 254),))),
    ("src 192.0.2.1-192.0.2.3", Within(Field.SRC, ((V4, V4 + 2),))),
    ("dst 2001:db8::/32", Within(Field.DST, ((V6, V6 + (1 << 96) - 1),))),
    ("src { 192.0.2.1, 2001:db8:: }", Within(Field.SRC, ((V6, V6), (V4, V4)))),
    ("src 0.0.0.0/0", Within(Field.SRC, ((V4_BASE, ir.V4_LAST),))),
    ("src ::/0", Within(Field.SRC, ((0, V4_BASE - 1),))),
    ("tcp or udp dport 53", Or((Is("tcp"), And((Is("udp"), Within(Field.DPORT, ((53, 53),))))))),
    ("(tcp or udp) dport 53", And((Or((Is("tcp"), Is("udp"))), Within(Field.DPORT, ((53, 53),))))),
    ("not tcp dport 53", And((Not(Is("tcp")), Within(Field.DPORT, ((53, 53),))))),
    ("not (tcp dport 53)", Not(And((Is("tcp"), Within(Field.DPORT, ((53, 53),)))))),
    ("udp fragment or malformed", Or((And((Is("udp"), Is("fragment"))), Is("malformed")))),
    ("tcp\tsyn", And((Is("tcp"), Bits(Field.TCP_FLAGS, 0x17, 0x02)))),
    ("flags ack, psh", Bits(Field.TCP_FLAGS, 0x18, 0x18)),
    ("icmp", Or((Is("icmp4"), Is("icmp6")))),
    ("icmp4", Is("icmp4")),
    (
        "icmp echo-request",
        Or(
            (
                And((Is("icmp4"), Within(Field.ICMP_TYPE, ((8, 8),)))),
                And((Is("icmp6"), Within(Field.ICMP_TYPE, ((128, 128),)))),
            )
        ),
    ),
    ("icmp6 echo-reply", And((Is("icmp6"), Within(Field.ICMP_TYPE, ((129, 129),))))),
    (
        "icmp4 type 3 code { 1, 4 }",
        And((Is("icmp4"), Within(Field.ICMP_TYPE, ((3, 3),)), Within(Field.ICMP_CODE, ((1, 1), (4, 4))))),
    ),
    ("icmp neighbour-solicitation", And((Is("icmp6"), Within(Field.ICMP_TYPE, ((135, 135),))))),
    ("vlan", Is("vlan")),
    ("vlan none", Within(Field.VLAN, ((0, 0),))),
    ("vlan 10", Within(Field.VLAN, ((10, 10),))),
    ("vlan 10.20", And((Within(Field.VLAN, ((10, 10),)), Within(Field.VLAN_INNER, ((20, 20),))))),
    ("vlan { 10, 12-14 }", Within(Field.VLAN, ((10, 10), (12, 14)))),
    ("vlan < 10", And((Is("vlan"), Within(Field.VLAN, ((0, 9),))))),
    ("established", Connection(("established",))),
    ("proto gre", Within(Field.PROTO, ((47, 47),))),
    ("proto { esp, 51, ospf }", Within(Field.PROTO, ((50, 51), (89, 89)))),
    ("dscp ef", Within(Field.DSCP, ((46, 46),))),
    ("ttl < 5", Within(Field.TTL, ((0, 4),))),
    ("ttl >= 250", Within(Field.TTL, ((250, 255),))),
    ("length > 1400", Within(Field.LENGTH, ((1401, (1 << 17) - 1),))),
    ("ttl 1-5", Within(Field.TTL, ((1, 5),))),
    ("ethertype 0x88cc", Within(Field.ETHERTYPE, ((0x88CC, 0x88CC),))),
    ("ethertype lldp", Within(Field.ETHERTYPE, ((0x88CC, 0x88CC),))),
    ("mac dst 02:00:00:00:00:0a", Within(Field.ETH_DST, ((0x02000000000A, 0x02000000000A),))),
    ("arp or nd or mld or l2", Or((Is("arp"), Is("nd"), Is("mld"), Is("l2")))),
    ("tcp or\n udp", Or((Is("tcp"), Is("udp")))),
    ("not not tcp", Not(Not(Is("tcp")))),
]


@pytest.mark.parametrize(("text", "meaning"), CASES, ids=[text for text, _ in CASES])
def test_condition(text: str, meaning: ir.Expr) -> None:
    assert parse_expr(text, PROGRAM) == meaning


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "N003"), ("tcp udp", "N037"), ("not (tcp dport 22) icmp dport 1", "N037"), ("src in web", "N035"), ("(tcp", "N003"),
        ("tcp)", "N003"), ("src 10/8", "N033"), ("src 10.0.0.1/8", "N032"), ("src 010.0.0.1", "N033"), ("dport 99999", "N031"),
        ("dport 5-4", "N036"), ("vlan 0", "N031"), ("vlan 10.4095", "N031"), ("vlan 1.2.3", "N033"), ("src ::1/129", "N031"),
        ("src 192.0.2.1-::1", "N033"), ("not " * 40 + "tcp", "N005"), ("tcp\nudp", "N003"), ("dport in nowhere", "N020"),
        ("src 1.2.3.4 src 1.2.3.5", "N037"), ("not tcp not udp not sctp dport 5", "N037"), ("arp src 192.0.2.1", "N037"),
        ("ip6 icmp4", "N037"), ("ttl > 255", "N037"), ("dport 1_000", "N033"), ("dport ٣", "N002"),
    ],
)  # fmt: skip
def test_refused(text: str, code: str) -> None:
    with pytest.raises(CompileError) as caught:
        parse_expr(text, PROGRAM)
    assert code in {diagnostic.code for diagnostic in caught.value.diagnostics}


@pytest.mark.parametrize(
    "text",
    ["tcp or udp dport 53", "not tcp dport 53", "not (tcp udp)", "src in none tcp", "fragment dport 53", "nd icmp6", "udp src in office",
     "dport 80 or dport 443", "dport 80-90 dport 85", "not dport 80 dport 443", "ip4 or ip6 tcp", "vlan none arp"],
)  # fmt: skip
def test_what_some_packet_can_meet_is_allowed(text: str) -> None:
    parse_expr(text, PROGRAM)


Pair = tuple[str, ir.Expr]


def _joined(kind: type[ir.And | ir.Or], pairs: list[Pair]) -> Pair:
    """Several conditions side by side or with `or`; an `or` inside an *and* is put into parentheses."""
    word = " " if kind is And else " or "
    texts = [f"({text})" if isinstance(expr, Or) else text for text, expr in pairs]
    items: list[ir.Expr] = []
    for _, expr in pairs:
        items += expr.items if isinstance(expr, kind) else [expr]
    return word.join(texts), kind(tuple(items))


_ATOMS = st.sampled_from([(text, expr) for text, expr in CASES if not isinstance(expr, (And, Or, Not))])
_CONDITIONS = st.recursive(
    _ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, min_size=2, max_size=4).map(lambda pairs: _joined(And, pairs)),
        st.lists(inner, min_size=2, max_size=4).map(lambda pairs: _joined(Or, pairs)),
        inner.map(lambda pair: (f"not ({pair[0]})", Not(pair[1]))),
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(_CONDITIONS)
def test_any_nesting_means_what_it_says(pair: Pair) -> None:
    text, meaning = pair
    try:
        assert parse_expr(text, PROGRAM) == meaning
    except CompileError as error:
        assert {d.code for d in error.diagnostics} == {"N037"}
