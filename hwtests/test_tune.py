"""Tuning a NIC: each setting set, read back by ethtool and sysctl themselves, and given back by remove (the comparison after each test)."""

from __future__ import annotations

import re

import pytest

from hwtests.rack.installed import Installed
from hwtests.rack.port import Port
from hwtests.rack.requires import requires

NIC = "nic wan { device DEVICE }\n"


def ethtool(port: Port, flag: str) -> dict[str, str]:
    """What ethtool says now: of what appears twice (maximums, then current values), the second."""
    lines = port.machine.run("ethtool", flag, port.device).out.splitlines()
    return {key.strip().lower(): value.strip() for key, _, value in (line.partition(":") for line in lines) if value.strip()}


@requires("rings.rx>=512")
def test_rings(port: Port, installed: Installed) -> None:
    installed.apply(NIC + "tune wan { ring rx 512 }")
    assert ethtool(port, "-g")["rx"] == "512"
    answers(port)


@requires("rings.rx>=512")
def test_rings_to_the_most(port: Port, installed: Installed) -> None:
    installed.apply(NIC + "tune wan { ring rx max }")
    assert ethtool(port, "-g")["rx"] == str(port.profile["rings"]["rx"])
    answers(port)


@requires("facts.coalesce.now.rx-usecs>=0")
def test_coalescing(port: Port, installed: Installed) -> None:
    """What the driver rounds is shown, not hidden; what it refuses is refused in its words."""
    done = installed.try_apply(NIC + "tune wan { coalesce rx 40us }")
    if done.code:
        assert "coalesce" in done.err + done.out and "help" in done.err + done.out, done.err
        pytest.skip(f"this driver takes no rx-usecs: {done.out.strip()[:300]}")
    assert 20 <= int(ethtool(port, "-c")["rx-usecs"]) <= 80
    answers(port)


@pytest.mark.parametrize("feature", ["gro", "tso", "gso", "sg", "tx", "rx"])
def test_offloads(port: Port, installed: Installed, feature: str) -> None:
    """Each offload that the driver lets be changed: to what it is not, and back."""
    name = {"gro": "generic-receive-offload", "tso": "tcp-segmentation-offload", "gso": "generic-segmentation-offload", "sg": "scatter-gather",
            "tx": "tx-checksumming", "rx": "rx-checksumming"}[feature]  # fmt: skip
    now = ethtool(port, "-k").get(name, "")
    if "fixed" in now or not now:
        pytest.skip(f"{name} of {port.identity['driver']} is {now or 'not there'}")
    wanted = "off" if now.startswith("on") else "on"
    done = installed.try_apply(NIC + f"tune wan {{ offload {feature} {wanted} }}")
    if done.code:
        assert feature in done.err + done.out, "a refusal names what was refused"
        pytest.skip(f"the driver does not turn {feature} {wanted} by itself: {(done.out + done.err).strip()[:300]}")
    assert ethtool(port, "-k")[name].startswith(wanted)
    answers(port)


@requires("facts.pause.now.rx>=0")
def test_pause(port: Port, installed: Installed) -> None:
    now = ethtool(port, "-a")
    wanted = "off" if now["rx"] == "on" else "on"
    done = installed.try_apply(NIC + f"tune wan {{ pause rx {wanted} }}")
    if done.code:
        pytest.skip(f"this driver does not take pause rx {wanted}: {(done.out + done.err).strip()[:300]}")
    assert ethtool(port, "-a")["rx"] == wanted


@requires("channels.combined>=2")
def test_channels(port: Port, installed: Installed) -> None:
    installed.apply(NIC + "steer wan { queues 2 }")
    assert ethtool(port, "-l")["combined"] == "2"
    answers(port)


@requires("channels.combined>=2", "xdp.native")
def test_channels_beside_xdp(port: Port, installed: Installed) -> None:
    """Both in one policy: the order that the driver demands is netc's business."""
    installed.apply("nic wan { device DEVICE; xdp native }\nfilter wan in { pass icmp as ping; default pass }\nsteer wan { queues 2 }")
    sending = port.machine.run("sh", "-c", f"ls /sys/class/net/{port.device}/queues | grep -c tx-").out.strip()  # virtio_net shows channels that it adds for XDP, too
    assert "2" in (ethtool(port, "-l")["combined"], sending) and port.link()["xdp"]["mode"] == 1
    answers(port)


def test_sysctl(port: Port, installed: Installed) -> None:
    was = int(port.machine.run("sysctl", "-n", "net.ipv4.ip_default_ttl").out)
    installed.apply(NIC + f"host {{ sysctl net.ipv4.ip_default_ttl = {was - 3} }}")
    assert int(port.machine.run("sysctl", "-n", "net.ipv4.ip_default_ttl").out) == was - 3
    installed.remove()
    assert int(port.machine.run("sysctl", "-n", "net.ipv4.ip_default_ttl").out) == was


def test_a_name_that_there_is_not_is_refused(port: Port, installed: Installed) -> None:
    """Of private flags only the device knows the names: it refuses in its own words, and nothing is changed."""
    said = installed.refused(NIC + "tune wan { priv-flag no-such-flag on }")
    assert "no-such-flag" in said or re.search("private flags", said), said


def answers(port: Port) -> None:
    """Traffic still goes through, both ways."""
    frames = port.frames([f"icmp {port.far_address} -> {port.address} echo-request id 3 seq {n}" for n in range(10)])
    with port.wire.listening() as heard:
        port.wire.send(frames, rate=500)
        heard.wait(10)
    assert sum(frame.icmp_type == 0 for frame in heard.frames) == 10
