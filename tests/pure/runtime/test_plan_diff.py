"""What a plan says of two bundles: rules by name, text, place and order; sets, classes, programs; and no more lines than a screen has."""

from __future__ import annotations

import random

import msgspec
import pytest

from compiler.bundle import Bundle, Code, Counter, Qdisc, StaticSet, TcClass, Tree
from compiler.tables import members
from runtime import plan_diff, plan_rules, plan_shapes, plan_view
from runtime.plan import Plan, Planned
from runtime.plan_entry import counts
from runtime.plan_view import View
from runtime.verify import Finding
from tests.pure.runtime.bundles import small_bundle


class Nothing:
    phase, text = "flip", "replace wan.xdp"

    def do(self) -> None: ...

    undo = check = do


def rule(name: str, text: str, line: int = 1, stage: str = "xdp", kind: str = "rule", verdict: str = "pass") -> Counter:
    return Counter(f"wan.in.{name}", stage, kind, line, verdict, "p.netc", line, text, "wan.xdp")


def policy(*rules: Counter, **changes: object) -> Bundle:
    return small_bundle(counters=rules, **changes)


def told(old: Bundle | None, new: Bundle | None) -> list[tuple[str, str, str, str, str]]:
    return [(e.sign, e.name, e.was, e.text, e.note) for e in plan_diff.differences(old, new, {"wan": "wan0"})]


SSH, DNS, WEB = rule("ssh", "pass tcp dport 22", 1), rule("dns", "drop udp dport 53", 2), rule("web", "pass tcp dport 443", 3)


def test_rules_come_change_and_go() -> None:
    old = policy(SSH, DNS, rule("default", "", 9, kind="default", verdict="drop"))
    new = policy(SSH, msgspec.structs.replace(DNS, text="pass udp dport 53"), WEB, rule("default", "", 9, kind="default", verdict="pass"))
    assert told(old, new) == [
        ("~", "wan.in.dns", "drop udp dport 53", "pass udp dport 53", ""),
        ("+", "wan.in.web", "", "pass tcp dport 443", ""),
        ("~", "wan.in.default", "default drop", "default pass", ""),
    ]
    assert told(new, policy(SSH))[-1] == ("-", "wan.in.default", "", "default pass", "")
    assert [entry[0] for entry in told(None, new)] == ["+"] * 4 and [entry[0] for entry in told(new, None)] == ["-"] * 4
    assert told(new, new) == []


def test_a_rule_that_another_stage_judges_is_told() -> None:
    assert told(policy(SSH, DNS), policy(SSH, rule("dns", DNS.text, 2, "conntrack"))) == [
        ("~", "wan.in.dns", "", DNS.text, "judged by conntrack, was xdp"),
    ]


def test_a_rule_that_moved_is_told_and_those_that_make_room_are_not() -> None:
    first = [rule(f"r{n}", f"pass tcp dport {n}", n) for n in range(1, 8)]
    moved = [*first[1:5], first[0], *first[5:]]
    after = [msgspec.structs.replace(item, line=n) for n, item in enumerate(moved, 10)]
    assert told(policy(*first), policy(*after)) == [("~", "wan.in.r1", "", "pass tcp dport 1", "moved: now behind r5")]
    back = [msgspec.structs.replace(item, line=n) for n, item in enumerate(first, 30)]
    assert told(policy(*first), policy(*back)) == [], "other lines, the same order"


@pytest.mark.parametrize("seed", range(20))
def test_taking_out_what_moved_leaves_the_same_order(seed: int) -> None:
    """The oracle: without the rules that are said to have moved, both orders are equal; and one move is never told as two."""
    rng = random.Random(seed)
    numbers = list(range(rng.randint(2, 40)))
    shuffled = rng.sample(numbers, len(numbers))
    stay = plan_rules._longest_ascending(shuffled)
    kept = [shuffled[at] for at in sorted(stay)]
    assert kept == sorted(kept)
    once = [*numbers]
    once.insert(rng.randrange(len(once)), once.pop(rng.randrange(len(once))))
    assert len(once) - len(plan_rules._longest_ascending(once)) <= 1


def tree(rate: int, *classes: tuple[str, int, int]) -> Tree:
    made = [TcClass("1:1", "1:", rate, rate, 0, 0, 1, 0, 0, "wan.shape.out"), TcClass("1:2", "1:1", 8000, rate, 0, 0, 1, 0, 0, "wan.shape.out.unclassified")]
    made += [TcClass(f"1:{16 + n:x}", "1:1", least, most, 0, 0, 1, 0, 0, f"wan.shape.out.{name}") for n, (name, least, most) in enumerate(classes)]
    return Tree("wan", "out", Qdisc("htb", "1:", "root", {}), tuple(made), ())


