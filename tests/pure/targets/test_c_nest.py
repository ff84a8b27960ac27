"""Rules under a shared condition are the same rules."""

from __future__ import annotations

import itertools
import re

from hypothesis import given
from hypothesis import strategies as st

from compiler.targets import c_nest

_LEAVES = ("(p->kinds & 1)", "(p->kinds & 2)", "(p->have & 4)", "(p->have & 8)", "!(p->kinds & 1)", "(p->dport == 22u)", "x")


def _conditions() -> st.SearchStrategy[str]:
    def larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        several = st.lists(inner, min_size=2, max_size=3)
        return several.map(lambda items: f"({' && '.join(items)})") | several.map(lambda items: f"({' || '.join(items)})")

    return st.recursive(st.sampled_from(_LEAVES), larger, max_leaves=6)


def _holds(condition: str, truth: dict[str, bool]) -> bool:
    for mask in ("1", "2", "1 | 2", "2 | 1"):
        condition = condition.replace(f"(p->kinds & ({mask}))", f" {any(truth[f'(p->kinds & {bit})'] for bit in mask.split(' | '))} ")
    for leaf in sorted(_LEAVES, key=len, reverse=True):
        condition = condition.replace(leaf, f" {truth[leaf]} ")
    return bool(eval(condition.replace("&&", " and ").replace("||", " or ")))


def _first(text: str, truth: dict[str, bool]) -> int | None:
    """The rule that the C reaches first: blocks are skipped where their condition is false."""
    open_blocks: list[bool] = []
    for line in text.splitlines():
        if match := re.fullmatch(r"    if (.*) \{", line):
            open_blocks.append(_holds(match[1], truth))
        elif line == "    }":
            open_blocks.pop()
        elif all(open_blocks) and (match := re.fullmatch(r"(\d+): (.*)", line)) and _holds(match[2], truth):
            return int(match[1])
    return None


@given(st.lists(_conditions(), min_size=1, max_size=6), st.lists(st.booleans(), min_size=len(_LEAVES), max_size=len(_LEAVES)))
def test_the_first_rule_that_matches_is_the_same(conditions: list[str], values: list[bool]) -> None:
    truth = dict(zip(_LEAVES, values, strict=True))
    wanted = next((i for i, condition in enumerate(conditions) if _holds(condition, truth)), None)
    assert _first(c_nest.rules(list(enumerate(conditions)), lambda i, left: f"{i}: {left}\n"), truth) == wanted


def test_what_two_rules_begin_with_is_asked_once() -> None:
    tcp, port = "(p->kinds & KIND_tcp)", "(p->have & HAVE_dport)"
    listed = [(1, f"({tcp} && ({port} && (p->dport == 22u)))"), (2, f"((p->dport == 23u) && {port} && {tcp})"), (3, tcp), (4, "x")]
    text = c_nest.rules(listed, lambda i, left: f"{i}: {left}\n")
    assert text.count(tcp) == text.count(port) == 1
    assert [line[0] for line in text.splitlines() if line[0].isdigit()] == ["1", "2", "3", "4"]


def test_an_alternative_is_not_taken_apart() -> None:
    for both in itertools.permutations(("(p->kinds & 1)", "(p->kinds & 2)")):
        assert c_nest.conjuncts(f"({' || '.join(both)})") == [f"({' || '.join(both)})"]
    assert c_nest.conjuncts("(a) && (b)") == ["(a)", "(b)"]


def test_what_all_alternatives_ask_is_asked_before_them() -> None:
    ping = "(((p->kinds & KIND_icmp4) && (p->icmp_type == 8u)) || ((p->kinds & KIND_icmp6) && (p->icmp_type == 128u)))"
    text = c_nest.rules([(1, ping), (2, ping.replace("8u", "9u")), (3, "x")], lambda i, left: f"{i}: {left}\n")
    assert text.startswith("    if (p->kinds & (KIND_icmp4 | KIND_icmp6)) {\n1: ")
    either = c_nest.rules([(1, "((p->kinds & 1) || (p->kinds & 2))")], lambda i, left: left)
    assert either == "(p->kinds & (1 | 2))"
    assert c_nest.implied_kinds("((p->kinds & 1) || x)") == c_nest.implied_kinds("((p->kinds & 1) && x)") == c_nest.implied_kinds("x") == ""
