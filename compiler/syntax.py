"""The syntax tree: what was written, not yet what it means. One dataclass for each form of `grammar.lark`, each with its place."""

from __future__ import annotations

from dataclasses import dataclass

from compiler.source import Span


@dataclass(frozen=True, slots=True)
class Word:
    """A name or a value as written; what it has to be is for `check` to say. String: the text between the quotes."""

    text: str
    span: Span


@dataclass(frozen=True, slots=True)
class Literal:
    """`{ a, b }`"""

    items: tuple[Word, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Operand:
    """What a field is compared with. relation: "" (is), in, <, <=, >, >=."""

    relation: str
    value: Word | Literal
    span: Span


@dataclass(frozen=True, slots=True)
class Kind:
    name: str
    span: Span


@dataclass(frozen=True, slots=True)
class FieldTest:
    """field as written: src, dport, ttl, `mac src` ..."""

    field: str
    operand: Operand
    span: Span


@dataclass(frozen=True, slots=True)
class Icmp:
    """family: icmp, icmp4, icmp6. name: `icmp echo-request`; type and code: `icmp4 type 8 code 0`."""

    family: str
    name: Operand | None
    type: Operand | None
    code: Operand | None
    span: Span


@dataclass(frozen=True, slots=True)
class Vlan:
    operand: Operand | None
    span: Span


@dataclass(frozen=True, slots=True)
class Flags:
    words: tuple[Word, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Negation:
    item: Condition
    span: Span


@dataclass(frozen=True, slots=True)
class All:
    items: tuple[Condition, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Any:
    items: tuple[Condition, ...]
    span: Span


Condition = Kind | FieldTest | Icmp | Vlan | Flags | Negation | All | Any


@dataclass(frozen=True, slots=True)
class Broken:
    """A statement that could not be parsed; `words` are in it, so that names declared there are not called unknown."""

    words: tuple[str, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Nic:
    name: Word
    items: tuple[tuple[str, Word], ...]  # device, xdp
    span: Span


@dataclass(frozen=True, slots=True)
class Set:
    """value: a literal, a file's path (Word of a string), or None for a dynamic set."""

    name: Word
    type: Word | None
    value: Literal | Path | None
    options: tuple[tuple[str, tuple[Word, ...], Span], ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Path:
    word: Word
    span: Span


@dataclass(frozen=True, slots=True)
class Const:
    name: Word
    value: Word | Literal
    span: Span


@dataclass(frozen=True, slots=True)
class Include:
    path: Word
    span: Span


@dataclass(frozen=True, slots=True)
class Limit:
    """over: `over` was written, not `limit`. options: (burst | size | per, words, place)."""

    over: bool
    rate: Word
    options: tuple[tuple[str, tuple[Word, ...], Span], ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Effect:
    """kind: add, renew, sample, log, set."""

    kind: str
    words: tuple[Word, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Rule:
    verdict: str
    when: Condition | None
    limit: Limit | None
    name: Word | None
    effects: tuple[Effect, ...]
    match_text: str  # verdict, condition and limit, for the name of a rule that has none
    text: str
    span: Span


@dataclass(frozen=True, slots=True)
class Use:
    name: Word
    span: Span


@dataclass(frozen=True, slots=True)
class Default:
    verdict: str
    span: Span


@dataclass(frozen=True, slots=True)
class Rules:
    name: Word
    items: tuple[object, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Hook:
    """Where a block stands: direction in, out, or forward with `to`."""

    nics: tuple[Word, ...]
    direction: str
    to: Word | None
    span: Span


@dataclass(frozen=True, slots=True)
class Filter:
    hook: Hook
    items: tuple[object, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Target:
    """kind: queue, queues, cpu, cpus, socket, nic."""

    kind: str
    words: tuple[Word, ...]
    routed: bool
    span: Span


@dataclass(frozen=True, slots=True)
class SteerRule:
    when: Condition
    target: Target
    name: Word | None
    prefer: bool
    match_text: str
    text: str
    span: Span


@dataclass(frozen=True, slots=True)
class SteerQueues:
    count: Word
    cpus: tuple[Word, ...]
    prefer: bool
    text: str
    span: Span


@dataclass(frozen=True, slots=True)
class SteerHash:
    protocols: tuple[Word, ...]
    fields: tuple[Word, ...]
    symmetric: bool
    prefer: bool
    text: str
    span: Span


@dataclass(frozen=True, slots=True)
class SteerDefault:
    target: Target
    span: Span


@dataclass(frozen=True, slots=True)
class Steer:
    nic: Word
    items: tuple[object, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Queue:
    """One choice of qdisc; options as (name, value or None)."""

    kind: Word
    options: tuple[tuple[Word, Word | None], ...]
    span: Span


@dataclass(frozen=True, slots=True)
class ClassItem:
    """key: match (value a Condition), default, urgent, min, max, share (a Word), queue (Queues)."""

    key: str
    value: Condition | Word | tuple[Queue, ...] | None
    prefer: bool
    span: Span


@dataclass(frozen=True, slots=True)
class Class:
    name: Word
    items: tuple[object, ...]  # ClassItem, Class, Broken
    text: str
    span: Span


@dataclass(frozen=True, slots=True)
class Shape:
    nic: Word
    direction: str
    rate: Word
    overhead: Word | None
    items: tuple[object, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Knobs:
    """One tune or sysctl statement. kind: ring, offload, pause, priv-flag, coalesce, sysctl; parts: the words between commas."""

    kind: str
    parts: tuple[tuple[Word, ...], ...]
    prefer: bool
    text: str
    span: Span


@dataclass(frozen=True, slots=True)
class Tune:
    """nic None: a host block."""

    nic: Word | None
    items: tuple[object, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class ProtectItem:
    when: Condition
    text: str
    span: Span


@dataclass(frozen=True, slots=True)
class Protect:
    nics: tuple[Word, ...]
    items: tuple[object, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Assertion:
    """subject_kind: "" (in.ssh), class (class voice), -> (forwarded: `-> lan.web`)."""

    subject_kind: str
    subject: Word
    what: Word
    op: str
    bound: Word
    of: Word | None
    text: str
    span: Span


@dataclass(frozen=True, slots=True)
class Expect:
    nic: Word
    window: Word
    otherwise: Word
    items: tuple[object, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class TestStep:
    """kind: packet, send, wait, given. words: what stands for itself, in the order of the grammar; packet: its words."""

    kind: str
    place: Hook | None
    packet: tuple[Word, ...]
    words: tuple[Word, ...]
    text: str
    span: Span


@dataclass(frozen=True, slots=True)
class Test:
    name: Word
    items: tuple[object, ...]
    span: Span


Statement = Nic | Set | Const | Include | Rules | Filter | Steer | Shape | Tune | Protect | Expect | Test | Broken


@dataclass(frozen=True, slots=True)
class File:
    """One parsed file."""

    path: str
    statements: tuple[Statement, ...]
