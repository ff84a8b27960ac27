"""nftables: what arrives behind the first stateful rule, what leaves, what is forwarded; and what arrives where there is no XDP.

| chain | hooks | stage of its counters |
|---|---|---|
| in, early ingress | netdev ingress | ingress |
| in, late conntrack | inet prerouting, and a netdev ingress door that marks what came without a mark | conntrack |
| out, stateless | netdev egress | egress |
| out, stateful | inet postrouting; netdev egress for all that did not come by there | conntrack, egress |
| forward | inet forward | conntrack |

All of it lives in the tables `inet netc` and `netdev netc`. Base chains only sort; their policy is accept, their last word is a rule's.
nft counts GRO and GSO packets as one, and bytes without the Ethernet header at ingress and in inet, without VLAN tags everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec

from compiler import bundle, ir, place
from compiler.diagnostics import CompileError, Diagnostic
from compiler.targets import nft_chain, nft_fence, nft_refuse, nft_sets, tcx
from compiler.targets import nft_json as nft
from compiler.targets.nft_chain import Stage
from compiler.targets.nft_json import Json

FENCE = -199  # behind NF_IP_PRI_CONNTRACK (-200), in front of AFTER_CONNTRACK, which takes the mark off
AFTER_CONNTRACK = -198  # before mangle (-150), whose rules may write marks, and dstnat (-100)
AFTER_SRCNAT = 150  # NF_IP_PRI_NAT_SRC is 100
FILTER = 0
_KIND_MASK = 0xF0000000  # pending or passed, of whichever nic


@dataclass(frozen=True, slots=True)
class NftParts:
    """What goes into the bundle: the content of one or two tables, and their counters."""

    nft: tuple[bundle.Nft, ...]
    counters: tuple[bundle.Counter, ...]


def lower(placed: place.Placed) -> NftParts:
    """Everything that is placed in nftables. Raises CompileError (N801-N806) with every finding."""
    every = [(nic, item) for nic in placed.nics for item in nic.chains]
    found = [error for item in (*(item for _, item in every), *placed.forwards) for error in _refusals(item, placed)]
    if found:
        raise CompileError(list({(d.code, d.span): d for d in reversed(found)}.values())[::-1])
    stages = [stage for nic, item in every for stage in _nic_stages(nic, item)]
    stages += [_forward(item.chain) for item in placed.forwards]
    if complex_rules := [error for stage in stages for error in stage.found]:
        raise CompileError(complex_rules)
    fences = [_fence(nic, item) for nic, item in every if item.late and item.early == "xdp"]
    tables = tuple(_table(family, [s for s in stages if s.family == family], fences, placed) for family in ("inet", "netdev"))
    counters = tuple(counter for stage in stages for counter in stage.counters.values())
    return NftParts(tuple(table for table in tables if table), counters)


def _table(family: str, stages: list[Stage], fences: list[Stage], placed: place.Placed) -> bundle.Nft | None:
    if not stages:
        return None
    names = tuple(dict.fromkeys(name for stage in stages for name in stage.counters))
    fenced = [stage for stage in fences if stage.family == family]
    return bundle.Nft(family, "netc", _content(family, stages, placed), names, _content(family, fenced, placed) if fenced else ())


def _content(family: str, stages: list[Stage], placed: place.Placed) -> tuple[msgspec.Raw, ...]:
    asked = {name for stage in stages for rule in (*stage.rules, *stage.tail) for name in nft_sets.members(rule.when)}
    sets = nft_sets.lower(family, [item for item in placed.program.sets if item.name in asked])
    names = list(dict.fromkeys(name for stage in stages for name in stage.counters))
    commands = [*nft.add_table(family), *sets.values(), *(nft.add_counter(family, name) for name in names)]
    commands += [limit for stage in stages for limit in stage.limits]
    built = nft_sets.settle([command for stage in stages for command in stage.commands], sets)
    commands += sorted(built, key=lambda command: "rule" in command["add"])  # every chain before any rule that goes to it
    return tuple(msgspec.Raw(msgspec.json.encode(c)) for c in commands)


def _refusals(item: place.ChainPlacement, placed: place.Placed) -> Iterator[Diagnostic]:
    """What the chain's hooks cannot do, before anything is built."""
    sets = {known.name: known for known in placed.program.sets}
    for hook, rules in _hooks(item):
        try:
            nft.object_name(item.chain.name + max((rule.name for rule in rules), key=len, default=""))
        except ValueError as error:
            yield Diagnostic("N806", str(error), item.chain.span, "use a shorter name")
        for rule in rules:
            yield from nft_refuse.refusals(rule, item.chain, hook, sets, placed.settings)


