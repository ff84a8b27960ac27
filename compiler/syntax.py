"""The syntax tree: what was written, not yet what it means. One class for each form of `grammar.lark`, each with its place."""

from __future__ import annotations

import msgspec

from compiler.source import Span


class Node(msgspec.Struct, frozen=True, gc=False):
    """Base of every form: immutable, and cheap to make, for a large policy has a million of them."""


class Word(Node, frozen=True, gc=False):
    """A name or a value as written; what it has to be is for `check` to say. String: the text between the quotes."""

    text: str
    span: Span


class Literal(Node, frozen=True, gc=False):
    """`{ a, b }`"""

    items: tuple[Word, ...]
    span: Span


class Operand(Node, frozen=True, gc=False):
    """What a field is compared with. relation: "" (is), in, <, <=, >, >=."""

    relation: str
    value: Word | Literal
    span: Span


class Kind(Node, frozen=True, gc=False):
    name: str
    span: Span


class FieldTest(Node, frozen=True, gc=False):
    """field as written: src, dport, ttl, `mac src` ..."""

    field: str
    operand: Operand
    span: Span


class Icmp(Node, frozen=True, gc=False):
    """family: icmp, icmp4, icmp6. name: `icmp echo-request`; type and code: `icmp4 type 8 code 0`."""

    family: str
    name: Operand | None
    type: Operand | None
    code: Operand | None
    span: Span


class Vlan(Node, frozen=True, gc=False):
    operand: Operand | None
    span: Span


class Flags(Node, frozen=True, gc=False):
    words: tuple[Word, ...]
    span: Span


class Negation(Node, frozen=True, gc=False):
    item: Condition
    span: Span


class All(Node, frozen=True, gc=False):
    items: tuple[Condition, ...]
    span: Span


class Any(Node, frozen=True, gc=False):
    items: tuple[Condition, ...]
    span: Span


Condition = Kind | FieldTest | Icmp | Vlan | Flags | Negation | All | Any


class Broken(Node, frozen=True, gc=False):
    """A statement that could not be parsed; `words` are in it, so that names declared there are not called unknown."""

    words: tuple[str, ...]
    span: Span


class Nic(Node, frozen=True, gc=False):
    name: Word
    items: tuple[tuple[str, Word], ...]  # device, xdp
    span: Span


class Set(Node, frozen=True, gc=False):
    """value: a literal, a file's path (Word of a string), or None for a dynamic set."""

    name: Word
    type: Word | None
    value: Literal | Path | None
    options: tuple[tuple[str, tuple[Word, ...], Span], ...]
    span: Span


class Path(Node, frozen=True, gc=False):
    word: Word
    span: Span


class Const(Node, frozen=True, gc=False):
    name: Word
    value: Word | Literal
    span: Span


class Include(Node, frozen=True, gc=False):
    path: Word
    span: Span


class Limit(Node, frozen=True, gc=False):
    """over: `over` was written, not `limit`. options: (burst | size | per, words, place)."""

    over: bool
    rate: Word
    options: tuple[tuple[str, tuple[Word, ...], Span], ...]
    span: Span


class Effect(Node, frozen=True, gc=False):
    """kind: add, renew, sample, log, set."""

    kind: str
    words: tuple[Word, ...]
    span: Span


class Tests(Node, frozen=True, gc=False):
    """Plain tests beside each other, or a limit, still as words: (("tcp",), ("dport", "80-90")). `parse.parse_line(line)` has their places."""

    words: tuple[tuple[str, ...], ...]
    line: str
    span: Span  # of the rule


class Rule(Node, frozen=True, gc=False):
    verdict: str
    when: Condition | Tests | None
    limit: Limit | Tests | None
    name: Word | None
    effects: tuple[Effect, ...]
    match_text: str  # verdict, condition and limit, for the name of a rule that has none
    text: str
    span: Span


class Use(Node, frozen=True, gc=False):
    name: Word
    span: Span


class Default(Node, frozen=True, gc=False):
    verdict: str
    span: Span


class Rules(Node, frozen=True, gc=False):
    name: Word
    items: tuple[object, ...]
    span: Span


