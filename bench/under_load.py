"""Something changes on one CPU while frames really travel through a lab, sent on another: what changes_*.py and swaps.py measure with."""

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
Sender = Callable[[bytes], int]  # sends some packets of one frame and says how many


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
    made = [frames.build(spec, dst_mac=topology.WAN.mac) for spec in specs]
    done, seconds, sent = run_frames(made, into(where), change, changes, packets)
    return Done(done, seconds, sum(sent))


def into(where: Lab) -> Sender:
    """Bursts that arrive at the lab's wan0."""

    def send(frame: bytes) -> int:
        with where.enter_peer(topology.WAN):
            return traffic.send(topology.WAN.peer, frame, BURST).packets

    return send


def run_frames(made: list[bytes], send: Sender, change: Change, changes: int, packets: int) -> tuple[int, float, list[int]]:
    """The same for frames and a way to send them; changes made, seconds, and how often each frame was sent."""
    stop, sent, failed = threading.Event(), [0] * len(made), list[BaseException]()
    cpus = sorted(os.sched_getaffinity(0))
    sender = threading.Thread(target=_send, args=(cpus[-1], made, send, stop, sent, failed))
    os.sched_setaffinity(0, {cpus[0]})
    sender.start()
    try:
        done, began = 0, time.monotonic()
        while not failed and (done < changes or sum(sent) < packets):
            done += 1
            change(done)
        seconds = time.monotonic() - began
    finally:
        stop.set()
        sender.join()
        os.sched_setaffinity(0, cpus)
    if failed:
        raise failed[0]
    return done, seconds, sent


def _send(cpu: int, made: list[bytes], send: Sender, stop: threading.Event, sent: list[int], failed: list[BaseException]) -> None:
    """Each frame in turn, until `stop`; a thread of its own, on its own CPU."""
    os.sched_setaffinity(0, {cpu})
    turn = 0
    try:
        while not stop.is_set():
            sent[turn] += send(made[turn])
            turn = (turn + 1) % len(made)
    except BaseException as error:  # noqa: BLE001 (the other thread has to say it, whatever it is)
        failed.append(error)
