"""Steering on a NIC: what is set reads back, every flow lands where the policy says, and what was set by hand outlives the attach and the removal.

Read-back alone proves nothing here: virtio_net shows an RSS table that its device forgot at an XDP attach, vmxnet3 loses its own, igb resets it with
its channels. So each test watches live packets (`netc verify --steering`), whose queue it predicts by the device's own hash.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import pytest

from hwtests.rack.installed import Installed
from hwtests.rack.port import Port
from hwtests.rack.requires import requires

NIC = "nic wan { device DEVICE; xdp native }\nfilter wan in { drop udp dport 9 as nine; default pass }\n"
SECONDS = "4"
FLOWS = 120


def flows(port: Port, dports: Sequence[int] = (80,), count: int = FLOWS) -> list[bytes]:
    """Flows over both transports, from many addresses and ports."""
    kinds = [("tcp", " ack"), ("udp", "")]
    words = [(*kinds[n % 2], f"198.51.100.{n % 200 + 1}:{20000 + 37 * n}", dports[n // 2 % len(dports)]) for n in range(count)]
    return port.frames([f"{kind} {source} -> {port.address}:{dport}{flags}" for kind, flags, source, dport in words])


def watched(port: Port, frames: list[bytes], status: int = 0) -> list[dict[str, Any]]:
    """What `netc verify --steering` says while these frames arrive again and again."""
    machine, path = port.machine, f"{port.machine.work}/steering.json"
    verify = [machine.netc_path, "verify", "--steering", SECONDS, "--json", "--state-dir", machine.state, "--bpffs", machine.bpffs]
    machine.run("rm", "-f", path)
    with machine.background("sh", "-c", 'exec "$@" > "$0"', path, *verify) as finish:
        until = time.monotonic() + 90
        while machine.run("test", "-s", path, status=None).code and time.monotonic() < until:
            port.wire.send(frames, rate=400)
        told = finish(timeout=90)
    out = machine.get(path).decode()
    assert told.code == status, f"{out}\n{told.err}"
    findings: list[dict[str, Any]] = [finding for finding in json.loads(out)["findings"] if finding["kind"] == "steering"]
    return findings


def held(findings: list[dict[str, Any]], least: int) -> None:
    """All that was seen came where it was promised, and enough was seen."""
    assert findings and all(finding["result"] == "held" for finding in findings), findings
    assert sum(int(finding["detail"].split()[0].replace(",", "")) for finding in findings) >= least, findings


def table(port: Port) -> list[int]:
    """The RSS indirection table, as `ethtool -x` prints it."""
    lines = port.machine.run("ethtool", "-x", port.device).out.splitlines()
    rows = [line.split(":")[1].split() for line in lines if line.strip() and line.split(":")[0].strip().isdecimal()]
    return [int(queue) for row in rows for queue in row]


def some(port: Port) -> tuple[int, ...]:
    """All queues that are in use but the first: what no default table is."""
    return tuple(sorted(set(table(port)) - {0}))


def listed(queues: tuple[int, ...]) -> str:
    return ", ".join(map(str, queues))


def by_hand(port: Port, queues: tuple[int, ...]) -> list[int]:
    """Write a table over these queues with ethtool, to be undone; how it reads."""
    weights = ["1" if queue in queues else "0" for queue in range(max(queues) + 1)]
    before = table(port)
    in_blocks = before == sorted(before)  # igb's own table, which `default` does not bring back: equal weights do
    back = ["weight", *("1" for _ in set(before))] if in_blocks else ["default"]
    port.machine.change("ethtool", "-X", port.device, "weight", *weights, undo=["ethtool", "-X", port.device, *back])
    return table(port)


HASHED = ("xdp.native", "rss.indirection>=2", "queues>=2")


@requires(*HASHED)
def test_flows_land_where_their_hash_says(port: Port, installed: Installed) -> None:
    """The table comes behind the attach, so the device uses it."""
    wanted = some(port)
    installed.apply(NIC + f"steer wan {{ prefer hash tcp, udp by addresses, ports; default to queues {listed(wanted)} }}")
    assert set(table(port)) == set(wanted)
    held(watched(port, flows(port)), FLOWS)


@requires(*HASHED)
def test_a_table_that_reads_right_already_is_used(port: Port, installed: Installed) -> None:
    """By hand it is what the policy wants: nothing has to be set, and only the attach could lose it."""
    wanted = some(port)[-1:]
    assert set(by_hand(port, wanted)) == set(wanted)
    plan = installed.apply(NIC + f"steer wan {{ default to queue {wanted[0]} }}")
    assert not [step for step in plan["steps"] if "rss" in str(step)], "it holds already, as far as reading tells"
    held(watched(port, flows(port)), FLOWS)


@requires(*HASHED)
def test_a_table_set_by_hand_outlives_the_policy(port: Port, installed: Installed) -> None:
    """The policy does not speak of it: neither its coming nor its going may lose it."""
    before = by_hand(port, some(port))
    installed.apply(NIC + "steer wan { prefer hash tcp, udp by addresses, ports }")
    assert table(port) == before
    held(watched(port, flows(port)), FLOWS)
    installed.remove()
    assert table(port) == before


@requires("xdp.native", "rss.indirection>=2", "channels.combined>=2")
def test_channels_interrupts_and_table_at_once(port: Port, installed: Installed) -> None:
    """Two queues, each on a CPU of the policy's, and a table over one; removing gives all of it back (the comparison after the test)."""
    installed.apply(NIC + "steer wan { queues 2 on cpus 0-1; default to queue 1 }")
    assert set(table(port)) == {1}
    held(watched(port, flows(port)), FLOWS)
    fewer = NIC + "steer wan { queues 1; default to queue 0 }"
    if port.identity["driver"] == "virtio_net":
        assert "Invalid argument" in installed.refused(fewer), "no channels under a program"
        assert set(table(port)) == {1}
    else:
        installed.apply(fewer)
        assert set(table(port)) == {0}
    installed.remove()


@requires(*HASHED, "rings.rx>=512")
def test_rings_do_not_cost_the_table(port: Port, installed: Installed) -> None:
    """vmxnet3 makes its device anew for other rings, and forgets."""
    wanted = some(port)
    installed.apply(NIC + f"steer wan {{ default to queues {listed(wanted)} }}\ntune wan {{ ring rx 512 }}")
    assert set(table(port)) == set(wanted)
    installed.remove()


@requires("xdp.redirect", "cpus>=2")
@pytest.mark.parametrize("cpu", [0, 1])
def test_packets_that_xdp_moves_are_on_their_cpu(port: Port, installed: Installed, cpu: int) -> None:
    installed.apply(NIC + f"steer wan {{ udp dport 4789 to cpus {cpu} as vxlan }}")
    (found,) = watched(port, flows(port, (4789,)))
    assert found["result"] == "held", found


@requires("cpus>=2")
def test_rps_spreads_over_its_cpus(port: Port, installed: Installed) -> None:
    installed.apply("nic wan { device DEVICE; xdp none }\nsteer wan { rps on cpus 1 }")
    held(watched(port, flows(port)), FLOWS)


@requires(*HASHED)
def test_a_device_that_was_told_otherwise_is_noticed(port: Port, installed: Installed) -> None:
    """Somebody writes another table: the device does what it shows, and it is not the policy's."""
    installed.apply(NIC + "steer wan { default to queue 1 }")
    port.machine.run("ethtool", "-X", port.device, "equal", "1")
    told = port.machine.netc("verify", status=1)
    assert "rss indirection" in told.out and "broken" in told.out