def _hooks(item: place.ChainPlacement) -> Iterator[tuple[str, tuple[ir.Rule, ...]]]:
    """Where nft judges which rules. What is asked only for packets that are not IP is refused at the later stage."""
    rules = item.chain.rules
    if item.chain.direction == "in":
        if item.early != "xdp":
            yield "ingress", rules[: item.split] if item.late else rules
        if item.late:
            yield "prerouting", rules[item.split :]
    elif item.chain.direction == "forward":
        yield "forward", rules
    else:
        if item.late != "egress":
            yield "postrouting", rules
        yield "egress", rules


def _nic_stages(nic: place.NicPlacement, item: place.ChainPlacement) -> Iterable[Stage]:
    if item.chain.direction == "in":
        return _in(nic, item)
    if item.late == "egress":
        return [_egress(nic, item.chain)]
    return [_postrouting(nic, item.chain), _unjudged(nic, item.chain)]


def _in(nic: place.NicPlacement, item: place.ChainPlacement) -> Iterator[Stage]:
    if item.early != "xdp":
        yield _ingress(nic, item)
    elif item.late:
        yield _door(nic, item.chain)
    if item.late:
        yield _prerouting(nic, item)


def _ingress(nic: place.NicPlacement, item: place.ChainPlacement) -> Stage:
    """netdev ingress judges what XDP would, and leaves the verdict in the mark."""
    split = item.split if item.late else len(item.chain.rules)
    stage = Stage(item.chain, "netdev", "ingress", item.chain.rules[:split], item.chain.rules[split:], bool(item.late))
    if item.late:
        stage.add_chain("to-pass")
        stage.add_chain("to-hand-on")
        stage.on_pass, stage.on_hand = [nft.goto(stage.name("to-pass"))], [nft.goto(stage.name("to-hand-on"))]
        elsewhere = nft.count(stage.counter(tcx.ELSEWHERE, "drop", tcx.ELSEWHERE_TEXT))
        stage.add("to-hand-on", [nft.match(nft.meta("pkttype"), "other"), elsewhere, nft.DROP], tcx.ELSEWHERE_TEXT)
        group = nft.match(nft.meta("pkttype"), {"set": ["broadcast", "multicast"]})
        to_own = {"mangle": {"key": nft.payload("ether", "daddr"), "value": f"$mac:{nic.nic.name}"}}
        stage.add("to-hand-on", [group, to_own], "a macvlan would take a copy (tcx.py)")
        for part, mark in (("to-pass", bundle.MARK_PASSED), ("to-hand-on", bundle.MARK_PENDING)):
            _mark(stage, part, mark | nic.index << 24)
    nft_chain.judge(stage)
    _enter(stage, "base", "ingress", [([], [])], dev=f"$dev:{nic.nic.name}", prio=FILTER)
    return stage


def _mark(stage: Stage, part: str, mark: int) -> None:
    """Write the mark, unless another nic (the device below a VLAN) still has to judge the packet: that must not be forgotten.

    Then this nic's next stage judges the packet too, by its device's name.
    """
    own = mark & ~_KIND_MASK | bundle.MARK_PENDING
    pending = nft.match(nft.masked(nft.MARK, _KIND_MASK), bundle.MARK_PENDING)
    stage.add(part, [pending, nft.match(nft.NETC_MARK, own, "!="), nft.ACCEPT], "pending for another nic")
    stage.add(part, [nft.set_mark(mark), nft.ACCEPT], "mark")


def _door(nic: place.NicPlacement, chain: ir.Chain) -> Stage:
    """Behind XDP: what comes without this nic's mark (metadata lost, program gone) is pending, also on a VLAN device above."""
    stage = Stage(chain, "netdev", "ingress", ())
    stage.add_chain("door", type="filter", hook="ingress", dev=f"$dev:{nic.nic.name}", prio=FILTER, policy="accept")
    for mark in (bundle.MARK_PASSED, bundle.MARK_PENDING):
        stage.add("door", [nft.match(nft.NETC_MARK, mark | nic.index << 24), nft.ACCEPT], "marked by XDP")
    _mark(stage, "door", bundle.MARK_PENDING | nic.index << 24)
    return stage


