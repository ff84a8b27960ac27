"""The passes over the IR, in order. Each keeps the program's meaning, verdict by verdict and counter by counter.

A pass is a function from a program to a program and what it found out. `run` checks legality after each that changed
anything, so that a pass that breaks the IR is named at once.
"""

from __future__ import annotations

from collections.abc import Callable

from compiler import ir, ir_spec
from compiler.diagnostics import Diagnostic
from compiler.passes import fold_constants, merge_ranges, merge_sets

Pass = Callable[[ir.Program], tuple[ir.Program, list[Diagnostic]]]
PIPELINE: tuple[tuple[str, Pass], ...] = (
    ("fold_constants", fold_constants.run),
    ("merge_ranges", merge_ranges.run),
    ("merge_sets", merge_sets.run),
)


def run(program: ir.Program) -> tuple[ir.Program, list[Diagnostic]]:
    """Run every pass. Raises ir_spec.IrError, naming the pass, when one makes an illegal program."""
    found: list[Diagnostic] = []
    for name, step in PIPELINE:
        before = program
        program, diagnostics = step(program)
        found += diagnostics
        if program is before:
            continue
        try:
            ir_spec.check(program)
        except ir_spec.IrError as error:
            raise ir_spec.IrError([f"after {name}: {line}" for line in error.violations]) from None
    return program, found
