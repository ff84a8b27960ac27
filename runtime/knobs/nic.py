"""Channels, rings, coalescing, pause, offload features and private flags, by ethtool netlink."""

from __future__ import annotations

from runtime.backends import ethtool
from runtime.backends.netlink import NetlinkError
from runtime.knobs import Refusal, Value, Wanted, refused

# What ethtool -K's short names stand for, as ethtool's off_flag_def has them; a `*` at the end: every name that begins so.
SHORT_FEATURES = {
    "rx": ("rx-checksum",),
    "tx": ("tx-checksum-*",),
    "sg": ("tx-scatter-gather", "tx-scatter-gather-fraglist"),
    "tso": ("tx-tcp-segmentation", "tx-tcp-ecn-segmentation", "tx-tcp-mangleid-segmentation", "tx-tcp6-segmentation"),
    "gso": ("tx-generic-segmentation",),
    "gro": ("rx-gro",),
    "lro": ("rx-lro",),
    "rxvlan": ("rx-vlan-hw-parse",),
    "txvlan": ("tx-vlan-hw-insert",),
    "ntuple": ("rx-ntuple-filter",),
    "rxhash": ("rx-hashing",),
}


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


class OffloadFeature:
    """A feature by its ethtool -K name, short (tso) or full (tx-tcp-segmentation). The value: its members that are on."""

    resets = False
    after: tuple[str, ...] = ()

    def __init__(self, device: str, key: str) -> None:
        self._device, self._key = device, key

    def read(self) -> Value:
        return sorted(name for name, feature in self._members().items() if feature.active)

    def resolve(self, wanted: Wanted) -> Value:
        members, on = self._members(), int(str(wanted)) == 1
        stuck = [name for name, feature in members.items() if feature.fixed and feature.active != on]
        if stuck and (not on or len(stuck) == len(members)):
            state = "off" if on else "on"
            raise Refusal(f"ETHTOOL_MSG_FEATURES_GET: {', '.join(stuck)} is {state} [fixed]: the driver cannot switch it")
        return sorted(name for name, feature in members.items() if on and not (feature.fixed and not feature.active))

    def write(self, value: Value) -> None:
        wanted = set(value) if isinstance(value, list) else set()
        change = {name: name in wanted for name, f in self._members().items() if not f.fixed and f.active != (name in wanted)}
        try:
            ethtool.set_features(self._device, change)
        except NetlinkError as error:
            raise refused("ETHTOOL_MSG_FEATURES_SET", error) from None

    def _members(self) -> dict[str, ethtool.Feature]:
        try:
            every = ethtool.features(self._device)
        except NetlinkError as error:
            raise refused("ETHTOOL_MSG_FEATURES_GET", error) from None
        patterns = SHORT_FEATURES.get(self._key, (self._key,))
        found = {name: f for name, f in every.items() if any(_matches(name, pattern) for pattern in patterns)}
        if patterns == ("tx-checksum-*",):  # the drivers offer one of several kinds: only those count
            found = {name: f for name, f in found.items() if not f.fixed or f.active} or found
        if not found:
            raise Refusal(f"ETHTOOL_MSG_FEATURES_GET: the kernel has no feature {self._key!r}", "ethtool -k DEV lists them")
        return found


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


def _matches(name: str, pattern: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern
