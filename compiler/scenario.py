"""A policy's `test` blocks, run on the reference interpreter, and written out as a plan for the kernel.

A test starts with everything empty at time 0, which is 1 s on the clock of both engines (a clock of 0 means the kernel's own). Packets
take no time, `wait T` takes T, `send N over T` sends N packets at i × T / N (rounded down) and takes T.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from compiler import frames, ir
from compiler.interp import Interpreter, Judgement
from compiler.source import Span
from compiler.tables.capture import START


@dataclass(frozen=True, slots=True)
class Result:
    """One step of a test: what was expected and what the interpreter made of it, in the words of a policy ("drop by ssh-scan").

    text: the step as written.
    """

    test: str
    step: int
    held: bool
    expected: str
    got: str
    text: str
    span: Span


def run(program: ir.Program) -> list[Result]:
    """Every step of every test, in order; tests do not see each other. A step that cannot be done has `held` False and says why."""
    return [result for scenario in program.tests for result in _run_scenario(program, scenario)]


def _run_scenario(program: ir.Program, scenario: ir.Scenario) -> list[Result]:
    interpreter = Interpreter(program)
    now = START
    results = []
    for number, step in enumerate(scenario.steps, 1):
        try:
            expected, got = _run_step(program, interpreter, step, now)
        except frames.FrameError as error:
            expected, got = _wanted(step), f"no packet: {error}"
        held = got == expected if step.kind != "send" else _in_bounds(step, got)
        results.append(Result(scenario.name, number, held, expected, got, step.text, step.span))
        now += step.over
    return results


def _run_step(program: ir.Program, interpreter: Interpreter, step: ir.Step, now: int) -> tuple[str, str]:
    """What the step expects and what came of it."""
    if step.kind == "wait":
        return "", ""
    if step.kind == "given":
        refused = interpreter.give(step.set, step.member, now)
        return "added", f"refused: {refused}" if refused else "added"
    if step.packet is None:
        raise frames.FrameError("the step has none")
    frame = frames.build(step.packet)
    if step.kind == "packet":
        return _wanted(step), _words(interpreter.judge(frame, step.nic, step.direction, now), step)
    seen = Counter(
        _words(interpreter.judge(frame, step.nic, step.direction, time), step) for time in send_times(step, now)
    )
    words = step.verdict + (f" by {step.rule}" if step.rule else "")
    return _wanted(step), f"{seen[words]} {words}"


def send_times(step: ir.Step, now: int) -> list[int]:
    """When each packet of a `send` is sent (ns)."""
    return [now + index * step.over // step.count for index in range(step.count)]


def _wanted(step: ir.Step) -> str:
    words = step.verdict + (f" by {step.rule}" if step.rule else "")
    return words if step.kind == "packet" else f"{step.low}..{step.high} {words}"


def _words(judgement: Judgement, step: ir.Step) -> str:
    """The judgement as a policy writes it: with the rule where the step names one, in the way in which it names it."""
    if not step.rule:
        return judgement.verdict
    short = judgement.rule.removeprefix(f"{step.nic}.").removeprefix(f"{step.direction}.")  # of a steer rule: steer.NAME
    return f"{judgement.verdict} by {judgement.rule if judgement.rule == step.rule else short or 'no rule'}"


def _in_bounds(step: ir.Step, got: str) -> bool:
    count = got.split(" ", 1)[0]
    return count.isdigit() and step.low <= int(count) <= step.high


def plan(program: ir.Program) -> list[dict[str, object]]:
    """The tests as JSON-able data for an engine that cannot parse policies (the kernel's half, runtime/testrun.py).

    One object a test: {"test": name, "steps": [...]}. Every step has "kind", "time" (absolute ns on the clock word), "text", "file",
    "line", "column", and by kind:

    - packet, send: "nic", "direction", "frame" (hex), "count", "over" (ns; packet i is due at time + i * over // count), "expect":
      {"verdict", "rule" (full counter name, "" for any), "low", "high": how many of the `count` packets are judged like that},
      "interpreter": [[verdict, rule, packets], …] as the reference interpreter judged them, whole. A frame that cannot be
      built has "frame" "" and "error".
    - given: "set", "family" (4 or 6), "address" (hex, 4 or 16 bytes), "expiry" (absolute ns; 0: never), "refused" ("" or the reason for
      which the interpreter did not take it: then the entry must not be put in).
    - wait: "over" (ns).
    """
    return [{"test": scenario.name, "steps": _plan_steps(program, scenario)} for scenario in program.tests]


def _plan_steps(program: ir.Program, scenario: ir.Scenario) -> list[dict[str, object]]:
    interpreter = Interpreter(program)
    sets = {item.name: item for item in program.sets}
    now = START
    lines: list[dict[str, object]] = []
    for step in scenario.steps:
        span = step.span
        line: dict[str, object] = {"kind": step.kind, "time": now, "text": step.text, "file": span.file}
        line |= {"line": span.line, "column": span.column}
        if step.kind == "wait":
            line["over"] = step.over
        elif step.kind == "given":
            refused = interpreter.give(step.set, step.member, now)
            line |= {
                "set": step.set,
                **_address(step.member),
                "expiry": _expiry(sets[step.set], now),
                "refused": refused,
            }
        else:
            line |= _plan_packets(interpreter, step, now)
        lines.append(line)
        now += step.over
    return lines


def _plan_packets(interpreter: Interpreter, step: ir.Step, now: int) -> dict[str, object]:
    rule = _full_name(interpreter.program, step)
    low, high = (step.low, step.high) if step.kind == "send" else (1, 1)
    line: dict[str, object] = {
        "nic": step.nic,
        "direction": step.direction,
        "count": step.count,
        "over": step.over,
        "expect": {"verdict": step.verdict, "rule": rule, "low": low, "high": high},
    }
    try:
        if step.packet is None:
            raise frames.FrameError("the step has none")
        frame = frames.build(step.packet)
    except frames.FrameError as error:
        return {**line, "frame": "", "error": str(error), "interpreter": []}
    judged = Counter(
        (judgement.verdict, judgement.rule)
        for time in send_times(step, now)
        for judgement in (interpreter.judge(frame, step.nic, step.direction, time),)
    )
    counts = [[verdict, counter, count] for (verdict, counter), count in sorted(judged.items())]
    return {**line, "frame": frame.hex(), "interpreter": counts}


def _full_name(program: ir.Program, step: ir.Step) -> str:
    """The counter that a step's rule names; "" where it names none."""
    if not step.rule:
        return ""
    names = [c.name for c in program.chains if (c.nic, c.direction) == (step.nic, step.direction)]
    if any(step.rule.startswith(f"{name}.") for name in names):
        return step.rule
    return f"{step.nic}.{step.rule}" if step.rule.startswith("steer.") else f"{step.nic}.{step.direction}.{step.rule}"


def _address(ordinal: int) -> dict[str, object]:
    if ordinal >= ir.V4_BASE:
        return {"family": 4, "address": (ordinal - ir.V4_BASE).to_bytes(4, "big").hex()}
    return {"family": 6, "address": ordinal.to_bytes(16, "big").hex()}


def _expiry(definition: ir.Set, now: int) -> int:
    return 0 if definition.timeout is None else now + definition.timeout
