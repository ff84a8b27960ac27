"""What `protect` cannot promise where nft judges: packets that hide from nft what the rules ask for (W701).

nft cannot look behind IPv6 AH, mobility, HIP and shim6 headers, nor behind a second VLAN tag at a device's ingress; it drops such a packet
wherever a drop rule might match (`unreadable`; compiler/targets/nft_layout.py). XDP reads them, so rules that it judges are not concerned.
A promise that nobody could keep on `xdp none` would help nobody: this is told, and does not refuse the policy.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from compiler import ir
from compiler.diagnostics import Diagnostic
from compiler.placed import ChainPlacement, Placed
from compiler.protect import cuts, reply
from compiler.space import Shape, Space, whole_shapes
from compiler.targets.nft_expr import reveal

_HIDING = "IPv6 packets behind an AH, mobility, HIP or shim6 header"


def unread(placed: Placed) -> list[Diagnostic]:
    """One warning for each protected flow and chain of which nft judges a part that it may not be able to read."""
    space = Space(placed.program)
    return [
        warning
        for protect in placed.program.protects
        for nic in placed.nics
        if nic.nic.name == protect.nic
        for item in nic.chains
        for warning in _chain(protect, item, space)
    ]


def _chain(protect: ir.Protect, item: ChainPlacement, space: Space) -> Iterator[Diagnostic]:
    chain, what = item.chain, "a packet" if item.chain.direction == "in" else "a reply"
    if chain.direction == "in" and item.early == "xdp" and not item.late:
        return
    seen = _as_nft_sees(item)
    for shape in whole_shapes():
        if not _may_hide(shape):
            continue
        region = space.may(protect.when, shape)
        if chain.direction == "out" and region:
            region = reply(region)
        for cut in cuts(region, seen, protect, space, what):
            stage = item.late or item.early
            helps = _help(item)
            yield Diagnostic("W701", f"{_HIDING} are not protected: {stage} cannot read them, {cut.message}", protect.span, helps, cut.notes)
            return


def _may_hide(shape: Shape) -> bool:
    """Whole IPv6 packets: fragments of them meet the same rules."""
    return "ip6" in shape.kinds and "fragment" not in shape.kinds


def _as_nft_sees(item: ChainPlacement) -> ir.Chain:
    """The chain for a packet that hides its protocol from nft: a pass only where it surely matches, a drop wherever it might."""
    first = item.split if item.early == "xdp" else 0
    rules = item.chain.rules
    later = (dataclasses.replace(rule, when=reveal(rule.when, helping=rule.verdict == "drop")) for rule in rules[first:])
    return dataclasses.replace(item.chain, rules=(*rules[:first], *later))


def _help(item: ChainPlacement) -> str:
    if item.chain.direction == "out":
        return "nft judges whatever leaves; to be sure of these too, pass by addresses alone in this filter"
    if item.early != "xdp":
        return "to be sure of these too, write `xdp native` or `xdp generic`, or pass by addresses alone"
    return "to be sure of these too, pass the protected packets before the first stateful rule, where XDP judges"
