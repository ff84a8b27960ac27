"""Conditions that rules in a row begin with are asked once: of a UDP packet, `tcp` is asked once and not for each rule about TCP.

Only kinds and presence are shared, which nothing changes between two rules. The order of the rules stays, so first match does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from compiler.targets import c_expr

Rule = TypeVar("Rule")
Emit = Callable[[Rule, str], str]
Listed = list[tuple[Rule, list[str]]]
HELPERS = ("bpf_map_lookup_elem(", "netc_live(")  # tens of nanoseconds each
_KINDS = "(p->kinds & "
_SHARED = (_KINDS, "(p->have & ")


def rules(listed: Sequence[tuple[Rule, str]], emit: Emit[Rule]) -> str:
    """C of the rules in order. listed: rule and condition; emit: the C of one rule under what is left of its condition."""
    return nested([(rule, parts(condition)) for rule, condition in listed], emit)


def parts(condition: str) -> list[str]:
    """What all has to hold, in the order in which it is asked: what rules can share, comparisons, what calls a helper."""
    return _shared_first(conjuncts(condition))


def conjuncts(condition: str) -> list[str]:
    """The parts that all have to hold, in order, none of them a conjunction itself."""
    inner = _opened(condition)
    several = _split(inner, " && ")
    if len(several) == 1 or len(_split(inner, " || ")) > 1:
        return [condition]
    return [item for part in several for item in conjuncts(part)]


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
    found, depth, begin = [], 0, 0
    for at, sign in enumerate(text):
        depth += (sign == "(") - (sign == ")")
        if depth == 0 and text.startswith(operator, at):
            found.append(text[begin:at])
            begin = at + len(operator)
    return [*found, text[begin:]]


def _shared_first(asked: list[str]) -> list[str]:
    """Kinds, also those that follow, presence, the rest, helper calls last; each once."""
    kept = [part for part in asked if not all(_is(item, _KINDS) for item in _split(_opened(part), " || ")) or _is(part, _KINDS)]
    once = [part for part in dict.fromkeys([*map(implied_kinds, asked), *kept]) if part]
    return sorted(once, key=_rank)


def _rank(part: str) -> int:
    shared = next((n for n, begin in enumerate(_SHARED) if _is(part, begin)), len(_SHARED))
    return shared + any(call in part for call in HELPERS) if shared == len(_SHARED) else shared


def shared(part: str) -> bool:
    """Whether rules in a row that begin with it ask it once."""
    return any(_is(part, begin) for begin in _SHARED)


def _is(part: str, begin: str) -> bool:
    return part.startswith(begin) and _closing(part) == len(part) - 1


def runs(listed: Listed[Rule]) -> Iterator[Listed[Rule]]:
    """Rules in a row that share what they begin with; the others one by one."""
    at = 0
    while at < len(listed):
        begin, end = listed[at][1][:1], at + 1
        if begin and shared(begin[0]):
            while end < len(listed) and listed[end][1][:1] == begin:
                end += 1
        yield listed[at:end]
        at = end


def nested(listed: Listed[Rule], emit: Emit[Rule]) -> str:
    """C of rules whose conditions are in parts."""
    text = ""
    for run in runs(listed):
        if len(run) > 1:
            text += f"    if {run[0][1][0]} {{\n{nested([(item, rest[1:]) for item, rest in run], emit)}    }}\n"
        else:
            text += emit(run[0][0], _all(run[0][1]))
    return text


def _all(asked: list[str]) -> str:
    if not asked:
        return c_expr.ALWAYS
    return asked[0] if len(asked) == 1 else "(" + " && ".join(asked) + ")"
