"""Channels, rings, coalescing, pause and private flags, by ethtool netlink."""

from __future__ import annotations

import os
import socket
from dataclasses import replace

from compiler.tables import drivers
from runtime.backends import ethtool, netdev
from runtime.backends.netlink import NetlinkError
from runtime.knobs import Refusal, Value, Wanted, refused


class Numbers:
    """One number of a group. `channels combined` on a device that has only separate channels means both kinds (veth)."""

    after: tuple[str, ...] = ()

    def __init__(self, device: str, group: str, key: str) -> None:
        self._device, self._group, self._key = device, group, key
        self.resets = group in ("channels", "ring", "pause")

    def read(self) -> Value:
        values, keys = self._ask()
        now = [values.now[key] for key in keys]
        return now[0] if len(now) == 1 else now

    def resolve(self, wanted: Wanted) -> Value:
        values, keys = self._ask()
        want = [self._number(wanted, key, values) for key in keys]
        return want[0] if len(want) == 1 else want

    def write(self, value: Value) -> None:
        _, keys = self._ask()
        numbers = [int(item) for item in value] if isinstance(value, list) else [int(str(value))]
        try:
            ethtool.put(self._device, self._group, dict(zip(keys, numbers, strict=True)))
        except NetlinkError as error:
            raise refused(ethtool.message(self._group, write=True), error) from None

    def _ask(self) -> tuple[ethtool.Values, tuple[str, ...]]:
        """What the device says, and the keys that stand for this one."""
        evidence = ethtool.message(self._group)
        try:
            values = ethtool.get(self._device, self._group)
            if (self._group, self._key) == ("channels", "combined"):
                values = _without_xdp(self._device, values)
        except NetlinkError as error:
            raise refused(evidence, error) from None
        if self._key == "combined" and "combined" not in values.now and {"rx", "tx"} <= set(values.now):
            return values, ("rx", "tx")
        if self._key not in values.now:
            has = ", ".join(values.now) or "nothing"
            raise Refusal(f"{evidence}: the device answers without {self._key!r} (it has: {has})")
        return values, (self._key,)

    def _number(self, wanted: Wanted, key: str, values: ethtool.Values) -> int:
        most = values.most.get(key)
        if wanted == "max":
            if most is None:
                raise Refusal(f"{ethtool.message(self._group)}: the device names no maximum for {key!r}", "write a number")
            return most
        number = int(str(wanted))
        if most is not None and number > most:
            raise Refusal(f"{ethtool.message(self._group)}: the device has at most {most}", f"write at most {most}, or max")
        return number


def _without_xdp(device: str, values: ethtool.Values) -> ethtool.Values:
    """virtio_net counts the queues that it adds for a native program among its channels; the stack does not send by them. Raises NetlinkError."""
    from runtime import disruption

    if "combined" not in values.now or "xdp-queues-shown" not in drivers.quirks(disruption.driver_of(device), os.uname().release):
        return values
    found = netdev.queues(socket.if_nametoindex(device))
    sending = sum(queue.kind == "tx" for queue in found)
    return replace(values, now={**values.now, "combined": sending}) if sending else values


class PrivateFlag:
    """A flag that only this driver has (ethtool --set-priv-flags)."""

    resets = True
    after: tuple[str, ...] = ()

    def __init__(self, device: str, key: str) -> None:
        self._device, self._key = device, key

    def read(self) -> Value:
        try:
            flags = ethtool.private_flags(self._device)
        except NetlinkError as error:
            raise refused("ETHTOOL_MSG_PRIVFLAGS_GET", error) from None
        if self._key not in flags:
            raise Refusal(f"ETHTOOL_MSG_PRIVFLAGS_GET: the driver's flags are: {', '.join(flags) or 'none'}")
        return int(flags[self._key])

    def resolve(self, wanted: Wanted) -> Value:
        return int(str(wanted))

    def write(self, value: Value) -> None:
        try:
            ethtool.set_private_flags(self._device, {self._key: value == 1})
        except NetlinkError as error:
            raise refused("ETHTOOL_MSG_PRIVFLAGS_SET", error) from None
