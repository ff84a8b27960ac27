"""The carrier behind XDP: a tcx ingress program that copies the 32-bit metadata of an XDP program to the reserved byte of skb->mark.

`carrier(c, nic)` gives the statements, so that a shape `in` (compiler.targets.tc), which needs the same hook, can put its own behind
them: one tcx ingress program a nic. xdp.py makes the program for nics without a shape `in`, tc.py for those with one.
"""

from __future__ import annotations

from compiler import bundle, ir, place
from compiler.targets import counter_room
from compiler.targets.c_program import CProgram, counter

NEXT = "-1"  # TCX_NEXT
ELSEWHERE = "elsewhere"
ELSEWHERE_TEXT = "dropped: left to connection tracking, but addressed to another device, where no rule would judge it"
_KIND_MASK = 0xF0000000  # of the mark: pending or passed; the nic's number is below it
_PACKET_BROADCAST, _PACKET_MULTICAST, _PACKET_OTHERHOST, _PACKET_LOOPBACK = 1, 2, 3, 5  # include/uapi/linux/if_packet.h
_DROP = 2  # TCX_DROP


def carries(nic: place.NicPlacement) -> bool:
    """Whether the nic's packets bring a mark from XDP that a later stage reads."""
    return any(chain.early == "xdp" and chain.late for chain in nic.chains)


def own_copies(nic: place.NicPlacement) -> str:
    """C: what this host sent to a group and gets back (dev_loopback_xmit) never arrived: it is neither judged nor shaped. It has no MAC header."""
    passed = f"(ctx->mark & {bundle.MARK_MASK ^ 0xFFFFFFFF}u) | {bundle.MARK_PASSED | nic.index << 24}u"
    marked = f"u32 mark = {passed}; OPAQUE(mark); ctx->mark = mark; " if carries(nic) else ""  # opaque: clang would store one octet
    return f"    if (ctx->pkt_type == {_PACKET_LOOPBACK}) {{ {marked}return {NEXT}; }}\n"


def carrier(c: CProgram, nic: place.NicPlacement) -> str:
    """C: skb->mark's reserved byte is what XDP wrote for this nic; without that the packet is pending, whatever stood there before.

    Pending and not zero, because only the mark says to a device above (VLAN, bond, macvlan) that a packet is still to be judged. A packet that
    is pending for another nic (this device stands on that nic's) keeps that mark: this nic's late rules know it by its device then.

    What is pending and not addressed to this device is dropped: the stack drops it too, before connection tracking, and a macvlan or
    bridge would carry it past the rules, into another namespace. A macvlan takes copies of what is addressed to a group too: such a frame
    goes on under this device's own address, as the stack reads skb->pkt_type and not the address.
    """
    pending, passed = (kind | nic.index << 24 for kind in (bundle.MARK_PENDING, bundle.MARK_PASSED))
    chain = next(item.chain for item in nic.chains if item.early == "xdp" and item.late)
    elsewhere = c.add_counter(counter(f"{chain.name}.{ELSEWHERE}", "xdp", "other", "drop", chain.span, ELSEWHERE_TEXT))
    mac = c.add_array(f"{nic.nic.name}.mac", 8, role="mac")
    return (
        "    {\n"
        "        u32 *meta = (void *)(long)ctx->data_meta;\n"
        f"        u32 was = ctx->mark & {bundle.MARK_MASK}u, mark = {pending}u;\n"
        f"        if ((void *)(meta + 1) <= (void *)(long)ctx->data && (*meta & {bundle.MARK_MASK}u) == {passed}u)\n"
        f"            mark = {passed}u;\n"
        f"        if (mark == {pending}u && ctx->pkt_type == {_PACKET_OTHERHOST}) {{\n"
        f"            COUNT({elsewhere}, ctx->len);\n"
        f"            return {_DROP};\n"
        "        }\n"
        f"        if (mark == {pending}u && (ctx->pkt_type == {_PACKET_BROADCAST} || ctx->pkt_type == {_PACKET_MULTICAST})) {{\n"
        f"            u64 mac = *(volatile u64 *)VALUE({mac});\n"
        "            u8 own[6] = {mac >> 40, mac >> 32, mac >> 24, mac >> 16, mac >> 8, mac};\n"
        "            if (mac && bpf_skb_store_bytes(ctx, 0, own, sizeof(own), 0)) {\n"
        f"                COUNT({elsewhere}, ctx->len);\n"
        f"                return {_DROP};\n"
        "            }\n"
        "        }\n"
        f"        if ((was & {_KIND_MASK}u) != {bundle.MARK_PENDING}u || was == {pending}u)\n"
        f"            ctx->mark = (ctx->mark & {bundle.MARK_MASK ^ 0xFFFFFFFF}u) | mark;\n"
        "    }\n"
    )


def ingress(nic: place.NicPlacement, sets: dict[str, ir.Set]) -> tuple[bundle.Code, CProgram]:
    """The whole program of a nic that only carries."""
    c = CProgram(f"{nic.nic.name}.tcx_ingress", nic.nic.name, "tcx_ingress", sets, nic.nic.span, counter_room.slots(nic, sets))
    return c.finish(own_copies(nic) + carrier(c, nic) + f"    return {NEXT};\n"), c