def _prerouting(nic: place.NicPlacement, item: place.ChainPlacement) -> Stage:
    """After conntrack: what is marked pending, or comes in by the device without a pass; the mark is taken off."""
    stage = Stage(item.chain, "inet", "conntrack", item.chain.rules[item.split :], connections=True)
    nft_chain.judge(stage)
    passed, pending = (nft.match(nft.NETC_MARK, kind | nic.index << 24) for kind in (bundle.MARK_PASSED, bundle.MARK_PENDING))
    seen = nft.count(f"{item.chain.name}.seen")
    carried = nft.count(stage.counter("carried", "pass", "passed for good by the stage before"))
    ways = [
        ([passed], [seen, carried, nft.set_mark(0), nft.ACCEPT]),
        ([pending], [seen, nft.set_mark(0)]),
        ([nft.match(nft.meta("iifname"), f"$dev:{nic.nic.name}")], [seen]),
    ]
    _base(stage, "base", ways, type="filter", hook="prerouting", prio=AFTER_CONNTRACK)
    return stage


def _fence(nic: place.NicPlacement, item: place.ChainPlacement) -> Stage:
    """What `_prerouting` judges, for the moment between two flips."""
    hook: dict[str, object] = {"type": "filter", "hook": "prerouting", "prio": FENCE}
    return nft_fence.fence(_prerouting(nic, item), bundle.MARK_PENDING | nic.index << 24, hook)


def _egress(nic: place.NicPlacement, chain: ir.Chain) -> Stage:
    """netdev egress judges all that leaves, before tc."""
    stage = Stage(chain, "netdev", "egress", chain.rules)
    nft_chain.judge(stage)
    _enter(stage, "base", "egress", [([], [])], dev=f"$dev:{nic.nic.name}", prio=FILTER)
    return stage


def _postrouting(nic: place.NicPlacement, chain: ir.Chain) -> Stage:
    """After source NAT; a pass is carried to egress by the mark."""
    stage = Stage(chain, "inet", "conntrack", chain.rules, connections=True)
    stage.on_pass = [nft.set_mark(bundle.MARK_PASSED | nic.index << 24), nft.ACCEPT]
    nft_chain.judge(stage)
    leaving = nft.match(nft.meta("oifname"), f"$dev:{nic.nic.name}")
    _base(stage, "base", [([leaving], [nft.count(f"{chain.name}.seen")])], type="filter", hook="postrouting", prio=AFTER_SRCNAT)
    return stage


def _unjudged(nic: place.NicPlacement, chain: ir.Chain) -> Stage:
    """At egress: what postrouting passed is carried; the rest (ARP, packet sockets, bridges) has no connection and is judged so."""
    stage = Stage(chain, "netdev", "egress", chain.rules)
    nft_chain.judge(stage)
    carried = nft.count(stage.counter("carried", "pass", "passed for good by the stage before"))
    seen = nft.count(f"{chain.name}.seen")
    passed = nft.match(nft.NETC_MARK, bundle.MARK_PASSED | nic.index << 24)
    ways = [([passed], [seen, carried, nft.set_mark(0), nft.ACCEPT]), ([], [seen])]
    _base(stage, "base", ways, type="filter", hook="egress", dev=f"$dev:{nic.nic.name}", prio=FILTER)
    return stage


def _forward(chain: ir.Chain) -> Stage:
    """What is routed from one nic to another."""
    stage = Stage(chain, "inet", "conntrack", chain.rules, connections=True)
    nft_chain.judge(stage)
    between = [nft.match(nft.meta("iifname"), f"$dev:{chain.nic}"), nft.match(nft.meta("oifname"), f"$dev:{chain.to}")]
    _base(stage, "base", [(between, [nft.count(f"{chain.name}.seen")])], type="filter", hook="forward", prio=FILTER)
    return stage


def _enter(stage: Stage, part: str, hook: str, ways: list[tuple[list[Json], list[Json]]], **base: object) -> None:
    seen = nft.count(f"{stage.chain.name}.seen")
    _base(stage, part, [(matches, [seen, *does]) for matches, does in ways], type="filter", hook=hook, **base)


def _base(stage: Stage, part: str, ways: list[tuple[list[Json], list[Json]]], **base: object) -> None:
    """The base chain: each way in has its matches and what it does; one that does not end the packet goes on to `sort`."""
    stage.add_chain(part, policy="accept", **base)
    for matches, does in ways:
        ending = [] if does[-1] is nft.ACCEPT else [nft.goto(stage.name("sort"))]
        stage.add(part, [*matches, *does, *ending], f"{stage.chain.name}: {stage.stage}")