class Hook(Node, frozen=True, gc=False):
    """Where a block stands: direction in, out, or forward with `to`."""

    nics: tuple[Word, ...]
    direction: str
    to: Word | None
    span: Span


class Filter(Node, frozen=True, gc=False):
    hook: Hook
    items: tuple[Node, ...]
    span: Span


class Target(Node, frozen=True, gc=False):
    """kind: queue, queues, cpu, cpus, socket, nic, drop."""

    kind: str
    words: tuple[Word, ...]
    routed: bool
    span: Span


class SteerRule(Node, frozen=True, gc=False):
    when: Condition
    target: Target
    name: Word | None
    prefer: bool
    match_text: str
    text: str
    span: Span


class SteerQueues(Node, frozen=True, gc=False):
    count: Word
    cpus: tuple[Word, ...]
    prefer: bool
    text: str
    span: Span


class SteerHash(Node, frozen=True, gc=False):
    protocols: tuple[Word, ...]
    fields: tuple[Word, ...]
    symmetric: bool
    key: Word | None
    prefer: bool
    text: str
    span: Span


class SteerCpus(Node, frozen=True, gc=False):
    """kind: rps, xps."""

    kind: str
    cpus: tuple[Word, ...]
    prefer: bool
    text: str
    span: Span


class SteerFlows(Node, frozen=True, gc=False):
    """RFS: a table of so many flows."""

    count: Word
    prefer: bool
    text: str
    span: Span


class SteerDefault(Node, frozen=True, gc=False):
    target: Target
    prefer: bool
    span: Span


class Steer(Node, frozen=True, gc=False):
    nic: Word
    items: tuple[object, ...]
    span: Span


class Queue(Node, frozen=True, gc=False):
    """One choice of qdisc; options as (name, value or None)."""

    kind: Word
    options: tuple[tuple[Word, Word | None], ...]
    span: Span


class ClassItem(Node, frozen=True, gc=False):
    """key: match (value a Condition), default, urgent, min, max, share (a Word), queue (Queues)."""

    key: str
    value: Condition | Word | tuple[Queue, ...] | None
    prefer: bool
    span: Span


class Class(Node, frozen=True, gc=False):
    name: Word
    items: tuple[object, ...]  # ClassItem, Class, Broken
    text: str
    span: Span


class Shape(Node, frozen=True, gc=False):
    nic: Word
    direction: str
    rate: Word
    overhead: Word | None
    items: tuple[object, ...]
    span: Span


class Knobs(Node, frozen=True, gc=False):
    """One statement of tune or host. kind: its first word, or buffers; parts: the words between commas."""

    kind: str
    parts: tuple[tuple[Word, ...], ...]
    prefer: bool
    text: str
    span: Span


class Tune(Node, frozen=True, gc=False):
    """nic None: a host block."""

    nic: Word | None
    items: tuple[object, ...]
    span: Span


class ProtectItem(Node, frozen=True, gc=False):
    when: Condition
    text: str
    span: Span


class Protect(Node, frozen=True, gc=False):
    nics: tuple[Word, ...]
    items: tuple[object, ...]
    span: Span


class Assertion(Node, frozen=True, gc=False):
    """subject_kind: "" (in.ssh), class (class voice), -> (forwarded: `-> lan.web`)."""

    subject_kind: str
    subject: Word
    what: Word
    op: str
    bound: Word
    of: Word | None
    text: str
    span: Span


class Expect(Node, frozen=True, gc=False):
    nic: Word
    window: Word
    otherwise: Word
    items: tuple[object, ...]
    span: Span


class TestStep(Node, frozen=True, gc=False):
    """kind: packet, send, wait, given. words: what stands for itself, in the order of the grammar; packet: its words."""

    kind: str
    place: Hook | None
    packet: tuple[Word, ...]
    words: tuple[Word, ...]
    text: str
    span: Span


class Test(Node, frozen=True, gc=False):
    name: Word
    items: tuple[object, ...]
    span: Span


Statement = Nic | Set | Const | Include | Rules | Filter | Steer | Shape | Tune | Protect | Expect | Test | Broken


class File(Node, frozen=True, gc=False):
    """One parsed file."""

    path: str
    statements: tuple[Statement, ...]
