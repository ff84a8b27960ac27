"""A host of its own for each test: a network namespace with `wan0`, its peer in another one, a state directory, a bpf file system.

The real command is run in it (`nsenter` changes the network namespace alone, as setns(2) does), on bundles made by the compiler's
lowerings from programs built here.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compiler import bundle as bundles
from compiler import frames, ir, place, profile
from compiler.targets import ethtool, nft, tc, xdp
from runtime.lab import netns
from tests.kernel import reduced

ROOT = Path(__file__).parents[3]
SSH = ir.Rule("ssh", "pass", ir.And((ir.Is("tcp"), ir.Within(ir.Field.DPORT, ((22, 22),)))), text="pass tcp dport 22")
DNS = ir.Rule("dns", "drop", ir.And((ir.Is("udp"), ir.Within(ir.Field.DPORT, ((53, 53),)))), text="drop udp dport 53")
ESTABLISHED = ir.Rule("est", "pass", ir.Connection(("established",)), text="pass established")


def program(*rules: ir.Rule, shape: bool = False, settings: tuple[ir.Setting, ...] = ()) -> ir.Program:
    """One nic `wan` on wan0 with a filter in, default drop; `shape`: also a shape out with two classes."""
    classes = (ir.Class("voice", ir.Within(ir.Field.DSCP, ((46, 46),)), min=2_000_000), ir.Class("bulk", None, min=1_000_000))
    return ir.Program(
        nics=(ir.Nic("wan", "wan0", "native"),),
        chains=(ir.Chain("wan.in", "wan", "in", None, rules, "drop"),),
        shapes=(ir.Shape("wan.shape.out", "wan", "out", 10_000_000, 0, classes),) if shape else (),
        settings=settings,
    )


def made(policy: ir.Program, name: str = "p.netc", **changes: Any) -> bytes:
    """The bundle of a program, through every lowering."""
    placed = place.place(policy, profile.load(ROOT / "compiler/profiles/veth.yaml"))
    early, shaped, late = xdp.lower(placed), tc.lower(placed), nft.lower(placed)
    fields: dict[str, Any] = {
        "policy": name, "policy_sha256": "0" * 64, "netc": "0.1.0",
        "nics": tuple(bundles.Nic(n.nic.name, n.nic.device, n.index, n.nic.xdp) for n in placed.nics),
        "maps": tuple({m.id: m for m in (*early.maps, *shaped.maps)}.values()), "programs": (*early.programs, *shaped.programs),
        "counters": (*early.counters, *shaped.counters, *late.counters), "nft": late.nft, "trees": shaped.trees,
        "settings": ethtool.lower(placed), "placements": placed.reasons, "expects": (), "sets": early.sets,
    }  # fmt: skip
    return bundles.encode(bundles.Bundle(**{**fields, **changes}))


@dataclass(frozen=True, slots=True)
class Host:
    """netns: where wan0 is; peer: where wan0p is; directory: everything on disk."""

    netns: str
    peer: str
    directory: Path

    def write(self, data: bytes, name: str = "p.bundle") -> Path:
        path = self.directory / name
        path.write_bytes(data)
        return path

    def command(self, *arguments: str | Path) -> list[str]:
        where = ["--state-dir", self.directory / "state", "--bpffs", self.directory / "bpf"]
        netc = [sys.executable, "-m", "runtime.cli", *reduced.prepared(arguments), *where]
        return reduced.command(self.netns, [*map(str, netc)])

    def netc(self, *arguments: str | Path, status: int = 0) -> subprocess.CompletedProcess[str]:
        """Run the command here and demand its exit status."""
        done = subprocess.run(self.command(*arguments), capture_output=True, text=True, cwd=ROOT, check=False)
        assert done.returncode == status, f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    def json(self, *arguments: str | Path, status: int = 0) -> Any:
        return json.loads(self.netc(*arguments, "--json", status=status).stdout)

    def counts(self) -> dict[tuple[str, str], int]:
        """(stage, counter) → packets."""
        return {(c["stage"], c["name"]): c["packets"] for c in self.json("counters")["counters"]}

    def ended(self) -> str:
        """What a watchdog did, once it has done it. A second call waits for a second ending."""
        told, until = self.directory / "state/watchdog.txt", time.monotonic() + 60
        while (self.directory / "state/journal.jsonl").exists() or not told.exists():
            assert time.monotonic() < until, "nobody ended the change"
            time.sleep(0.02)
        text = told.read_text()
        told.unlink()
        return text

    def run(self, *words: str) -> str:
        return subprocess.run(["nsenter", f"--net=/run/netns/{self.netns}", *words], capture_output=True, text=True, check=True).stdout

    def send(self, spec: ir.PacketSpec, count: int = 1, device: str = "wan0p") -> None:
        """Frames out of wan0p, so that they arrive on wan0; or out of another device, which is this host's own."""
        import socket

        mac = json.loads(self.run("ip", "-j", "link", "show", "wan0"))[0]["address"]
        frame = frames.build(spec, dst_mac=mac)
        with netns.enter(self.peer if device == "wan0p" else self.netns), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
            wire.bind((device, 0))
            for _ in range(count):
                wire.send(frame)

    def attached(self) -> dict[str, Any]:
        """What the kernel says of wan0: XDP program, qdisc, nft tables. The proof that a refusal changed nothing."""
        link = json.loads(self.run("ip", "-d", "-j", "link", "show", "wan0"))[0]
        return {
            "xdp": link.get("xdp", {}).get("prog", {}).get("id"), "qdisc": link["qdisc"],
            "tables": self.run("nft", "list", "tables"), "links": [dev["ifname"] for dev in json.loads(self.run("ip", "-j", "link"))],
            "pins": sorted(str(p.relative_to(self.directory)) for p in (self.directory / "bpf").rglob("*") if p.suffix != ".debug"),
        }  # fmt: skip


@contextmanager
def host(make_netns: Callable[[], str], directory: Path) -> Iterator[Host]:
    """Wire the two namespaces; afterwards take the bpf file system off. The namespaces go with their fixture."""
    here = Host(make_netns(), make_netns(), directory)
    queues = ["numrxqueues", "4", "numtxqueues", "4"]
    _ip(here.netns, "link", "add", "wan0", *queues, "type", "veth", "peer", "name", "wan0p", *queues, "netns", here.peer)
    for space, device in ((here.netns, "wan0"), (here.peer, "wan0p")):
        subprocess.run(["nsenter", f"--net=/run/netns/{space}", "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1",
                        "net.ipv6.conf.default.disable_ipv6=1"], check=True)  # fmt: skip
        _ip(space, "link", "set", device, "up")
    reduced.mount(directory / "bpf")
    try:
        yield here
    finally:
        libc = ctypes.CDLL(None, use_errno=True)
        while os.path.ismount(directory / "bpf") and libc.umount2(os.fsencode(directory / "bpf"), 2) == 0:
            pass


def _ip(space: str, *words: str) -> None:
    subprocess.run(["ip", "-n", space, *words], check=True)


def tcp(dport: int, source: str = "203.0.113.9") -> ir.PacketSpec:
    return ir.PacketSpec("tcp", source, "192.0.2.1", 40000, dport, (("syn", 1),))


def udp(dport: int) -> ir.PacketSpec:
    return ir.PacketSpec("udp", "203.0.113.9", "192.0.2.1", 5353, dport)
