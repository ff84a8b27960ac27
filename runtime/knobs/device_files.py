"""Numbers that the kernel keeps for a device in sysfs: the length of its transmit queue, and what its NAPI instances do.

NAPI settings are of the device and, since kernel 6.13, of each instance too: writing the device's sets all of them (netdev_set_gro_flush_timeout
and the like, net/core/dev.h). The value is a list then: the device's first, then one for each instance, so that what somebody has set
for one queue by `napi-set` is given back. irq-suspend-timeout is of the instances alone.
Sources: Documentation/ABI/testing/sysfs-class-net, Documentation/networking/napi.rst, Documentation/netlink/specs/netdev.yaml.
"""

from __future__ import annotations

import errno

from runtime.backends import netdev
from runtime.backends.netlink import NetlinkError
from runtime.backends.sysfs import Sysfs
from runtime.context import Device
from runtime.knobs import Refusal, Value, Wanted, refused

_FILES = {"txqueuelen": "tx_queue_len", "gro-flush-timeout": "gro_flush_timeout", "defer-hard-irqs": "napi_defer_hard_irqs", "threaded": "threaded"}


class DeviceFile:
    """One number of /sys/class/net/DEV."""

    resets = False
    after: tuple[str, ...] = ()

    def __init__(self, device: Device, key: str) -> None:
        self._device = device
        self._path = f"class/net/{device.name}/{_FILES[key]}"

    def read(self) -> Value:
        return self._get()

    def resolve(self, wanted: Wanted) -> Value:
        return int(str(wanted))

    def write(self, value: Value) -> None:
        self._put(int(str(value)))

    def _get(self) -> int:
        try:
            with Sysfs() as tree:
                return int(tree.read(self._path))
        except (OSError, ValueError) as error:
            raise _refusal(self._path, error) from None

    def _put(self, value: int) -> None:
        try:
            with Sysfs() as tree:
                tree.write(self._path, str(value))
        except OSError as error:
            raise _refusal(self._path, error) from None


class Napi(DeviceFile):
    """A setting of all NAPI instances of a device."""

    after: tuple[str, ...] = ("channels", "ring", "feature")  # veth has instances only with GRO or XDP; new queues have new ones

    def __init__(self, device: Device, key: str) -> None:
        self._device, self._key = device, key
        self._path = f"class/net/{device.name}/{_FILES[key]}" if key in _FILES else ""

    def read(self) -> Value:
        whole = [self._get()] if self._path else []
        return [*whole, *self._instances().values()]

    def resolve(self, wanted: Wanted) -> Value:
        count = bool(self._path) + len(self._instances())
        if not count:
            raise Refusal(f"netdev napi-get {self._device.name}: no NAPI instance tells {self._key!r}", "it is of Linux 6.13 and later, on a device that is up")
        return [int(str(wanted))] * count

    def write(self, value: Value) -> None:
        values = [int(item) for item in value] if isinstance(value, list) else [int(str(value))]
        if self._path:
            self._put(values.pop(0))
        for (napi, now), wanted in zip(self._instances().items(), values, strict=False):
            if now != wanted:
                try:
                    netdev.set_napi(napi, self._key, wanted)
                except NetlinkError as error:
                    raise refused(f"netdev napi-set {napi} {self._key}", error) from None

    def _instances(self) -> dict[int, int]:
        """By id; none where the kernel does not tell."""
        try:
            return netdev.napis(self._device.ifindex, self._key)
        except NetlinkError:
            return {}


def fitted(before: Value, now: Value) -> Value:
    """`before` for the instances that there are: one that came since gets the device's value."""
    if not isinstance(before, list) or not isinstance(now, list) or not before:
        return now
    return [*before, *[before[0]] * len(now)][: len(now)]


def _refusal(path: str, error: OSError | ValueError) -> Refusal:
    if not isinstance(error, OSError):
        return Refusal(f"{path}: {error}")
    if path.endswith("/threaded") and error.errno == errno.EOPNOTSUPP:
        return Refusal(f"{path}: {error.strerror} (the device has no NAPI instance)")
    return refused(path, error)
