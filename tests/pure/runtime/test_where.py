"""`netc where` on a NIC that has everything: flow rules, a drop, an RSS context, its own RSS; each by the device's key, fields and tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from compiler import frames, ir
from compiler.bundle import Bundle, Setting
from compiler.tables import toeplitz
from runtime.backends import ethtool_ioctl, rss_contexts
from runtime.commands import where
from runtime.context import Context, Device
from runtime.knobs import steering
from runtime.steps import settings
from tests.pure.runtime.fake_nic import Nic, NoMessages

KEY = bytes.fromhex("6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa")
PORTS = ("src-ip", "dst-ip", "src-port", "dst-port")
WANTED = (
    Setting("wan", "hash", "key", KEY.hex(), False, "p.netc", 2, "hash tcp by addresses, ports key 6d5a"),
    Setting("wan", "hash", "tcp4", PORTS, False, "p.netc", 2, "hash tcp by addresses, ports key 6d5a"),
    Setting("wan", "rss-context", "web", (0, 1, 2), False, "p.netc", 3, "tcp dport 80 to queues 0-2"),
    Setting("wan", "ntuple", "wan.steer.web/0", ("tcp4", "dst-port", 80, "context", "web"), False, "p.netc", 3, "tcp dport 80 to queues 0-2"),
    Setting("wan", "ntuple", "wan.steer.dns/0", ("udp4", "dst-port", 53, "action", 7), False, "p.netc", 4, "udp dport 53 to queue 7"),
    Setting("wan", "ntuple", "wan.steer.nine/0", ("udp4", "dst-port", 9, "action", -1), False, "p.netc", 5, "udp dport 9 to drop"),
    Setting("wan", "rss", "indirection", (3, 4), False, "p.netc", 6, "default to queues 3-4"),
)
BUNDLE = Bundle("p.netc", "0" * 64, "0", (), (), (), (), (), (), WANTED, (), (), ())
DEVICE = Device("wan", "fake9", 999)


TRANSFORMS = ("", "symmetric-xor", "symmetric-or-xor")  # by RXH_XFRM_* bits


@pytest.fixture(params=range(3), ids=TRANSFORMS.__getitem__)
def transform(request: pytest.FixtureRequest) -> int:
    made: int = request.param
    return made


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, transform: int) -> Context:
    nic = Nic(entries=128, transform=transform)
    monkeypatch.setattr(ethtool_ioctl, "_ioctl", nic.ioctl)
    monkeypatch.setattr(rss_contexts, "Generic", NoMessages)
    monkeypatch.setattr(steering.ethtool, "features", lambda device: {})
    monkeypatch.setattr("runtime.disruption.driver_of", lambda device: "fake")
    made = Context(tmp_path, tmp_path / "bpf", (DEVICE,))
    for step in settings.steps(made, BUNDLE, None, 1):
        step.do()
    return made


def answers(context: Context, proto: str, sport: int, dport: int) -> list[where.Answer]:
    (found,) = where._answers(context, BUNDLE, DEVICE, [frames.build(ir.PacketSpec(proto, "192.0.2.2", "192.0.2.1", sport, dport))])
    return found


def test_flow_rules_and_drops(context: Context) -> None:
    queue, cpu = answers(context, "udp", 40000, 53)
    assert (queue.numbers, queue.by, queue.place) == ((7,), "udp dport 53 to queue 7", "p.netc:4")
    assert (cpu.numbers, cpu.by) == ((), "the CPU that serves its queue")
    (gone,) = answers(context, "udp", 40000, 9)
    assert gone.dropped and where._which(gone) == "dropped by the NIC"


def test_hashes_are_the_device_s(context: Context, transform: int) -> None:
    src, dst, how = bytes((192, 0, 2, 2)), bytes((192, 0, 2, 1)), TRANSFORMS[transform]
    spread, own = [entry % 3 for entry in range(128)], [3 + entry % 2 for entry in range(128)]
    seen = set()
    for sport in range(40000, 40040):
        (by_context,) = answers(context, "tcp", sport, 80)[0].numbers
        assert by_context == toeplitz.queue(KEY, spread, src, dst, sport, 80, PORTS, how)
        queue = answers(context, "tcp", sport, 81)[0]
        assert (queue.numbers, queue.place) == ((toeplitz.queue(KEY, own, src, dst, sport, 81, PORTS, how),), "p.netc:6")
        seen |= {by_context, *queue.numbers}
    assert seen == {0, 1, 2, 3, 4}
