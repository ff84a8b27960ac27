"""The boundaries of a policy: for every field the values on, one inside and one outside of each range that it tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from compiler import ir
from compiler.ir_spec_expr import highest
from compiler.packet import parse


@dataclass(slots=True)
class Boundaries:
    """values: interesting numbers by field; kinds: the kind predicates that the policy names."""

    values: dict[ir.Field, list[int]] = field(default_factory=dict)
    kinds: list[str] = field(default_factory=list)

    def add(self, name: ir.Field, ranges: ir.Ranges) -> None:
        """Take in the boundaries of one test."""
        last = highest(name)
        near = (value for first, end in ranges for value in (first - 1, first, first + 1, end - 1, end, end + 1))
        self.values[name] = _joined(self.values.get(name, []), [value for value in near if 0 <= value <= last])


def of_expression(expr: ir.Expr, sets: dict[str, ir.Set]) -> Boundaries:
    """The boundaries of one expression."""
    found = Boundaries()
    for leaf in leaves(expr):
        match leaf:
            case ir.Within(name, ranges):
                found.add(name, ranges)
            case ir.Member(name, chosen):
                found.add(name, sets[chosen].ranges)
            case ir.Bits(name, mask, value):
                flags = [value, value | ~mask & 0xFF, *(value ^ 1 << bit for bit in range(8) if mask >> bit & 1)]
                found.values[name] = _joined(found.values.get(name, []), flags)
            case ir.Is(kind):
                found.kinds.append(kind)
    return found


def of_program(program: ir.Program) -> Boundaries:
    """The boundaries of all rules together."""
    whole = Boundaries()
    sets = {item.name: item for item in program.sets}
    for chain in program.chains:
        for rule in chain.rules:
            part = of_expression(rule.when, sets)
            whole.kinds += part.kinds
            for name, values in part.values.items():
                whole.values[name] = _joined(whole.values.get(name, []), values)
    return whole


def _joined(known: list[int], more: list[int]) -> list[int]:
    """Both, each value once, in order. A set of 100,000 prefixes has half a million boundaries: no search through lists."""
    return list(dict.fromkeys((*known, *more)))


def leaves(expr: ir.Expr) -> Iterator[ir.Expr]:
    """Every node that is not And, Or or Not."""
    match expr:
        case ir.Not(item):
            yield from leaves(item)
        case ir.And(items) | ir.Or(items):
            for item in items:
                yield from leaves(item)
        case _:
            yield expr


def boundary_test(program: ir.Program) -> Callable[[bytes], bool]:
    """Says of a frame whether some field that the policy tests has a boundary's value, as the reference parser reads it.

    A policy that tests no values has its kinds as boundaries.
    """
    whole = of_program(program)
    values = {name: set(numbers) for name, numbers in whole.values.items() if numbers}
    kinds = set(whole.kinds)

    def stands_on_one(frame: bytes) -> bool:
        packet = parse(frame)
        if not values:
            return not kinds or bool(packet.kinds & kinds)
        return any(packet.fields.get(name, -1) in numbers for name, numbers in values.items())

    return stands_on_one


def share(program: ir.Program, frames: list[bytes]) -> float:
    """The share of frames that stand on a boundary of the policy."""
    return sum(map(boundary_test(program), frames)) / len(frames)
