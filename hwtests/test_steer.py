"""Steering on a NIC, seen by packets: which CPU and which receive queue took each flow, not what a setting reads back as."""

from __future__ import annotations

from collections import Counter
from typing import Any

from compiler.tables import toeplitz
from hwtests.rack import wire
from hwtests.rack.installed import Installed
from hwtests.rack.port import Port
from hwtests.rack.rack import Rack
from hwtests.rack.requires import requires
from hwtests.rack.wire import Frame

NIC = "nic wan { device DEVICE; xdp native }\n"
FLOWS = 64


def udp(port: Port, dport: int, flows: int = FLOWS) -> list[bytes]:
    return port.frames([f"udp {port.far_address}:{20000 + flow} -> {port.address}:{dport}" for flow in range(flows)])


def taken(port: Port, frames: list[bytes], by: str, ways: int) -> list[Frame]:
    """The frames as this device's stack got them, each with its CPU or queue; none lost."""
    with wire.listening(port.machine, port.device, snap=64, by=by, ways=ways) as heard:
        port.wire.send(frames, rate=2000)
        heard.wait(len(frames))
    assert heard.lost == 0
    return [frame for frame in heard.frames if frame.proto == 17]


def cpus(port: Port) -> int:
    return int(port.profile["cpus"])


@requires("xdp.native", "xdp.redirect", "cpus>=2")
def test_to_cpus(port: Port, installed: Installed) -> None:
    """Each rule's flows on its CPU, all of them, whatever queue they arrived in; the counters say the same."""
    installed.apply(NIC + "steer wan {\n  udp dport 5000 to cpus 0 as zero\n  udp dport 5001 to cpus 1 as one\n}")
    frames = taken(port, [*udp(port, 5000), *udp(port, 5001)], "cpu", cpus(port))
    assert Counter((frame.dport, frame.way) for frame in frames) == {(5000, 0): FLOWS, (5001, 1): FLOWS}
    installed.verify()


@requires("xdp.native", "xdp.redirect", "cpus>=2")
def test_over_cpus(port: Port, installed: Installed) -> None:
    """`to cpus 0-1` uses both, and a flow stays on one."""
    installed.apply(NIC + "steer wan { udp dport 5000 to cpus 0-1 as both }")
    frames = taken(port, udp(port, 5000) * 3, "cpu", cpus(port))
    ways: dict[bytes, set[int]] = {}
    for frame in frames:
        ways.setdefault(frame.data[34:36], set()).add(frame.way)
    assert len(ways) == FLOWS and all(len(seen) == 1 for seen in ways.values()), "a flow is not spread"
    assert {way for seen in ways.values() for way in seen} == {0, 1}


@requires("xdp.native")
def test_drop(port: Port, installed: Installed) -> None:
    """`to drop` is behind the filter: what it takes never reaches the stack, what it does not name does."""
    installed.apply(NIC + "steer wan { udp dport 9 to drop as discard }")
    before = installed.counters()
    frames = taken(port, [*udp(port, 9), *udp(port, 5000)], "cpu", cpus(port))
    assert Counter(frame.dport for frame in frames) == {5000: FLOWS}
    after = installed.counters()
    assert [after[name] - before[name] for name in after if name.endswith("discard")] == [FLOWS]


@requires("rss.indirection>=2", "queues>=2")
def test_rss_table(port: Port, installed: Installed) -> None:
    """Every flow in the queue that Toeplitz in software says: the table is in force, not only read back."""
    most = min(4, int(port.profile["queues"]))
    installed.apply(NIC_ANY + f"steer wan {{\n  queues {most}\n  prefer hash udp by addresses, ports\n  default to queues 0-{most - 2}\n}}"
                    if most > 2 else NIC_ANY + "steer wan {\n  prefer hash udp by addresses, ports\n  default to queues 1\n}")  # fmt: skip
    frames = taken(port, udp(port, 5000, 200), "queue", most + 1)
    assert len(frames) == 200
    expected = predicted(port, frames)
    wrong = [(frame.data[34:36].hex(), frame.way - 1, queue) for frame, queue in zip(frames, expected, strict=True) if frame.way - 1 != queue]
    assert not wrong, f"{len(wrong)} of 200 flows in another queue than the table says (source port, queue, expected): {wrong[:5]}"


