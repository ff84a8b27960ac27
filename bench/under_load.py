"""Something changes on one CPU while frames really travel through a lab, sent on another: what both changes_*.py measure with."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from compiler import frames, ir
from runtime.lab import build, topology, traffic
from runtime.lab.lab import Lab

ROOT = Path(__file__).resolve().parent.parent
BURST = 8192  # packets of one frame: some milliseconds
Change = Callable[[int], None]


class Done(NamedTuple):
    """changes in so many seconds, and packets that were sent meanwhile."""

    changes: int
    seconds: float
    sent: int


@contextmanager
def lab() -> Iterator[Lab]:
    """A lab of its own."""
    name = f"changes-{os.getpid()}"
    names = build.up(name, queues=2)
    try:
        yield Lab(names)
    finally:
        build.down(name)


def netc(where: Lab, *words: str) -> str:
    """The command's output. Raises RuntimeError."""
    command = [sys.executable, "-m", "runtime.cli", *words, "--lab", where.names.name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"netc {' '.join(words)}: {done.stderr}")
    return done.stdout


def run(where: Lab, specs: list[ir.PacketSpec], change: Change, changes: int, packets: int) -> Done:
    """At least so many of each: it changes until enough was sent. Raises what `change` and the generator raise."""
    stop, sent, failed = threading.Event(), [0], list[BaseException]()
    cpus = sorted(os.sched_getaffinity(0))
    sender = threading.Thread(target=_send, args=(where, cpus[-1], specs, stop, sent, failed))
    os.sched_setaffinity(0, {cpus[0]})
    sender.start()
    try:
        done, began = 0, time.monotonic()
        while not failed and (done < changes or sent[0] < packets):
            done += 1
            change(done)
        seconds = time.monotonic() - began
    finally:
        stop.set()
        sender.join()
        os.sched_setaffinity(0, cpus)
    if failed:
        raise failed[0]
    return Done(done, seconds, sent[0])


def _send(where: Lab, cpu: int, specs: list[ir.PacketSpec], stop: threading.Event, sent: list[int], failed: list[BaseException]) -> None:
    """Each packet in turn, until `stop`; a thread of its own, on its own CPU and in the peer's namespace."""
    os.sched_setaffinity(0, {cpu})
    side = topology.WAN
    made = [frames.build(spec, dst_mac=side.mac) for spec in specs]
    try:
        with where.enter_peer(side):
            while not stop.is_set():
                sent[0] += traffic.send(side.peer, made[(sent[0] // BURST) % len(made)], BURST).packets
    except BaseException as error:  # noqa: BLE001 (the other thread has to say it, whatever it is)
        failed.append(error)
