"""Where the work of a flow is done, by counts: RFS brings it to the CPU of its reader, interrupts come on the policy's CPUs, XPS sends by the CPU's own queue."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from hwtests.rack import flows, program
from hwtests.rack.installed import Installed
from hwtests.rack.port import Port
from hwtests.rack.requires import requires

READ = 32  # flows
PACKETS = 400
_SENT = re.compile(r"\s*(?:tx_queue_|tx-?)(\d+)(?:_tx)?_(?:queue_)?packets: (\d+)")


@requires("cpus>=2")
def test_rfs_follows_the_reader(port: Port, installed: Installed) -> None:
    """Once a program has read a flow on a CPU, the stack takes its packets there: of half the flows to one, of the others to the other."""
    policy = "nic wan { device DEVICE; xdp none }\nsteer wan { rfs flows 4k }\n"
    if port.machine.netns:
        words = installed.refused(policy)
        assert "rps_sock_flow_entries" in words and "is not the host's" in words, words
        return
    installed.apply(policy)
    frames = flows.udp(port, 5000, READ)
    with program.running(port, "readers", port.address, "5000", port.far_address, "20000", str(READ), "2") as ended:
        for _ in range(3):
            port.wire.send(frames, rate=500)
        port.settle()
        came = flows.taken(port, frames, "cpu", int(port.profile["cpus"]))
        read = ended()
    assert read == [2 * READ, 2 * READ], "every packet was read, on its CPU"
    assert {flows.ports(frame)[0] - 20000: frame.way for frame in came} == {flow: flow % 2 for flow in range(READ)}


@requires("channels.combined>=2", "rss.indirection>=2", "facts.interrupts.irqs", "cpus>=2")
@pytest.mark.parametrize("cpus", [(0, 1), (1, 0)], ids=["in-order", "crossed"])
def test_interrupts_come_on_their_cpus(port: Port, installed: Installed, cpus: tuple[int, int]) -> None:
    """Queue i interrupts CPU i of the list, as /proc/interrupts counts; and there the stack takes its frames."""
    installed.apply(f"nic wan {{ device DEVICE; xdp none }}\nsteer wan {{ queues 2 on cpus {cpus[0]}, {cpus[1]}; default to queue 1 }}")
    before = interrupts(port)
    came = Counter(frame.way for frame in flows.taken(port, flows.udp(port, 5000, PACKETS), "cpu", int(port.profile["cpus"])))
    after = interrupts(port)
    assert came == {cpus[1]: PACKETS}
    grown = {irq: [now - then for now, then in zip(after[irq], before[irq], strict=True)] for irq in after}
    busiest = max(grown, key=lambda irq: sum(grown[irq]))
    assert sum(grown[busiest]) > 0 and [count for cpu, count in enumerate(grown[busiest]) if cpu != cpus[1]] == [0] * (len(grown[busiest]) - 1), grown


def interrupts(port: Port) -> dict[str, list[int]]:
    """The device's interrupts → how many came on each CPU."""
    own = {str(irq) for irq in port.profile["facts"]["interrupts"]["irqs"]}
    head, *rows = port.machine.run("cat", "/proc/interrupts").out.splitlines()
    cpus = len(head.split())
    return {irq.strip(): [int(word) for word in rest.split()[:cpus]] for irq, _, rest in (row.partition(":") for row in rows) if irq.strip() in own}


@requires("channels.combined>=2", "cpus>=2")
def test_xps_sends_by_the_cpus_own_queue(port: Port, installed: Installed) -> None:
    """What a program on CPU i sends leaves by queue i, as the driver counts."""
    if len(sent(port)) < 2:
        pytest.skip(f"{port.identity['driver']} does not count the packets of each transmit queue: ethtool -S")
    installed.apply("nic wan { device DEVICE; xdp none }\nsteer wan { queues 2; xps on cpus 0-1 }")
    for cpu in (0, 1):
        before = sent(port)
        with port.wire.listening(snap=64) as heard:
            port.machine.run("python3", "-c", SENDER, str(cpu), port.far_address, str(PACKETS))
            heard.wait(PACKETS)
        assert sum(frame.dport == 7 for frame in heard.frames) == PACKETS
        grown = {queue: now - before.get(queue, 0) for queue, now in sent(port).items()}
        assert grown.pop(cpu) >= PACKETS and sum(grown.values()) < PACKETS / 10, (cpu, grown)


SENDER = """
import os, socket, sys
os.sched_setaffinity(0, {int(sys.argv[1])})
for number in range(int(sys.argv[3])):  # a socket each: one keeps the queue that it first had
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.sendto(bytes(64), (sys.argv[2], 7))
"""


def sent(port: Port) -> dict[int, int]:
    """Transmit queue → packets, as the driver counts them."""
    lines = port.machine.run("ethtool", "-S", port.device, status=None).out.splitlines()
    return {int(found[1]): int(found[2]) for found in map(_SENT.match, lines) if found}