@requires("ntuple.rules>=1", "queues>=2")
def test_flow_rule_to_queue(port: Port, installed: Installed) -> None:
    """A flow rule in the NIC takes its flows to one queue; others stay where RSS has them."""
    installed.apply(NIC_ANY + "steer wan { udp dport 5001 to queue 1 as one }")
    frames = taken(port, [*udp(port, 5001), *udp(port, 5000)], "queue", int(port.profile["queues"]) + 1)
    assert {frame.way - 1 for frame in frames if frame.dport == 5001} == {1}


@requires("rss.contexts>=1", "ntuple.contexts", "queues>=4")
def test_context(port: Port, installed: Installed) -> None:
    """Rules to several queues: an RSS context of their own, and none of their packets elsewhere."""
    installed.apply(NIC_ANY + "steer wan {\n  udp dport 5001 to queues 2-3 as two\n  default to queues 0-1\n}")
    frames = taken(port, [*udp(port, 5001), *udp(port, 5000)], "queue", int(port.profile["queues"]) + 1)
    assert {frame.way - 1 for frame in frames if frame.dport == 5001} == {2, 3}
    assert {frame.way - 1 for frame in frames if frame.dport == 5000} <= {0, 1}


@requires("cpus>=2")
def test_rps(port: Port, installed: Installed) -> None:
    """The stack spreads flows over CPUs without the NIC and without XDP; a flow stays on one."""
    installed.apply("nic wan { device DEVICE; xdp none }\nsteer wan { rps on cpus 1 }")
    path = f"/sys/class/net/{port.device}/queues/rx-0/rps_cpus"
    read = ("ip", "netns", "exec", port.machine.netns, "cat", path) if port.machine.netns else ("cat", path)
    assert int(port.machine.run(*read).out.strip().replace(",", ""), 16) == 2
    frames = taken(port, udp(port, 5000), "cpu", cpus(port))
    assert Counter(frame.way for frame in frames) == {1: FLOWS}


@requires("xdp.native", "xdp.redirect")
def test_to_another_nic(port: Port, installed: Installed, rack: Rack) -> None:
    """Routed through another port by devmap: TTL less one, the right addresses, and nothing in the stack."""
    other = rack.other(port)
    installed.port.machine.change("sysctl", "-qw", "net.ipv4.ip_forward=1", undo=["sysctl", "-qw", "net.ipv4.ip_forward=0"])
    installed.apply(NIC + f"nic out {{ device {other.device}; xdp native }}\nsteer wan {{ dst {other.far_address} to nic out routed }}")
    frames = port.frames([f"udp {port.far_address}:{20000 + flow} -> {other.far_address}:7" for flow in range(FLOWS)])
    with other.wire.listening() as heard:
        port.wire.send(frames, rate=2000)
        heard.wait(FLOWS)
    came = [frame for frame in heard.frames if frame.dport == 7]
    assert len(came) == FLOWS
    assert {frame.data[22] for frame in came} == {63}, "TTL"
    assert {frame.data[:6].hex(":") for frame in came} == {other.wire.mac}


NIC_ANY = "nic wan { device DEVICE }\n"


def predicted(port: Port, frames: list[Frame]) -> list[int]:
    """The queue of each frame by key, fields and table as the device shows them (the key from the kernel where the driver shows none)."""
    shown = port.machine.run("ethtool", "-x", port.device).out
    table = [int(queue) for line in shown.splitlines() if line[:1] == " " and ":" in line and line.split(":")[0].strip().isdigit() for queue in line.split(":")[1].split()]
    key = bytes.fromhex(_key(port, shown).replace(":", ""))
    fields = _fields(port)
    return [toeplitz.queue(key, table, *_ends(frame), fields=fields) for frame in frames]


def _key(port: Port, shown: str) -> str:
    lines = shown.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("RSS hash key"))
    if ":" in lines[at + 1]:
        return lines[at + 1].strip()
    return port.machine.run("sysctl", "-n", "net.core.netdev_rss_key").out.strip()


def _fields(port: Port) -> tuple[str, ...]:
    said = port.machine.run("ethtool", "-n", port.device, "rx-flow-hash", "udp4").out
    words = {"IP SA": "src-ip", "IP DA": "dst-ip", "bytes 0 & 1": "src-port", "bytes 2 & 3": "dst-port"}
    return tuple(field for word, field in words.items() if word in said)


def _ends(frame: Frame) -> tuple[Any, ...]:
    data = frame.data
    return data[26:30], data[30:34], int.from_bytes(data[34:36]), int.from_bytes(data[36:38])
