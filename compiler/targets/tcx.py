"""The carrier behind XDP: a tcx ingress program that copies the 32-bit metadata of an XDP program to the reserved byte of skb->mark.

`lower(c, nic_index)` gives the statements, so that a shape `in` (compiler.targets.tc), which needs the same hook, can put its own behind
them: one tcx ingress program a nic. xdp.py makes the program for nics without a shape `in`, tc.py for those with one.
"""

from __future__ import annotations

from compiler import bundle, ir, place
from compiler.targets.c_program import CProgram

NEXT = "-1"  # TCX_NEXT


def carries(nic: place.NicPlacement) -> bool:
    """Whether the nic's packets bring a mark from XDP that a later stage reads."""
    return any(chain.early == "xdp" and chain.late for chain in nic.chains)


def carrier(nic_index: int) -> str:
    """C: skb->mark's reserved byte is what XDP wrote for this nic, or zero. Only XDP can write metadata, so a packet cannot forge it."""
    own = f"(*meta & {bundle.MARK_MASK}u) == {bundle.MARK_PENDING | nic_index << 24}u"
    passed = f"(*meta & {bundle.MARK_MASK}u) == {bundle.MARK_PASSED | nic_index << 24}u"
    return (
        "    {\n"
        "        u32 *meta = (void *)(long)ctx->data_meta;\n"
        f"        u32 mark = ctx->mark & {bundle.MARK_MASK ^ 0xFFFFFFFF}u;\n"
        f"        if ((void *)(meta + 1) <= (void *)(long)ctx->data && ({own} || {passed}))\n"
        f"            mark |= *meta & {bundle.MARK_MASK}u;\n"
        "        ctx->mark = mark;\n"
        "    }\n"
    )


def ingress(nic: place.NicPlacement, sets: dict[str, ir.Set]) -> tuple[bundle.Code, CProgram]:
    """The whole program of a nic that only carries."""
    c = CProgram(f"{nic.nic.name}.tcx_ingress", nic.nic.name, "tcx_ingress", sets, nic.nic.span)
    return c.finish(carrier(nic.index) + f"    return {NEXT};\n"), c
