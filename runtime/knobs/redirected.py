"""Whether a device sends what the XDP program of another one redirects to it (`to nic`): what it cannot send is lost without a word.

Many drivers can only while a native program runs on them (igb, virtio_net, vmxnet3, i40e), veth while its other end runs one or GRO. The kernel
knows: NETDEV_XDP_ACT_NDO_XMIT, which dev_map_enqueue asks for since Linux 6.3.
"""

from __future__ import annotations

import errno

from runtime.backends import link, netdev
from runtime.backends.netlink import NetlinkError
from runtime.context import Device
from runtime.knobs import Refusal, Value, Wanted, refused


class SendsRedirected:
    """Nothing is changed: it can when the step runs, or the wish is refused. A device that is down is not judged."""

    resets = False
    after: tuple[str, ...] = ()

    def __init__(self, device: Device) -> None:
        self._device = device

    def read(self) -> Value:
        try:
            if not link.get(self._device.name).up:  # it sends nothing at all yet, and veth knows only when both ends are up: `netc verify` asks again
                return "sends"
            return "sends" if "ndo-xmit" in netdev.xdp_features(self._device.ifindex) else "cannot send"
        except NetlinkError as error:
            if error.errno == errno.ENOENT:  # a kernel before 6.3 has no such family, and asks nobody either
                return "sends"
            raise refused("RTM_GETLINK, NETDEV_CMD_DEV_GET", error) from None

    def resolve(self, wanted: Wanted) -> Value:
        return "sends"

    def write(self, value: Value) -> None:
        words = f"NETDEV_CMD_DEV_GET: {self._device.name} does not send what XDP redirects to it (no ndo-xmit)"
        raise Refusal(words, f"write `xdp native` for nic {self._device.nic}; on a veth, switch GRO on at its other end; or take the rule out")
