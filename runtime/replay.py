"""Captures and test packets through the very XDP program that would be attached: verdict and rule of each, by BPF_PROG_TEST_RUN.

Nothing is attached and no map is shared with what is installed. Time is the caller's: it is written to the program's clock word before
each packet, so that limits and timeouts are the capture's. The rule is what the program left in its scratch map.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Self

import msgspec

from compiler.bundle import CPU_MAX, SCRATCH_SIZE, Bundle, Code, Counter
from runtime import objects
from runtime.backends import bpf

MIN_FRAME = 14  # bytes: the kernel's test run refuses less
_XDP_DROP = 1
_NOTHING = 0xFFFFFFFF  # in the scratch: no rule judged the packet


class ReplayError(Exception):
    """A capture, nic or program that cannot be replayed. The text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One packet's fate at the XDP stage. n counts from 1; verdict: pass, drop, handed-on or refused; rule: the counter's name."""

    n: int
    verdict: str
    rule: str
    bytes: int


def nic_of(bundle: Bundle, nic: str = "") -> str:
    """The nic to replay on: `nic`, or the policy's first that XDP filters. Raises ReplayError."""
    filtered = [code.nic for code in bundle.programs if code.hook == "xdp" and _chain_counters(bundle, code)]
    if nic and nic not in [each.name for each in bundle.nics]:
        raise ReplayError(f"the policy has no nic {nic}; it has {', '.join(each.name for each in bundle.nics)}")
    if nic and nic not in filtered or not filtered:
        raise ReplayError(f"{f'nic {nic}' if nic else 'no nic'} has a filter that XDP judges: there is nothing to replay")
    return nic or filtered[0]


class Engine:
    """The XDP programs of a bundle with maps of their own. Use as a context manager: it keeps the thread on one CPU.

    Raises BpfError, StepError when loading.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = without_cpus(bundle)
        self._objects = objects.load_fresh(self.bundle, lambda code: code.hook == "xdp")
        self._programs: dict[str, Program] = {}
        self._pinned, self._cpu = ExitStack(), -1
        try:
            for code in self.bundle.programs:
                if code.hook == "xdp":
                    self._programs[code.nic] = Program(self.bundle, code, self._objects)
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> Self:
        self._cpu = self._pinned.enter_context(on_one_cpu())
        return self

    def __exit__(self, *_: object) -> None:
        self._pinned.close()
        for program in self._programs.values():
            program.close()
        self._objects.close()

    def map(self, number: int) -> int:
        """The descriptor of a map by its id, for `given` entries. Raises KeyError."""
        return self._objects.maps[number]

    def judges(self, nic: str) -> bool:
        return nic in self._programs

    def judge(self, nic: str, frame: bytes, time: int, n: int = 1) -> Judged:
        """One packet at `time` (ns, over 0). Raises ReplayError when the kernel refuses the frame, KeyError for a nic without XDP."""
        return self._programs[nic].judge(frame, time, self._cpu, n)


class Program:
    """One loaded XDP program with its clock and scratch maps open in memory."""

    def __init__(self, bundle: Bundle, code: Code, made: objects.Objects) -> None:
        maps = {item.role: item.id for item in bundle.maps if item.id in code.maps and item.role in ("clock", "scratch")}
        self._fd = made.programs[code.name]
        self._counters: Mapping[int, Counter] = {c.index: c for c in bundle.counters if c.program == code.name}
        self._filters = bool(_chain_counters(bundle, code))
        self._clock = made.maps.get(maps.get("clock", -1))
        if "scratch" not in maps:
            raise ReplayError(f"program {code.name} has no scratch map: compile the policy again")
        self._scratch = bpf.map_array(made.maps[maps["scratch"]], CPU_MAX * SCRATCH_SIZE)

    def close(self) -> None:
        self._scratch.close()

    def judge(self, frame: bytes, time: int, cpu: int, n: int = 1) -> Judged:
        """cpu: the one that this thread is kept on."""
        if len(frame) < MIN_FRAME:
            return Judged(n, "refused", "", len(frame))
        if self._clock is not None:
            bpf.map_update(self._clock, bytes(4), struct.pack("=Q", max(time, 1)))
        try:
            answer = bpf.test_run(self._fd, frame)
        except bpf.BpfError as error:
            raise ReplayError(f"packet {n} ({len(frame)} bytes): the kernel refuses to run it: {os.strerror(error.errno or 0)}") from None
        index = struct.unpack_from("=I", self._scratch, cpu * SCRATCH_SIZE)[0]
        if index == _NOTHING and not self._filters and answer.retval != _XDP_DROP:
            return Judged(n, "pass", "", len(frame))  # it steers only
        counter = self._counters.get(index)
        if counter is None:
            raise ReplayError(f"packet {n}: the program named no rule (scratch {index}): compile the policy again")
        verdict = verdict_of(counter)
        if (answer.retval == _XDP_DROP) != (verdict == "drop"):
            raise ReplayError(f"packet {n}: the program returned {answer.retval} where {counter.name} says {verdict}")
        return Judged(n, verdict, counter.name, len(frame))


def verdict_of(counter: Counter) -> str:
    """What a counter's packets met: its own verdict, or that the next stage judges them."""
    return "handed-on" if counter.kind == "handed-on" else counter.verdict or "pass"


