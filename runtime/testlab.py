"""A throw-away lab for one test: the bundle is applied there, packets are really sent, the counters of all stages tell the rule.

The clock word of the attached programs is the test's; connection tracking and nft limits go by the kernel's time.
"""

from __future__ import annotations

import os
import secrets
import struct
import time as clock
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from compiler import bundle as bundles
from compiler.bundle import Bundle, DynamicSet
from runtime import apply, counters, replay, testrun
from runtime.backends import bpf
from runtime.context import Context
from runtime.lab import build, topology
from runtime.lab.lab import Lab
from runtime.objects import Objects
from runtime.state import Store
from runtime.steps import xdp_pins
from runtime.testrun import Judgement, Step

_TERMINAL = ("rule", "default", "control")
_WAIT_SECONDS = 2.0
_LONGEST_SEND = 5.0  # seconds: what nft limits is sent at its real pace


@contextmanager
def opened(bundle: Bundle) -> Iterator[LabKernel]:
    """A lab of its own with the bundle on it, removed at the end. Raises LabError, StepError, TransactionFailed."""
    name = f"test-{os.getpid()}-{secrets.token_hex(3)}"
    lab = Lab(build.up(name))
    try:
        with ExitStack() as stack:
            stack.enter_context(lab.enter())
            yield LabKernel(lab, _without_settings(bundle), stack)
    finally:
        build.down(name)


def _without_settings(bundle: Bundle) -> Bundle:
    """Verdicts do not hang on rings or CPUs, which the lab's veth and this machine may not have."""
    return msgspec.structs.replace(replay.without_cpus(bundle), settings=(), expects=())


