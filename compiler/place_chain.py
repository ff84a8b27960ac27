"""Placement of filter chains: how much an early stage judges, and what the stateful rest may contain."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from compiler import bundle, ir
from compiler.diagnostics import Diagnostic
from compiler.placed import ChainPlacement
from compiler.profile import Profile
from compiler.source import Span

_FRAGMENT_KINDS = ("fragment", "first-fragment", "later-fragment")


@dataclass(slots=True)
class Findings:
    """What a placement has found: errors, reasons for the plan, and settings that it needs."""

    diagnostics: list[Diagnostic] = field(default_factory=list)
    reasons: list[bundle.Placement] = field(default_factory=list)
    settings: list[ir.Setting] = field(default_factory=list)

    def error(self, code: str, message: str, span: Span, helps: str, notes: tuple[tuple[Span, str], ...] = ()) -> None:
        self.diagnostics.append(Diagnostic(code, message, span, helps, notes))

    def reason(self, what: str, stage: str, why: str, span: Span) -> None:
        self.reasons.append(bundle.Placement(what, stage, why, span.file, span.line))


def place_in(chain: ir.Chain, nic: ir.Nic, profile: Profile, findings: Findings) -> ChainPlacement:
    """Rules before the first stateful one go early, as far as the verdict can be carried on; the rest to connection tracking."""
    early = "ingress" if nic.xdp == "none" else "xdp"
    stateful = first_stateful(chain)
    carried = early == "ingress" or profile.xdp.metadata
    split = stateful if carried or stateful == len(chain.rules) else _leading_drops(chain, stateful)
    late = "conntrack" if stateful < len(chain.rules) else ""
    placed = ChainPlacement(chain, early, split, late)
    _give_reasons(placed, stateful, early, findings)
    if profile.ntuple.drop and any(rule.verdict == "drop" for rule in chain.rules[:split]):
        findings.reason(chain.name, early, "no rule is put into the NIC: it counts no flow rules, and every rule of a filter is counted", chain.span)
    if late:
        _check_late(chain, split, min(split, stateful), findings)
    return placed


def place_out(chain: ir.Chain, findings: Findings) -> ChainPlacement:
    """Leaving packets are judged by nft: at the device's egress, or after NAT by connection tracking when a rule needs it."""
    stateful = first_stateful(chain)
    late = "conntrack" if stateful < len(chain.rules) else "egress"
    placed = ChainPlacement(chain, "", 0, late)
    why = "XDP does not see what leaves" if late == "egress" else _because(chain, stateful)
    for rule in chain.rules:
        findings.reason(f"{chain.name}.{rule.name}", late, why, rule.span)
    findings.reason(f"{chain.name}.default", late, why, chain.span)
    if late == "conntrack":
        _check_late(chain, 0, stateful, findings)
    return placed


def place_forward(chain: ir.Chain, findings: Findings) -> ChainPlacement:
    """Forwarded packets are known only after routing."""
    placed = ChainPlacement(chain, "", 0, "conntrack")
    for rule in chain.rules:
        findings.reason(f"{chain.name}.{rule.name}", "conntrack", "only after routing is it known that a packet is forwarded", rule.span)
    findings.reason(f"{chain.name}.default", "conntrack", "judges what no rule has", chain.span)
    _check_late(chain, 0, first_stateful(chain), findings)
    return placed


def first_stateful(chain: ir.Chain) -> int:
    """The index of the first rule that needs connection tracking; the number of rules when none does."""
    return next((i for i, rule in enumerate(chain.rules) if any(isinstance(part, ir.Connection) for part in parts(rule.when))), len(chain.rules))


def parts(when: ir.Expr) -> Iterator[ir.Expr]:
    """The expression and everything in it."""
    yield when
    if isinstance(when, ir.Not):
        yield from parts(when.item)
    elif isinstance(when, ir.And | ir.Or):
        for item in when.items:
            yield from parts(item)


def _leading_drops(chain: ir.Chain, stateful: int) -> int:
    return next((i for i, rule in enumerate(chain.rules[:stateful]) if rule.verdict != "drop"), stateful)


def _because(chain: ir.Chain, stateful: int) -> str:
    rule = chain.rules[stateful]
    return f"`{rule.text or rule.name}` needs connection tracking"


def _give_reasons(placed: ChainPlacement, stateful: int, early: str, findings: Findings) -> None:
    chain = placed.chain
    for index, rule in enumerate(chain.rules):
        stage = early if index < placed.split else placed.late
        findings.reason(f"{chain.name}.{rule.name}", stage, _rule_reason(placed, index, stateful, early), rule.span)
    if placed.late:
        why = f"{_because(chain, stateful)}; {early} applies it to what is not IPv4 or IPv6"
        findings.reason(f"{chain.name}.default", f"{placed.late}, {early}", why, chain.span)
    else:
        findings.reason(f"{chain.name}.default", early, "every rule is judged there", chain.span)


def _rule_reason(placed: ChainPlacement, index: int, stateful: int, early: str) -> str:
    chain = placed.chain
    if index < placed.split:
        return "the first stage that can judge it" if early == "xdp" else "the nic says `xdp none`: nft at the device's ingress is next"
    if index == stateful:
        return "needs connection tracking"
    if index < stateful:
        return "the target has no XDP metadata to carry a pass on, so only leading drops can be judged in XDP"
    return f"after `{chain.rules[stateful].text or chain.rules[stateful].name}`, which needs connection tracking"


def _check_late(chain: ir.Chain, split: int, limits_from: int, findings: Findings) -> None:
    """Refuse what would mean something else where packets are reassembled and merged (LANGUAGE.md, meaning 9)."""
    for index, rule in enumerate(chain.rules[split:], split):
        what = _changed_meaning(rule, index >= limits_from)
        if not what:
            continue
        stateful = first_stateful(chain)
        notes = ((chain.rules[stateful].span, "this needs connection tracking"),) if stateful < min(index, len(chain.rules)) else ()
        code, words, helps = what
        if chain.direction == "in":
            helps = f"move the rule above {_name(chain, stateful)}"
        findings.error(code, f"`{rule.text or rule.name}`: {words}", rule.span, helps, notes)


def _name(chain: ir.Chain, stateful: int) -> str:
    rule = chain.rules[stateful]
    return f"`{rule.text or rule.name}`, the first rule that needs connection tracking"


def _changed_meaning(rule: ir.Rule, judge_limit: bool) -> tuple[str, str, str] | None:
    for part in parts(rule.when):
        if isinstance(part, ir.Is) and part.kind in _FRAGMENT_KINDS:
            helps = "judge fragments in `filter NIC in`, before the first stateful rule"
            return "N703", f"`{part.kind}` never matches here: packets arrive reassembled", helps
        if isinstance(part, ir.Within) and part.field is ir.Field.LENGTH:
            helps = "judge lengths in `filter NIC in`, before the first stateful rule"
            return "N705", "`length` means something else here: packets arrive reassembled, or merged by GRO", helps
    if rule.limit is not None and judge_limit:
        helps = "limit in `filter NIC in`, before the first stateful rule"
        return "N704", "a limit in packets means something else here: packets arrive reassembled, or merged by GRO", helps
    return None
