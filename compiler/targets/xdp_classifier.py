"""Which rules of a list are looked up in tables and which are judged by straight code, and why.

A rule goes into tables when its condition is one of fields alone. A limit, effects, members of dynamic sets: straight code. The straight
rules cost about a nanosecond each for every packet, a look-up in tables costs what the tables cost, whatever their number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compiler import ir
from compiler.classify import terms
from compiler.diagnostics import CompileError
from compiler.targets.c_program import CProgram

if TYPE_CHECKING:
    from compiler.classify.shape import Tables

MIN_RULES = 24  # below that a look-up costs more than the rules


@dataclass(frozen=True, slots=True)
class Division:
    """terms: of the rules with these numbers, ascending; straight: the other rules, in order."""

    terms: tuple[terms.Term, ...]
    in_tables: tuple[int, ...]
    straight: tuple[ir.Rule, ...]


def divide(rules: Sequence[ir.Rule], sets: Mapping[str, ir.Set], classifier: str) -> Division:
    """No terms: all is straight code."""
    all_straight = Division((), (), tuple(rules))
    if classifier == "straight" or (classifier == "auto" and len(rules) < MIN_RULES):
        return all_straight
    found: list[terms.Term] = []
    inside: list[int] = []
    straight = []
    for number, rule in enumerate(rules):
        try:
            found += terms.of_rule(number, rule, sets)
            inside.append(number)
        except terms.Inexpressible:
            straight.append(rule)
    if classifier == "auto" and len(inside) < MIN_RULES:
        return all_straight
    return Division(tuple(found), tuple(inside), tuple(straight))


def tables(division: Division, records: Mapping[int, int], c: CProgram) -> Tables:
    """The look-up of the division's terms; what stands before the program is set. Raises CompileError N901: too many."""
    from compiler.classify import tables as built  # NumPy: only where tables are made
    from compiler.targets import xdp_tables

    try:
        found = built.build(division.terms, records)
    except built.TooLarge as error:
        help_ = "use sets: one rule for many addresses or ports"
        raise CompileError([c.refusal("N901", f"{c.name}: {error}", help_)]) from None
    c.definitions = xdp_tables.definitions(found.shape)
    return found
