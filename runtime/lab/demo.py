"""`netc lab demo`: make a lab, apply a policy, send its traffic, compare every counter, show the path, take everything down again.

Every step is the command that a person would type, shown before it runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from runtime import cli, counters, output
from runtime.counters import Reading
from runtime.lab import account, build, packets, topology
from runtime.lab import lab as labs
from runtime.lab.lab import Lab
from runtime.lab.packets import Line

_WAYS = {"pass": "passed", "drop": "dropped"}


def run(policy: Path, name: str) -> int:
    """The exit status: 0 when every command worked and every counter is what was sent."""
    lines = packets.read(policy.with_suffix(".packets"))
    try:
        if _netc("lab", "up", name) or _netc("apply", str(policy), "--lab", name):
            return 1
        lab = labs.find(name)
        wrong = _send_all(lab, lines)
        broken = _netc("counters", "--lab", name) + _netc("verify", "--lab", name)
        _show_path(lab)
        return int(bool(wrong or broken))
    finally:
        if build.read(topology.names(name)) is not None:
            _netc("lab", "down", name)


def _netc(*arguments: str) -> int:
    print(output.paint(f"\n$ netc {' '.join(arguments)}", "bold"), flush=True)
    return cli.main(list(arguments))


def _send_all(lab: Lab, lines: Sequence[Line]) -> int:
    """Send each line's packets and compare the counters it names. How many lines are wrong."""
    frames = account.frames(lines)
    print(output.paint(f"\n{sum(line.count for line in lines):,} packets, {len(lines)} kinds, each with the counters it must meet:", "bold"))
    return sum(not _send(lab, line, frame) for line, frame in zip(lines, frames, strict=True))


def _send(lab: Lab, line: Line, frame: bytes) -> bool:
    met = account.send(lab, line, frame)
    mark = output.paint("ok", "green") if met.good else output.paint("NOT OK", "red")
    shown = ", ".join(f"{counter} +{packets:,}" for counter, packets in met.got.items())
    print(f"  {line.count:>6,} {line.source:<3} {line.packet:<58} {shown}  {mark}")
    return met.good


def _show_path(lab: Lab) -> None:
    """Stage by stage: what came in, and where it went from there."""
    print(output.paint("\nThe path that the packets took:", "bold"))
    readings = account.readings(lab)
    rows = []
    for stage in counters.STAGES:
        here = [reading for reading in readings if reading.counter.stage == stage]
        for chain in dict.fromkeys(counters.chain_of(reading.counter) for reading in here):
            mine = [reading for reading in here if counters.chain_of(reading.counter) == chain]
            ways = _ways(mine)
            if not ways and all(reading.counter.kind != "seen" for reading in mine):
                continue  # a set's own counters: nothing goes through it
            rows.append([stage, chain, ", ".join(ways) or "no packets"])
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
    ways: dict[str, int] = {}
    for reading in readings:
        counter = reading.counter
        named = counter.kind in ("class", "other") or counter.stage == "steer"
        way = counter.name.rpartition(".")[2] if named else _WAYS.get(counter.verdict, counter.kind)
        ways[way] = ways.get(way, 0) + reading.packets
    return [f"{packets:,} {way}" for way, packets in sorted(ways.items(), key=lambda item: item[0] != "seen") if packets]

