"""`to nic`: a device that cannot send what XDP redirects to it would lose it without a word. It is refused, and noticed when it comes later."""

from __future__ import annotations

import json

from compiler import ir
from tests.kernel.apply.hosts import Host, made, program

TO_LAN = ir.SteerRule("routed", ir.Is("udp"), ir.Target("nic", (), "lan"), text="udp to nic lan routed")


def policy() -> bytes:
    filtered = program(ir.Rule("all", "pass", ir.Const(True), text="pass"))
    nics = (*filtered.nics, ir.Nic("lan", "lan0", "native"))
    return made(ir.Program(nics=nics, chains=filtered.chains, steers=(ir.Steer("wan.steer", "wan", (TO_LAN,), None),)))


def lan(host: Host) -> None:
    host.run("ip", "link", "add", "lan0", "type", "veth", "peer", "name", "lan0p")
    for device in ("lan0", "lan0p"):
        host.run("ip", "link", "set", device, "up")


def test_a_device_that_cannot_send_is_refused_and_nothing_stays(host: Host) -> None:
    """veth sends redirected frames only while its other end runs XDP or GRO."""
    lan(host)
    before = {key: value for key, value in host.attached().items() if key != "pins"}  # its directories stay
    done = host.netc("apply", host.write(policy()), status=1)
    assert "lan0 does not send what XDP redirects to it (no ndo-xmit)" in done.stderr and "switch GRO on at its other end" in done.stderr
    assert {key: value for key, value in host.attached().items() if key != "pins"} == before


def test_the_target_runs_a_program_and_losing_the_way_out_is_noticed(host: Host) -> None:
    """Most drivers send redirected frames only under a native program of their own: lan, which judges nothing, gets one."""
    lan(host)
    host.run("ethtool", "-K", "lan0p", "gro", "on")
    host.netc("apply", host.write(policy()))
    assert json.loads(host.run("ip", "-d", "-j", "link", "show", "lan0"))[0]["xdp"]["mode"] == 1
    host.netc("verify")
    host.run("ethtool", "-K", "lan0p", "gro", "off")
    assert "lan0 does not send" in host.netc("verify", status=1).stdout or "cannot send, not sends" in host.netc("verify", status=1).stdout
    host.run("ethtool", "-K", "lan0p", "gro", "on")
    host.netc("verify")
    host.netc("remove")
    assert "xdp" not in json.loads(host.run("ip", "-d", "-j", "link", "show", "lan0"))[0]


def test_a_device_that_is_down_is_asked_once_it_is_up(host: Host) -> None:
    """It sends nothing at all yet, and a boot may bring it up after the policy; verify then tells."""
    lan(host)
    host.run("ip", "link", "set", "lan0", "down")
    host.netc("apply", host.write(policy()))
    host.netc("verify")
    host.run("ip", "link", "set", "lan0", "up")
    assert "lan0 does not send" in host.netc("verify", status=1).stdout or "cannot send, not sends" in host.netc("verify", status=1).stdout
