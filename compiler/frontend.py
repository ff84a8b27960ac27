"""The front end's door: policy file → typed program, or every finding at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from compiler import check, ir, resolve, syntax
from compiler.diagnostics import CompileError, Diagnostic
from compiler.findings import Findings, LiteralError
from compiler.source import Sources, Span


@dataclass(frozen=True, slots=True)
class Loaded:
    """A policy that is right, its lints, and the statements that it was made from."""

    program: ir.Program
    warnings: list[Diagnostic]
    statements: list[syntax.Statement]


_EMPTY = ir.Program()


def load(path: Path, sources: Sources) -> Loaded:
    """Parses, resolves and checks a policy. Raises CompileError with all findings of the run, in source order."""
    findings = Findings()
    findings.file(str(path))
    try:
        statements = resolve.read_policy(path, sources, findings)
    except LiteralError as error:
        raise CompileError([Diagnostic(error.code, error.message, Span(str(path), 1, 1, 1, 2), error.help)]) from None
    scope = resolve.declare(statements, sources, findings)
    program = check.program(scope, statements)
    return Loaded(program, findings.check(), statements)


def parse_expr(
    text: str, program: ir.Program = _EMPTY, name: str = "<condition>", sources: Sources | None = None
) -> ir.Expr:
    """One condition, such as `udp dport 53 or src in office`; names are those of `program`. Raises CompileError."""
    from compiler.parse import parse_condition
    from compiler.predicates import condition
    from compiler.scope import Scope

    findings, sources = Findings(), sources or Sources()
    node = parse_condition(name, text, sources, findings)
    findings.check()
    assert node is not None  # else there was a finding
    scope = Scope(findings, sources, {n.name: n for n in program.nics}, {s.name: s for s in program.sets})
    expr = condition(scope, node)
    findings.check()
    return expr


def parse_packet(text: str, name: str = "<packet>") -> ir.PacketSpec:
    """A packet in words, such as `udp 203.0.113.9:5353 -> 192.0.2.1:53`. Raises CompileError (places are in file `name`)."""
    from compiler.packet_words import packet
    from compiler.syntax import Word
    from compiler.tokens import END, NEWLINE, tokens

    findings = Findings()
    findings.file(name)
    words = [
        Word(t.text, Span(name, t.line, t.column, t.line, t.end_column))
        for t in tokens(text)
        if t.kind not in (NEWLINE, END)
    ]
    if not words:
        raise CompileError(
            [
                Diagnostic(
                    "N083",
                    "there is no packet here",
                    Span(name, 1, 1, 1, 2),
                    "write it like this: tcp 203.0.113.9:40000 -> 192.0.2.1:22 syn",
                )
            ]
        )
    spec = packet(words, findings)
    findings.check()
    assert spec is not None  # else there was a finding
    return spec
