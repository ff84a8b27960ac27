"""The results of hardware tests, one JSON line a test: the format that hwtests writes and `netc rack report` reads.

Beside results.jsonl lies results.attempted: its first line is `# RACK: PORT PORT …`, then a test's pytest node id is on the disk before the test begins, so
that the test that took the machine down is known. What cannot be read of a file is named, and the rest is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

FILE, ATTEMPTED = "results.jsonl", "results.attempted"
IDENTITY = ("nic", "device", "driver", "firmware", "bus", "kernel")
NEVER_ENDED = "began and never ended: the machine or the run died in it"
_LARGEST = 256 << 20  # bytes of a file: a run of thousands of tests has a few megabytes
_NODE = re.compile(r"(?:.*/)?(?:test_)?(?P<file>[\w-]+)\.py::(?:.*::)?(?:test_)?(?P<name>\w+)(?:\[(?P<variant>.*)\])?\Z", re.DOTALL)

_HEAD = re.compile(r"# (?P<rack>.*): (?P<ports>[^:]*)\Z")

Kind = Literal["pass", "fail", "skip", "xfail"]


class RackResultsError(Exception):
    """There is nothing to report on: no such file, or no results in it. The text names the file."""


class Result(msgspec.Struct):
    """One test on one port. nic: the port's name in the rack; variant: of the test, without the port; result xfail: the known quirk showed."""

    test: str
    variant: str = ""
    nic: str = ""
    device: str = ""
    driver: str = ""
    firmware: str = ""
    bus: str = ""
    kernel: str = ""
    rack: str = ""
    result: Kind = "pass"
    reason: str = ""
    quirk: str = ""
    seconds: float = 0.0
    figures: dict[str, float] = {}
    series: dict[str, list[tuple[float, float]]] = {}


class Damaged(msgspec.Struct, frozen=True):
    """A line that could not be read: which, and why."""

    line: int
    reason: str


class Run(msgspec.Struct, frozen=True):
    """One results.jsonl. ended: when its last line was written; crashed: tests that began and never ended, as results without a verdict."""

    name: str
    ended: datetime
    results: list[Result]
    crashed: list[Result]
    damaged: list[Damaged]


def encoded(result: Result) -> bytes:
    """The line of a result, with its end."""
    return msgspec.json.encode(result) + b"\n"


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


def read(path: Path) -> Run:
    """The run of a directory (or of its results.jsonl). Raises RackResultsError, OSError."""
    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        raise RackResultsError(f"{file}: no such file\n  = help: pytest hwtests --rack RACK --results {path} writes it")
    if file.stat().st_size > _LARGEST:
        raise RackResultsError(f"{file} is larger than {_LARGEST >> 20} MiB: these are no results of hwtests")
    found, damaged = _lines(file.read_bytes())
    attempted = file.with_name(ATTEMPTED)
    lines = attempted.read_text(encoding="utf-8", errors="replace").splitlines() if attempted.is_file() else []
    crashed = _never_ended(lines, found)
    if not (found or damaged or crashed):
        raise RackResultsError(f"{file}: no results in it\n  = help: the run ended before its first test: see what pytest said")
    ended = datetime.fromtimestamp(file.stat().st_mtime, tz=UTC)
    return Run(file.parent.resolve().name or str(file), ended, found, crashed, damaged)


def distinct(runs: list[Run]) -> list[Run]:
    """Runs whose directories have the same name are told apart by their place."""
    names = [run.name for run in runs]
    return [msgspec.structs.replace(run, name=f"{run.name} ({number})") if names.count(run.name) > 1 else run for number, run in enumerate(runs, 1)]


def _lines(data: bytes) -> tuple[list[Result], list[Damaged]]:
    found, damaged = list[Result](), list[Damaged]()
    decoder = msgspec.json.Decoder(Result)
    for number, line in enumerate(data.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            found.append(decoder.decode(line))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            damaged.append(Damaged(number, str(error)))
    if damaged and not data.endswith(b"\n") and damaged[-1].line == data.count(b"\n") + 1:
        damaged[-1] = Damaged(damaged[-1].line, f"cut short: the run died while it wrote this line ({damaged[-1].reason})")
    return found, damaged


def attempted_head(rack: str, ports: Iterable[str]) -> str:
    """The first line of results.attempted."""
    return f"# {rack}: {' '.join(ports)}"


def _never_ended(lines: list[str], found: list[Result]) -> list[Result]:
    """A test that was attempted and has no result, with what is known of its port from the port's other results."""
    ended = {(one.nic, one.test, one.variant) for one in found}
    ports, nodes = _announced(lines)
    ports.update({one.nic: one for one in found if one.nic})
    lost = list[Result]()
    for node in dict.fromkeys(nodes):
        port = _port_of(node, ports)
        if not {(nic, *named(node, nic)) for nic in ("", port)} & ended:
            test, variant = named(node, port)
            known = {what: getattr(ports[port], what) for what in (*IDENTITY, "rack")} if port else {}
            lost.append(Result(test=test, variant=variant, result="fail", reason=NEVER_ENDED, **known))
    return lost


def _announced(lines: list[str]) -> tuple[dict[str, Result], list[str]]:
    """The ports of the first line, of which no more than their names and rack is known, and the node ids of the others."""
    head = _HEAD.match(lines[0]) if lines else None
    if not head:
        return {}, lines
    return {name: Result(test="", nic=name, rack=head["rack"]) for name in head["ports"].split()}, lines[1:]


def _port_of(node: str, ports: dict[str, Result]) -> str:
    """The longest name of a port that a test's parameters begin with: `wan-2` before `wan`."""
    _, variant = named(node)
    return max((port for port in ports if f"{variant}-".startswith(f"{port}-")), key=len, default="")
