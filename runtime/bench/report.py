"""Results as a table for people, or as one JSON document."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from runtime import output
from runtime.bench.rig import BY_HAND, FLOOR
from runtime.bench.run import Results
from runtime.bench.timing import Measured

_HEADS = ("flows", "what", "ns/packet", "middle half", "p99", "over the floor", "of by hand")


def text(results: Results, name: str) -> str:
    """The table and the facts, ready to print."""
    material = results.material
    lines = [
        f"{name}: {material.rules:,} rules; {results.compared:,} flows checked first, by {material.checked_by}.",
        "",
        output.table(("scenario", *_HEADS), _rows(results), right=(1, 3, 4, 5, 6, 7)),
        "",
        "ns/packet: median of batches by the thread's CPU time, all programs in turn on one CPU; the floor parses headers and judges nothing.",
        "over the floor: median of the differences within rounds. The generator of flows is in every total alike.",
        *(f"note: {note}" for note in _notes(results)),
        *(f"skipped {peer}: {reason}" for peer, reason in results.skipped.items()),
        *(f"{fact}: {value}" for fact, value in results.machine.items()),
    ]
    return "\n".join(lines)


def _rows(results: Results) -> list[list[str]]:
    return [
        [
            each.scenario, f"{each.flows:,}", each.subject, _ns(each.total.median), f"{_ns(each.total.low)}-{_ns(each.total.high)}",
            _ns(each.total.p99), f"{each.over_floor.median:+.1f}" if each.over_floor else "",
            f"{each.to_by_hand:.2f}" if each.to_by_hand else "",
        ]
        for each in results.measured
    ]  # fmt: skip


def _notes(results: Results) -> list[str]:
    material = results.material
    notes = list(material.notes)
    for scenario in material.scenarios:
        if scenario.distinct < len(scenario.expected):
            notes.append(f"{scenario.name}: {scenario.distinct:,} different headers among {len(scenario.expected):,} flows")
    if material.stateful:
        notes.append("limits and dynamic sets were checked on a clock of the test's own; while timing they live on the kernel's")
    if shaky := [each for each in results.measured if not each.steady]:
        notes.append(f"{len(shaky)} of {len(results.measured)} batches were not proportional to their size within 5 %: the machine was busy")
    batches, interrupted = (sum(getattr(m, what) for m in results.measured) for what in ("batches", "interrupted"))
    if interrupted * 20 > batches:
        notes.append(f"others had the CPU during {interrupted} of {batches} batches: compare within this run only, and run again when it is idle")
    if live := [peer for peer in ("nft", "iptables") if any(m.subject == peer for m in results.measured)]:
        notes.append(f"{' and '.join(live)}: socket buffers; the floor makes them and drops them by a chain without rules: compare `over the floor`")
    if any(m.subject == "xdp-filter" for m in results.measured):
        notes.append("xdp-filter was held to the policy's verdicts: its counters are of addresses and ports, not of rules")
    if results.machine.get("run statistics") == "on":
        notes.append("kernel.bpf_stats_enabled is on and makes every program slower")
    return notes


def as_json(results: Results, name: str) -> dict[str, Any]:
    """Everything that was found; times in ns a packet."""
    material = results.material
    return {
        "policy": name,
        "rules": material.rules,
        "checked": {"judgements": results.compared, "by": material.checked_by, "stateful": material.stateful},
        "scenarios": {s.name: {"flows": len(s.expected), "distinct": s.distinct} for s in material.scenarios},
        "results": [asdict(each) for each in results.measured],
        "programs": {who: {"bytes": size, "verified_instructions": walked} for who, (size, walked) in results.programs.items()},
        "notes": _notes(results),
        "skipped": results.skipped,
        "machine": results.machine,
    }


def of(results: Results, scenario: str, flows: int, subject: str) -> Measured:
    """One line of the table. Raises StopIteration where it was not measured."""
    return next(m for m in results.measured if (m.scenario, m.flows, m.subject) == (scenario, flows, subject))


def _ns(value: float) -> str:
    return f"{value:.1f}"


__all__ = ["BY_HAND", "FLOOR", "as_json", "of", "text"]
