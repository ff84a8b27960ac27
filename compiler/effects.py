"""What a rule does once it has matched (`then …`) → ir.Effect. Effects never change what matches."""

from __future__ import annotations

import re

from compiler import ir, syntax, units
from compiler.findings import LiteralError
from compiler.ir import Field
from compiler.scope import Scope
from compiler.suggest import hint
from compiler.types import TYPES

_ONE_IN = re.compile(r"1/([0-9]{1,10})")
_MAX_ONE_IN = 1 << 31


def lower(scope: Scope, node: syntax.Effect, direction: str) -> ir.Effect | None:
    """One effect of a rule in a chain of `direction`; None with findings."""
    if node.kind == "log":
        return ir.Log()
    if node.kind == "sample":
        return _sample(scope, node)
    return _set_dscp(scope, node, direction) if node.kind == "set" else _add(scope, node)


def _sample(scope: Scope, node: syntax.Effect) -> ir.Sample | None:
    match = _ONE_IN.fullmatch(node.words[0].text)
    if not match or not 1 <= int(match[1]) <= _MAX_ONE_IN:
        scope.error(
            "N045",
            f"`{node.words[0].text}` is not a share of the packets",
            node.words[0].span,
            "write one in N: sample 1/100",
        )
        return None
    return ir.Sample(int(match[1]))


def _set_dscp(scope: Scope, node: syntax.Effect, direction: str) -> ir.SetDscp | None:
    what, value = node.words
    if what.text != "dscp":
        scope.error(
            "N045", f"`set {what.text}` is not an effect", what.span, "what can be set is the DSCP: set dscp ef"
        )
        return None
    if direction == "in":
        scope.error(
            "N006",
            "`set dscp` in a `filter … in` is not supported yet",
            node.span,
            "set it where the packet leaves: `filter NIC out { … then set dscp ef }`",
        )
        return None
    ranges = scope.ranges((scope.single(value),), TYPES["dscp"])
    if not ranges or ranges[0][0] != ranges[0][1]:
        if ranges:
            scope.error("N045", "a packet has one DSCP", value.span, "write one value")
        return None
    return ir.SetDscp(ranges[0][0])


def _add(scope: Scope, node: syntax.Effect) -> ir.Add | None:
    what, name = node.words[:2]
    if what.text not in ("src", "dst"):
        scope.error(
            "N045", f"`{what.text}` cannot be added to a set", what.span, "write `add src to …` or `add dst to …`"
        )
        return None
    target = scope.set(name)
    if target is None:
        return None
    if target.size is None:
        dynamic = [s.name for s in scope.sets.values() if s.size is not None]
        scope.error(
            "N035",
            f"`{name.text}` is a fixed set: nothing can be added to it",
            name.span,
            hint(
                name.text, dynamic, "" if dynamic else f"declare a dynamic one: set {name.text} : address timeout 10m"
            ),
            ((target.span, "declared here"),),
        )
        return None
    timeout = None
    if len(node.words) > 2:
        word = scope.single(node.words[2])
        try:
            timeout = units.duration(word.text)
        except LiteralError as error:
            scope.findings.literal(error, word.span)
            return None
    return ir.Add(target.name, Field.SRC if what.text == "src" else Field.DST, timeout, node.kind == "renew")
