"""A lab as a user works with it: the netc command, traffic from the other ends, and everything the kernel says of its devices."""

from __future__ import annotations

import ctypes
import json
import platform
import re
import struct
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.backends import bpf
from runtime.backends.sysfs import Sysfs
from runtime.lab import account, topology
from runtime.lab.lab import Lab
from runtime.lab.packets import Line
from tests.kernel import reduced

ROOT = Path(__file__).parents[3]
State = dict[str, Any]
_NR_BPF = {"x86_64": 321, "aarch64": 280}[platform.machine()]
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
        netc = [sys.executable, "-m", "runtime.cli", *reduced.prepared(arguments), "--lab", self.name]
        return reduced.command(self.lab.names.netns(topology.DUT), netc) if reduced.ON else netc

    def netc(self, *arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run the command on the lab and demand its exit status."""
        done = subprocess.run(self.command(*arguments), capture_output=True, text=True, cwd=ROOT, check=False)
        assert done.returncode == code, f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr and "bug in netc" not in done.stderr, done.stderr
        return done

    def json(self, *arguments: str | Path, code: int = 0) -> Any:
        return json.loads(self.netc(*arguments, "--json", code=code).stdout)

    def verify(self) -> Any:
        """`netc verify`: all there and balanced; expectations are the caller's to judge, by `ok`."""
        done = subprocess.run(self.command("verify", "--json"), capture_output=True, text=True, cwd=ROOT, check=False)
        found = json.loads(done.stdout)
        judged = [item for item in found["findings"] if item["kind"] != "expect" and item["otherwise"] != "warn"]  # warn: a `prefer`
        assert judged and all(item["result"] == "held" for item in judged), found
        assert {item["kind"] for item in found["findings"]} >= {"installed", "balance"}
        assert done.returncode == (0 if found["ok"] else 1), found
        return found

    def run(self, *words: str) -> str:
        """A command in the device under test's network namespace."""
        inside = ["nsenter", f"--net=/run/netns/{self.lab.names.netns(topology.DUT)}", *words]
        return subprocess.run(inside, capture_output=True, text=True, check=True).stdout

    def counted(self) -> dict[str, int]:
        """Packets of every rule and default, over its stages."""
        return account.totals(account.readings(self.lab), ("rule", "default"))

    def state(self) -> State:
        """Everything that an apply may change, without what counts by itself."""
        link = json.loads(self.run("ip", "-d", "-j", "link"))
        return {
            "links": _still(link),
            "xdp": {dev["ifname"]: dev.get("xdp", {}).get("mode", 0) for dev in link},
            "qdiscs": _still(json.loads(self.run("tc", "-j", "qdisc"))),
            "classes": {dev["ifname"]: sorted(self.run("tc", "class", "show", "dev", dev["ifname"]).splitlines()) for dev in link},
            "nft": _still(json.loads(self.run("nft", "-j", "list", "ruleset"))),
            "ethtool": {device: self.run("ethtool", "-k", device) + self.run("ethtool", "-l", device) for device in ("wan0", "lan0")},
            "sysctls": sorted(line for line in self.run("sysctl", "-a", "--pattern", "^net\\.").split("\n") if not _VOLATILE.search(line)),
            "queues": self._queues(),
            "pins": sorted(str(path.relative_to(self.lab.names.bpffs)) for path in self.lab.names.bpffs.rglob("*") if path.suffix != ".debug"),
            "tcx": self._tcx(),
        }

    def _tcx(self) -> dict[str, int]:
        """How many programs each tcx hook has: `ip link` shows those of XDP only."""
        with self.lab.enter():
            return {f"{side.device} {hook}": _programs(side.ifindex, hook) for side in topology.SIDES for hook in (bpf.TCX_INGRESS, bpf.TCX_EGRESS)}

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


def send(bench: Bench, lines: Sequence[Line]) -> dict[str, int]:
    """Send line by line: each line's counters account for every packet and nothing else of their lists moves. Gives what each moved in all."""
    moved: dict[str, int] = {}
    for line, frame in zip(lines, account.frames(lines), strict=True):
        met = account.send(bench.lab, line, frame)
        assert met.good and met.strays == {}, met
        for counter, packets in met.got.items():
            moved[counter] = moved.get(counter, 0) + packets
    return moved


def _programs(ifindex: int, hook: int) -> int:
    """BPF_PROG_QUERY with room for no ids: the kernel answers with their number (kernel/bpf/mprog.c)."""
    attributes = ctypes.create_string_buffer(struct.pack("=IIIIQI", ifindex, hook, 0, 0, 0, 0), 64)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(_NR_BPF, 16, attributes, 64) != 0:
        raise OSError(ctypes.get_errno(), "BPF_PROG_QUERY")
    return int(struct.unpack_from("=I", attributes.raw, 24)[0])


def _still(value: Any) -> Any:
    """JSON without numbers that move by themselves, and without kernel handles that count up."""
    if isinstance(value, dict):
        return {key: _still(item) for key, item in value.items() if key not in _COUNTED}
    if isinstance(value, list):
        return [_still(item) for item in value]
    return value
