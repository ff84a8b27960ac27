"""Test blocks: what a step gives, time from line to line, and the plan for the kernel."""

from __future__ import annotations

import json

from compiler import ir, scenario
from compiler.interp import Interpreter

F = ir.Field
SECOND = 1_000_000_000
SSH = ir.PacketSpec("tcp", "203.0.113.9", "192.0.2.1", 40000, 22, (("syn", 1),))
DNS = ir.PacketSpec("udp", "203.0.113.9", "192.0.2.1", 5353, 53)
MEMBER = ir.V4_BASE + 0xCB007109
LIMIT = ir.Limit("wan.in.dns", 64 * SECOND // 100, 10)


def program(*steps: ir.Step) -> ir.Program:
    banned = ir.Set("banned", "address", size=5, timeout=600 * SECOND)
    rules = (
        ir.Rule("banned", "drop", ir.Member(F.SRC, "banned")),
        ir.Rule("scan", "drop", ir.Is("tcp"), None, (ir.Add("banned", F.SRC, None),)),
        ir.Rule("dns", "pass", ir.Is("udp"), LIMIT),
    )
    chain = ir.Chain("wan.in", "wan", "in", None, rules, "drop")
    return ir.Program((ir.Nic("wan", "w"),), (banned,), (chain,), tests=(ir.Scenario("t", steps),))


def packet(spec: ir.PacketSpec, verdict: str, rule: str = "") -> ir.Step:
    return ir.Step("packet", "wan", "in", spec, verdict, rule)


def got(*steps: ir.Step) -> list[tuple[bool, str]]:
    return [(result.held, result.got) for result in scenario.run(program(*steps))]


def test_state_carries_from_line_to_line_and_time_passes() -> None:
    wait = ir.Step("wait", over=600 * SECOND)
    assert got(packet(SSH, "drop", "scan"), packet(DNS, "drop", "banned"), wait, packet(DNS, "pass", "dns")) == [
        (True, "drop by scan"), (True, "drop by banned"), (True, ""), (True, "pass by dns"),
    ]  # fmt: skip


def test_what_does_not_hold_says_what_came_instead() -> None:
    results = scenario.run(
        program(packet(SSH, "pass", "dns"), packet(DNS, "pass"), packet(DNS, "drop", "wan.in.banned"))
    )
    assert [(r.held, r.expected, r.got) for r in results] == [
        (False, "pass by dns", "drop by scan"), (False, "pass", "drop"), (True, "drop by wan.in.banned", "drop by wan.in.banned"),
    ]  # fmt: skip


def test_given_members_and_what_refuses_them() -> None:
    given = [ir.Step("given", set="banned", member=MEMBER + i) for i in range(6)]
    results = got(*given, packet(DNS, "drop", "banned"))
    assert results == [*[(True, "added")] * 5, (False, "refused: full"), (True, "drop by banned")]


def test_send_is_spread_evenly_and_counted() -> None:
    """100 a second, burst 10, 1000 packets in a second: 10 at once, then one each 10 ms."""
    send = ir.Step("send", "wan", "in", DNS, "pass", "dns", count=1000, over=SECOND, low=109, high=109)
    assert got(send) == [(True, "109 pass by dns")]
    assert scenario.send_times(send, 5)[:2] == [5, 1_000_005]
    tight = ir.Step("send", "wan", "in", DNS, "pass", "dns", count=1000, over=SECOND, low=110, high=1000)
    assert got(tight) == [(False, "109 pass by dns")]


def test_a_frame_that_cannot_be_built_is_told() -> None:
    bad = packet(ir.PacketSpec("udp", "203.0.113.9", "192.0.2.1", None, None), "pass")
    [(held, words)] = got(bad)
    assert not held and "needs ports" in words
    [line] = json.loads(json.dumps(scenario.plan(program(bad))))[0]["steps"]
    assert line["frame"] == "" and "needs ports" in line["error"]


def test_tests_do_not_see_each_other() -> None:
    one = program(packet(SSH, "drop", "scan"))
    two = ir.Scenario("u", (packet(DNS, "pass", "dns"),))
    whole = ir.Program(one.nics, one.sets, one.chains, tests=(*one.tests, two))
    assert all(result.held for result in scenario.run(whole))


def test_the_plan_is_enough_to_repeat_the_run() -> None:
    """Frames, times and entries of the plan, judged anew, come to what the plan says the interpreter made of them."""
    steps = (
        ir.Step("given", set="banned", member=7), packet(SSH, "drop", "scan"), ir.Step("wait", over=700 * SECOND),
        ir.Step("send", "wan", "in", DNS, "pass", "dns", count=30, over=SECOND, low=1, high=30), packet(DNS, "pass"),
    )  # fmt: skip
    whole = program(*steps)
    [plan] = json.loads(json.dumps(scenario.plan(whole)))
    assert plan["test"] == "t"
    assert [line["kind"] for line in plan["steps"]] == ["given", "packet", "wait", "send", "packet"]
    assert [line["time"] for line in plan["steps"]] == [SECOND * t for t in (1, 1, 1, 701, 702)]
    assert plan["steps"][0] | {"text": "", "file": ""} == {
        "kind": "given", "time": SECOND, "text": "", "file": "", "line": 1, "column": 1, "set": "banned", "family": 6,
        "address": "00" * 15 + "07", "expiry": 601 * SECOND, "refused": "",
    }  # fmt: skip
    assert plan["steps"][1]["expect"] == {"verdict": "drop", "rule": "wan.in.scan", "low": 1, "high": 1}
    interpreter = Interpreter(whole)
    for line in plan["steps"]:
        if "frame" in line:
            judged = [
                interpreter.judge(
                    bytes.fromhex(line["frame"]),
                    line["nic"],
                    line["direction"],
                    line["time"] + i * line["over"] // line["count"],
                )
                for i in range(line["count"])
            ]
            assert line["interpreter"] == [
                [v, r, sum((j.verdict, j.rule) == (v, r) for j in judged)]
                for v, r in sorted({(j.verdict, j.rule) for j in judged})
            ]
