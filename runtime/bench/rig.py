"""Programs behind the generator of flows, loaded for test runs: each flow is checked here before it is timed.

Nothing is attached. The generator (compiler/bench/generator.h) writes the next flow's frame over the packet of the test run and tail-calls
the subject under test, so that one BPF_PROG_TEST_RUN with `repeat` judges as many flows as the table holds.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Self

from msgspec.structs import replace

from compiler.bundle import CPU_MAX, SCRATCH_SIZE, Counter
from compiler.tables.flows import CHECK_TIME, Material, Scenario
from runtime import objects, slots
from runtime.backends import bpf
from runtime.replay import verdict_of, without_cpus

NETC, FLOOR, BY_HAND = "netc", "floor", "by hand"
_NAMES = {
    "bench.floor": FLOOR, "bench.by-hand": BY_HAND, "bench.nothing": "piece: nothing", "bench.length": "piece: length", "bench.parser": "piece: + parser",
    "bench.counted": "piece: + 2 counters",
}  # fmt: skip
_GENERATOR = "bench.generator"
_STATE = struct.Struct("=4I")  # next, mask, base, program: struct state of generator.h
_LEAD = 2  # bytes before a frame in the table
_ABORTED, _DROP = 0, 1
_PAIR = struct.Struct("=QQ")


class BenchError(Exception):
    """Something that makes a measurement worthless. The text says what, and what to do."""


class Rig:
    """Every subject of one material in the kernel. Use as a context manager, on one CPU (runtime.replay.on_one_cpu)."""

    def __init__(self, material: Material, cpu: int, one_buffer: bool = False) -> None:
        """one_buffer: no program takes frames of several buffers: the kernel puts those that do and those that do not into no common array."""
        self.material, self.cpu = material, cpu
        self.bundle = without_cpus(material.bundle)
        if one_buffer:
            self.bundle = replace(self.bundle, programs=tuple(replace(code, frags=False) for code in self.bundle.programs))
        self.flows = len(material.scenarios[0].expected)
        names = {material.program: NETC, **_NAMES}
        self._objects = objects.load_fresh(self.bundle, lambda code: code.name in (*names, _GENERATOR))
        try:
            self.subjects = {names[name]: number for number, name in enumerate(n for n in self._objects.programs if n in names)}
            self._fill(names)
            self._foreign: list[str] = []
            self._counters = {c.index: c for c in self.bundle.counters if c.program == material.program}
        except BaseException:
            self._objects.close()
            raise

    def _fill(self, names: dict[str, str]) -> None:
        self._generator = self._objects.programs[_GENERATOR]
        programs = self._map("bench.programs")
        for name, subject in names.items():
            if name in self._objects.programs:
                key = struct.pack("=I", self.subjects[subject])
                bpf.map_update(programs, key, struct.pack("=I", self._objects.programs[name]))
        table = next(m for m in self.bundle.maps if m.name == "bench.table")
        stride = table.value_size // self.material.slots
        memory = bpf.map_array(self._map("bench.table"), table.value_size)
        try:
            length = self.material.length
            for number, scenario in enumerate(self.material.scenarios):
                for i in range(self.flows):
                    at = (number * self.flows + i) * stride + _LEAD
                    memory[at : at + length] = scenario.frames[i * length : (i + 1) * length]
        finally:
            memory.close()
        self._state = bpf.map_array(self._map("bench.state"), _STATE.size)
        self._packet = self.material.scenarios[0].frames[: self.material.length]

    def add(self, subject: str, program: int) -> None:
        """A program that was loaded by others, held to the policy's verdicts. Raises BpfError where the kernel refuses it beside the others."""
        number = len(self.subjects)
        bpf.map_update(self._map("bench.programs"), struct.pack("=I", number), struct.pack("=I", program))
        self.subjects[subject] = number
        self._foreign.append(subject)

    def _map(self, name: str) -> int:
        return self._objects.maps[next(m.id for m in self.bundle.maps if m.name == name)]

    def _of_netc(self, role: str) -> int | None:
        code = next(c for c in self.bundle.programs if c.name == self.material.program)
        return next((self._objects.maps[m.id] for m in self.bundle.maps if m.role == role and m.id in code.maps), None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._state.close()
        self._objects.close()

    def set_clock(self, time: int) -> None:
        """ns; 0: the kernel's clock, as on a device."""
        clock = self._of_netc("clock")
        if clock is not None:
            bpf.map_update(clock, bytes(4), struct.pack("=Q", time))

    def point(self, subject: str, scenario: int, flows: int, first: int = 0) -> None:
        """The next runs: `subject`, over the first `flows` flows of a scenario from flow `first` on."""
        self._state[: _STATE.size] = _STATE.pack(first, flows - 1, scenario * self.flows, self.subjects[subject])

    def run(self, repeat: int) -> int:
        """Judge `repeat` packets; the last one's return value."""
        return bpf.test_run(self._generator, self._packet, repeat=repeat).retval

    def data_after(self, repeat: int) -> bytes:
        """The frame as the last of `repeat` packets was left."""
        return bpf.test_run(self._generator, self._packet, repeat=repeat).data_out

    def live(self, repeat: int, ifindex: int) -> None:
        """The same with real frames, which go on to the stack of a device in the thread's namespace when they pass."""
        context = struct.pack("=6I", 0, len(self._packet), 0, ifindex, 0, 0)
        bpf.test_run(self._generator, self._packet, context, repeat, bpf.TEST_XDP_LIVE_FRAMES, 64)

    def check(self) -> int:
        """Every flow through every subject once; how many judgements were compared. Raises BenchError at the first that is wrong."""
        self.set_clock(CHECK_TIME)
        compared = sum(self._check_netc(number, scenario) for number, scenario in enumerate(self.material.scenarios))
        if BY_HAND in self.subjects:
            compared += sum(self._check_by_hand(number, s) for number, s in enumerate(self.material.scenarios))
        for subject in self._foreign:
            compared += sum(self._check_verdicts(subject, number, scenario) for number, scenario in enumerate(self.material.scenarios))
        for subject in self.subjects:
            self.point(subject, 0, 1)
            if self.run(1) == _ABORTED:
                raise BenchError(f"{subject}: the generator could not call it")
        self.set_clock(0)
        return compared

    def _check_netc(self, number: int, scenario: Scenario) -> int:
        role = self._of_netc("scratch")
        if role is None:
            raise BenchError("the program has no scratch map to say which rule it was: compile the policy again")
        scratch = bpf.map_array(role, CPU_MAX * SCRATCH_SIZE)
        try:
            for place, expected in enumerate(scenario.expected):
                self.point(NETC, number, self.flows, place)
                retval = self.run(1)
                counter = self._counters.get(struct.unpack_from("=I", scratch, self.cpu * SCRATCH_SIZE)[0])
                self._compare(scenario, place, expected, retval, counter)
        finally:
            scratch.close()
        return len(scenario.expected)

    def _compare(self, scenario: Scenario, place: int, expected: int, retval: int, counter: Counter | None) -> None:
        wanted = self.material.outcomes[expected]
        got = (verdict_of(counter), counter.name) if counter else ("nothing", "no rule")
        if got != (wanted.verdict, wanted.counter) or (retval == _DROP) != (wanted.verdict == "drop") or retval == _ABORTED:
            raise BenchError(
                f"flow {place} of {scenario.name}: the program says {got[0]} by {got[1]} (returned {retval}), {self.material.checked_by} "
                f"says {wanted.verdict} by {wanted.counter}; nothing was timed\n  = help: this is a bug in netc; its frame: "
                f"{scenario.frames[place * self.material.length : (place + 1) * self.material.length].hex()}"
            )

    def _check_by_hand(self, number: int, scenario: Scenario) -> int:
        """Verdicts flow by flow; the rules by what its counters say afterwards."""
        before, wanted = self._hand_counters(), [0] * (self.material.rules + 1)
        self._check_verdicts(BY_HAND, number, scenario)
        for expected in scenario.expected:
            outcome = self.material.outcomes[expected]
            wanted[outcome.index if outcome.index >= 0 else self.material.rules] += 1
        counted = [after - was for after, was in zip(self._hand_counters(), before, strict=True)]
        if counted != wanted:
            wrong = next(i for i in range(len(wanted)) if wanted[i] != counted[i])
            raise BenchError(f"the program by hand counts {counted[wrong]} {scenario.name} at rule {wrong}, the policy {wanted[wrong]}")
        return len(scenario.expected)

    def _check_verdicts(self, subject: str, number: int, scenario: Scenario) -> int:
        for place, expected in enumerate(scenario.expected):
            verdict = self.material.outcomes[expected].verdict
            self.point(subject, number, self.flows, place)
            retval = self.run(1)
            if (retval == _DROP) != (verdict == "drop"):
                who = "the program by hand" if subject == BY_HAND else subject
                raise BenchError(f"flow {place} of {scenario.name}: {who} returns {retval}, the policy says {verdict}")
        return len(scenario.expected)

    def _hand_counters(self) -> list[int]:
        slots_of_cpu = self.material.rules + 1
        memory = bpf.map_array(self._map("bench.by-hand.counters"), CPU_MAX * slots_of_cpu * _PAIR.size)
        try:
            start = self.cpu * slots_of_cpu
            return [_PAIR.unpack_from(memory, (start + i) * _PAIR.size)[0] for i in range(slots_of_cpu)]
        finally:
            memory.close()

    def seen(self) -> int:
        """What the policy's program has counted on entry."""
        name = next(c.name for c in self._counters.values() if c.kind == "seen")
        code = next(c for c in self.bundle.programs if c.name == self.material.program)
        counters = self._of_netc("counters")
        if counters is None:
            raise BenchError("the program has no counters: compile the policy again")
        slot = slots.of_nic(self.bundle, code.nic, slots.assign([self.bundle], {}))[name]
        return objects.read_slots(counters, {name: slot})[name][0]

    def instructions(self) -> Iterator[tuple[str, int, int]]:
        """(subject, bytes translated, instructions that the verifier walked)."""
        for name, fd in self._objects.programs.items():
            info = bpf.prog_info(fd)
            subject = NETC if name == self.material.program else _NAMES.get(name, "")
            if subject:
                yield subject, info.xlated_size, info.verified_insns
