"""RSS and channels on a NIC: every flow in the queue that Toeplitz in software says, seen by packets.

Read-back alone proves nothing here: virtio_net shows an RSS table that its device forgot at an XDP attach, vmxnet3 loses its own, igb resets it with
its channels. So live packets are watched, by the test's own sockets and by `netc verify --steering`.
"""

from __future__ import annotations

from hwtests.rack import flows
from hwtests.rack.ethtool import current, table
from hwtests.rack.installed import Installed
from hwtests.rack.port import Port
from hwtests.rack.requires import requires

NIC = "nic wan { device DEVICE; xdp native }\nfilter wan in { drop udp dport 9 as nine; default pass }\n"
HASHED = ("xdp.native", "rss.indirection>=2", "queues>=2")
LEAST = 100  # packets that the watch must have seen


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


@requires(*HASHED)
def test_flows_land_where_their_hash_says(port: Port, installed: Installed) -> None:
    """The table comes behind the attach, so the device uses it."""
    wanted = some(port)
    installed.apply(NIC + f"steer wan {{ prefer hash tcp, udp by addresses, ports; default to queues {listed(wanted)} }}")
    assert set(table(port)) == set(wanted)
    frames = flows.udp(port, 5000, 200)
    came, said = flows.queues(port, frames), flows.predicted(port, frames)
    wrong = {flow: (queue, said[flow]) for flow, queue in came.items() if queue != said[flow]}
    assert len(came) == 200 and not wrong, f"{len(wrong)} of {len(came)} flows in another queue than the table says (ports: queue, expected): {wrong}"
    flows.held(flows.watched(port, flows.mixed(port)), LEAST)


@requires(*HASHED)
def test_a_table_that_reads_right_already_is_used(port: Port, installed: Installed) -> None:
    """By hand it is what the policy wants: nothing has to be set, and only the attach could lose it."""
    wanted = some(port)[-1:]
    assert set(by_hand(port, wanted)) == set(wanted)
    plan = installed.apply(NIC + f"steer wan {{ default to queue {wanted[0]} }}")
    assert not [step for step in plan["steps"] if "rss" in str(step)], "it holds already, as far as reading tells"
    flows.held(flows.watched(port, flows.mixed(port)), LEAST)


@requires(*HASHED)
def test_a_table_set_by_hand_outlives_the_policy(port: Port, installed: Installed) -> None:
    """The policy does not speak of it: neither its coming nor its going may lose it."""
    before = by_hand(port, some(port))
    installed.apply(NIC + "steer wan { prefer hash tcp, udp by addresses, ports }")
    assert table(port) == before
    flows.held(flows.watched(port, flows.mixed(port)), LEAST)
    installed.remove()
    assert table(port) == before


@requires("xdp.native", "rss.indirection>=2", "channels.combined>=2")
def test_channels_interrupts_and_table_at_once(port: Port, installed: Installed) -> None:
    """Two queues, each on a CPU of the policy's, and a table over one; removing gives all of it back (the comparison after the test)."""
    installed.apply(NIC + "steer wan { queues 2 on cpus 0-1; default to queue 1 }")
    assert set(table(port)) == {1}
    flows.held(flows.watched(port, flows.mixed(port)), LEAST)
    fewer = NIC + "steer wan { queues 1; default to queue 0 }"
    if port.identity["driver"] == "virtio_net":
        assert "Invalid argument" in installed.refused(fewer), "no channels under a program"
        assert set(table(port)) == {1}
    else:
        installed.apply(fewer)
        assert set(table(port)) == {0}
    installed.remove()


@requires("channels.combined>=2")
def test_channels(port: Port, installed: Installed) -> None:
    """Beside a program where there can be one: the order that the driver demands is netc's business."""
    mode = "native" if port.profile["xdp"]["native"] else "none"
    installed.apply(NIC.replace("native", mode) + "steer wan { queues 2 }")
    queues = f"/sys/class/net/{port.device}/queues"
    inside = ("ip", "netns", "exec", port.machine.netns) if port.machine.netns else ()
    sending = port.machine.run(*inside, "sh", "-c", f"ls {queues} | grep -c tx-").out.strip()  # virtio_net shows channels that it adds for XDP, too
    assert "2" == (sending if port.identity["driver"] == "virtio_net" else current(port, "l")["combined"])
    port.answers()


@requires(*HASHED, "rings.rx>=512")
def test_rings_do_not_cost_the_table(port: Port, installed: Installed) -> None:
    """vmxnet3 makes its device anew for other rings, and forgets."""
    wanted = some(port)
    installed.apply(NIC + f"steer wan {{ default to queues {listed(wanted)} }}\ntune wan {{ ring rx 512 }}")
    assert set(table(port)) == set(wanted)
    installed.remove()
