"""One filter chain at one hook: entry, sorting by layout, and the rules once for each layout, as libnftables commands.

Every packet that enters is counted as `seen` and ends in exactly one of: a rule, default, control, handed-on, carried.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from compiler import bundle, ir
from compiler.diagnostics import Diagnostic
from compiler.targets import nft_expr, nft_layout, nft_rate, tcx
from compiler.targets import nft_json as nft
from compiler.targets.nft_json import Json
from compiler.targets.nft_layout import Layout

UNREADABLE = "dropped because nft cannot read what a rule asks: behind a second VLAN tag, or IPv6 AH, mobility, HIP, shim6"


@dataclass(slots=True)
class Stage:
    """A chain at a hook. rules: those to judge here, in order. tail: those behind them that only what is not IP is asked here.

    hand_on: IP packets that no rule matched go to the next stage instead of tail and default. own: the table's rules besides tail that
    count here. on_pass, on_hand: what ends a passed or handed-on packet. Commands, counters and findings gather in it.
    """

    chain: ir.Chain
    family: str
    stage: str
    rules: tuple[ir.Rule, ...]
    tail: tuple[ir.Rule, ...] = ()
    hand_on: bool = False
    connections: bool = False
    on_pass: list[Json] = field(default_factory=lambda: [nft.ACCEPT])
    on_hand: list[Json] = field(default_factory=lambda: [nft.ACCEPT])
    commands: list[Json] = field(default_factory=list)
    limits: list[Json] = field(default_factory=list)
    counters: dict[str, bundle.Counter] = field(default_factory=dict)
    found: list[Diagnostic] = field(default_factory=list)

    def name(self, part: str) -> str:
        """The nft chain of one part (a layout, a sorting step) in this generation."""
        return f"{nft.object_name(self.chain.name)}.{part}{nft.GENERATION}"

    def counter(self, kind: str, verdict: str, text: str, rule: ir.Rule | None = None) -> str:
        """The counter of a rule, or of the stage itself; its name."""
        name = f"{self.chain.name}.{rule.name if rule else kind}"
        span = rule.span if rule else self.chain.default_span if kind == "default" else self.chain.span
        of_kind = "rule" if rule or kind == "unreadable" else "other" if kind == tcx.ELSEWHERE else kind
        self.counters.setdefault(name, bundle.Counter(name, self.stage, of_kind, 0, verdict, span.file, span.line, text))
        return name

    def add(self, part: str, exprs: list[Json], note: str) -> None:
        self.commands.append(nft.add_rule(self.family, self.name(part), exprs, note))

    def add_chain(self, part: str, **base: object) -> None:
        self.commands.append(nft.add_chain(self.family, self.name(part), **base))


def judge(stage: Stage) -> None:
    """The chains that judge a packet: go to `sort` to enter. Fills commands, counters and findings of `stage`."""
    stage.counter("seen", "", "")
    for rule in stage.rules:
        stage.counter("rule", rule.verdict, rule.text, rule)
    stage.counter("default", stage.chain.default, f"default {stage.chain.default}")
    stage.counter("control", "pass", "control traffic that no rule names")
    sorting = nft_layout.sorting(stage.family == "inet")
    reached = {target for _, _, target in sorting}
    layouts = [layout for layout in nft_layout.LAYOUTS if layout.name in reached]
    for part in dict.fromkeys([*(chain for chain, _, _ in sorting), *(layout.name for layout in layouts)]):
        stage.add_chain(part)
    if stage.family == "netdev":
        _refuse_unreadable(stage)
    for chain, matches, target in sorting:
        stage.add(chain, [*matches, nft.goto(stage.name(target))], target)
    for layout in layouts:
        _judge_layout(stage, layout)


def _refuse_unreadable(stage: Stage) -> None:
    name = stage.counter("unreadable", "drop", UNREADABLE)
    stage.add("sort", [nft.among(nft.meta("protocol"), nft_layout.VLAN_TYPES), nft.count(name), nft.DROP], UNREADABLE)


def _judge_layout(stage: Stage, layout: Layout) -> None:
    """All rules for packets of one layout, and how they end."""
    if layout.control:
        named = [r for r in (*stage.rules, *stage.tail) if nft_expr.names_control(r.when, layout.control)]
        _rules(stage, layout, named)
        name = stage.counter("control", "pass", "control traffic that no rule names")
        stage.add(layout.name, [nft.count(name), *stage.on_pass], "control")
        return
    _rules(stage, layout, stage.rules)
    if stage.hand_on and layout.family:
        name = stage.counter("handed-on", "", "judged by connection tracking")
        stage.add(layout.name, [nft.count(name), *stage.on_hand], "handed on")
        return
    _rules(stage, layout, stage.tail)
    name = stage.counter("default", stage.chain.default, f"default {stage.chain.default}")
    stage.add(layout.name, [nft.count(name), *_end(stage, stage.chain.default)], f"default {stage.chain.default}")


def _end(stage: Stage, verdict: str) -> list[Json]:
    return stage.on_pass if verdict == "pass" else [nft.DROP]


def _rules(stage: Stage, layout: Layout, rules: Iterable[ir.Rule]) -> None:
    for rule in rules:
        if not layout.opaque:
            _rule(stage, layout, rule, _alternatives(stage, layout, rule, rule.when))
            continue
        _rule(stage, layout, rule, _alternatives(stage, layout, rule, nft_expr.reveal(rule.when, helping=False)))
        if rule.verdict == "drop":
            name = stage.counter("unreadable", "drop", UNREADABLE)
            for matches in _alternatives(stage, layout, rule, nft_expr.reveal(rule.when, helping=True)):
                stage.add(layout.name, [*matches, nft.count(name), nft.DROP], f"might match: {rule.text or rule.name}")


def _alternatives(stage: Stage, layout: Layout, rule: ir.Rule, when: ir.Expr) -> nft_expr.Alternatives:
    tracked = stage.connections and not layout.control  # control traffic has no connection (packet-model.md, Judging)
    try:
        return nft_expr.alternatives(when, layout, tracked)
    except nft_expr.TooComplexError:
        _too_complex(stage, rule)
        return nft_expr.NEVER


def _rule(stage: Stage, layout: Layout, rule: ir.Rule, found: nft_expr.Alternatives) -> None:
    """A rule's alternatives. With a limit they lead into a chain of its own, so that a packet asks the limit once."""
    if not found:
        return
    ending = [*_limit(stage, rule), nft.count(stage.counter("rule", rule.verdict, rule.text, rule))]
    ending += [*_effects(stage, layout, rule), *_end(stage, rule.verdict)]
    note = rule.text or rule.name
    if rule.limit is None or len(found) == 1:
        for matches in found:
            stage.add(layout.name, [*matches, *ending], note)
        return
    number = sum("chain" in command["add"] for command in stage.commands)
    choose, limited = f"any{number}", f"limit{number}"
    stage.add_chain(choose)
    stage.add_chain(limited)
    stage.add(limited, ending, note)
    for matches in found:
        stage.add(choose, [*matches, nft.goto(stage.name(limited))], note)
    stage.add(layout.name, [{"jump": {"target": stage.name(choose)}}], note)


