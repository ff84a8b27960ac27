"""VLAN tags on a NIC: XDP sees them although drivers take them off, and rules tell tagged from untagged frames exactly."""

from __future__ import annotations

import pytest

from hwtests.rack.errors import CommandFailed
from hwtests.rack.ethtool import features
from hwtests.rack.installed import Installed
from hwtests.rack.port import Port
from hwtests.rack.requires import requires

RULES = """
filter wan in {
  drop vlan 10 udp dport 7      as ten
  drop vlan 20.30 udp dport 7   as both
  drop vlan none udp dport 7    as plain
  default pass
}
"""


def known_to_the_nic(port: Port, *tags: int) -> None:
    """VLAN devices above it, where the NIC filters: it drops other tags before any program sees them (rx-vlan-filter, mostly `[fixed]`)."""
    if features(port).get("rx-vlan-filter") != "on":
        return
    for tag in tags:
        above = f"{port.device[:10]}.{tag}"
        port.machine.change("ip", "link", "add", "link", port.device, "name", above, "type", "vlan", "id", str(tag), undo=["ip", "link", "del", above])


@pytest.mark.parametrize("mode", [pytest.param("native", marks=requires("xdp.native")), pytest.param("generic", marks=requires("xdp.generic"))])
def test_tags_are_seen(port: Port, installed: Installed, mode: str) -> None:
    known_to_the_nic(port, 10, 11, 20)  # some know 802.1ad by the same list
    installed.apply(f"nic wan {{ device DEVICE; xdp {mode} }}" + RULES)
    before = installed.counters()
    packet = f"udp {port.far_address}:4000 -> {port.address}:7"
    frames = port.frames([packet, f"{packet} vlan 10", f"{packet} vlan 20.30", f"{packet} vlan 11"])
    for frame, count in zip(frames, (11, 13, 17, 19), strict=True):
        port.wire.send([frame], count=count, rate=500)
    port.settle()
    after = installed.counters()
    counted = {name: after[f"wan.in.{name}"] - before[f"wan.in.{name}"] for name in ("ten", "both", "plain")}
    assert counted == {"ten": 13, "both": 17, "plain": 11}


def test_a_vlan_device_above_still_works(port: Port, installed: Installed) -> None:
    """With tags kept in the frame for XDP, the stack still finds its VLAN devices: a ping to one is answered, tagged."""
    mode = "native" if port.profile["xdp"]["native"] else "none"
    above = f"{port.device[:10]}.42"
    if features(port).get("large-receive-offload") == "on":  # the kernel does not turn it on again below a device that has none (netdev_sync_upper_features)
        port.machine.change("ethtool", "-K", port.device, "lro", "off", undo=["ethtool", "-K", port.device, "lro", "on"])
    try:
        port.machine.change("ip", "link", "add", "link", port.device, "name", above, "type", "vlan", "id", "42", undo=["ip", "link", "del", above])
    except CommandFailed as error:
        pytest.skip(f"this kernel makes no VLAN devices: {error}")
    port.machine.run("ip", "addr", "add", "198.18.242.1/24", "dev", above)
    port.machine.run("ip", "link", "set", above, "up")
    port.machine.run("ip", "neigh", "replace", "198.18.242.2", "lladdr", port.wire.mac, "dev", above, "nud", "permanent")
    installed.apply(f"nic wan {{ device DEVICE; xdp {mode} }}\nfilter wan in {{ pass vlan 42 icmp as tagged; default pass }}")
    ping = port.frames([f"icmp 198.18.242.2 -> 198.18.242.1 echo-request id 2 seq {n} vlan 42" for n in range(10)])
    with port.wire.listening() as heard:
        port.wire.send(ping, rate=500)
        heard.wait(10)
    assert sum(frame.icmp_type == 0 and frame.tags == (42,) for frame in heard.frames) == 10
    assert installed.counters()["wan.in.tagged"] == 10