def replay(bundle: Bundle, nic: str, packets: Iterable[tuple[int, bytes]]) -> Iterator[Judged]:
    """Judge (time in ns, frame) in order with one program whose state carries over from packet to packet."""
    with Engine(bundle) as engine:
        for n, (time, frame) in enumerate(packets, 1):
            yield engine.judge(nic, frame, time, n)


def without_cpus(bundle: Bundle) -> Bundle:
    """The bundle with empty cpumaps: which CPU takes a packet is no part of its verdict, and this machine may have fewer."""
    return msgspec.structs.replace(
        bundle, maps=tuple(msgspec.structs.replace(m, entries=b"") if m.role == "cpus" else m for m in bundle.maps)
    )


@contextmanager
def on_one_cpu() -> Iterator[int]:
    """Keep this thread on one CPU, so that what a test run wrote per CPU can be found."""
    before = os.sched_getaffinity(0)
    cpu = min(before)
    os.sched_setaffinity(0, {cpu})
    try:
        yield cpu
    finally:
        os.sched_setaffinity(0, before)


def line(judged: Judged) -> str:
    """One packet as `netc replay` prints it; both engines go through here, so equal judgements are equal bytes."""
    return f"{judged.n:>7}  {judged.verdict:<9}  {judged.rule or '-':<40}  {judged.bytes:>5}"


def json_line(judged: Judged) -> str:
    """The same as one JSON object."""
    return msgspec.json.encode(
        {"n": judged.n, "verdict": judged.verdict, "rule": judged.rule, "bytes": judged.bytes}
    ).decode()


def summary(judged: Iterable[Judged], as_json: bool = False) -> list[str]:
    """How many packets and bytes met each rule, in the order of first meeting; as JSON one object a rule."""
    totals: dict[tuple[str, str], tuple[int, int]] = {}
    for each in judged:
        packets, octets = totals.get((each.rule, each.verdict), (0, 0))
        totals[each.rule, each.verdict] = (packets + 1, octets + each.bytes)
    if as_json:
        return [msgspec.json.encode({"verdict": verdict, "rule": rule, "packets": packets, "bytes": octets}).decode()
                for (rule, verdict), (packets, octets) in totals.items()]  # fmt: skip
    return [f"{verdict:<9}  {rule or '-':<40}  {packets:>10,} packets  {octets:>13,} bytes"
            for (rule, verdict), (packets, octets) in totals.items()]  # fmt: skip


def _chain_counters(bundle: Bundle, code: Code) -> list[Counter]:
    return [c for c in bundle.counters if c.program == code.name and c.stage == "xdp"]
