"""How large a nic's counter map has to be, and whether there is one of that size: asked before anything is made of the rules.

All programs of a nic count into one map, so every lowering that makes one of them has to come to the same answer: from what is placed.
"""

from __future__ import annotations

from collections.abc import Mapping

from compiler import bundle, ir, place
from compiler.diagnostics import CompileError, Diagnostic
from compiler.source import Span
from compiler.targets import tc_tree

_OWN = 8  # of a chain and of a shape: seen, default, control, handed-on, unmarked, elsewhere, with room
_OF_SET = 2  # full, never


def check(program: ir.Program) -> None:
    """Refuses far too many rules before any pass looks at them. Raises CompileError (N901)."""
    in_xdp = {nic.name for nic in program.nics if nic.xdp != "none"}
    for chain in program.chains:
        if chain.direction == "in" and chain.nic in in_xdp:
            _fits(chain.nic, len(chain.rules), chain.span)


def slots(nic: place.NicPlacement, sets: Mapping[str, ir.Set]) -> int:
    """One of bundle.COUNTER_SLOTS. Raises CompileError (N901) for more counters than the largest has room for."""
    counters = at_most(nic, sets)
    _fits(nic.nic.name, counters, nic.nic.span)
    return bundle.counter_slots(counters)


def at_most(nic: place.NicPlacement, sets: Mapping[str, ir.Set]) -> int:
    """Counters of all BPF programs of the nic; some may turn out not to be needed."""
    rules = sum(len(item.chain.rules) + _OWN for item in nic.chains if item.early == "xdp")
    classes = sum(len(tc_tree.number(shape)) + _OWN for shape in nic.shapes)
    return rules + len(nic.steer) + classes + _OF_SET * sum(item.size is not None for item in sets.values())


def _fits(nic: str, counters: int, span: Span) -> None:
    if counters > bundle.MAX_COUNTERS:
        message = f"nic {nic} needs {counters:,} counters, one for each rule; {bundle.MAX_COUNTERS:,} are possible"
        raise CompileError([Diagnostic("N901", message, span, "use sets: one rule for many addresses or ports")])
