"""Offload features by their ethtool -K names, short (tso) or the kernel's own (tx-tcp-segmentation)."""

from __future__ import annotations

from collections.abc import Mapping

from compiler.tables import offloads
from runtime.backends import ethtool
from runtime.backends.netlink import NetlinkError
from runtime.knobs import Refusal, Value, Wanted, refused

_ASKED = " requested"  # behind the name of a feature that was asked for and that the kernel leaves off, as ethtool -k has it


class OffloadFeature:
    """The value: the members of the name that are on, and those that would be if what they need were (`tx-tcp-segmentation requested`)."""

    resets = False
    after: tuple[str, ...] = ()

    def __init__(self, device: str, key: str) -> None:
        self._device, self._key = device, key

    def read(self) -> Value:
        return _value(self._members(self._every()))

    def resolve(self, wanted: Wanted) -> Value:
        members, on = self._members(self._every()), int(str(wanted)) == 1
        stuck = [name for name, feature in members.items() if feature.fixed and feature.active != on]
        if stuck and (not on or len(stuck) == len(members)):
            state = "off" if on else "on"
            raise Refusal(f"ETHTOOL_MSG_FEATURES_GET: {', '.join(stuck)} is {state} [fixed]: the driver cannot switch it")
        return sorted(name for name, feature in members.items() if on and not (feature.fixed and not feature.active))

    def write(self, value: Value) -> None:
        """The kernel may take the wish and leave a feature off: read back, and ask `unmet` why."""
        asked = _asked(value)
        change = {name: name in asked for name, f in self._members(self._every()).items() if not f.fixed and f.wanted != (name in asked)}
        try:
            ethtool.set_features(self._device, change)
        except NetlinkError as error:
            raise refused("ETHTOOL_MSG_FEATURES_SET", error) from None

    def unmet(self, value: Value) -> Refusal:
        """Why what was written does not read back."""
        every, asked = self._every(), _asked(value)
        members = self._members(every)
        off = [name for name in members if name in asked and not members[name].active]
        if off:
            return Refusal(f"ETHTOOL_MSG_FEATURES_SET: {off[0]} was requested and stays off: {_why(off[0], every)}", "switch on what it needs, or do without it")
        on = [name for name in members if name not in asked and members[name].active]
        return Refusal(f"ETHTOOL_MSG_FEATURES_SET: {', '.join(on)} stays on: the driver, or a device above this one, keeps it so")

    def _every(self) -> dict[str, ethtool.Feature]:
        try:
            return ethtool.features(self._device)
        except NetlinkError as error:
            raise refused("ETHTOOL_MSG_FEATURES_GET", error) from None

    def _members(self, every: Mapping[str, ethtool.Feature]) -> dict[str, ethtool.Feature]:
        found = {name: every[name] for name in offloads.members(self._key, every)}
        if self._key == "tx":  # the drivers offer one of several kinds of checksums: only those count
            found = {name: f for name, f in found.items() if not f.fixed or f.active} or found
        if not found:
            near = self._near(every)
            raise Refusal(f"ETHTOOL_MSG_FEATURES_GET: the kernel has no feature {self._key!r}", f"{near}ethtool -k DEV lists them")
        return found

    def _near(self, every: Mapping[str, ethtool.Feature]) -> str:
        import difflib

        near = difflib.get_close_matches(self._key, [*every, *offloads.SHORT], 1)
        return f"did you mean {near[0]}? " if near else ""


def same(one: Value, other: Value) -> bool:
    """Are the same features asked for? Whether the kernel lets them be on hangs on others."""
    return _asked(one) == _asked(other)


def _asked(value: Value) -> set[str]:
    return {str(item).removesuffix(_ASKED) for item in value} if isinstance(value, list) else set()


def _value(members: Mapping[str, ethtool.Feature]) -> list[str]:
    asked = (name + _ASKED for name, feature in members.items() if feature.wanted and not feature.active and not feature.fixed)
    return sorted([*(name for name, feature in members.items() if feature.active), *asked])


def _why(name: str, every: Mapping[str, ethtool.Feature]) -> str:
    on = [each for each, feature in every.items() if feature.active]
    return offloads.lacking(name, on) or "the driver did not take it (ndo_fix_features); the kernel's log may say why"
