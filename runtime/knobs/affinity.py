"""Which CPUs serve a device's interrupts (/proc/irq), and how the kernel writes lists and masks of CPUs.

The wish is a list of CPUs; interrupt i gets CPU i of the list, counted round. Values are one CPU list an interrupt.
"""

from __future__ import annotations

import errno
import re

from runtime.backends import ethtool_ioctl, netdev, sysfs
from runtime.backends.netlink import NetlinkError
from runtime.backends.sysfs import Sysfs
from runtime.context import Device
from runtime.knobs import Refusal, Value, Wanted, refused

_SENDS_ONLY = re.compile(r"(?<!rx)(?<!rx[-_.])tx[-_.]?\d|output", re.IGNORECASE)
_QUEUE_ACTION = re.compile(r"(rx|tx|input|output|comp|fp|q|queue)[-_.]?\d+", re.IGNORECASE)


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
        return [str(cpus[at % len(cpus)]) for at in range(len(self._irqs()))]

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
        found = device_irqs(self._device)
        if not found:
            raise Refusal(f"{self._device.name} has no interrupts of its own (netdev napi-get and sysfs msi_irqs name none)")
        return found


def device_irqs(device: Device) -> list[int]:
    """The interrupts of the device's queues in queue order: as netdev names them, else the queue-like ones of sysfs."""
    try:
        napi = netdev.napi_irqs(device.ifindex)
        order = [queue.napi for queue in netdev.queues(device.ifindex) if queue.kind == "rx"]
        if named := [napi[number] for number in order if number in napi]:
            return list(dict.fromkeys(named))
    except NetlinkError:
        pass  # a kernel before 6.8
    try:
        with Sysfs() as tree:
            every = _vectors(tree, device)
            actions = {irq: tree.read(f"kernel/irq/{irq}/actions") for irq in every}
    except (OSError, ValueError):
        return []
    queued = [irq for irq in every if _QUEUE_ACTION.search(actions[irq])]
    return sorted(queued or every, key=lambda irq: bool(_SENDS_ONLY.search(actions[irq])))  # where rx and tx are apart, all of rx first


def _vectors(tree: Sysfs, device: Device) -> list[int]:
    """The device's MSI vectors; of a virtio device those of the PCI device that it sits on. Raises OSError, ValueError."""
    path = f"class/net/{device.name}/device/msi_irqs"
    if not tree.exists(path):
        path = f"bus/pci/devices/{ethtool_ioctl.driver(device.name).bus}/msi_irqs"
    return [int(name) for name in tree.names(path)]


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
