"""Which CPUs serve a device's interrupts (/proc/irq), and how the kernel writes lists and masks of CPUs.

The wish is a list of CPUs; the interrupts of queue i get CPU i of the list, counted round. Values are one CPU list an interrupt.
"""

from __future__ import annotations

import errno
import os
import re

from runtime.backends import netdev, sysfs
from runtime.backends.netlink import NetlinkError
from runtime.backends.sysfs import Sysfs
from runtime.context import Device
from runtime.knobs import Refusal, Value, Wanted, refused

_SENDS_ONLY = re.compile(r"(?<!rx)(?<!rx[-_.])tx[-_.]?\d|output", re.IGNORECASE)
_QUEUE_ACTION = re.compile(r"(rx|tx|input|output|comp|fp|q|queue)[-_.]?(\d+)", re.IGNORECASE)


class Interrupts:
    """smp_affinity_list of the interrupts that serve the device's queues."""

    resets = False
    after: tuple[str, ...] = ("channels",)

    def __init__(self, device: Device) -> None:
        self._device = device

    def read(self) -> Value:
        return [self._affinity(irq) for irq in self._irqs()]

    def resolve(self, wanted: Wanted) -> Value:
        cpus = online(wanted)
        return [str(cpus[queue % len(cpus)]) for _, queue in self._queues()]

    def write(self, value: Value) -> None:
        for irq, cpus in zip(self._irqs(), value if isinstance(value, list) else [], strict=False):
            if self._affinity(irq) == cpus:
                continue
            try:
                sysfs.write_proc(f"irq/{irq}/smp_affinity_list", str(cpus))
            except OSError as error:
                hint = "the driver manages this interrupt itself" if error.errno == errno.EIO else ""
                raise Refusal(f"/proc/irq/{irq}/smp_affinity_list: {error.strerror}", hint) from None

    def _affinity(self, irq: int) -> str:
        try:
            return canonical(sysfs.read_proc(f"irq/{irq}/smp_affinity_list"))
        except OSError as error:
            raise refused(f"/proc/irq/{irq}/smp_affinity_list", error) from None

    def _irqs(self) -> list[int]:
        return [irq for irq, _ in self._queues()]

    def _queues(self) -> list[tuple[int, int]]:
        found = irq_queues(self._device)
        if not found:
            raise Refusal(f"{self._device.name} has no interrupts of its own (netdev napi-get and sysfs msi_irqs name none)")
        return found


def device_irqs(device: Device) -> list[int]:
    """The interrupts of the device's queues."""
    return [irq for irq, _ in irq_queues(device)]


def irq_queues(device: Device) -> list[tuple[int, int]]:
    """Each interrupt with its queue's number: as netdev names them, else by the names of the queue-like ones in sysfs (igb0-rx-1, virtio2-input.1)."""
    try:
        napi = netdev.napi_irqs(device.ifindex)
        order = [(queue.napi, queue.id) for queue in netdev.queues(device.ifindex) if queue.kind == "rx"]
        if named := {napi[number]: queue for number, queue in reversed(order) if number in napi}:
            return sorted(named.items(), key=lambda item: item[1])
    except NetlinkError:
        pass  # a kernel before 6.8
    try:
        with Sysfs() as tree:
            every = [(irq, tree.read(f"kernel/irq/{irq}/actions")) for irq in _of_device(tree, device.name)]
    except (OSError, ValueError):
        return []
    every.sort(key=lambda item: bool(_SENDS_ONLY.search(item[1])))  # where rx and tx are apart, all of rx first
    queued = [(irq, int(found[2])) for irq, actions in every if (found := _QUEUE_ACTION.search(actions))]
    return queued or [(irq, at) for at, (irq, _) in enumerate(every)]


def _of_device(tree: Sysfs, name: str) -> list[int]:
    """The message-signalled interrupts of the device, or of the one that it is a function of (virtio over PCI)."""
    device = tree.target(f"class/net/{name}").rsplit("/", 2)[0]  # …/0000:01:00.0/net/NAME, …/0000:00:02.0/virtio2/net/NAME
    for path in (device, os.path.dirname(device)):
        if tree.exists(f"{path}/msi_irqs"):
            return [int(irq) for irq in tree.names(f"{path}/msi_irqs")]
    return []


def online(wanted: Wanted) -> list[int]:
    """The wish as CPU numbers. Raises Refusal when one of them is not online here."""
    cpus = [int(cpu) for cpu in wanted] if isinstance(wanted, tuple) else [int(wanted)]
    there = online_cpus()
    if missing := [cpu for cpu in cpus if cpu not in there]:
        raise Refusal(f"CPU {', '.join(map(str, missing))} is not online here (online: {shown(sorted(there))})")
    return cpus


def online_cpus() -> set[int]:
    with open("/sys/devices/system/cpu/online", encoding="ascii") as file:  # not a network file: the same in every namespace
        return set(parse_list(file.read()))


def parse_list(text: str) -> list[int]:
    """0-2,5 as the kernel's cpulist_parse reads it."""
    found: list[int] = []
    for part in filter(None, text.strip().split(",")):
        low, _, high = part.partition("-")
        found.extend(range(int(low), int(high or low) + 1))
    return found


def shown(cpus: list[int]) -> str:
    """CPU numbers as the kernel writes a list: 0-2,5."""
    runs: list[list[int]] = []
    for cpu in sorted(set(cpus)):
        if runs and cpu == runs[-1][1] + 1:
            runs[-1][1] = cpu
        else:
            runs.append([cpu, cpu])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)


def canonical(text: str) -> str:
    return shown(parse_list(text))


def mask(cpus: str) -> str:
    """A CPU list as the hexadecimal mask that bitmap_parse takes: words of 32 bits, highest first."""
    bits = sum(1 << cpu for cpu in parse_list(cpus))
    words = [bits >> shift & 0xFFFFFFFF for shift in range(0, max(bits.bit_length(), 1), 32)]
    return ",".join(f"{word:08x}" for word in reversed(words))


def unmask(text: str) -> str:
    bits = int(text.replace(",", ""), 16)
    return shown([cpu for cpu in range(bits.bit_length()) if bits >> cpu & 1])
