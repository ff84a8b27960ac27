"""A policy's `test` blocks on the kernel, by the plan that compiler/scenario.py writes (its docstring has the plan's shape).

What XDP decides alone is run by test runs of the very program, with the test's own clock. A test in which a packet goes on to the
kernel's stack (connection tracking, `filter out`) is run again from its start in a throw-away lab, where its packets are really sent
and the counters of all stages tell the rule (runtime/testlab.py).
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from compiler.bundle import Bundle, DynamicSet, Map
from runtime.backends import bpf
from runtime.replay import Engine

Step = Mapping[str, Any]
Judgement = tuple[str, str]  # verdict, rule (full counter name, "" when nothing counted it)
_KEY = struct.Struct("=I16s")  # struct address of compiler/targets/prelude.h
_RING_HEAD = struct.Struct("=3Q")  # count, hand, free: struct ring of compiler/targets/keyed.h
_SLOT = struct.Struct("=Q16s")  # family, address: struct ring_slot
_MEMBER = struct.Struct("=3Q")  # expiry, change, slot: struct member


@dataclass(frozen=True, slots=True)
class Result:
    """One step of a test on one engine (interpreter, xdp, lab); expected and got in the words of a policy."""

    test: str
    step: int
    engine: str
    held: bool
    expected: str
    got: str
    text: str
    file: str
    line: int


class NeedsStack(Exception):
    """XDP hands the packet on, or does not see it: only the whole kernel can tell."""


class Kernel(Protocol):
    """What runs a test's packets."""

    engine: str

    def judge(self, step: Step, frame: bytes, time: int) -> Judgement:
        """One packet at `time` (ns on the test's clock)."""

    def judge_many(self, step: Step, frame: bytes, times: Sequence[int]) -> Counter[Judgement]:
        """The same packet at each of `times`."""

    def give(self, item: DynamicSet, key: bytes, expiry: int, now: int) -> str:
        """Put a member into a dynamic set; "" or why it could not be."""


class XdpKernel:
    """Test runs of the XDP programs, nothing attached. Raises NeedsStack where they do not decide."""

    engine = "xdp"

    def __init__(self, bundle: Bundle, engine: Engine) -> None:
        self._bundle, self._engine = bundle, engine
        self._stages: dict[str, set[str]] = {}
        for counter in bundle.counters:
            self._stages.setdefault(counter.name.rpartition(".")[0], set()).add(counter.stage)

    def judge(self, step: Step, frame: bytes, time: int) -> Judgement:
        nic = step["nic"]
        stages = self._stages.get(f"{nic}.{step['direction']}")
        if not stages and not (step["direction"] == "in" and self._engine.judges(nic)):
            return "pass", ""  # no filter block, and nothing that steers: everything passes, uncounted
        if step["direction"] != "in" or (stages and "xdp" not in stages):
            raise NeedsStack
        judged = self._engine.judge(nic, frame, time)
        if judged.verdict == "handed-on":
            raise NeedsStack
        return judged.verdict, judged.rule

    def judge_many(self, step: Step, frame: bytes, times: Sequence[int]) -> Counter[Judgement]:
        return Counter(self.judge(step, frame, time) for time in times)

    def give(self, item: DynamicSet, key: bytes, expiry: int, now: int) -> str:
        return put_member(self._bundle, item, self._engine.map, key, expiry, now)


def run(bundle: Bundle, plan: Sequence[Mapping[str, Any]]) -> list[Result]:
    """Every step of every test. Each test starts with everything empty. Raises what loading and the lab raise."""
    return [result for test in plan for result in _run_test(bundle, test)]


def _run_test(bundle: Bundle, test: Mapping[str, Any]) -> list[Result]:
    try:
        with Engine(bundle) as engine:
            return run_steps(XdpKernel(bundle, engine), bundle, test)
    except NeedsStack:
        from runtime import testlab

        with testlab.opened(bundle) as kernel:
            return run_steps(kernel, bundle, test)


