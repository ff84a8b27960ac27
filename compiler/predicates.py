"""Conditions → ir.Expr. Every test becomes the fields and kinds of docs/packet-model.md; names are checked, contradictions refused."""

from __future__ import annotations

from compiler import ir, syntax, wellknown
from compiler.contradiction import never_matches
from compiler.findings import LiteralError
from compiler.ir import Field
from compiler.scope import Scope
from compiler.source import Span
from compiler.suggest import hint
from compiler.syntax_errors import NOT_YET
from compiler.types import ICMP_NUMBER, TYPES, VLAN_ID, ValueType

_NOTHING = ir.Const(False)  # what stands for a condition with an error: the program is refused anyway
_SYN = ir.Bits(Field.TCP_FLAGS, 0b0001_0111, 0b0000_0010)  # SYN without ACK, RST, FIN
_VLAN = ValueType("a VLAN id", Field.VLAN, VLAN_ID)
_ICMP_TYPE = ValueType("an ICMP number", Field.ICMP_TYPE, ICMP_NUMBER)
_ICMP_CODE = ValueType("an ICMP number", Field.ICMP_CODE, ICMP_NUMBER)


def condition(scope: Scope, node: syntax.Condition) -> ir.Expr:
    """The expression of a whole condition. One that no packet can match is an error: it is never what was meant."""
    errors = scope.findings.errors
    lowered = lower(scope, node)
    if scope.findings.errors == errors and (why := never_matches(lowered, scope.sets)):
        scope.error(
            "N037", f"no packet can match this: {why}", node.span, "use `or` between alternatives; adjacency means both"
        )
    return lowered


def lower(scope: Scope, node: syntax.Condition) -> ir.Expr:
    """The expression of a condition or of a part of one, whether or not a packet can match it."""
    match node:
        case syntax.All(items):
            return ir.And(_flatten(ir.And, scope, items))
        case syntax.Any(items):
            return ir.Or(_flatten(ir.Or, scope, items))
        case syntax.Negation(item):
            return ir.Not(lower(scope, item))
        case syntax.Kind(name):
            return _kind(name)
        case syntax.FieldTest(field, operand):
            return _field(scope, TYPES[field], operand)
        case syntax.Icmp():
            return _icmp(scope, node)
        case syntax.Vlan(operand):
            return _vlan(scope, operand)
        case syntax.Flags(words):
            return _flags(scope, words)


def _flatten(kind: type[ir.And | ir.Or], scope: Scope, items: tuple[syntax.Condition, ...]) -> tuple[ir.Expr, ...]:
    found: list[ir.Expr] = []
    for item in items:
        lowered = lower(scope, item)
        found += lowered.items if isinstance(lowered, kind) else [lowered]
    return tuple(found)


def _kind(name: str) -> ir.Expr:
    if name == "syn":
        return _SYN
    return ir.Connection((name,)) if name in ir.CONNECTION_STATES else ir.Is(name)


def _field(scope: Scope, type: ValueType, operand: syntax.Operand) -> ir.Expr:
    """src, dport, ttl ... against a value, a list, a set or a bound."""
    value = operand.value
    if operand.relation == "in" and isinstance(value, syntax.Word) and _names_set(scope, value, type):
        if not type.set_type:
            scope.error(
                "N035",
                f"{type.what} cannot be tested against a set",
                operand.span,
                "write the values in braces: { …, … }",
            )
            return _NOTHING
        found = scope.set(value, type.set_type)
        return ir.Member(type.field, found.name) if found else _NOTHING
    if operand.relation in ("<", "<=", ">", ">=") and isinstance(value, syntax.Word):
        return _compare(scope, type, operand, value)
    ranges = scope.ranges(_items(scope, value), type)
    return ir.Within(type.field, ranges) if ranges is not None else _NOTHING


def _names_set(scope: Scope, word: syntax.Word, type: ValueType) -> bool:
    """Whether the word behind `in` is a set's name, and not a constant or a value written in place."""
    if word.text in scope.consts:
        return False
    return word.text in scope.sets or (word.text[0].isalpha() and not set(word.text) & set(":./"))


def _items(scope: Scope, value: syntax.Word | syntax.Literal) -> tuple[syntax.Word, ...]:
    if isinstance(value, syntax.Word):
        return (value,)
    if not value.items:
        scope.error(
            "N034",
            "these braces are empty, and an empty set matches nothing",
            value.span,
            "write the values, or leave the condition out",
        )
    return value.items


def _compare(scope: Scope, type: ValueType, operand: syntax.Operand, value: syntax.Word) -> ir.Expr:
    if not type.ordered:
        scope.error(
            "N038",
            f"{type.what} is not smaller or larger than another",
            operand.span,
            "write a range or a list instead",
        )
        return _NOTHING
    ranges = scope.ranges((value,), type)
    if ranges is None:
        return _NOTHING
    if len(ranges) != 1 or ranges[0][0] != ranges[0][1]:
        scope.error(
            "N038", f"`{operand.relation}` compares with one number", value.span, "write the range by itself: `ttl 1-5`"
        )
        return _NOTHING
    number, most = ranges[0][0], (1 << ir.FIELD_BITS[type.field]) - 1
    low, high = {"<": (0, number - 1), "<=": (0, number), ">": (number + 1, most), ">=": (number, most)}[
        operand.relation
    ]
    if low > high:
        scope.error("N037", f"no packet can match this: nothing is {operand.relation} {number}", operand.span)
        return _NOTHING
    return ir.Within(type.field, ((low, high),))


