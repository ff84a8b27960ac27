"""RFS: packets go to the CPU on which their flow's socket is read. A table for each receive queue, and one of the host's for all devices.

The wish is how many flows the device remembers the CPU of; each receive queue gets its part of them, rounded up to a power of two as the kernel does
(store_rps_dev_flow_table_cnt). Without as many entries in the host's table nothing is remembered. Source: Documentation/networking/scaling.rst.
"""

from __future__ import annotations

from runtime.knobs import Value, Wanted
from runtime.knobs.host import Sysctl
from runtime.knobs.queues import QueueFile

HOST_TABLE = "net.core.rps_sock_flow_entries"


class FlowTable(QueueFile):
    """rps_flow_cnt of every receive queue."""

    def __init__(self, device: str) -> None:
        super().__init__(device, "rps_flow_cnt", "rx-")

    def resolve(self, wanted: Wanted) -> Value:
        with self._sysfs() as tree:
            count = len(self._paths(tree))
        return [str(_power_of_two(-(-int(str(wanted)) // count)))] * count if count else []


class HostTable(Sysctl):
    """The table that all devices share: never made smaller than it is."""

    def resolve(self, wanted: Wanted) -> Value:
        return super().resolve(str(max(int(str(self.read())), _power_of_two(int(str(wanted))))))


def _power_of_two(number: int) -> int:
    """The least one that is not below."""
    return 1 << (number - 1).bit_length() if number > 0 else 0
