"""A lab as a user works with it: the netc command, traffic from the other ends, and everything the kernel says of its devices."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime import counters
from runtime.backends.sysfs import Sysfs
from runtime.commands import status, target
from runtime.counters import Reading
from runtime.lab import topology, words
from runtime.lab.lab import Lab
from runtime.lab.packets import OUT, Line

ROOT = Path(__file__).parents[3]
SETTLE_SECONDS = 10.0
State = dict[str, Any]
_VOLATILE = re.compile(r"conntrack_count|neigh\..*|route\..*\.flush|random|\.stable_secret|nf_log|conntrack_(max|buckets)|expect_max|netfilter\.")
_COUNTED = {"packets", "bytes", "handle", "index", "operstate", "stats", "stats64", "drops", "qlen", "backlog", "overlimits", "requeues",
            "lended", "borrowed", "giants", "tokens", "ctokens", "direct_packets_stat", "version"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Bench:
    lab: Lab

    @property
    def name(self) -> str:
        return self.lab.names.name

    def command(self, *arguments: str | Path) -> list[str]:
        return [sys.executable, "-m", "runtime.cli", *map(str, arguments), "--lab", self.name]

    def netc(self, *arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run the command on the lab and demand its exit status."""
        done = subprocess.run(self.command(*arguments), capture_output=True, text=True, cwd=ROOT, check=False)
        assert done.returncode == code, f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr and "bug in netc" not in done.stderr, done.stderr
        return done

    def json(self, *arguments: str | Path, code: int = 0) -> Any:
        return json.loads(self.netc(*arguments, "--json", code=code).stdout)

    def run(self, *words: str) -> str:
        """A command in the device under test's network namespace."""
        inside = ["nsenter", f"--net=/run/netns/{self.lab.names.netns(topology.DUT)}", *words]
        return subprocess.run(inside, capture_output=True, text=True, check=True).stdout

    def readings(self) -> list[Reading]:
        """Every counter, read as `netc counters` reads them, without a process for each look."""
        with target.opened(argparse.Namespace(lab=self.name, state_dir=None, bpffs=None)) as opened:
            _, bundle, context = status.installed(opened)
            return counters.read(context, bundle)

    def state(self) -> State:
        """Everything that an apply may change, without what counts by itself."""
        link = json.loads(self.run("ip", "-d", "-j", "link"))
        return {
            "links": _still(link),
            "qdiscs": _still(json.loads(self.run("tc", "-j", "qdisc"))),
            "classes": [_still(json.loads(self.run("tc", "-j", "class", "show", "dev", dev["ifname"]) or "[]")) for dev in link],
            "nft": _still(json.loads(self.run("nft", "-j", "list", "ruleset"))),
            "ethtool": {device: self.run("ethtool", "-k", device) + self.run("ethtool", "-l", device) for device in ("wan0", "lan0")},
            "sysctls": sorted(line for line in self.run("sysctl", "-a", "--pattern", "^net\\.").split("\n") if not _VOLATILE.search(line)),
            "queues": self._queues(),
            "pins": sorted(str(path.relative_to(self.lab.names.bpffs)) for path in self.lab.names.bpffs.rglob("*") if not path.is_dir()),
        }

    def _queues(self) -> dict[str, str]:
        found = {}
        with self.lab.enter(), Sysfs() as sysfs:
            for device in ("wan0", "lan0"):
                for queue in sysfs.names(f"class/net/{device}/queues"):
                    for key in ("rps_cpus", "rps_flow_cnt", "xps_cpus"):
                        path = f"class/net/{device}/queues/{queue}/{key}"
                        if sysfs.exists(path):
                            found[path] = sysfs.read(path)
        return found


def judged(readings: Sequence[Reading]) -> dict[str, int]:
    """Counter name -> packets that its rule, default or class judged, over its stages; `seen` and the like are left out."""
    totals: dict[str, int] = {}
    for item in readings:
        if item.counter.kind in ("rule", "default") and item.counter.stage not in ("steer", "tc"):
            totals[item.counter.name] = totals.get(item.counter.name, 0) + item.packets
    return totals


def send(bench: Bench, lines: Sequence[Line]) -> dict[str, int]:
    """Send every line and wait until the counters it names account for it. Gives what each judged in all; raises on a surplus."""
    for line, frame in zip(lines, _frames(lines), strict=True):
        before = judged(bench.readings())
        if line.source == OUT:
            bench.lab.send_from_dut(frame, line.count)
        else:
            assert bench.lab.send(topology.side(line.source), frame, line.count).packets == line.count
        _wait(bench, line, before)
    return judged(bench.readings())


def _wait(bench: Bench, line: Line, before: Mapping[str, int]) -> None:
    end = time.monotonic() + SETTLE_SECONDS
    while True:
        now = judged(bench.readings())
        moved = {name: now[name] - before.get(name, 0) for name in now if now[name] != before.get(name, 0) and _of_the_way(name, line)}
        if sum(moved.values()) >= line.count or time.monotonic() > end:
            break
        time.sleep(0.01)
    assert set(moved) == set(line.counters) and sum(moved.values()) == line.count, f"line {line.number}, {line.packet}: {moved}"


def _of_the_way(counter: str, line: Line) -> bool:
    """Whether the counter's list judges what the line sends; the other way go the stack's answers (RST, echo replies)."""
    return (".out." in counter) == (line.source == OUT)


def _frames(lines: Sequence[Line]) -> list[bytes]:
    """One child of the compiler for each source, not for each line."""
    made: dict[int, bytes] = {}
    for source in {line.source for line in lines}:
        mine = [line for line in lines if line.source == source]
        side = topology.WAN if source == OUT else topology.side(source)
        made |= dict(zip((line.number for line in mine), words.frames([line.packet for line in mine], side, source == OUT), strict=True))
    return [made[line.number] for line in lines]


def _still(value: Any) -> Any:
    """JSON without numbers that move by themselves, and without kernel handles that count up."""
    if isinstance(value, dict):
        return {key: _still(item) for key, item in value.items() if key not in _COUNTED}
    if isinstance(value, list):
        return [_still(item) for item in value]
    return value
