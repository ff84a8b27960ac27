"""What docs/decisions/0012 says of veth, held: no packet is lost when the first XDP program goes on, or off, or when queues change their number."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from compiler import frames, ir
from runtime.lab import netns
from tests.kernel.apply.hosts import DNS, Host, made, program, udp

TIMES = 4
_FORCED_BUFFER = 33  # SO_RCVBUFFORCE
PASS = ir.Rule("all", "pass", ir.Is("udp"), text="pass udp")


@contextmanager
def traffic(host: Host) -> Iterator[dict[str, int]]:
    """Frames from wan0p, paced, and those that get as far as a packet socket on wan0: {"sent", "arrived"} when it has ended."""
    counted, ended = {"sent": 0, "arrived": 0}, threading.Event()
    frame = frames.build(udp(4444), dst_mac=json.loads(host.run("ip", "-j", "link", "show", "wan0"))[0]["address"])
    with netns.enter(host.netns):
        arriving = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
        arriving.setsockopt(socket.SOL_SOCKET, _FORCED_BUFFER, 64 << 20)
        arriving.bind(("wan0", 0x0800))
        arriving.settimeout(1)
    with netns.enter(host.peer):
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        wire.bind(("wan0p", 0))

    def send() -> None:
        while not ended.is_set():
            wire.send(frame)
            counted["sent"] += 1
            if counted["sent"] % 8 == 0:
                time.sleep(0.0002)

    def receive() -> None:
        while True:
            try:
                counted["arrived"] += arriving.recv(200) == frame
            except TimeoutError:
                if ended.is_set():
                    return

    threads = [threading.Thread(target=work) for work in (send, receive)]
    with arriving, wire:
        for thread in threads:
            thread.start()
        time.sleep(0.2)
        try:
            yield counted
        finally:
            time.sleep(0.2)
            ended.set()
            for thread in threads:
                thread.join()


def on_and_off(host: Host) -> None:
    host.netc("apply", host.directory / "p.bundle")
    host.netc("remove")


def channels(host: Host) -> None:
    for number in ("3", "4"):
        host.run("ethtool", "-L", "wan0", "rx", "4", "tx", number)


@pytest.mark.parametrize("change", [on_and_off, channels])
def test_no_packet_is_lost(host: Host, change: Callable[[Host], None]) -> None:
    host.write(made(ir.Program(nics=(ir.Nic("wan", "wan0", "native"),), chains=(ir.Chain("wan.in", "wan", "in", None, (PASS,), "drop"),))))
    plan = host.json("plan", host.directory / "p.bundle", status=2)
    assert plan["disruptive"] == [], "and so nothing is asked for"
    with traffic(host) as counted:
        for _ in range(TIMES):
            change(host)
    assert counted["sent"] == counted["arrived"] > 1000


def test_what_is_lost_would_be_seen(host: Host) -> None:
    """The measuring itself: with a policy that drops them for a moment, packets are missing."""
    bundle = host.write(made(program(DNS)))
    with traffic(host) as counted:
        host.netc("apply", bundle)
        host.netc("remove")
    assert 0 < counted["arrived"] < counted["sent"]
