"""Turns each rule of `grammar.lark` into its node of `syntax.py` while the parser runs, bottom up.

Every method takes the parts of one rule, all its tokens among them, and returns one node. Keywords and signs are
Leafs; WORD and STRING have become `syntax.Word`.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

from compiler import syntax
from compiler.build_parts import CONDITIONS, Keyword, Parts, Placed, ends, flat, nodes, only, preferred, words_of
from compiler.lalr import Leaf
from compiler.source import Span

_TEXT = re.compile(r'"[^"\n]*"|#[^\n]*|\s+|[^\s#"]+|"')


class Builder:
    """What the parser calls for each rule of the grammar, by the rule's name. lines: the text's, the first is line `first`."""

    def __init__(self, file: str, lines: list[str], first: int = 1) -> None:
        self.file, self.lines, self.first = file, lines, first

    def span(self, parts: Parts) -> Span:
        first, last = ends(parts[0]), ends(parts[-1])
        return Span(self.file, first[0], first[1], last[2], last[3])

    def text(self, parts: Parts) -> str:
        """The source of `parts` on one line, without comments."""
        span = self.span(parts)
        lines = self.lines[span.line - self.first : span.end_line - self.first + 1]
        lines[-1] = lines[-1][: span.end_column - 1]
        lines[0] = lines[0][span.column - 1 :]
        words = (match.group() for match in _TEXT.finditer("\n".join(lines)))
        return " ".join("".join(" " if w[0] == "#" or w.isspace() else w for w in words).split())

    # --- names and values ---
    def start(self, parts: Parts) -> syntax.File:
        return syntax.File(self.file, tuple(p for p in parts if not isinstance(p, Leaf)))

    def expression(self, parts: Parts) -> syntax.Condition:
        return parts[0]  # type: ignore[no-any-return]

    def word(self, parts: Parts) -> syntax.Word:
        return syntax.Word(str(parts[0]), self.span(parts))

    def string(self, parts: Parts) -> syntax.Word:
        return syntax.Word(str(parts[0])[1:-1], self.span(parts))

    def broken(self, parts: Parts) -> syntax.Broken:
        return syntax.Broken(tuple(parts[0].split()), self.span(parts))

    def words(self, parts: Parts) -> tuple[syntax.Word, ...]:
        return words_of(parts)

    def literal(self, parts: Parts) -> syntax.Literal:
        return syntax.Literal(words_of(parts), self.span(parts))

    def direction(self, parts: Parts) -> str:
        return Keyword(str(parts[0]), parts[0])

    verdict = direction

    # --- declarations ---
    def nic(self, parts: Parts) -> syntax.Nic:
        items = tuple(p for p in parts[2:] if isinstance(p, tuple))
        return syntax.Nic(parts[1], items, self.span(parts[:2]))

    def nic_item(self, parts: Parts) -> Any:
        return parts[0]

    def nic_device(self, parts: Parts) -> Any:
        return Placed((str(parts[0]), parts[1]), self.span(parts))

    nic_xdp = nic_device

    def set(self, parts: Parts) -> syntax.Set:
        typed = parts[3] if len(parts) > 3 and parts[2] == ":" else None
        value = next((p for p in parts[3:] if isinstance(p, (syntax.Literal, syntax.Path))), None)
        options = tuple(p for p in parts if isinstance(p, tuple))
        return syntax.Set(parts[1], typed, value, options, self.span(parts))

    def set_file(self, parts: Parts) -> syntax.Path:
        return syntax.Path(parts[1], self.span(parts))

    def set_option(self, parts: Parts) -> Any:
        words = parts[1] if isinstance(parts[1], tuple) else (parts[1],)
        return Placed((str(parts[0]), words, self.span(flat(parts))), self.span(flat(parts)))

    def const(self, parts: Parts) -> syntax.Const:
        return syntax.Const(parts[1], parts[3], self.span(parts))

    def include(self, parts: Parts) -> syntax.Include:
        return syntax.Include(parts[1], self.span(parts))

    # --- conditions ---
    def or_expr(self, parts: Parts) -> syntax.Condition:
        items = tuple(p for p in parts if not isinstance(p, Leaf))
        return items[0] if len(items) == 1 else syntax.Any(items, self.span(parts))

    def and_expr(self, parts: Parts) -> syntax.Condition:
        return parts[0] if len(parts) == 1 else syntax.All(tuple(parts), self.span(parts))

    def negation(self, parts: Parts) -> syntax.Negation:
        return syntax.Negation(parts[1], self.span(parts))

    def group(self, parts: Parts) -> syntax.Condition:
        return parts[1]  # type: ignore[no-any-return]

    def kind(self, parts: Parts) -> syntax.Kind:
        return syntax.Kind(str(parts[0]), self.span(parts))

    def operand(self, parts: Parts) -> syntax.Operand:
        return syntax.Operand(str(parts[0]) if len(parts) == 2 else "", parts[-1], self.span(parts))

    def field(self, parts: Parts) -> syntax.FieldTest:
        return syntax.FieldTest(str(parts[0]), parts[1], self.span(parts))

    def mac(self, parts: Parts) -> syntax.FieldTest:
        return syntax.FieldTest(f"mac {parts[1]}", parts[2], self.span(parts))

    def icmp(self, parts: Parts) -> syntax.Icmp:
        named = {str(key): value for key, value in pairwise(parts) if isinstance(key, Leaf)}
        name = parts[1] if len(parts) == 2 else None
        return syntax.Icmp(str(parts[0]), name, named.get("type"), named.get("code"), self.span(parts))

    def vlan(self, parts: Parts) -> syntax.Vlan:
        return syntax.Vlan(parts[1] if len(parts) > 1 else None, self.span(parts))

    def flags(self, parts: Parts) -> syntax.Flags:
        return syntax.Flags(parts[1], self.span(flat(parts)))

    # --- filter ---
    def rules(self, parts: Parts) -> syntax.Rules:
        return syntax.Rules(parts[1], nodes(parts[3:]), self.span(parts[:2]))

    def filter(self, parts: Parts) -> syntax.Filter:
        return syntax.Filter(parts[1], nodes(parts[2:]), self.span(parts[:2]))

    def hook(self, parts: Parts) -> syntax.Hook:
        if isinstance(parts[0], tuple):
            return syntax.Hook(parts[0], str(parts[1]), None, self.span(flat(parts)))
        return syntax.Hook((parts[0],), "forward", parts[2], self.span(parts))

    def use(self, parts: Parts) -> syntax.Use:
        return syntax.Use(parts[1], self.span(parts))

    def default_verdict(self, parts: Parts) -> syntax.Default:
        return syntax.Default(str(parts[1]), self.span(parts))

    def rule(self, parts: Parts) -> syntax.Rule:
        limit = only(parts, syntax.Limit)
        condition = parts[1] if len(parts) > 1 and isinstance(parts[1], CONDITIONS) else None
        effects = next((p for p in parts[1:] if isinstance(p, tuple)), ())
        name = next((p for p in parts[1:] if isinstance(p, syntax.Word)), None)
        matched = [parts[0], *(p for p in (condition, limit) if p)]
        everything = flat(parts)
        return syntax.Rule(
            str(parts[0]),
            condition,
            limit,
            name,
            effects,
            self.text(matched),
            self.text(everything),
            self.span(everything),
        )

    def limit(self, parts: Parts) -> syntax.Limit:
        return syntax.Limit(parts[0] == "over", parts[1], tuple(parts[2:]), self.span(parts))

    def limit_option(self, parts: Parts) -> Any:
        return Placed((str(parts[0]), words_of(parts), self.span(parts)), self.span(parts))

    def as_name(self, parts: Parts) -> syntax.Word:
        return parts[1]  # type: ignore[no-any-return]

    def then(self, parts: Parts) -> tuple[syntax.Effect, ...]:
        return tuple(p for p in parts if isinstance(p, syntax.Effect))

    def effect(self, parts: Parts) -> syntax.Effect:
        return syntax.Effect(str(parts[0]), words_of(parts), self.span(parts))

    # --- steer ---
    def steer(self, parts: Parts) -> syntax.Steer:
        return syntax.Steer(parts[1], nodes(parts[3:]), self.span(parts[:2]))

    def prefer(self, parts: Parts) -> Leaf:
        return parts[0]  # type: ignore[no-any-return]

    def steer_rule(self, parts: Parts) -> syntax.SteerRule:
        condition = next(p for p in parts if isinstance(p, CONDITIONS))
        target = only(parts, syntax.Target)
        return syntax.SteerRule(
            condition, target, only(parts, syntax.Word), preferred(parts),
            self.text([condition]), self.text(parts), self.span(parts),
        )  # fmt: skip

    def steer_queues(self, parts: Parts) -> syntax.SteerQueues:
        cpus = next((p for p in parts if isinstance(p, tuple)), ())
        everything = flat(parts)
        count = only(parts, syntax.Word)
        return syntax.SteerQueues(count, cpus, preferred(parts), self.text(everything), self.span(everything))

    def steer_hash(self, parts: Parts) -> syntax.SteerHash:
        protocols, fields = (p for p in parts if isinstance(p, tuple))
        everything = flat(parts)
        symmetric = any(isinstance(part, Leaf) and str(part) == "symmetric" for part in parts)
        return syntax.SteerHash(
            protocols, fields, symmetric, only(parts, syntax.Word), preferred(parts), self.text(everything), self.span(everything)
        )

    def hash_key(self, parts: Parts) -> syntax.Word:
        return parts[1]  # type: ignore[no-any-return]

    def steer_cpus(self, parts: Parts) -> syntax.SteerCpus:
        kind = str(parts[1] if preferred(parts) else parts[0])
        cpus = next(p for p in parts if isinstance(p, tuple))
        everything = flat(parts)
        return syntax.SteerCpus(kind, cpus, preferred(parts), self.text(everything), self.span(everything))

    def steer_flows(self, parts: Parts) -> syntax.SteerFlows:
        return syntax.SteerFlows(only(parts, syntax.Word), preferred(parts), self.text(parts), self.span(parts))

    def steer_default(self, parts: Parts) -> syntax.SteerDefault:
        return syntax.SteerDefault(parts[2], self.span(parts))

    def target(self, parts: Parts) -> syntax.Target:
        everything = flat(parts)
        routed = len(parts) == 3 and str(parts[2]) == "routed"
        return syntax.Target(str(parts[0]), words_of(everything), routed, self.span(everything))

    # --- shape ---
    def shape(self, parts: Parts) -> syntax.Shape:
        brace = next(at for at, part in enumerate(parts) if part == "{")
        overhead = parts[6] if brace > 5 else None
        return syntax.Shape(parts[1], str(parts[2]), parts[4], overhead, nodes(parts[brace:]), self.span(parts[:brace]))

    def class_(self, parts: Parts) -> syntax.Class:
        return syntax.Class(parts[1], nodes(parts[3:]), self.text(parts), self.span(parts[:2]))

    def class_match(self, parts: Parts) -> syntax.ClassItem:
        return syntax.ClassItem("match", parts[1], False, self.span(parts))

    def class_flag(self, parts: Parts) -> syntax.ClassItem:
        return syntax.ClassItem(str(parts[0]), None, False, self.span(parts))

    def class_value(self, parts: Parts) -> syntax.ClassItem:
        return syntax.ClassItem(str(parts[0]), parts[1], False, self.span(parts))

    def class_queue(self, parts: Parts) -> syntax.ClassItem:
        queues = tuple(p for p in parts if isinstance(p, syntax.Queue))
        return syntax.ClassItem("queue", queues, preferred(parts), self.span(parts))

    def queue(self, parts: Parts) -> syntax.Queue:
        return syntax.Queue(parts[0], tuple(p for p in parts if isinstance(p, tuple)), self.span(parts))

    def queue_setting(self, parts: Parts) -> Any:
        return Placed((parts[0], parts[1] if len(parts) > 1 else None), self.span(parts))

    # --- tune and host ---
    def tune(self, parts: Parts) -> syntax.Tune:
        return syntax.Tune(parts[1], nodes(parts[3:]), self.span(parts[:2]))

    def host(self, parts: Parts) -> syntax.Tune:
        return syntax.Tune(None, nodes(parts[2:]), self.span(parts[:1]))

    def tune_pairs(self, parts: Parts) -> syntax.Knobs:
        return self._knobs(parts, tuple(p for p in parts if isinstance(p, tuple)))

    tune_coalesce = host_pairs = tune_pairs

    def sysctl(self, parts: Parts) -> syntax.Knobs:
        return self._knobs(parts, (words_of(parts),))

    tune_length = sysctl

    def buffers(self, parts: Parts) -> syntax.Knobs:
        return self._knobs(parts, (words_of(parts),), "buffers")

    def _knobs(self, parts: Parts, groups: tuple[tuple[syntax.Word, ...], ...], kind: str = "") -> syntax.Knobs:
        kind = kind or str(parts[1] if preferred(parts) else parts[0])
        everything = flat(parts)
        return syntax.Knobs(kind, groups, preferred(parts), self.text(everything), self.span(everything))

    def pair(self, parts: Parts) -> tuple[syntax.Word, ...]:
        return tuple(parts)

    coalesce_part = pair

    # --- promises ---
    def protect(self, parts: Parts) -> syntax.Protect:
        items = tuple(
            part if isinstance(part, syntax.Broken) else syntax.ProtectItem(part, self.text([part]), part.span)
            for part in nodes(parts[3:])
        )
        return syntax.Protect(parts[1], items, self.span(flat(parts[:2])))

    def expect(self, parts: Parts) -> syntax.Expect:
        return syntax.Expect(parts[1], parts[3], parts[5], nodes(parts[7:]), self.span(parts[:6]))

    def assertion(self, parts: Parts) -> syntax.Assertion:
        kind, subject = parts[0]
        bound, of = parts[3]
        return syntax.Assertion(kind, subject, parts[1], str(parts[2]), bound, of, self.text(parts), self.span(parts))

    def subject(self, parts: Parts) -> Any:
        return Placed((str(parts[0]) if len(parts) > 1 else "", parts[-1]), self.span(parts))

    def comparison(self, parts: Parts) -> Any:
        return parts[0]

    def bound(self, parts: Parts) -> Any:
        return Placed((parts[0], parts[2] if len(parts) > 1 else None), self.span(parts))

    def test(self, parts: Parts) -> syntax.Test:
        return syntax.Test(parts[1], nodes(parts[3:]), self.span(parts[:2]))

    def _step(self, parts: Parts) -> syntax.TestStep:
        packet = next((p for p in parts if isinstance(p, tuple)), ())
        place = only(parts, syntax.Hook)
        return syntax.TestStep(str(parts[0]), place, packet, words_of(parts), self.text(parts), self.span(parts))

    test_packet = test_send = test_wait = test_given = _step

    def place(self, parts: Parts) -> syntax.Hook:
        if len(parts) == 3:
            return syntax.Hook((parts[0],), "forward", parts[2], self.span(parts))
        return syntax.Hook((parts[0],), str(parts[1]), None, self.span(parts))

    def packet_words(self, parts: Parts) -> tuple[syntax.Word, ...]:
        return tuple(p if isinstance(p, syntax.Word) else syntax.Word(str(p), self.span([p])) for p in parts)


setattr(Builder, "class", Builder.class_)  # `class` is a word of both languages
