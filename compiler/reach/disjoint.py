"""Whether two conditions can both be true of one packet: not, where they need other protocols, or other values of one field.

Sound for every packet in every state, broken packets and dynamic sets included; silent about what is not plain. Between rules that exclude each other
first match says nothing, and nothing that one of them does can be seen by a packet that the other takes: a limit is asked, and an effect happens,
only when the rule's condition is true.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from compiler import contradiction, ir, ranges
from compiler.ir import Field
from compiler.reach.values import plain, tested


@dataclass(frozen=True, slots=True)
class Extent:
    """Where a condition may be true. pairs: of family and transport; fields: the values that it leaves."""

    pairs: int
    fields: Mapping[Field, ir.Ranges]

    def excludes(self, other: Extent) -> bool:
        """Surely no packet is in both."""
        if not self.pairs & other.pairs:
            return True
        return any(name in self.fields and not ranges.meet(self.fields[name], values) for name, values in other.fields.items())


def extent(when: ir.Expr, sets: Mapping[str, ir.Set]) -> Extent:
    """Of a conjunction all plain tests count."""
    fields: dict[Field, ir.Ranges] = {}
    for item in when.items if isinstance(when, ir.And) else (when,):
        if plain(item, sets):
            name, values = tested(item, sets)
            fields[name] = ranges.intersect(fields[name], values) if name in fields else values
    return Extent(contradiction.possible(when, sets), fields)

