"""The steps that probe what is protected: before anything is flipped, and once everything is. What arrived before and does not now takes the apply back.

What did not arrive before either (a foreign firewall, rp_filter, no route) is not the new policy's doing: it is told, and no reason to go back.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from compiler.bundle import Protected
from runtime import probe_flows, probing
from runtime.backends.netlink import NetlinkError
from runtime.backends.nft import NftError
from runtime.context import Context
from runtime.lockout import Guarded
from runtime.plan import Plan, Planned
from runtime.probing import Probe, ProbeError
from runtime.steps import StepError
from runtime.transaction import Left


@dataclass(slots=True)
class _Probed:
    """What both steps know. before: which of the probes arrived, None as long as that was not tried. unable: why nothing could be probed."""

    context: Context
    flows: tuple[Protected, ...]
    guarded: Guarded | None
    before: dict[Probe, bool] | None = None
    unable: str = ""


@dataclass(slots=True)
class BeforeStep:
    """Sees what arrives now. Changes nothing that outlives it."""

    probed: _Probed
    phase: str = "stage"
    text: str = "probe what is protected, as it is now"

    def do(self) -> None:
        found = self.probed
        try:
            probes = probe_flows.probes(found.context, found.flows, found.guarded)
            found.before = dict(zip(probes, probing.arrived(found.context, probes), strict=True))
        except (ProbeError, NetlinkError) as error:
            found.unable = str(error)

    def undo(self) -> None:
        """The table of a probe that was cut short goes."""
        probing.remove_stray()

    def check(self) -> None:
        """There is nothing left to read back."""


@dataclass(slots=True)
class ProbeStep:
    """Sees what arrives then, as the last of all checks. warnings: what is to be told beside the result."""

    probed: _Probed
    phase: str = "flip"
    text: str = "probe what is protected"
    warnings: list[str] = field(default_factory=list)

    def do(self) -> None:
        """The probe is the check: what it judges is in force only when every step is done."""

    def undo(self) -> None:
        """Nothing was changed."""

    def check(self) -> None:
        before = self.probed.before
        if before is None:
            self.warnings.append(f"what is protected could not be probed: {self.probed.unable}")
            return
        lost, never = self._lost(before)
        if lost:
            words = f"it arrived before the change and does not now ({', '.join(map(_words, lost))})"
            raise StepError("; ".join(dict.fromkeys(probe.text for probe in lost)), words, _MEND)
        self.warnings += [f"{probe.text}: it does not arrive ({_words(probe)}), and did not before the change either" for probe in never]

    def _lost(self, before: dict[Probe, bool]) -> tuple[list[Probe], list[Probe]]:
        """Once more where something is missing: a frame may be lost on a busy queue."""
        try:
            lost, never = probing.failed(list(before), before, probing.arrived(self.probed.context, list(before)))
            return (probing.failed(lost, before, probing.arrived(self.probed.context, lost))[0], never) if lost else (lost, never)
        except ProbeError as error:
            raise StepError("probe what is protected", str(error), "it could be probed before the change") from None


_MEND = "the policy is proved to pass it: look for what else drops it (nft list ruleset, ip rule, another program on the device)"


def added(plan: Plan, context: Context, guarded: Guarded | None) -> Plan:
    """The plan with what is protected by its new policy, and the connection that it is applied over, probed; the plan itself where there is nothing."""
    flows = plan.new.protected if plan.new is not None else ()
    ways = {way.device for way in guarded.ways} if guarded else set()
    if not plan.steps or not flows and not ways & {device.name for device in context.devices}:
        return plan
    probed = _Probed(context, flows, guarded)
    at = next((n for n, item in enumerate(plan.steps) if item.step.phase != "stage"), len(plan.steps))
    end = next((n for n, item in enumerate(plan.steps) if item.step.phase == "clean"), len(plan.steps))
    steps = (*plan.steps[:at], Planned("probe", BeforeStep(probed)), *plan.steps[at:end], Planned("probe", ProbeStep(probed)), *plan.steps[end:])
    return replace(plan, steps=steps)


def stray() -> list[Left]:
    """Take away the table of a probe in which a process died; what could not be."""
    try:
        probing.remove_stray()
    except NftError as error:
        return [Left(f"nft table inet {probing.TABLE}", str(error))]
    return []


def _words(probe: Probe) -> str:
    packet = probe.packet
    ports = f":{packet.sport} -> {packet.dst}:{packet.dport}" if packet.proto in probing.PORTS else f" -> {packet.dst}"
    return f"{packet.src}{ports} on {probe.device.name}"
