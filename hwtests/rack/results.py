"""Results of a run on the disk, one JSON line a test, for `netc rack report`; and as KTAP, the kernel's own test format.

A line: {"test", "variant", "nic", "device", "driver", "firmware", "bus", "kernel", "rack", "result", "reason", "quirk", "seconds", "figures", "series"}. result:
pass, fail, skip or xfail. figures: {name: number}; series: {name: [[x, y], ...]}. Before each test a line is written to results.attempted and
synced, so that the test that took the machine down is known.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

_NODE = re.compile(r"(?:.*/)?(?:test_)?(?P<file>[\w-]+)\.py::(?:.*::)?(?:test_)?(?P<name>\w+)(?:\[(?P<variant>.*)\])?\Z", re.DOTALL)
IDENTITY = ("nic", "device", "driver", "firmware", "bus", "kernel")


@dataclass
class Result:
    """One test on one port. nic: the port's name in the rack; variant: of the test, without the port."""

    test: str
    variant: str = ""
    nic: str = ""
    device: str = ""
    driver: str = ""
    firmware: str = ""
    bus: str = ""
    kernel: str = ""
    rack: str = ""
    result: str = "pass"
    reason: str = ""
    quirk: str = ""
    seconds: float = 0.0
    figures: dict[str, float] = field(default_factory=dict)
    series: dict[str, list[list[float]]] = field(default_factory=dict)


def named(node: str, port: str = "") -> tuple[str, str]:
    """`hwtests/test_filter.py::test_drops[wan-udp]` → ("filter.drops", "udp"), with the port's own name taken out of the variant."""
    match = _NODE.match(node)
    if not match:
        return node, ""
    parts = [part for part in (match["variant"] or "").split("-") if part]
    ports = port.split("-") if port else []
    if ports and parts[: len(ports)] == ports:
        parts = parts[len(ports) :]
    return f"{match['file']}.{match['name']}", "-".join(parts)


class Results:
    """Writes results.jsonl and results.attempted of a directory, and a KTAP file: each when it is asked for."""

    def __init__(self, directory: Path | None, ktap: Path | None) -> None:
        """Raises OSError."""
        self._lines: TextIO | None = None
        self._attempted: TextIO | None = None
        if directory:
            directory.mkdir(parents=True, exist_ok=True)
            self._lines = (directory / "results.jsonl").open("w", encoding="utf-8")
            self._attempted = (directory / "results.attempted").open("w", encoding="utf-8")
        self._ktap, self._all = ktap, list[Result]()

    def attempted(self, node: str) -> None:
        """On the disk before the test begins."""
        if self._attempted:
            self._attempted.write(f"{node}\n")
            self._attempted.flush()
            os.fsync(self._attempted.fileno())

    def add(self, result: Result) -> None:
        self._all.append(result)
        if self._lines:
            self._lines.write(json.dumps(asdict(result)) + "\n")
            self._lines.flush()

    def close(self) -> None:
        """The KTAP file is whole only now: its plan line has the number of tests."""
        for file in (self._lines, self._attempted):
            if file:
                file.close()
        if self._ktap:
            self._ktap.write_text(ktap(self._all), encoding="utf-8")


def ktap(results: list[Result]) -> str:
    """KTAP version 1 (Documentation/dev-tools/ktap.rst), with the totals line of the kernel's kselftest."""
    lines = ["KTAP version 1", f"1..{len(results)}"]
    for number, result in enumerate(results, 1):
        name = " ".join(filter(None, (result.test, result.nic, result.variant))).replace("#", "")
        directive = {"skip": " # SKIP ", "xfail": " # XFAIL "}.get(result.result, "")
        reason = " ".join(result.reason.split()) if directive else ""
        lines.append(f"{'not ok' if result.result == 'fail' else 'ok'} {number} {name}{directive}{reason}")
        if result.result == "fail":
            lines += [f"# {line}" for line in result.reason.splitlines()]
    counts: dict[str, Any] = {kind: sum(r.result == kind for r in results) for kind in ("pass", "fail", "skip", "xfail")}
    lines.append("# Totals: pass:{pass} fail:{fail} xfail:{xfail} xpass:0 skip:{skip} error:0".format(**counts))
    return "\n".join(lines) + "\n"
