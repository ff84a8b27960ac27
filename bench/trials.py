"""Policies that nobody confirms: how long behind the deadline the old one judges again; not a test.

    python bench/trials.py [--trials 100]

Root. A lab of its own; the real command puts a policy on trial for a second and ends. In every other trial all of its processes are killed then, the
watchdog too: BPF programs have to be back by themselves. In the others the watchdog takes everything back. A flow that only the new policy
passes and one that only the old one passes are sent every quarter of a millisecond, with the time of sending in each packet.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import statistics
import struct
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench import under_load
from runtime import watchdog
from runtime.journal import Journal
from runtime.lab import topology
from runtime.lab.lab import Lab
from runtime.state import Store

OLD, NEW = 5301, 5302  # ports
POLICY = """nic wan {{ device wan0; xdp native }}
filter wan in {{
  pass udp dport {port} as {name}
  pass established
  default drop
}}
filter wan out {{
  pass udp as {name}-out
  default pass
}}
shape wan out rate 100mbit {{
  class {name} {{ match udp; min 1mbit }}
  class rest {{ default; min 1mbit }}
}}
"""
STAMP = struct.Struct("=d")


class Trial(NamedTuple):
    """Seconds behind the deadline: last packet that the new policy judged, first that the old one did, and the end of everything (None: all was killed)."""

    new: float
    old: float
    whole: float | None


class Traffic:
    """Both flows, sent and received until it is closed: when packets left that arrived, by port."""

    def __init__(self, lab: Lab) -> None:
        self.arrived: dict[int, list[float]] = {OLD: [], NEW: []}
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(lab,)), *(threading.Thread(target=self._receive, args=(lab, port)) for port in (OLD, NEW))]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _send(self, lab: Lab) -> None:
        with lab.enter_peer(topology.WAN), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
            while not self._stop.is_set():
                for port in (OLD, NEW):
                    wire.sendto(STAMP.pack(time.monotonic()), ("192.0.2.1", port))
                time.sleep(0.00025)

    def _receive(self, lab: Lab, port: int) -> None:
        with lab.enter(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
            wire.bind(("192.0.2.1", port))
            wire.settimeout(0.1)
            while not self._stop.is_set():
                try:
                    self.arrived[port].append(STAMP.unpack(wire.recv(STAMP.size))[0])
                except TimeoutError:
                    continue


def trial(lab: Lab, new: Path, traffic: Traffic, kill: bool) -> Trial:
    """Raises RuntimeError where the new policy never judged, or the old one not again."""
    for times in traffic.arrived.values():
        times.clear()
    store = Store(lab.names.state)
    under_load.netc(lab, "apply", str(new), "--confirm", "1s")
    found = Journal(store.directory).unfinished()
    if found is None or found.deadline is None:
        raise RuntimeError("nothing is on trial")
    if kill:
        for pid in watchdogs(lab):
            os.kill(pid, signal.SIGKILL)
    began = time.monotonic()
    while time.monotonic() < found.deadline + (0.3 if kill else 5) and Journal(store.directory).path.exists():
        time.sleep(0.0005)
    whole = time.monotonic()
    time.sleep(0.1)
    judged = [at for at in traffic.arrived[NEW] if at > began], [at for at in traffic.arrived[OLD] if at > began]
    if not all(judged) or (not kill and Journal(store.directory).path.exists()):
        raise RuntimeError(f"{len(judged[0])} packets were judged by the new policy, {len(judged[1])} by the old one again")
    if kill:
        under_load.netc(lab, "recover")
    elif "took back" not in " ".join(watchdog.last(store)):
        raise RuntimeError(f"the watchdog says {watchdog.last(store)}")
    return Trial(max(judged[0]) - found.deadline, min(judged[1]) - found.deadline, None if kill else whole - found.deadline)


def watchdogs(lab: Lab) -> list[int]:
    """Processes of this lab's `apply --confirm`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"--confirm" in words and lab.names.name.encode() in words:
            found.append(int(entry.parent.name))
    return found


def measure(count: int) -> list[Trial]:
    with under_load.lab() as lab, tempfile.TemporaryDirectory() as folder:
        old, new = (Path(folder) / f"{name}.netc" for name in ("old", "new"))
        old.write_text(POLICY.format(name="old", port=OLD))
        new.write_text(POLICY.format(name="new", port=NEW))
        under_load.netc(lab, "apply", str(old))
        traffic = Traffic(lab)
        try:
            done = [trial(lab, new, traffic, kill=number % 2 == 0) for number in range(count)]
        finally:
            traffic.close()
        under_load.netc(lab, "verify")
        return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100)
    done = measure(parser.parse_args().trials)
    for what, times in (
        ("last packet that the new policy judged", [each.new for each in done]), ("first that the old one judged again", [each.old for each in done]),
        ("everything taken back", [each.whole for each in done if each.whole is not None]),
    ):  # fmt: skip
        print(f"{what:40} {len(times)} trials, ms behind the deadline: median {1e3 * statistics.median(times):.1f}, latest {1e3 * max(times):.1f}")


if __name__ == "__main__":
    main()
