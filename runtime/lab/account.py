"""Which counters the packets of one line of a `.packets` file move: what the demonstration shows and the tests hold policies to."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runtime import counters
from runtime.counters import Reading
from runtime.lab import topology, words
from runtime.lab.lab import Lab
from runtime.lab.packets import OUT, Line

Counts = dict[str, int]
SETTLE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Account:
    """got: by how much each counter that the line names went up; strays: other rules and defaults of the same lists that did."""

    line: Line
    sent: int
    got: Counts
    strays: Counts

    @property
    def good(self) -> bool:
        return self.sent == self.line.count == sum(self.got.values()) and all(self.got.values())


def readings(lab: Lab) -> list[Reading]:
    """Every counter of the policy that is on the lab, as `netc counters` reads them."""
    from runtime.commands import status, target

    with target.opened(argparse.Namespace(lab=lab.names.name, state_dir=None, bpffs=None)) as opened:
        _, bundle, context = status.installed(opened)
        return counters.read(context, bundle)


def totals(found: Sequence[Reading], kinds: Sequence[str] = ()) -> Counts:
    """Packets of every counter, summed over its stages; with `kinds` only of those."""
    summed: Counts = {}
    for reading in found:
        if not kinds or reading.counter.kind in kinds:
            summed[reading.counter.name] = summed.get(reading.counter.name, 0) + reading.packets
    return summed


def frames(lines: Sequence[Line]) -> list[bytes]:
    """One frame a line: a child of the compiler for each cable, not for each packet."""
    made: dict[int, bytes] = {}
    for source in {line.source for line in lines}:
        mine = [line for line in lines if line.source == source]
        found = words.frames([line.packet for line in mine], _side(source), from_dut=source == OUT)
        made |= {line.number: frame for line, frame in zip(mine, found, strict=True)}
    return [made[line.number] for line in lines]


def send(lab: Lab, line: Line, frame: bytes) -> Account:
    """Send the line's packets and wait until its counters account for them (the stack takes a moment), or for SETTLE_SECONDS."""
    before = readings(lab)
    sent = lab.send_from_dut(frame, line.count) if line.source == OUT else lab.send(_side(line.source), frame, line.count)
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        now = readings(lab)
        moved = _moved(totals(before), totals(now))
        got = {counter: moved.get(counter, 0) for counter in line.counters}
        if sum(got.values()) >= line.count or time.monotonic() > deadline:
            break
        time.sleep(0.01)
    lists = {_list(counter) for counter in line.counters}
    judged = _moved(totals(before, ("rule", "default")), totals(now, ("rule", "default")))
    strays = {counter: packets for counter, packets in judged.items() if counter not in got and _list(counter) in lists}
    return Account(line, sent.packets, got, strays)


def _moved(before: Mapping[str, int], now: Mapping[str, int]) -> Counts:
    return {name: packets - before.get(name, 0) for name, packets in now.items() if packets != before.get(name, 0)}


def _list(counter: str) -> str:
    """wan.in of wan.in.ssh: what answers the packets (RST, echo replies) meets other lists."""
    return counter.rpartition(".")[0]


def _side(source: str) -> topology.Side:
    return topology.WAN if source == OUT else topology.side(source)
