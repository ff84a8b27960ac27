"""What a link goes through under a policy: down and up, its cable pulled, another MTU, other XDP modes. The policy holds, or the refusal says why."""

from __future__ import annotations

import time

import pytest

from hwtests.rack import flows
from hwtests.rack.errors import CommandFailed
from hwtests.rack.ethtool import features_text
from hwtests.rack.installed import Installed
from hwtests.rack.port import Port
from hwtests.rack.requires import requires

POLICY = "filter wan in {\n  drop udp dport 66 as evil\n  pass icmp echo-request as ping\n  default pass\n}"
MODES = {"native": 1, "generic": 2}  # IFLA_XDP_ATTACHED: XDP_ATTACHED_DRV, XDP_ATTACHED_SKB


def nic(mode: str) -> str:
    return f"nic wan {{ device DEVICE; xdp {mode} }}\n"


def holds(port: Port, installed: Installed) -> None:
    """Ten pings are answered and counted, ten packets of the dropped kind are counted and reach nobody."""
    before = installed.counters()
    pings = port.frames([f"icmp {port.far_address} -> {port.address} echo-request id 4 seq {n}" for n in range(10)])
    evil = port.frames([f"udp {port.far_address}:{3000 + n} -> {port.address}:66" for n in range(10)])
    with port.wire.listening() as heard:
        port.wire.send([*pings, *evil], rate=500)
        heard.wait(10)
    after = installed.counters()
    assert [after[f"wan.in.{name}"] - before[f"wan.in.{name}"] for name in ("ping", "evil")] == [10, 10]
    assert sum(frame.icmp_type == 0 for frame in heard.frames) == 10
    assert not [frame for frame in heard.frames if frame.icmp_type == 3], "port unreachable: a dropped packet reached the stack"


def neighbour(port: Port) -> None:
    """A link that goes down takes permanent neighbours along: the far end's is put back."""
    port.machine.run("ip", "neigh", "replace", port.far_address, "lladdr", port.wire.mac, "dev", port.device, "nud", "permanent")


@pytest.mark.parametrize("mode", [pytest.param("native", marks=requires("xdp.native")), "none"])
def test_link_down_and_up(port: Port, installed: Installed, mode: str) -> None:
    installed.apply(nic(mode) + POLICY)
    holds(port, installed)
    for _ in range(3):
        port.machine.change("ip", "link", "set", port.device, "down", undo=["ip", "link", "set", port.device, "up"])
        port.machine.run("ip", "link", "set", port.device, "up")
    port.up()
    neighbour(port)
    holds(port, installed)
    installed.read_back()
    installed.verify()


@requires("xdp.native")
def test_a_program_that_is_shown_and_not_run_is_noticed(port: Port, installed: Installed) -> None:
    """Some drivers go on showing their program once the link was down, and run it no more: its rule counts nothing, and `netc verify --steering` says so."""
    installed.apply(nic("native") + "filter wan in {\n  pass udp dport 80 as web\n  default pass\n}")
    port.machine.change("ip", "link", "set", port.device, "down", undo=["ip", "link", "set", port.device, "up"])
    port.machine.run("ip", "link", "set", port.device, "up")
    port.up()
    neighbour(port)
    before = installed.counters()["wan.in.web"]
    port.wire.send(flows.udp(port, 80), rate=500)
    port.settle()
    runs = installed.counters()["wan.in.web"] > before
    found = flows.watched(port, flows.udp(port, 80), status=0 if runs else 1)
    assert [finding["result"] for finding in found if finding["what"].endswith(": XDP")] == ([] if runs else ["broken"]), found


@requires("xdp.native")
def test_cable_pulled(port: Port, installed: Installed) -> None:
    """Carrier lost and found: nothing of the policy is lost with it."""
    if port.cable is None:
        pytest.skip("nobody can pull this cable: only an emulated NIC's, or one with a switch that the rack file names")
    installed.apply(nic("native") + POLICY)
    port.cable(False)
    try:
        until = time.monotonic() + 20
        while "NO-CARRIER" not in port.link()["flags"] and time.monotonic() < until:
            time.sleep(0.2)
        assert "NO-CARRIER" in port.link()["flags"]
    finally:
        port.cable(True)
    port.up()
    holds(port, installed)
    installed.read_back()


@requires("xdp.native")
def test_mtu_under_a_policy(port: Port, installed: Installed) -> None:
    """Smaller and back: the policy holds on both sides of it."""
    installed.apply(nic("native") + POLICY)
    was = int(port.link()["mtu"])
    port.machine.change("ip", "link", "set", port.device, "mtu", "1400", undo=["ip", "link", "set", port.device, "mtu", str(was)])
    port.up()
    holds(port, installed)
    installed.read_back()
    port.machine.run("ip", "link", "set", port.device, "mtu", str(was))
    port.up()
    holds(port, installed)


@requires("xdp.native")
def test_jumbo_frames(port: Port, installed: Installed) -> None:
    """At MTU 9000 the program is attached and judges, or refused with the driver's reason and the device as it was: never silently generic."""
    was = int(port.link()["mtu"])
    try:
        port.machine.change("ip", "link", "set", port.device, "mtu", "9000", undo=["ip", "link", "set", port.device, "mtu", str(was)])
    except CommandFailed as error:
        pytest.skip(f"the device has no MTU of 9000: {error}")
    port.up()
    done = installed.try_apply(nic("native") + POLICY)
    if done.code == 0:
        assert port.link()["xdp"]["mode"] == MODES["native"]
        holds(port, installed)
    else:
        assert "MTU" in done.out + done.err or "mtu" in done.out + done.err, done.out + done.err
        assert not port.link().get("xdp"), "refused, but something is attached"


@requires("xdp.native", "xdp.generic")
def test_mode_changes(port: Port, installed: Installed) -> None:
    """Native, then generic, then native: each is what was asked for. A running program is never moved to another mode in silence."""
    for mode, other in (("native", "generic"), ("generic", "native")):
        installed.apply(nic(mode) + POLICY)
        assert port.link()["xdp"]["mode"] == MODES[mode]
        holds(port, installed)
        said = installed.refused(nic(other) + POLICY)
        assert "netc remove" in said, said
        assert port.link()["xdp"]["mode"] == MODES[mode], "a refusal changes nothing"
        installed.remove()
        assert not port.link().get("xdp")
        assert "large-receive-offload: off [requested on]" not in features_text(port), "what the program turned off is on again"


@requires("xdp.generic")
def test_native_is_never_generic(port: Port, installed: Installed) -> None:
    """Where the driver has no native XDP, a policy that asks for it is refused; where it has, that is what it gets."""
    if port.profile["xdp"]["native"]:
        installed.apply(nic("native") + POLICY)
        assert port.link()["xdp"]["mode"] == MODES["native"]
        return
    try:
        said = installed.refused(nic("native") + POLICY)
    except CommandFailed as error:  # the compiler refuses already, by the profile
        said = str(error)
    assert "native" in said and not port.link().get("xdp"), said
