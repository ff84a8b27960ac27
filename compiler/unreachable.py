"""Rules that no whole packet can reach, because rules above them decide every packet that they match (W005).

Exact where it speaks (compiler.reach), and silent where it would be slow: filters of more than MOST_RULES rules are looked at only when they are
compiled, for every packet (passes/drop_unreachable.py). A rule about packets that are not whole is left to that, too.
"""

from __future__ import annotations

from collections.abc import Sequence

from compiler import essentials, ir
from compiler.diagnostics import Diagnostic
from compiler.findings import Findings
from compiler.reach.cover import Cover
from compiler.space import whole_shapes

MOST_RULES = 250
MOST_NAMED = 4  # rules that a finding points at


def look(program: ir.Program, findings: Findings) -> None:
    """Adds a lint for each rule that is never reached, once for a list that several filters use."""
    said = set()
    for chain in program.chains:
        if len(chain.rules) > MOST_RULES:
            continue
        for at, above in Cover(chain.rules, program, whole_shapes()).unreached().items():
            rule = chain.rules[at]
            if rule.name in essentials.NAMES or rule.span in said or _speaks_of_broken(rule.when):
                continue
            said.add(rule.span)
            finding = covered(rule, [chain.rules[number] for number in above])
            findings.add(finding.code, finding.message, finding.span, finding.help, finding.notes)


def covered(rule: ir.Rule, above: Sequence[ir.Rule]) -> Diagnostic:
    """What there is to say of a rule whose packets those above it take."""
    what = "this takes all of them" if len(above) == 1 else "this takes some of them"
    named = ", ".join(f"`{item.name}`" for item in above[:MOST_NAMED])
    more = f" and {len(above) - MOST_NAMED} more" if len(above) > MOST_NAMED else ""
    return Diagnostic(
        "W005",
        f"no packet gets as far as this rule: {named}{more} above it decide{'s' if len(above) == 1 else ''} every one that it matches",
        rule.span,
        "move it up, narrow what stands above it, or remove it",
        tuple((item.span, what) for item in above[:MOST_NAMED]),
    )


def _speaks_of_broken(when: ir.Expr) -> bool:
    match when:
        case ir.Not(item):
            return _speaks_of_broken(item)
        case ir.And(items) | ir.Or(items):
            return any(map(_speaks_of_broken, items))
        case ir.Is(kind):
            return kind == "malformed"
    return False
