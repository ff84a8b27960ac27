"""What is legal and likely not meant: W001 to W006."""

from __future__ import annotations

from compiler import essentials, ir, lint_pacing, unreachable
from compiler.check_steer import contains_connection
from compiler.findings import Findings
from compiler.ir import Field


def look(program: ir.Program, findings: Findings) -> None:
    """Adds the lints of a program without errors."""
    xdp = {nic.name for nic in program.nics if nic.xdp != "none"}
    sets = {item.name: item for item in program.sets}
    for chain in program.chains:
        if chain.direction == "in" and chain.nic in xdp:
            _stateful_first(chain, findings)
        for rule in chain.rules:
            _limited_drop(rule, findings)
            for effect in rule.effects:
                if isinstance(effect, ir.Add):
                    _spoofable(rule, effect, sets[effect.set], findings)
    for item in program.sets:
        if item.size is None and not item.ranges:
            findings.add(
                "W004",
                f"the set `{item.name}` is empty: conditions on it match nothing",
                item.span,
                'give it members, or remove it; it never means "no restriction"',
            )
    lint_pacing.look(program, findings)
    unreachable.look(program, findings)


def _limited_drop(rule: ir.Rule, findings: Findings) -> None:
    if rule.limit is not None and rule.verdict == "drop" and not rule.limit.over:
        findings.add(
            "W001",
            "a limit on `drop` drops the first packets and lets the rest go on",
            rule.span,
            "to drop what is too much, write `drop … over RATE`, or `pass … limit RATE` and then `drop …`",
        )


def _stateful_first(chain: ir.Chain, findings: Findings) -> None:
    """A stateful rule ends what XDP can judge: stateless rules behind it are judged late and slowly."""
    stateful = [at for at, rule in enumerate(chain.rules) if contains_connection(rule.when)]
    if not stateful:
        return
    first = chain.rules[stateful[0]]
    later = [
        rule
        for rule in chain.rules[stateful[0] + 1 :]
        if not contains_connection(rule.when) and not (rule.span == first.span and rule.name in essentials.NAMES)
    ]
    if later:
        what = f"`{later[0].name}`" if len(later) == 1 else f"{len(later)} stateless rules"
        findings.add(
            "W002",
            f"this rule needs connection tracking, and keeps {what} behind it out of XDP",
            first.span,
            "put stateless rules first",
            ((later[0].span, "this one could be judged in the driver"),),
        )


def _spoofable(rule: ir.Rule, effect: ir.Add, target: ir.Set, findings: Findings) -> None:
    if effect.field is Field.SRC and not target.never and not _established(rule.when):
        findings.add(
            "W003",
            f"anybody can put any address into `{target.name}` with a forged source",
            rule.span,
            f"name who must never be in it: set {target.name} : address … never office",
            ((target.span, "this set has no `never`"),),
        )


def _established(expr: ir.Expr) -> bool:
    """Whether the match proves that the source answers to its address."""
    if isinstance(expr, ir.And):
        return any(map(_established, expr.items))
    if isinstance(expr, ir.Or):
        return all(map(_established, expr.items))
    return isinstance(expr, ir.Connection) and set(expr.states) <= {"established"}
