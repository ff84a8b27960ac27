"""Steering in XDP → C: cpumap, devmap with a FIB look-up, xskmap, drop. NIC-placed rules stand in the list so that first match holds."""

from __future__ import annotations

import struct

from compiler import ir, place
from compiler.placed import STEERS_IN_XDP
from compiler.targets import c_expr
from compiler.targets.c_program import CProgram, counter

CPU_QUEUE = 2048  # packets that wait for a cpumap CPU
_DEVICES = 16  # bundle.Nic.index
_SOCKETS = 256  # receive queues


def needed(nic: place.NicPlacement) -> bool:
    """Whether some of the nic's steering runs in XDP."""
    return any(placed.where in STEERS_IN_XDP for placed in nic.steer)


def sends_for_others(placed: place.Placed) -> set[str]:
    """Nics that XDP of other nics redirects to: most drivers send such frames only while they run a native program themselves, which may do nothing."""
    targets = {item.rule.target.name for nic in placed.nics for item in nic.steer if item.where == "devmap"}
    return {nic.nic.name for nic in placed.nics if nic.nic.name in targets and nic.nic.xdp == "native"}


def steering(c: CProgram, steer: ir.Steer, nic: place.NicPlacement, indices: dict[str, int]) -> str:
    """C that ends in `return` for a steered packet and falls through for one that goes to the stack. After the filter's pass."""
    rules = [(placed, _add_counter(c, steer, placed.rule)) for placed in nic.steer]
    control = [(placed, index) for placed, index in rules if c_expr.control_mask(placed.rule.when)]
    lines = ["    if (CONTROL(p)) {\n"]
    for placed, index in control:
        condition = f"(CONTROL(p) & ({c_expr.control_mask(placed.rule.when)})) && {c_expr.true_when(placed.rule.when, c)}"
        lines.append(_rule(c, placed, index, condition, nic, indices))
    lines.append("    } else {\n")
    for placed, index in rules:
        lines.append(_rule(c, placed, index, c_expr.true_when(placed.rule.when, c), nic, indices))
    return "".join(lines) + "    }\n"


def _add_counter(c: CProgram, steer: ir.Steer, rule: ir.SteerRule) -> int:
    kind = "default" if rule.name == "default" else "rule"
    verdict = "drop" if rule.target.kind == "drop" else ""
    return c.add_counter(counter(f"{steer.name}.{rule.name}", "steer", kind, verdict, rule.span, rule.text))


def _rule(c: CProgram, placed: place.SteerPlacement, index: int, condition: str, nic: place.NicPlacement, indices: dict[str, int]) -> str:
    if placed.rule.target.kind in ir.LEAVES_THE_STACK:  # these leave the stack: only what was judged for good
        condition = f"!p->handed && {condition}"
    action = _action(c, placed, nic, indices)
    decided = f"p->judged = {index}; " if placed.where == "drop" else ""  # the filter's rule is counted already; this one has the last word
    return f"    if ({condition}) {{ {decided}p->steered = {index}; COUNT({index}, bytes); return {action}; }}\n"


def _action(c: CProgram, placed: place.SteerPlacement, nic: place.NicPlacement, indices: dict[str, int]) -> str:
    match placed.where:
        case "cpumap":
            return f"bpf_redirect_map(MAP({_cpu_map(c, nic)}), {_cpu(placed.cpus)}, XDP_PASS)"
        case "devmap":
            devices = c.add_map("devices", "devmap", 4, 4, _DEVICES, role="devices")
            mac = c.add_array(f"{nic.nic.name}.mac", 8, role="mac")
            return f"netc_route(ctx, p, MAP({devices}), {indices[placed.rule.target.name]}, VALUE({mac}))"
        case "xskmap":
            name = f"{nic.nic.name}.socket.{placed.rule.target.name}"
            sockets = c.add_map(name, "xskmap", 4, 4, _SOCKETS, scope="persistent", role="sockets")
            return f"bpf_redirect_map(MAP({sockets}), ctx->rx_queue_index, XDP_PASS)"
        case "drop":
            return "XDP_DROP"
    return "XDP_PASS"  # the NIC has done it, or it was preferred and is not to be had


def _cpu_map(c: CProgram, nic: place.NicPlacement) -> int:
    cpus = sorted({cpu for placed in nic.steer if placed.where == "cpumap" for cpu in placed.cpus})
    entries = b"".join(struct.pack("=II", cpu, CPU_QUEUE) for cpu in cpus)
    return c.add_map(f"{nic.nic.name}.cpus", "cpumap", 4, 4, cpus[-1] + 1, role="cpus", entries=entries)


def _cpu(cpus: tuple[int, ...]) -> str:
    """C: one CPU of the list by the flow's hash, always the same for a flow."""
    if len(cpus) == 1:
        return str(cpus[0])
    choice = f"netc_flow(p) % {len(cpus)}"
    if cpus == tuple(range(cpus[0], cpus[0] + len(cpus))):
        return f"{cpus[0]} + {choice}"
    cases = "".join(f"at == {i} ? {cpu} : " for i, cpu in enumerate(cpus[:-1]))
    return f"({{ u32 at = {choice}; {cases}{cpus[-1]}; }})"
