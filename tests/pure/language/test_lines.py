"""Rules taken by the line (compiler/lines.py, compiler/remembered.py) are what the parser makes of them, findings and places included."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from compiler import grammar_table, ir_text, syntax
from compiler.diagnostics import CompileError
from compiler.findings import Findings
from compiler.frontend import load
from compiler.lines import Lines
from compiler.parse import parse_file, parse_line
from compiler.source import Sources

HEAD = "nic wan { device a }\nnic lan { device b }\nset office = { 10.0.0.0/8, 2001:db8::/32 }\nset web = { 80 }\n"
TESTS = (
    "tcp", "udp", "ip4", "src 10.0.0.0/8", "src 10.1.2.3", "dst 2001:db8::/32", "dport 80", "dport 80-90", "dport { 80, 443 }", "dport {80,443}",
    "sport < 5", "ttl >=5", "ttl<5", "icmp echo-request", "icmp4 type 8", "icmp", "vlan 10", "vlan 10.20", "vlan none", "flags ack, psh", "syn",
    "mac src 02:00:00:00:00:01", "src in office", "dport in web", "dst fe80::1", "proto gre", "length 5-900", "fragment",
    "not dport 22", "not flags ack", "not src in office", "not udp",
)  # fmt: skip
ODD = (
    "dport 70000", "src 10.0.0.1/8", "src in offize", "dport web", "established", "not tcp", "(tcp)", "tcp or udp", "foo", "src", "dport 90-80",
    "src 1.2.3.4;", "tcp limit 5pps", "tcp then log", "tcp # said", '"tcp"', "tcp,", "tcp }", "tcp {", "\xa0tcp", "\x0btcp", "tcp\r", "as", "->",
)  # fmt: skip
LIMITS = ("limit 100pps", "limit 5kpps burst 4k", "over 20kpps", "limit 10pps per src", "limit 10pps per src/24,/48 size 1k")
WRONG_LIMITS = ("limit 5", "limit 5pps burst 0", "over 5pps size 4", "limit 10pps per sport", "limit 10pps burst 1 burst 2", "limit 1mbit")


def found(path: Path, text: str) -> object:
    """The program with all places, or the findings."""
    path.write_text(text, encoding="utf-8", newline="")
    try:
        loaded = load(path, Sources())
    except CompileError as error:
        return [d.as_json() for d in error.diagnostics]
    return ir_text.dump(loaded.program, spans=True), [d.as_json() for d in loaded.warnings]


def policy(rng: random.Random, odd: float) -> str:
    """A filter of rules that are mostly alike, so that most of them are taken by the line."""
    shapes = [[rng.randrange(len(TESTS)) for _ in range(rng.choice((1, 2, 2, 3)))] for _ in range(3)]
    lines = []
    for number in range(rng.randint(3, 25)):
        words = [TESTS[at] for at in rng.choice(shapes)]
        if rng.random() < odd:
            words.insert(rng.randrange(len(words) + 1), rng.choice((*ODD, *TESTS)))
        if rng.random() < 0.3:
            words.append(rng.choice(LIMITS if rng.random() < 1 - odd else WRONG_LIMITS))
        name = f" as r{number}" if rng.random() < 0.8 else ""
        indent, gap = rng.choice(("", "  ", "\t")), rng.choice((" ", " ", "  ", "\t"))
        lines.append(indent + gap.join([rng.choice(("pass", "drop")), *words]) + name)
        if rng.random() < 0.1:
            lines.append(rng.choice(("", "  # a remark", "  use base", "  pass tcp; drop udp")))
    body = "\n".join(lines)
    head = rng.choice(("filter wan in {\n", "filter wan, lan in {\n", "rules base {\n", "filter wan in { "))
    return f"{HEAD}{head}{body}\n  default drop\n}}\n" + rng.choice(("", "filter wan out {\n pass tcp as r1\n default drop\n}", "shape"))


@pytest.mark.parametrize("odd", [0.0, 0.1])
@pytest.mark.parametrize("seed", range(100))
def test_by_the_line_is_by_the_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, odd: float) -> None:
    path, text = tmp_path / "policy.netc", policy(random.Random(seed), odd)
    quick = found(path, text)
    monkeypatch.setattr(Lines, "take", lambda *_: (0, 0, 0))
    assert found(path, text) == quick


def rules_of(text: str) -> list[syntax.Rule]:
    findings = Findings()
    file = parse_file("p.netc", text, Sources(), findings)
    assert findings.in_order() == []
    return [item for statement in file.statements if isinstance(statement, syntax.Filter) for item in statement.items if isinstance(item, syntax.Rule)]


def test_all_but_the_first_of_a_kind_are_taken_whole() -> None:
    lines = [f"  drop tcp src 10.0.{n}.0/24 not dport {n} as r{n}" for n in range(50)]
    rules = rules_of("nic wan { device a }\nfilter wan in {\n" + "\n".join(lines) + "\n default drop\n}\n")
    assert [isinstance(rule.when, syntax.Tests) for rule in rules] == [False] + [True] * 49
    last = rules[-1]
    assert isinstance(last.when, syntax.Tests)
    assert last.when.words == (("tcp",), ("src", "10.0.49.0/24"), ("not", "dport", "49"))
    assert str(last.name.span if last.name else "") == "p.netc:52:45"
    again = parse_line("p.netc", last.when.line, last.span.line)
    assert (again.text, again.match_text, again.span, again.name) == (last.text, last.match_text, last.span, last.name)


def test_a_pattern_is_not_used_where_another_block_has_other_statements() -> None:
    text = "filter wan in {\n drop udp\n drop udp as a\n default drop\n}\nrules x {\n drop udp as b\n drop udp as c\n}\nprotect wan {\n drop udp as d\n}\n"
    findings = Findings()
    parse_file("p.netc", text, Sources(), findings)
    assert [(d.code, d.span.line) for d in findings.in_order()] == [("N003", 11)]


def test_the_kept_table_is_the_grammar_s() -> None:
    grammar = Path(grammar_table.__file__).with_name("grammar.lark").read_bytes()
    kept = Path(grammar_table.__file__).with_name("grammar.json").read_bytes()
    assert kept == grammar_table.text(grammar_table.make(grammar)), "run: python -m compiler.grammar_table > compiler/grammar.json"


def test_another_grammar_s_table_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tmp_path / "grammar.json"
    kept.write_bytes(grammar_table.text(grammar_table.make(b'start: "a" _NL\nexpression: "b" _NL\n%declare _NL\n')))
    monkeypatch.setattr(grammar_table, "_KEPT", kept)
    assert "filter" in grammar_table.load.__wrapped__().keywords
    kept.unlink()
    assert "filter" in grammar_table.load.__wrapped__().keywords