def run_steps(kernel: Kernel, bundle: Bundle, test: Mapping[str, Any]) -> list[Result]:
    """The steps of one test in order; `wait` only moves the clock, which the plan has done."""
    results = []
    for number, step in enumerate(test["steps"], 1):
        if step["kind"] == "wait":
            continue
        expected, got, held = _given(kernel, bundle, step) if step["kind"] == "given" else _packets(kernel, step)
        results.append(
            Result(test["test"], number, kernel.engine, held, expected, got, step["text"], step["file"], step["line"])
        )
    return results


def _packets(kernel: Kernel, step: Step) -> tuple[str, str, bool]:
    wanted = step["expect"]
    words = _words(wanted["verdict"], wanted["rule"])
    expected = words if step["kind"] == "packet" else f"{wanted['low']}..{wanted['high']} {words}"
    if not step["frame"]:
        return expected, f"no packet: {step['error']}", False
    frame, count = bytes.fromhex(step["frame"]), step["count"]
    if step["kind"] == "packet":
        verdict, rule = kernel.judge(step, frame, step["time"])
        held = verdict == wanted["verdict"] and wanted["rule"] in ("", rule)
        return expected, _words(verdict, rule if wanted["rule"] else ""), held
    times = [step["time"] + index * step["over"] // count for index in range(count)]
    seen = kernel.judge_many(step, frame, times)
    fitting = sum(n for (verdict, rule), n in seen.items() if verdict == wanted["verdict"] and wanted["rule"] in ("", rule))
    return expected, f"{fitting} {words}", wanted["low"] <= fitting <= wanted["high"]


def _given(kernel: Kernel, bundle: Bundle, step: Step) -> tuple[str, str, bool]:
    if step["refused"]:
        return "added", f"refused: {step['refused']}", False
    item = next((each for each in bundle.sets if each.name == step["set"]), None)
    if item is None:  # no program asks this set: its members change nothing
        return "added", "added", True
    key = _KEY.pack(step["family"], bytes.fromhex(step["address"]))
    words = kernel.give(item, key, step["expiry"], step["time"])
    return "added", f"refused: {words}" if words else "added", not words


def put_member(bundle: Bundle, item: DynamicSet, map_of: Any, key: bytes, expiry: int, now: int) -> str:
    """Add `key` as a program would: a live member stays, an expired one is renewed, a new one takes the ring's next place.

    map_of: map id → descriptor. "" or why not. Layout: compiler/targets/keyed.h (struct ring).
    """
    table = map_of(item.map)
    before = bpf.map_lookup(table, key, _MEMBER.size)
    if before is not None:
        old, change, slot = _MEMBER.unpack(before)
        if old and old <= now:
            bpf.map_update(table, key, _MEMBER.pack(expiry, change, slot))
        return ""
    ring = _ring_of(bundle, item)
    memory = bpf.map_array(map_of(ring.id), ring.value_size)
    try:
        count, hand, free = _RING_HEAD.unpack_from(memory)
        if count >= item.size:
            return f"{item.name} is full"
        bpf.map_update(table, key, _MEMBER.pack(expiry, 0, count), bpf.NOEXIST)
        _SLOT.pack_into(memory, _RING_HEAD.size + count * _SLOT.size, *_KEY.unpack(key))
        memory[: _RING_HEAD.size] = _RING_HEAD.pack(count + 1, hand, free)
    finally:
        memory.close()
    return ""


def _ring_of(bundle: Bundle, item: DynamicSet) -> Map:
    name = next(m.name for m in bundle.maps if m.id == item.map)
    return next(m for m in bundle.maps if m.name == f"{name}.ring")


def _words(verdict: str, rule: str) -> str:
    """As a policy writes it: `drop by ssh-scan`."""
    return verdict + (f" by {rule.rpartition('.')[2]}" if rule else "")
