"""`netc lab demo`: make a lab, apply a policy, send its traffic, compare every counter, show the path, take everything down again.

Every step is the command that a person would type, shown before it runs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from runtime import cli, counters, output
from runtime.counters import Reading
from runtime.lab import build, packets, topology, words
from runtime.lab import lab as labs
from runtime.lab.lab import Lab
from runtime.lab.packets import OUT, Line

Counts = dict[str, int]
_SETTLE_SECONDS = 5.0
_WAYS = {"pass": "passed", "drop": "dropped"}


def run(policy: Path, name: str) -> int:
    """The exit status: 0 when every command worked and every counter is what was sent."""
    lines = packets.read(policy.with_suffix(".packets"))
    try:
        if _netc("lab", "up", name) or _netc("apply", str(policy), "--lab", name):
            return 1
        wrong = _send_all(labs.find(name), name, lines)
        broken = _netc("counters", "--lab", name) + _netc("verify", "--lab", name)
        _show_path(name)
        return int(bool(wrong or broken))
    finally:
        if build.read(topology.names(name)) is not None:
            _netc("lab", "down", name)


def _netc(*arguments: str) -> int:
    print(output.paint(f"\n$ netc {' '.join(arguments)}", "bold"), flush=True)
    return cli.main(list(arguments))


def _send_all(lab: Lab, name: str, lines: Sequence[Line]) -> int:
    """Send each line's packets and compare the counters it names. How many lines are wrong."""
    frames = _frames(lines)
    print(output.paint(f"\n{sum(line.count for line in lines):,} packets, {len(lines)} kinds, each with the counters it must meet:", "bold"))
    return sum(not _send(lab, name, line, frame) for line, frame in zip(lines, frames, strict=True))


def _frames(lines: Sequence[Line]) -> list[bytes]:
    """One frame a line: a child a cable, not a child a packet."""
    made: dict[int, bytes] = {}
    for source in {line.source for line in lines}:
        side, mine = _side(source), [line for line in lines if line.source == source]
        found = words.frames([line.packet for line in mine], side, from_dut=source == OUT)
        made |= {line.number: frame for line, frame in zip(mine, found, strict=True)}
    return [made[line.number] for line in lines]


def _send(lab: Lab, name: str, line: Line, frame: bytes) -> bool:
    before = counts(name)
    sent = lab.send_from_dut(frame, line.count) if line.source == OUT else lab.send(_side(line.source), frame, line.count)
    got = _settled(name, before, line)
    good = sum(got.values()) == line.count and all(got.values())
    mark = output.paint("ok", "green") if good else output.paint("NOT OK", "red")
    shown = ", ".join(f"{counter} +{packets:,}" for counter, packets in got.items())
    print(f"  {line.count:>6,} {line.source:<3} {line.packet:<58} {shown}  {mark}")
    return good and sent.packets == line.count


def _settled(name: str, before: Mapping[str, int], line: Line) -> Counts:
    """By how much the line's counters went up, once they account for what was sent (the stack takes a moment)."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    while True:
        now = counts(name)
        got = {counter: now.get(counter, 0) - before.get(counter, 0) for counter in line.counters}
        if sum(got.values()) >= line.count or time.monotonic() > deadline:
            return got
        time.sleep(0.01)


def counts(name: str) -> Counts:
    """Packets of every counter of the lab's policy, summed over its stages."""
    totals: Counts = {}
    for reading in _readings(name):
        totals[reading.counter.name] = totals.get(reading.counter.name, 0) + reading.packets
    return totals


def _readings(name: str) -> list[Reading]:
    from runtime.commands import status, target

    with target.opened(argparse.Namespace(lab=name, state_dir=None, bpffs=None)) as opened:
        _, bundle, context = status.installed(opened)
        return counters.read(context, bundle)


def _show_path(name: str) -> None:
    """Stage by stage: what came in, and where it went from there."""
    print(output.paint("\nThe path that the packets took:", "bold"))
    readings = _readings(name)
    rows = []
    for stage in counters.STAGES:
        here = [reading for reading in readings if reading.counter.stage == stage]
        for chain in dict.fromkeys(counters.chain_of(reading.counter) for reading in here):
            mine = [reading for reading in here if counters.chain_of(reading.counter) == chain]
            rows.append([stage, chain, ", ".join(_ways(mine)) or "no packets"])
            if lost := _gap(readings, chain) if stage == "conntrack" else 0:
                rows.append(["", "", f"{lost:,} on the way here: merged by GRO, or no room in a queue (cpumap, backlog)"])
    print(output.table(["stage", "list", "packets"], rows))


def _gap(readings: Sequence[Reading], chain: str) -> int:
    """How many packets an early stage let on that connection tracking did not see."""
    early = [r for r in readings if counters.chain_of(r.counter) == chain and r.counter.stage in ("xdp", "ingress")]
    let_on = sum(r.packets for r in early if r.counter.kind == "handed-on" or (r.counter.verdict == "pass" and r.counter.kind != "seen"))
    seen = sum(r.packets for r in readings if r.counter.name == f"{chain}.seen" and r.counter.stage == "conntrack")
    return max(0, let_on - seen) if early else 0


def _ways(readings: Sequence[Reading]) -> list[str]:
    """`4,355 seen`, then how many were dropped, passed and handed on; targets and classes by their own names."""
    ways: Counts = {}
    for reading in readings:
        counter = reading.counter
        named = counter.kind in ("class", "other") or counter.stage == "steer"
        way = counter.name.rpartition(".")[2] if named else _WAYS.get(counter.verdict, counter.kind)
        ways[way] = ways.get(way, 0) + reading.packets
    return [f"{packets:,} {way}" for way, packets in sorted(ways.items(), key=lambda item: item[0] != "seen") if packets]


def _side(source: str) -> topology.Side:
    return topology.WAN if source == OUT else topology.side(source)
