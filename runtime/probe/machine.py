"""Where the device hangs in the machine: interrupts, CPUs, memory node, queues, and what is counted for each queue."""

from __future__ import annotations

import re

from runtime.backends import ethtool, netdev, sysfs
from runtime.backends.sysfs import Sysfs
from runtime.context import Device
from runtime.knobs.affinity import canonical, device_irqs, online_cpus, shown
from runtime.probe.asking import Facts, ask, refusal

_OF_A_QUEUE = re.compile(r"(^|[^a-z])([rt]x|queue|q|ch|channel|ring)[-_. ]?(queue)?[-_. ]?(\d+|#)", re.IGNORECASE)


def ask_machine(facts: Facts, device: Device, bus: str) -> int:
    """Fill in the facts; the device's memory node, -1 where there is none or it is not told."""
    ask(facts, "queues", "NETDEV_CMD_QUEUE_GET", lambda: netdev.queues(device.ifindex),
        lambda queues: {kind: sum(queue.kind == kind for queue in queues) for kind in ("rx", "tx")})  # fmt: skip
    irqs = device_irqs(device)
    facts["interrupts"] = {"irqs": irqs, "cpus": {str(irq): cpus for irq in irqs if (cpus := _affinity(irq))},
                           "evidence": "NETDEV_CMD_NAPI_GET, sysfs device/msi_irqs, /proc/irq/N/smp_affinity_list"}  # fmt: skip
    facts["cpus-online"] = {"cpus": shown(sorted(online_cpus())), "evidence": "/sys/devices/system/cpu/online"}
    ask(facts, "statistics", "ETHTOOL_MSG_STRSET_GET ETH_SS_STATS", lambda: ethtool.statistics(device.name),
        lambda names: {"counters": len(names), "of-queues": sum(map(bool, map(_OF_A_QUEUE.search, names)))})  # fmt: skip
    ask(facts, "queue-statistics", "NETDEV_CMD_QSTATS_GET", lambda: netdev.counted_queues(device.ifindex), lambda count: {"queues": count})
    return _memory_node(facts, device.name, bus)


def _affinity(irq: int) -> str:
    try:
        return canonical(sysfs.read_proc(f"irq/{irq}/smp_affinity_list"))
    except (OSError, ValueError):
        return ""


def _memory_node(facts: Facts, device: str, bus: str) -> int:
    evidence = f"sysfs class/net/{device}/device/numa_node"
    try:
        with Sysfs() as tree:
            path = f"class/net/{device}/device/numa_node"
            if not tree.exists(path) and bus:  # a virtio device sits on a PCI device
                path = f"bus/pci/devices/{bus}/numa_node"
            evidence = f"sysfs {path}"
            node = int(tree.read(path))
    except PermissionError as error:
        facts["numa"] = {"supported": False, "evidence": f"{evidence}: {refusal(error)} (in a network namespace it takes CAP_SYS_ADMIN)"}
        return -1
    except (OSError, ValueError) as error:
        facts["numa"] = {"supported": False, "evidence": f"{evidence}: {refusal(error) if isinstance(error, OSError) else error}"}
        return -1
    facts["numa"] = {"node": node, "evidence": evidence + ("" if node >= 0 else ": -1, the machine has one node or does not say")}
    return max(node, -1)
