"""Rules that no whole packet can reach, because rules above them decide every packet that they match (W005).

Exact where it speaks, and silent where it would be slow: sets of very many members above are taken as matching nothing, a rule whose rest falls into
very many pieces counts as reached, and filters of more than MOST_RULES rules are not looked at. Control traffic is left to the rules that name it.
"""

from __future__ import annotations

from compiler import essentials, ir
from compiler.findings import Findings
from compiler.space import Region, Shape, Space, whole_shapes

MOST_RULES = 250
MOST_PIECES = 64
MOST_RANGES = 512


def look(program: ir.Program, findings: Findings) -> None:
    """Adds a lint for each rule that is never reached, once for a list that several filters use."""
    space, said = Space(program), set()
    large = {item.name for item in program.sets if len(item.ranges) > MOST_RANGES}
    for chain in program.chains:
        if len(chain.rules) > MOST_RULES:
            continue
        for at, rule in enumerate(chain.rules):
            if rule.name in essentials.NAMES or rule.span in said or _mentions(rule.when, large):
                continue
            if (above := _covering(chain.rules[:at], rule, space, large)) is not None:
                said.add(rule.span)
                findings.add(
                    "W005",
                    "no packet gets as far as this rule: the rules above it decide every one that it matches",
                    rule.span,
                    "move it up, narrow the rule above it, or remove it",
                    ((above.span, "this takes the last of them"),),
                )


def _covering(above: tuple[ir.Rule, ...], rule: ir.Rule, space: Space, large: set[str]) -> ir.Rule | None:
    """The rule above that takes the last packet that `rule` could match; None when something is left, or it never had any."""
    decide = [each for each in above if each.limit is None and not _mentions(each.when, large)]
    last: ir.Rule | None = None
    for shape in whole_shapes():
        rest = space.may(rule.when, shape)
        if not rest:
            continue
        taken = _exhausted(rest, decide, space, shape)
        if taken is None:
            return None
        last = taken if last is None or above.index(taken) > above.index(last) else last
    return last


def _exhausted(rest: Region, decide: list[ir.Rule], space: Space, shape: Shape) -> ir.Rule | None:
    for each in decide:
        rest = rest.subtract(space.must(each.when, shape))
        if not rest:
            return each
        if len(rest.boxes) > MOST_PIECES:
            return None
    return None


def _mentions(when: ir.Expr, large: set[str]) -> bool:
    """Whether it asks for a large set, or for packets that are not whole: those are outside of this space."""
    match when:
        case ir.Not(item):
            return _mentions(item, large)
        case ir.And(items) | ir.Or(items):
            return any(_mentions(item, large) for item in items)
        case ir.Member(_, name):
            return name in large
        case ir.Is(kind):
            return kind == "malformed"
    return False
