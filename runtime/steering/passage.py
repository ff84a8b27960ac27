"""Does the XDP program that a device shows see what comes by behind it?

Some drivers go on showing a program that they no longer run: vmxnet3 (Linux 6.12) once its link was down, netdevsim always. And what somebody redirects
into a device's ingress comes by without its native program. The program's own count says so: nothing comes by that it has not counted before.
"""

from __future__ import annotations

from compiler.bundle import Bundle
from runtime.context import Context, Device

_LEAST = 10  # packets that came by: fewer are no proof
_ON_THE_WAY = 4096  # packets that the program may have counted before the watch began: cpumap queues and backlogs hold them


class Passage:
    """One nic, from now on."""

    def __init__(self, context: Context, bundle: Bundle, device: Device) -> None:
        """Raises StepError where the counters cannot be read."""
        self._context, self._bundle, self._nic = context, bundle, device.nic
        self._names = [c.name for c in bundle.counters if c.kind == "seen" and c.stage == "xdp" and c.program == f"{device.nic}.xdp"]
        self._before = self._counted()

    def gap(self, came: int) -> str:
        """What is wrong, in words, where `came` packets came by since; "" where nothing is."""
        if not self._names or came < _LEAST:
            return ""
        counted = self._counted() - self._before
        unseen = came - counted
        if 2 * unseen <= came and unseen <= _ON_THE_WAY:
            return ""
        words = f"{came:,} packets came by, and the XDP program that the device shows counted {counted:,}"
        return f"{words}: the others were judged by nothing; take the policy off and apply it again, and look for what redirects into the device"

    def _counted(self) -> int:
        from runtime.steps import xdp

        if not self._names:
            return 0
        found = xdp.read_hosts(self._context, self._bundle, (self._nic,))
        return sum(found[name][0] for name in self._names if name in found)
