"""Which intent runs where, by the target's capability profile, and why.

Stages in the order of a packet: NIC, XDP, netdev ingress, connection tracking. A construct that a stage cannot express moves, or is a
CompileError (N7xx): never widened, narrowed or dropped (LANGUAGE.md, meaning 9). Every decision has a line in `Placed.reasons`.
"""

from __future__ import annotations

from compiler import ir, place_limits
from compiler.diagnostics import CompileError, Diagnostic
from compiler.place_chain import Findings, place_forward, place_in, place_out
from compiler.place_settings import place_settings, setting_name
from compiler.place_steer import place_steer
from compiler.placed import STEERS_IN_XDP, ChainPlacement, NicPlacement, Placed, SteerPlacement
from compiler.profile import Profile

__all__ = ["ChainPlacement", "NicPlacement", "Placed", "SteerPlacement", "place", "setting_name"]


def place(program: ir.Program, profile: Profile) -> Placed:
    """Decide for every chain, steer rule and setting. Raises CompileError with every finding."""
    findings = Findings()
    nics = tuple(_place_nic(program, nic, index, profile, findings) for index, nic in enumerate(program.nics))
    forwards = tuple(place_forward(chain, findings) for chain in program.chains if chain.direction == "forward")
    settings = place_settings(program, nics, profile, findings)
    if findings.diagnostics:
        raise CompileError(sorted(findings.diagnostics, key=_in_source_order))
    return Placed(program, nics, forwards, (*settings, *findings.settings), tuple(findings.reasons))


def _place_nic(program: ir.Program, nic: ir.Nic, index: int, profile: Profile, findings: Findings) -> NicPlacement:
    mine = [chain for chain in program.chains if chain.nic == nic.name]
    steers = [steer for steer in program.steers if steer.nic == nic.name]
    chains = [place_in(chain, nic, profile, findings) for chain in mine if chain.direction == "in"]
    chains += [place_out(chain, findings) for chain in mine if chain.direction == "out"]
    steered = [placed for steer in steers for placed in place_steer(program, steer, nic, tuple(chains), profile, findings)]
    shapes = tuple(place_limits.shape(shape, profile, findings) for shape in program.shapes if shape.nic == nic.name)
    for shape in shapes:
        findings.reason(shape.name, "tc", _shape_reason(shape, profile), shape.span)
    if any(chain.early == "xdp" for chain in chains) or any(s.where in STEERS_IN_XDP for s in steered):
        _check_mode(nic, profile, findings)
        _keep_tags(program, nic, findings)
    host = _beside_nic(nic, profile, findings) if nic.xdp == "offload" else ""
    return NicPlacement(nic, index, tuple(chains), tuple(steered), shapes, host)


def _beside_nic(nic: ir.Nic, profile: Profile, findings: Findings) -> str:
    """The mode of the host's program, which judges what the NIC's own passes on: `xdp offload` says nothing of it."""
    mode = "native" if profile.xdp.native else "generic"
    why = "what the NIC passes on is judged in the driver" if profile.xdp.native else "the target runs no native XDP: what the NIC passes on is judged behind the driver"
    findings.reason(nic.name, f"xdp {mode}", why, nic.span)
    return mode


def _check_mode(nic: ir.Nic, profile: Profile, findings: Findings) -> None:
    if nic.xdp == "offload" and not profile.xdp.offload:
        helps = f"write `xdp {'native' if profile.xdp.native else 'generic'}`; or, if the NIC can: netc probe DEV --try -o nic.yaml, and compile with --target nic.yaml"
        findings.error("N702", f"nic {nic.name} asks for `xdp offload`, which the target {profile.name!r} does not have", nic.span, helps)
    elif nic.xdp == "offload" and not profile.xdp.offload_maps.elements * profile.xdp.offload_maps.pairs:
        helps = f"write `xdp {'native' if profile.xdp.native else 'generic'}`; or probe again, with tries: netc probe DEV --try -o nic.yaml"
        findings.error("N701", f"nic {nic.name}: the NIC of the target {profile.name!r} runs programs, and has no room for their counters", nic.span, helps)
    elif not getattr(profile.xdp, nic.xdp):
        helps = f"write `xdp {'generic' if nic.xdp == 'native' and profile.xdp.generic else 'none'}`: netc never changes the mode by itself"
        findings.error("N702", f"nic {nic.name} asks for `xdp {nic.xdp}`, which the target {profile.name!r} does not have", nic.span, helps)


def _keep_tags(program: ir.Program, nic: ir.Nic, findings: Findings) -> None:
    """XDP sees a VLAN tag only in the frame. It must be there where a rule asks for tags; elsewhere it is better so, and shown."""
    asked = any(_asks_for_tags(rule.when) for c in program.chains if c.nic == nic.name for rule in c.rules)
    asked |= any(_asks_for_tags(rule.when) for s in program.steers if s.nic == nic.name for rule in s.rules)
    setting = ir.Setting(nic.name, "vlan", "tags-in-frame", 1, prefer=not asked, text="VLAN tags stay in the frame", span=nic.span)
    findings.settings.append(setting)
    why = "a rule asks for VLAN tags, and XDP sees only those in the frame" if asked else "XDP looks through tags only in the frame"
    findings.reason(setting_name(setting), "settings", why, nic.span)


def _asks_for_tags(when: ir.Expr) -> bool:
    match when:
        case ir.Is(kind):
            return kind == "vlan"
        case ir.Within(field, _):
            return field in (ir.Field.VLAN, ir.Field.VLAN_INNER)
        case ir.Not(item):
            return _asks_for_tags(item)
        case ir.And(items) | ir.Or(items):
            return any(map(_asks_for_tags, items))
    return False


def _shape_reason(shape: ir.Shape, profile: Profile) -> str:
    if shape.direction == "in":
        return "HTB on an ifb device: what arrives can only be queued after a redirect"
    offload = "; the NIC could take tc rules (hw-tc-offload), and HTB in the NIC is not used yet" if profile.hw_tc_offload else ""
    return f"one HTB tree on the device: exact device totals; hardware queues are not used for shaping yet{offload}"


def _in_source_order(finding: Diagnostic) -> tuple[str, int, int]:
    return finding.span.file, finding.span.line, finding.span.column
