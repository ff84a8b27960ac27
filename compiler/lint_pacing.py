"""BBR and what paces it: a lint (W006), and a line of the plan.

BBR sends at a rate, so somebody has to space its packets. The fq qdisc does it for all sockets of a queue; since Linux 4.13 TCP does it by
itself where fq does not, with a timer for each socket: that works, and costs CPU with many connections (the NOTE at the head of
net/ipv4/tcp_bbr.c; commit 218af599fa63, tcp: internal implementation for pacing).
"""

from __future__ import annotations

from compiler import ir
from compiler.findings import Findings

CONTROL, _DEFAULT = "net.ipv4.tcp_congestion_control", "net.core.default_qdisc"
_COST = "it works without since Linux 4.13, where TCP paces itself, by a timer for each socket: more CPU with many connections"


def look(program: ir.Program, findings: Findings) -> None:
    """Warns of BBR where the policy names another default qdisc than fq, or no qdisc at all. Classes have the one that was chosen for them."""
    control, default = _host(program, CONTROL), _host(program, _DEFAULT)
    if control is None or not _is_bbr(control):
        return
    what = f"`{control.value}` wants fq to pace it, and "
    if default is not None and default.value != "fq":
        findings.add("W006", f"{what}the default qdisc is {default.value}; {_COST}", control.span, f"write `sysctl {_DEFAULT} = fq`", ((default.span, "set here"),))
    elif default is None and not any(shape.direction == "out" for shape in program.shapes):
        help = f"add `sysctl {_DEFAULT} = fq`: it holds for devices and queues that come later, as at boot"
        findings.add("W006", f"{what}nothing here asks for it; {_COST}", control.span, help)


def reason(program: ir.Program, setting: ir.Setting) -> str:
    """Who paces what BBR sends; "" for any other setting."""
    if setting.key != CONTROL or not _is_bbr(setting):
        return ""
    others = [each for shape in program.shapes if shape.direction == "out" for each in _leaves(shape.classes) if _kind(each) != "fq"]
    if others:
        named = ", ".join(f"{each.name} ({_kind(each)})" for each in others[:3])
        return f"in {named}{' and more' if len(others) > 3 else ''} TCP paces itself, by a timer for each socket (since Linux 4.13); `queue fq` would do it for all"
    return "paced by fq where a queue is fq, else by TCP itself with a timer for each socket (since Linux 4.13)"


def _is_bbr(setting: ir.Setting) -> bool:
    return str(setting.value).startswith("bbr")


def _host(program: ir.Program, key: str) -> ir.Setting | None:
    return next((setting for setting in program.settings if (setting.group, setting.key) == ("sysctl", key)), None)


def _leaves(classes: tuple[ir.Class, ...]) -> list[ir.Class]:
    return [leaf for each in classes for leaf in (_leaves(each.classes) if each.classes else [each])]


def _kind(leaf: ir.Class) -> str:
    return leaf.queues[0].kind if leaf.queues else "fq_codel"
