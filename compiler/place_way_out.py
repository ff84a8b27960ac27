"""The nics that XDP of another nic sends by (`to nic NAME routed`): their drivers send redirected frames only while they run a program themselves.

Without one every such frame is lost without a word: it was counted as steered, and the device's counters show nothing. Seen on Linux 6.12 with
virtio_net (virtnet_xdp_xmit: -ENXIO) and vmxnet3; igb_xdp_xmit, i40e, ice, ixgbe and mlx5e ask for it too. So netc puts one there that passes
everything, where the policy has none for that nic.
"""

from __future__ import annotations

from dataclasses import replace

from compiler import ir
from compiler.place_chain import Findings
from compiler.placed import NicPlacement
from compiler.profile import Profile
from compiler.tables import drivers

WITHOUT_A_PROGRAM = "sends-redirected-without-program"


def with_ways_out(nics: tuple[NicPlacement, ...], profile: Profile, findings: Findings) -> tuple[NicPlacement, ...]:
    """The placements, with those marked that need such a program. Finds N702, N708 where they cannot have one."""
    if WITHOUT_A_PROGRAM in drivers.quirks(profile.driver):
        return nics
    rules = {placed.rule.target.name: placed.rule for nic in nics if nic.nic.xdp == "native" for placed in nic.steer if placed.where == "devmap"}
    return tuple(_marked(nic, rules[nic.nic.name], profile, findings) if nic.nic.name in rules else nic for nic in nics)


def _marked(nic: NicPlacement, rule: ir.SteerRule, profile: Profile, findings: Findings) -> NicPlacement:
    name = nic.nic.name
    if nic.nic.xdp != "native" or not profile.xdp.native:
        words = f"`{rule.text or rule.name}`: drivers send what XDP redirects to them only while they run a native program, and nic {name} says `xdp {nic.nic.xdp}`"
        findings.error("N708", words, rule.span, f"write `xdp native` for nic {name}, or let the stack route these packets", ((nic.nic.span, "this nic"),))
        return nic
    if not any(chain.early == "xdp" for chain in nic.chains):
        findings.reason(f"{name}.xdp", "xdp", "a program that passes everything: the driver sends redirected frames only while it runs one", nic.nic.span)
    return replace(nic, way_out=True)
