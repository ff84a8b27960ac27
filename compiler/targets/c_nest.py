"""Conditions that rules in a row begin with are asked once: of a UDP packet, `tcp` is asked once and not for each rule about TCP.

Only kinds and presence are shared, which nothing changes between two rules. The order of the rules stays, so first match does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from compiler.targets import c_expr

Rule = TypeVar("Rule")
Emit = Callable[[Rule, str], str]
_KINDS = "(p->kinds & "
_SHARED = (_KINDS, "(p->have & ")


def rules(listed: Sequence[tuple[Rule, str]], emit: Emit[Rule]) -> str:
    """C of the rules in order. listed: rule and condition; emit: the C of one rule under what is left of its condition."""
    return _nested([(rule, _shared_first(conjuncts(condition))) for rule, condition in listed], emit)


def conjuncts(condition: str) -> list[str]:
    """The parts that all have to hold, in order, none of them a conjunction itself."""
    inner = _opened(condition)
    parts = _split(inner, " && ")
    if len(parts) == 1 or len(_split(inner, " || ")) > 1:
        return [condition]
    return [item for part in parts for item in conjuncts(part)]


def implied_kinds(condition: str) -> str:
    """One question that all alternatives of the condition agree to, "" for none: `icmp` is one of two kinds, each with numbers of its own."""
    alternatives = _split(_opened(condition), " || ")
    asked = [next((part for part in conjuncts(item) if _is(part, _KINDS)), "") for item in alternatives]
    if len(asked) < 2 or not all(asked):
        return ""
    kinds = dict.fromkeys(part.removeprefix(_KINDS)[:-1] for part in asked)
    return f"{_KINDS}({' | '.join(kinds)}))" if len(kinds) > 1 else f"{_KINDS}{next(iter(kinds))})"


def _opened(text: str) -> str:
    """Without the brackets around the whole."""
    return text[1:-1] if text.startswith("(") and _closing(text) == len(text) - 1 else text


def _closing(text: str) -> int:
    """Where the bracket closes that the text begins with."""
    depth = 0
    for at, sign in enumerate(text):
        depth += (sign == "(") - (sign == ")")
        if depth == 0:
            return at
    raise AssertionError(f"brackets do not match: {text}")


def _split(text: str, operator: str) -> list[str]:
    """At the operator, outside brackets."""
    parts, depth, begin = [], 0, 0
    for at, sign in enumerate(text):
        depth += (sign == "(") - (sign == ")")
        if depth == 0 and text.startswith(operator, at):
            parts.append(text[begin:at])
            begin = at + len(operator)
    return [*parts, text[begin:]]


def _shared_first(parts: list[str]) -> list[str]:
    """Kinds, also those that follow, presence, the rest; each once."""
    kept = [part for part in parts if not all(_is(item, _KINDS) for item in _split(_opened(part), " || ")) or _is(part, _KINDS)]
    once = [part for part in dict.fromkeys([*map(implied_kinds, parts), *kept]) if part]
    return sorted(once, key=lambda part: next((n for n, begin in enumerate(_SHARED) if _is(part, begin)), len(_SHARED)))


def _is(part: str, begin: str) -> bool:
    return part.startswith(begin) and _closing(part) == len(part) - 1


def _nested(listed: list[tuple[Rule, list[str]]], emit: Emit[Rule]) -> str:
    text, at = "", 0
    while at < len(listed):
        rule, parts = listed[at]
        end = at + 1
        if parts and any(_is(parts[0], begin) for begin in _SHARED):
            while end < len(listed) and listed[end][1][:1] == parts[:1]:
                end += 1
        if end - at > 1:
            text += f"    if {parts[0]} {{\n{_nested([(item, rest[1:]) for item, rest in listed[at:end]], emit)}    }}\n"
        else:
            text += emit(rule, _all(parts))
        at = end
    return text


def _all(parts: list[str]) -> str:
    if not parts:
        return c_expr.ALWAYS
    return parts[0] if len(parts) == 1 else "(" + " && ".join(parts) + ")"