def _icmp(scope: Scope, node: syntax.Icmp) -> ir.Expr:
    families = ("icmp4", "icmp6") if node.family == "icmp" else (node.family,)
    if node.name is not None:
        return _icmp_named(scope, node, node.name, families)
    if node.type is None and node.code is None:
        return ir.Or(tuple(map(ir.Is, families))) if len(families) > 1 else ir.Is(families[0])
    if len(families) > 1:
        scope.error(
            "N038",
            "ICMP and ICMPv6 number their messages differently",
            node.span,
            "write the name (`icmp echo-request`), or `icmp4 type 8` or `icmp6 type 128`",
        )
        return _NOTHING
    parts: list[ir.Expr] = [ir.Is(families[0])]
    for operand, type in ((node.type, _ICMP_TYPE), (node.code, _ICMP_CODE)):
        if operand is not None:
            parts.append(_field(scope, type, operand))
    return ir.And(tuple(parts))


def _icmp_named(scope: Scope, node: syntax.Icmp, operand: syntax.Operand, families: tuple[str, ...]) -> ir.Expr:
    found: list[ir.Expr] = []
    for word in _items(scope, operand.value):
        for value in scope.expand(word):
            found += _icmp_message(scope, value, families)
    return (found[0] if len(found) == 1 else ir.Or(tuple(found))) if found else _NOTHING


def _icmp_message(scope: Scope, word: syntax.Word, families: tuple[str, ...]) -> list[ir.Expr]:
    """One message by name, in each family that has it."""
    if word.text in NOT_YET:
        scope.error("N006", f"{NOT_YET[word.text][0]} is not supported yet", word.span, NOT_YET[word.text][1])
        return []
    if word.text not in wellknown.ICMP:
        numeric = word.text[0].isdigit()
        example = (
            f"numbers belong to one family: `icmp4 type {word.text}` or `icmp6 type {word.text}`" if numeric else ""
        )
        scope.error(
            "N038",
            f"`{word.text}` is not the name of an ICMP message",
            word.span,
            example or hint(word.text, wellknown.ICMP),
        )
        return []
    found: list[ir.Expr] = []
    for family in families:
        numbers = wellknown.ICMP[word.text][0 if family == "icmp4" else 1]
        if numbers is None:
            continue
        parts: list[ir.Expr] = [ir.Is(family), ir.Within(Field.ICMP_TYPE, ((numbers[0], numbers[0]),))]
        if numbers[1] is not None:
            parts.append(ir.Within(Field.ICMP_CODE, ((numbers[1], numbers[1]),)))
        found.append(ir.And(tuple(parts)))
    if not found:
        scope.error("N037", f"no packet can match this: {families[0]} has no message `{word.text}`", word.span)
    return found


def _vlan(scope: Scope, operand: syntax.Operand | None) -> ir.Expr:
    """`vlan` any tag, `vlan none`, `vlan 10` the outer id, `vlan 10.20` both."""
    if operand is None:
        return ir.Is("vlan")
    found: list[ir.Expr] = []
    plain: list[syntax.Word] = []
    for word in _items(scope, operand.value):
        for value in scope.expand(word):
            if value.text == "none":
                found.append(ir.Within(Field.VLAN, ((0, 0),)))  # absent, and so no match, where a tag cannot be read
            elif value.text.count(".") == 1:
                found.append(_both_tags(scope, value))
            else:
                plain.append(value)
    if plain and operand.relation in ("", "in"):
        ids = syntax.Literal(tuple(plain), operand.span)
        found.append(_field(scope, _VLAN, syntax.Operand("", ids, operand.span)))
    elif plain:
        found.append(ir.And((ir.Is("vlan"), _field(scope, _VLAN, operand))))  # an untagged packet's id reads 0
    return (found[0] if len(found) == 1 else ir.Or(tuple(found))) if found else _NOTHING


def _both_tags(scope: Scope, word: syntax.Word) -> ir.Expr:
    try:
        outer, inner = (VLAN_ID(part) for part in word.text.split("."))
    except LiteralError as error:
        scope.findings.literal(error, word.span)
        return _NOTHING
    return ir.And((ir.Within(Field.VLAN, (outer,)), ir.Within(Field.VLAN_INNER, (inner,))))


def _flags(scope: Scope, words: tuple[syntax.Word, ...]) -> ir.Expr:
    """`flags ack, psh`: all of these bits are set, whatever the others are."""
    mask = 0
    for word in words:
        if word.text not in wellknown.TCP_FLAGS:
            _unknown_flag(scope, word)
        mask |= wellknown.TCP_FLAGS.get(word.text, 0)
    return ir.Bits(Field.TCP_FLAGS, mask, mask)


def _unknown_flag(scope: Scope, word: syntax.Word) -> None:
    span: Span = word.span
    scope.error("N038", f"`{word.text}` is not a TCP flag", span, hint(word.text, wellknown.TCP_FLAGS))
