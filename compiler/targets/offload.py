"""The program that a NIC runs itself (`xdp offload`): its C, and where it counts.

Straight code over a packet on the stack, in the policy's order: a rule of the NIC drops and counts, any other that may match hands the packet to the
host, and so does the end. What is whose was decided in compiler.place_offload.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from compiler import bundle, ir, place, place_offload
from compiler.diagnostics import Diagnostic
from compiler.place_offload import NicHalf, OnNic
from compiler.profile import OffloadMaps
from compiler.targets import c_expr, c_fields, c_nest, xdp
from compiler.targets.c_program import CProgram, read_part, symbol

_COUNTER = 16  # bytes: packets and bytes


@dataclass(frozen=True, slots=True)
class OffloadParts:
    """What goes into the bundle; `sources`: C text by program name; `reasons`: what each rule that drops is, and why; `warnings`: W712."""

    offloads: tuple[bundle.Offload, ...]
    sources: dict[str, str]
    reasons: tuple[bundle.Placement, ...]
    warnings: tuple[Diagnostic, ...]


def lower(placed: place.Placed, maps: OffloadMaps) -> OffloadParts:
    """A program for each nic that says `xdp offload`. maps: the largest array that the target's NIC has for it."""
    sets = {item.name: item for item in placed.program.sets}
    made: list[bundle.Offload] = []
    sources: dict[str, str] = {}
    reasons: list[bundle.Placement] = []
    warnings: list[Diagnostic] = []
    for nic in placed.nics:
        chain = xdp.early_chain(nic)
        if nic.nic.xdp != "offload" or chain is None:
            continue
        half = place_offload.split(chain, sets, maps)
        reasons += [*half.reasons, _in_short(nic, chain, half)]
        if not half.counters:
            warnings.append(_nothing(nic.nic))
            continue
        program, sources[f"{nic.nic.name}.offload"] = _program(nic.nic, half, maps)
        made.append(program)
    return OffloadParts(tuple(made), sources, tuple(reasons), tuple(warnings))


def _in_short(nic: place.NicPlacement, chain: place.ChainPlacement, half: NicHalf) -> bundle.Placement:
    drops = sum(rule.verdict == "drop" and not rule.covered for rule in chain.chain.rules) + (chain.chain.default == "drop")
    why = f"{len(half.counters)} of {drops} that drop are on the NIC, which passes everything else to the host"
    return bundle.Placement(chain.chain.name, "nic" if half.counters else "xdp", why, nic.nic.span.file, nic.nic.span.line)


def _nothing(nic: ir.Nic) -> Diagnostic:
    helps = "see why: netc compile --emit plan; a NIC can drop by addresses, ports and flags, as long as no rule above needs the host for the same packets"
    return Diagnostic("W712", f"nic {nic.name}: `xdp offload`, and no rule of it can be on the NIC: all of it runs on the host", nic.span, helps)


def _program(nic: ir.Nic, half: NicHalf, maps: OffloadMaps) -> tuple[bundle.Offload, str]:
    pairs = min(maps.pairs, len(half.counters))
    c = _NicProgram(f"{nic.name}.offload", nic.name, bundle.NIC_HOOK, {}, nic.span)
    code = c.finish(_body(c, half.steps, pairs), frags=False)
    elements = -(-len(half.counters) // pairs)
    return bundle.Offload(code.name, nic.name, code.code, elements, pairs * _COUNTER, half.counters), c.source


def _body(c: CProgram, steps: tuple[OnNic, ...], pairs: int) -> str:
    listed = [(action, condition) for action, when in _actions(steps, pairs) if (condition := c_expr.true_when(when, c)) != c_expr.NEVER]
    return (
        "    packet_t packet, *p = &packet;\n"
        "    OPAQUE(p);\n"  # or clang lays the fields out anew, each for itself
        "    u32 bytes = ON_NIC_LENGTH(ctx);\n"
        "    netc_fill(p, bytes);\n"
        "    netc_parse(p, (void *)(long)ctx->data, (void *)(long)ctx->data_end, bytes, 0, 0);\n"
        "    if (CONTROL(p))\n        return XDP_PASS;\n"
        + c_nest.rules(listed, lambda action, condition: f"    if ({condition}) {action}\n")
        + "    return XDP_PASS;\n"
    )


def _actions(steps: tuple[OnNic, ...], pairs: int) -> Iterator[tuple[str, ir.Expr]]:
    place_ = 0
    for step in steps:
        if not step.counter:
            yield "return XDP_PASS;", step.when
            continue
        element, pair = divmod(place_, pairs)
        yield f"return netc_drop(MAP({bundle.OFFLOAD_MAP}), {element}, {pair}, bytes);", step.when
        place_ += 1


class _NicProgram(CProgram):
    """A program whose packet is on the stack, and which has one map."""

    def _head(self, readers: str) -> str:
        lines = [f"#define KIND_{symbol(kind)} {1 << i}u" for i, kind in enumerate(ir.KINDS)]
        lines += [f"#define HAVE_{symbol(field)} {1 << i}u" for i, field in enumerate(ir.Field)]
        lines += c_fields.definitions(readers, "")
        parts = ["\n".join(lines), *map(read_part, ("prelude.h", "stack_packet.h", "parser.h", "offload.h"))]
        return "\n".join(parts) + "\nint netc(struct xdp_md *ctx)\n{\n"
