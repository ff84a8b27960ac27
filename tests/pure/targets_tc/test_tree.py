"""Shapes as HTB trees: every number of it, and everything that is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from compiler import bundle, ir, placed
from compiler.diagnostics import CompileError
from compiler.targets import tc, tc_rates, tc_tree

MBIT = 1_000_000
NIC = ir.Nic("wan", "wan0")
DPORT = ir.Within(ir.Field.DPORT, ((80, 80),))


def shape(*classes: ir.Class, rate: int = 100 * MBIT, direction: str = "out", overhead: int = 0) -> ir.Shape:
    return ir.Shape(f"wan.shape.{direction}", "wan", direction, rate, overhead, classes)


def on_nic(*shapes: ir.Shape, chains: tuple[placed.ChainPlacement, ...] = ()) -> placed.Placed:
    program = ir.Program(nics=(NIC,), shapes=shapes)
    return placed.Placed(program, (placed.NicPlacement(NIC, 0, chains, (), shapes),), (), (), ())


def refused(*shapes: ir.Shape, chains: tuple[placed.ChainPlacement, ...] = ()) -> list[tuple[str, str]]:
    with pytest.raises(CompileError) as failure:
        tc.lower(on_nic(*shapes, chains=chains))
    assert all(finding.help for finding in failure.value.diagnostics), "every refusal says what to do instead"
    return [(finding.code, finding.message) for finding in failure.value.diagnostics]


def test_numbers_of_a_tree() -> None:
    voice = ir.Class("voice", ir.Within(ir.Field.DSCP, ((46, 46),)), min=10 * MBIT, max=20 * MBIT, urgent=True)
    inside = (ir.Class("hot", DPORT, share=3), ir.Class("cold", None))
    web = ir.Class("web", DPORT, min=30 * MBIT, max=60 * MBIT, share=2, classes=inside)
    tree = tc_tree.tree(shape(voice, web, ir.Class("bulk", None, min=20 * MBIT), overhead=18))
    by_name = {item.counter: item for item in tree.classes}
    found = {name.rpartition(".")[2]: (c.classid, c.parent, c.rate, c.ceil, c.prio, c.quantum) for name, c in by_name.items()}
    assert found == {
        "out": ("1:1", "1:", 100 * MBIT, 100 * MBIT, 1, 12_500),
        "unclassified": ("1:2", "1:1", 8_000, 100 * MBIT, 1, 12_500),
        "voice": ("1:10", "1:1", 10 * MBIT, 20 * MBIT, 0, 12_500),
        "web": ("1:11", "1:1", 30 * MBIT, 60 * MBIT, 1, 25_000),
        "hot": ("1:12", "1:11", 8_000, 60 * MBIT, 1, 37_500),  # no max of its own: its parent's
        "cold": ("1:13", "1:11", 8_000, 60 * MBIT, 1, 12_500),
        "bulk": ("1:14", "1:1", 20 * MBIT, 100 * MBIT, 1, 12_500),
    }
    assert {item.overhead for item in tree.classes} == {18}
    assert [leaf.parent for leaf in tree.leaves] == ["1:2", "1:10", "1:12", "1:13", "1:14"], "classes with classes inside hold no packets"
    assert all(item.burst * 8 * 250 >= item.rate and item.cburst * 8 * 250 >= item.ceil for item in tree.classes)


def test_a_class_without_a_queue_gets_the_fair_one_that_there_is() -> None:
    leaf = tc_tree.tree(shape(ir.Class("all", None))).leaves[1]
    assert [(choice.kind, choice.options) for choice in leaf.choices] == [("fq_codel", {}), ("pfifo", {"limit": 1000})]
    assert not leaf.prefer


def test_queue_options_in_the_kernels_units() -> None:
    queues = (
        ir.Queue("fq_codel", (("target", 5_000_000), ("interval", 100_000_000), ("limit", 500), ("ecn", "on"))),
        ir.Queue("sfq", (("perturb", 10_000_000_000),)), ir.Queue("cake", (("rtt", 50_000_000), ("nat", 1))), ir.Queue("pfifo", (("limit", 7),)),
    )  # fmt: skip
    leaf = tc_tree.tree(shape(ir.Class("all", None, queues=queues))).leaves[1]
    assert [choice.options for choice in leaf.choices] == [
        {"target": 5_000, "interval": 100_000, "limit": 500, "ecn": 1}, {"perturb": 10}, {"rtt": 50_000, "nat": 1, "target": 2_500}, {"limit": 7}
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("queue", "words"),
    [
        (ir.Queue("red"), "netc knows no queue of kind 'red'"),
        (ir.Queue("pfifo", (("target", 5),)), "pfifo has no option 'target'"),
        (ir.Queue("fq_codel", (("target", 1_500),)), "fq_codel cannot take target 1500"),
        (ir.Queue("fq_codel", (("ecn", "maybe"),)), "fq_codel cannot take ecn maybe"),
        (ir.Queue("pfifo", (("limit", 0),)), "pfifo cannot take limit 0"),
    ],
)
def test_queues_that_are_refused(queue: ir.Queue, words: str) -> None:
    assert refused(shape(ir.Class("all", None, queues=(queue,)))) == [("N952", f"class all: {words}")]


REST = ir.Class("rest", None)


@pytest.mark.parametrize(
    ("made", "code", "words"),
    [
        (shape(ir.Class("a", DPORT)), "N950", "needs exactly one default class"),
        (shape(REST, ir.Class("b", None)), "N950", "needs exactly one default class"),
        (shape(ir.Class("a", DPORT, classes=(ir.Class("b", DPORT),)), REST), "N950", "class a needs exactly one default class"),
        (shape(ir.Class("rest", DPORT), REST), "N950", "used twice"),
        (shape(ir.Class("seen", DPORT), REST), "N950", "reserved"),
        (shape(ir.Class("a", ir.Not(ir.Connection(("new",)))), REST), "N950", "connection tracking"),
        (shape(ir.Class("a", DPORT, queues=(ir.Queue("pfifo"),), classes=(ir.Class("b", None),)), REST), "N950", "can have no queue"),
        (shape(REST, rate=100_000_001), "N951", "rate 100000001 bit/s cannot be set exactly"),
        (shape(REST, overhead=-4), "N951", "overhead -4"),
        (shape(ir.Class("a", DPORT, urgent=True), REST), "N951", "urgent without a max"),
        (shape(ir.Class("a", DPORT, min=30 * MBIT, max=20 * MBIT), REST), "N951", "is owed 30000000 bit/s and may send at most 20000000"),
        (shape(ir.Class("a", DPORT, min=100 * MBIT), REST), "N951", "need 100008000 bit/s of the shape's 100000000"),
        (shape(ir.Class("a", DPORT, min=MBIT, classes=(ir.Class("b", None, min=2 * MBIT),)), REST), "N951", "of the min 1000000 bit/s of class a"),
        (shape(ir.Class("a", DPORT, share=0), REST), "N951", "share 0"),
    ],
)
def test_what_htb_cannot_keep_is_refused(made: ir.Shape, code: str, words: str) -> None:
    found = refused(made)
    assert any(one == code and words in message for one, message in found), found


def test_too_many_and_too_deep() -> None:
    many = [ir.Class(f"c{i}", DPORT) for i in range(tc_tree.MAX_CLASSES)]
    assert ("N950", "wan.shape.out has 4081 classes; there is room for 4080") in refused(shape(*many, REST, rate=1000 * MBIT))
    deep = ir.Class("d8", None)
    for level in range(7, 0, -1):
        deep = ir.Class(f"d{level}", None, classes=(deep,))
    assert ("N950", "class d8 is nested too deeply for HTB") in refused(shape(deep))


def test_shape_in_never_skips_an_nft_ingress_filter() -> None:
    """What comes back from an ifb does not pass nf_ingress: the filter would be silently off."""
    chain = ir.Chain("wan.in", "wan", "in", None, (), "drop")
    early = placed.ChainPlacement(chain, "ingress", 0, "")
    assert [code for code, _ in refused(shape(REST, direction="in"), chains=(early,))] == ["N953"]
    tc.lower(on_nic(shape(REST, direction="in"), chains=(replace(early, early="", late="conntrack"),)))


def test_the_same_input_gives_the_same_bytes() -> None:
    made = on_nic(shape(ir.Class("a", DPORT, min=MBIT), REST), shape(REST, direction="in"))
    one, two = tc.lower(made), tc.lower(made)
    assert one == two
    assert [code.hook for code in one.programs] == ["tcx_egress", "tcx_ingress"]
    config = [item for item in one.maps if item.role == "config"]
    assert [item.value_size for item in config] == [4 * len(bundle.CONFIG_WORDS)] * 2


def test_counters_of_a_classifier() -> None:
    web = ir.Class("web", DPORT, classes=(ir.Class("a", DPORT), ir.Class("b", None)))
    found = tc.lower(on_nic(shape(web, REST))).counters
    assert [(c.name.rpartition(".")[2], c.kind, c.index, c.stage) for c in found] == [
        ("seen", "seen", 0, "tc"), ("web", "other", 1, "tc"), ("a", "class", 2, "tc"), ("b", "class", 3, "tc"), ("rest", "class", 4, "tc")
    ]  # fmt: skip


@pytest.mark.parametrize("rate", [8_000, MBIT, 10**9, 400 * 10**9])
def test_bursts_and_quanta(rate: int) -> None:
    assert tc_rates.burst(rate) >= max(tc_rates.FRAME, rate / 8 / 250)
    assert tc_rates.FRAME <= tc_rates.quantum_of_one_share(rate) <= tc_rates.MAX_QUANTUM