def _limit(stage: Stage, rule: ir.Rule) -> list[Json]:
    """A named limit: it outlives the rule, so an apply does not refill it. The name holds the rate, which nft cannot change.

    nft's token bucket (net/netfilter/nft_limit.c) and GCRA accept the same packets: tokens = burst × interval - (tat - now).
    """
    if rule.limit is None:
        return []
    limit, spelled = rule.limit, nft_rate.spell(rule.limit.interval)
    assert spelled is not None, "nft_refuse refuses what nft cannot say"
    rate, unit = spelled
    name = f"{nft.object_name(limit.name)}.{rate}{'' if unit == 'second' else unit}-{limit.burst}{'-over' if limit.over else ''}"
    body = {"rate": rate, "per": unit, "burst": limit.burst, "inv": limit.over}
    command: Json = {"add": {"limit": {"family": stage.family, "table": "netc", "name": name, **body}}}
    if command not in stage.limits:
        stage.limits.append(command)
    return [{"limit": name}]


def _effects(stage: Stage, layout: Layout, rule: ir.Rule) -> list[Json]:
    found: list[Json] = []
    for effect in rule.effects:
        if isinstance(effect, ir.Log):
            prefix = f"netc:{stage.chain.name}.{rule.name} "
            found.append({"log": {"prefix": prefix[: nft.PREFIX_MAX], "level": "info"}})
        elif isinstance(effect, ir.SetDscp) and layout.whole_header:
            key = nft.payload("ip" if layout.family == 4 else "ip6", "dscp")
            found.append({"mangle": {"key": key, "value": effect.value}})
    return found


def _too_complex(stage: Stage, rule: ir.Rule) -> None:
    message = f"`{rule.text or rule.name}`: more than {nft_expr.MAX_ALTERNATIVES} combinations of its `or` parts at the {stage.stage} stage"
    helps = "split it into several rules, or name the alternatives in a set"
    if not any(d.span == rule.span and d.code == "N805" for d in stage.found):
        stage.found.append(Diagnostic("N805", message, rule.span, helps))
