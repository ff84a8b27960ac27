"""VLAN tags in the frame, where XDP can see them.

A NIC that strips tags (rx-vlan-hw-parse) hides them from XDP: netc turns that off. On veth nothing is stripped: there the *peer* hands
over packets whose tag lies beside the frame (tx-vlan-hw-insert), in native and in generic mode; only the peer's owner can change that.
"""

from __future__ import annotations

from runtime.backends import ethtool, link
from runtime.backends.link import Link
from runtime.backends.netlink import NetlinkError
from runtime.knobs import Refusal, Value, Wanted, refused

_STRIP = ("rx-vlan-hw-parse", "rx-vlan-stag-hw-parse")
_INSERT = ("tx-vlan-hw-insert", "tx-vlan-stag-hw-insert")


class TagsInFrame:
    """The value: what keeps tags out of the frame here; [] when nothing does."""

    resets = False
    after: tuple[str, ...] = ()

    def __init__(self, device: str) -> None:
        self._device = device

    def read(self) -> Value:
        found = self._link()
        return _on(self._device, _INSERT, found) if found.kind == "veth" else _on(self._device, _STRIP)

    def resolve(self, wanted: Wanted) -> Value:
        found = self._link()
        if found.kind == "veth" and (hidden := _on(self._device, _INSERT, found)):
            peer = f"the peer of {self._device}"
            raise Refusal(f"{peer} keeps VLAN tags beside the frame, where XDP cannot see them (on there: {', '.join(hidden)})",
                          f"in the peer's namespace: ethtool -K PEER {' off '.join(hidden)} off")  # fmt: skip
        if found.kind != "veth" and (stuck := _on(self._device, _STRIP, fixed=True)):
            raise Refusal(f"ETHTOOL_MSG_FEATURES_GET: {', '.join(stuck)} is on [fixed]: the NIC always strips VLAN tags, and XDP cannot see them")
        return []

    def write(self, value: Value) -> None:
        wanted = set(value) if isinstance(value, list) else set()
        if self._link().kind == "veth":
            return  # nothing of ours was changed
        now = ethtool.features(self._device)
        change = {name: name in wanted for name in _STRIP if name in now and not now[name].fixed}
        try:
            ethtool.set_features(self._device, change)
        except NetlinkError as error:
            raise refused("ETHTOOL_MSG_FEATURES_SET", error) from None

    def _link(self) -> Link:
        try:
            return link.get(self._device)
        except NetlinkError as error:
            raise refused(f"RTM_GETLINK {self._device}", error) from None


def _on(device: str, names: tuple[str, ...], found: Link | None = None, fixed: bool = False) -> list[str]:
    """Those of the features that are on (and cannot be changed), of the device or, given its link, of its peer."""
    try:
        features = _peer_features(found) if found is not None else ethtool.features(device)
    except OSError as error:
        raise refused("ETHTOOL_MSG_FEATURES_GET", error) from None
    return [name for name in names if name in features and features[name].active and (features[name].fixed or not fixed)]


def _peer_features(found: Link) -> dict[str, ethtool.Feature]:
    """The features of a veth's other end, wherever it is. Raises Refusal when it cannot be reached."""
    if found.peer_netns < 0:
        return ethtool.features(link.name_of(found.peer))
    path = link.find_netns(found.peer_netns)
    if path is None:
        mend = "name the namespace with `ip netns attach`, or write `prefer`, and run there: ethtool -K PEER tx-vlan-hw-insert off"
        raise Refusal(f"the peer of {found.name} is in a network namespace that has no name in /run/netns, so it cannot be asked", mend)
    from runtime.lab import netns

    with netns.enter(path.name):
        return ethtool.features(link.name_of(found.peer))