def test_shapes_and_classes_with_their_rates() -> None:
    old = policy(trees=(tree(10**9, ("voice", 50 * 10**6, 10**9), ("bulk", 10**8, 10**9)),))
    new = policy(trees=(tree(9 * 10**8, ("voice", 50 * 10**6, 9 * 10**8), ("web", 1_500_000, 10**8)),))
    assert told(old, new) == [
        ("~", "wan.shape.out", "rate 1gbit", "rate 900mbit", ""),
        ("~", "wan.shape.out.voice", "min 50mbit max 1gbit prio 1", "min 50mbit max 900mbit prio 1", ""),
        ("+", "wan.shape.out.web", "", "min 1.5mbit max 100mbit prio 1", ""),
        ("-", "wan.shape.out.bulk", "", "min 100mbit max 1gbit prio 1", ""),
    ]
    assert [entry[:2] for entry in told(old, policy())] == [("-", "wan.shape.out"), ("-", "wan.shape.out.voice"), ("-", "wan.shape.out.bulk")]


@pytest.mark.parametrize(("number", "words"), [(8000, "8kbit"), (10**9, "1gbit"), (1_500_000_000, "1.5gbit"), (1_234_567, "1234.567kbit"), (123_456_789, "123456.789kbit"), (7, "7bit"), (0, "0bit")])  # fmt: skip
def test_rates_are_written_as_policies_have_them_and_lose_nothing(number: int, words: str) -> None:
    assert plan_shapes.rate(number) == words
    unit = {"gbit": 10**9, "mbit": 10**6, "kbit": 10**3, "bit": 1}
    name = words.lstrip("0123456789.")
    assert round(float(words.removesuffix(name)) * unit[name]) == number


def fixed(name: str, *ports: int) -> StaticSet:
    return StaticSet(name, "port", members.encode((members.V4_BASE + port, members.V4_BASE + port) for port in ports), "p.netc", 5)


def test_sets_and_their_members() -> None:
    old, new = policy(static=(fixed("web", 80, 443), fixed("gone", 1))), policy(static=(fixed("web", 80, 8080), fixed("many", *range(10, 40, 2))))
    assert told(old, new) == [
        ("+", "many", "", "15 ranges", ""),
        ("~", "web", "", "loses 443 and gains 8080", ""),
        ("-", "gone", "", "1", ""),
    ]


def test_a_program_that_is_replaced_is_listed_and_not_counted() -> None:
    def with_code(code: bytes, *rules: Counter) -> Bundle:
        return policy(*rules, programs=(Code("wan.xdp", "wan", "xdp", code, ()),))

    entries = plan_diff.differences(with_code(b"a", SSH), with_code(b"b", SSH, WEB), {"wan": "ens1"})
    assert [(entry.sign, entry.name) for entry in entries] == [("+", "wan.in.web"), ("~", "program wan.xdp on ens1 (xdp none)")]
    assert counts(entries) == (1, 0, 0)
    assert [e.sign for e in plan_diff.differences(with_code(b"a"), policy(), {"wan": "ens1"})] == ["-"]


def shown(old: Bundle | None, new: Bundle, long: bool = False, drift: tuple[Finding, ...] = ()) -> list[str]:
    entries = plan_diff.differences(old, new, {"wan": "wan0"})
    planned = Plan(2, new, old, (Planned("xdp", Nothing()),), ())
    return list(plan_view.lines(View(new, planned, entries, drift, since="number 1"), long))


def test_ten_thousand_rules_fit_on_a_screen_and_json_has_all() -> None:
    new = policy(*(rule(f"r{n}", f"pass tcp dport {n}", n) for n in range(10_000)))
    text = shown(None, new)
    assert "  … and 9,989 more (netc plan --long has all)" in text and len(text) < 25
    assert text[-1] == "Plan: 10,000 to add, 0 to change, 0 to remove (1 step)"
    assert sum(line.startswith("  + wan.in.r") for line in shown(None, new, long=True)) == 10_000
    view = View(new, Plan(2, new, None, (Planned("xdp", Nothing()),), ()), plan_diff.differences(None, new, {}))
    assert len(plan_view.as_json(view)["entries"]) == 10_000


def test_drift_comes_first_and_is_summed_up() -> None:
    text = shown(policy(SSH), policy(SSH, DNS), drift=(Finding("installed", "table inet netc", "nft", "broken", "it is not there"),))
    assert text[0] == "changed outside netc since number 1; apply puts it back" and text[1] == "  ! nft: table inet netc: it is not there"
    assert text[-1] == "Plan: 1 to add, 0 to change, 0 to remove; 1 drifted (1 step)"
    nothing = list(plan_view.lines(View(policy(SSH), None), False))
    assert nothing == ["nothing would change"]


def test_nothing_of_a_bundle_drives_the_terminal() -> None:
    text = shown(None, policy(rule("x", "pass \x1b[2J tcp\nPlan: nothing")))
    assert not [line for line in text if "\x1b" in line or "\n" in line]
