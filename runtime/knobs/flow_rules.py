"""Flow rules in the NIC (ntuple): to a queue, to an RSS context, or dropped there. By ioctl (ETHTOOL_SRXCLSRLINS).

A rule is found again by what it says, under its masks; where the driver made something else of it, it is taken off again at the place that it got.
"""

from __future__ import annotations

import struct
from pathlib import Path

from runtime.backends import ethtool_ioctl
from runtime.context import Device
from runtime.knobs import Refusal, Value, Wanted, refused
from runtime.knobs.contexts import Contexts
from runtime.knobs.steering import switched_off

_SPEC = struct.Struct("=I52s20x52s20s4xQ")  # of struct ethtool_rx_flow_spec: flow_type, h_u, m_u, m_ext, ring_cookie
_EXTENDED = 0xC0000000  # FLOW_EXT, FLOW_MAC_EXT: m_ext says more


class FlowRule:
    """One flow rule: ethtool -N DEV flow-type udp4 dst-port 53 action 7. The value: how many such rules there are."""

    resets = False
    after: tuple[str, ...] = ("channels", "ring", "feature", "priv-flag", "rss-context")

    def __init__(self, state: Path, device: Device, words: Wanted) -> None:
        self._device, self._contexts = device.name, Contexts(state, device)
        self._words = words if isinstance(words, tuple) else (words,)
        self._spec = ethtool_ioctl.flow_spec(self._words)
        pairs = dict(zip(self._words[1::2], self._words[2::2], strict=True))
        self._context = str(pairs.get("context", ""))

    def read(self) -> Value:
        return len(self._places())

    def resolve(self, wanted: Wanted) -> Value:
        return max(len(self._places()), 1)  # the same rule twice over is somebody else's doing

    def write(self, value: Value) -> None:
        places = self._places()
        try:
            for location in places[int(str(value)) :]:
                ethtool_ioctl.delete_flow_rule(self._device, location)
        except OSError as error:
            raise refused("ETHTOOL_SRXCLSRLDEL", error) from None
        if value == 1 and not places:
            self._add()

    def _add(self) -> None:
        number = self._number()
        if self._context and not number:
            raise Refusal(f"the RSS context of {self._context} is not there, which the rule hands packets to")
        try:
            location = ethtool_ioctl.add_flow_rule(self._device, ethtool_ioctl.FlowRule(self._spec, number))
        except OSError as error:
            refusal = refused(f"ETHTOOL_SRXCLSRLINS {' '.join(map(str, self._words))}", error)
            refusal.mend = switched_off(self._device, "rx-ntuple-filter", "ntuple")
            raise refusal from None
        if location not in self._places():
            self._take_back(location)

    def _take_back(self, location: int) -> None:
        """The driver took the rule and made another of it."""
        try:
            made = ethtool_ioctl.flow_rule(self._device, location)
            ethtool_ioctl.delete_flow_rule(self._device, location)
        except OSError as error:
            raise refused(f"flow rule {location}, which is not as it was asked for", error) from None
        said = _said(made.spec)
        raise Refusal(f"the driver made another rule of it (flow type {said[0]:#x}, action {said[-1]}, context {made.context}); it was taken off again")

    def _places(self) -> list[int]:
        number = self._number()
        if self._context and not number:
            return []
        try:
            rules = ethtool_ioctl.flow_rules(self._device)
        except OSError as error:
            raise refused("ETHTOOL_GRXCLSRLALL", error) from None
        mine = _said(self._spec)
        return [location for location, rule in sorted(rules.items()) if rule.context == number and _said(rule.spec) == mine]

    def _number(self) -> int:
        """The number of the rule's context; 0 for a rule without one, and where it is not there."""
        try:
            return self._contexts.number(self._context) if self._context else 0
        except OSError as error:
            raise refused("ETHTOOL_GRSSH", error) from None


def _said(spec: bytes) -> tuple[int, bytes, bytes, bytes, int]:
    """What a rule says: values only where its masks ask for them, and not its place, which is the driver's choice."""
    kind, value, mask, more, action = _SPEC.unpack_from(spec)
    return kind & 0xFFFFFF, bytes(v & m for v, m in zip(value, mask, strict=True)), mask, more if kind & _EXTENDED else bytes(20), action