class LabKernel:
    """A testrun.Kernel that sends. The calling thread is in the device under test's namespace."""

    engine = "lab"

    def __init__(self, lab: Lab, bundle: Bundle, stack: ExitStack) -> None:
        self._lab, self._bundle = lab, bundle
        bindings = topology.bind([nic.name for nic in bundle.nics])
        store, context = Store(lab.names.state), Context(lab.names.state, lab.names.bpffs, netns=lab.names.netns(topology.DUT))
        change = apply.Change("test", bundles.encode(bundle), bindings)
        outcome = apply.apply(store, context, change, lambda *_: None)
        self._sides = {nic: topology.side(device) for nic, device in bindings.items()}
        self._context = apply.with_devices(context, bindings, {})
        self._objects = stack.enter_context(_pinned(self._context, bundle, outcome.record.generation))
        self._programs = {c.nic: replay.Program(bundle, c, self._objects) for c in bundle.programs if c.hook == "xdp"}
        for program in self._programs.values():
            stack.callback(program.close)

    def judge(self, step: Step, frame: bytes, time: int) -> Judgement:
        self._set_clock(time)
        before = self._counted(step)
        self._send(step, frame, 1, 0)
        if not self._judges(step):
            return self._unfiltered(step, frame, time)
        return _increased(before, self._wait(step, before, 1))

    def judge_many(self, step: Step, frame: bytes, times: Sequence[int]) -> Counter[Judgement]:
        """XDP judges each packet at its time by a test run on the attached program's own state; what it hands on is really sent."""
        seen: Counter[Judgement] = Counter()
        if not self._judges(step):
            return Counter(self._unfiltered(step, frame, time) for time in times)
        if step["direction"] != "in" or step["nic"] not in self._programs:
            return self._at_real_pace(step, frame, len(times))
        with replay.on_one_cpu() as cpu:
            for time in times:
                judged = self._programs[step["nic"]].judge(frame, time, cpu)
                handed_on = judged.verdict == "handed-on"
                seen[self.judge(step, frame, time) if handed_on else (judged.verdict, judged.rule)] += 1
        return seen

    def _unfiltered(self, step: Step, frame: bytes, time: int) -> Judgement:
        """No filter block: everything passes, uncounted, but for what steering drops."""
        if step["direction"] != "in" or step["nic"] not in self._programs:
            return "pass", ""
        with replay.on_one_cpu() as cpu:
            judged = self._programs[step["nic"]].judge(frame, time, cpu)
        return judged.verdict, judged.rule

    def give(self, item: DynamicSet, key: bytes, expiry: int, now: int) -> str:
        return testrun.put_member(self._bundle, item, self._objects.maps.__getitem__, key, expiry, now)

    def _at_real_pace(self, step: Step, frame: bytes, count: int) -> Counter[Judgement]:
        seconds = step["over"] / 1e9
        if seconds > _LONGEST_SEND:
            return Counter({(f"not sent: it would take {seconds:g} s in real time, at most {_LONGEST_SEND:g} are", ""): count})
        before = self._counted(step)
        self._send(step, frame, count, count / seconds if seconds else 0)
        after = self._wait(step, before, count)
        return Counter({judgement: packets - before[judgement] for judgement, packets in after.items()})

    def _send(self, step: Step, frame: bytes, count: int, rate: float) -> None:
        side = self._sides[step["nic"]]
        if step["direction"] == "out":
            self._lab.send_from_dut(frame, count, side.device)
            return
        _take_address(side.device, frame[:6])
        self._lab.send(side, frame, count, rate)

    def _judges(self, step: Step) -> bool:
        """Is there a filter block for the step's direction?"""
        chain = f"{step['nic']}.{step['direction']}"
        return any(counters.chain_of(counter) == chain for counter in self._bundle.counters)

    def _set_clock(self, time: int) -> None:
        for item in self._bundle.maps:
            if item.role == "clock":
                bpf.map_update(self._objects.maps[item.id], bytes(4), struct.pack("=Q", time))

    def _counted(self, step: Step) -> Counter[Judgement]:
        """Packets by verdict and counter, of what ends a packet's way through the step's chain, and of what steering then drops."""
        chain = f"{step['nic']}.{step['direction']}"
        steer = f"{step['nic']}.steer" if step["direction"] == "in" else ""
        found: Counter[Judgement] = Counter()
        for reading in counters.read(self._context, self._bundle):
            of = counters.chain_of(reading.counter)
            if reading.counter.kind in _TERMINAL and (of == chain or (of == steer and reading.counter.verdict == "drop")):
                found[replay.verdict_of(reading.counter), reading.counter.name] += reading.packets
        return found

    def _wait(self, step: Step, before: Counter[Judgement], packets: int) -> Counter[Judgement]:
        deadline = clock.monotonic() + _WAIT_SECONDS
        while True:
            after = self._counted(step)
            if after.total() - before.total() >= packets or clock.monotonic() > deadline:
                return after
            clock.sleep(0.002)


def _increased(before: Counter[Judgement], after: Counter[Judgement]) -> Judgement:
    """The one counter that went up; where steering drops what the filter passed, its own: it has the last word."""
    more = [judgement for judgement, packets in after.items() if packets > before[judgement]]
    more = [judgement for judgement in more if counters.is_steering(judgement[1])] or more
    if len(more) == 1:
        return more[0]
    return ("counted by " + " and ".join(sorted(rule for _, rule in more)), "") if more else ("not counted by any rule", "")


def _take_address(device: str, mac: bytes) -> None:
    """Let the device be the one that the frame is for; else the stack takes it for another host's and drops it unjudged."""
    from pyroute2 import IPRoute

    if mac[0] & 1:  # broadcast or multicast
        return
    with IPRoute() as kernel:
        link = kernel.get_links(ifname=device)[0]
        wanted = mac.hex(":")
        if link.get_attr("IFLA_ADDRESS") != wanted:
            kernel.link("set", index=link["index"], address=wanted)


@contextmanager
def _pinned(context: Context, bundle: Bundle, generation: int) -> Iterator[Objects]:
    """The applied bundle's maps and programs by their pins."""
    made = Objects()
    try:
        for item in bundle.maps:
            made.maps[item.id] = _open(xdp_pins.map_path(context, item, generation))
        for code in bundle.programs:
            made.programs[code.name] = _open(xdp_pins.program_path(context, code.name, generation))
        yield made
    finally:
        made.close()


def _open(path: Path) -> int:
    return bpf.get_pinned(path)
