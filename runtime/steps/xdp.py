"""Every BPF program of a bundle (hooks xdp, tcx_ingress, tcx_egress), as steps: load and pin, flip by bpf_link, clean up; and its counters."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TypeVar

from compiler.bundle import NIC_HOOK, Bundle, Code
from runtime import nic_counters, objects
from runtime import slots as slot_tables
from runtime.backends import bpf
from runtime.backends.netlink import NetlinkError
from runtime.context import Context
from runtime.state import Store
from runtime.steps import Step, StepError, foreign_kept, foreign_program, foreign_xdp, xdp_offload, xdp_pins, xdp_trial
from runtime.steps.xdp_attach import AttachStep, DetachStep
from runtime.steps.xdp_load import CleanStep, LoadStep
from runtime.steps.xdp_slots import MoveStep

__all__ = ["assign_slots", "read_counters", "steps"]

_ORDER = ("tcx_egress", "tcx_ingress", "xdp", NIC_HOOK)  # the carrier is there before XDP hands on; the host judges before the NIC saves it work
Hook = TypeVar("Hook")


def steps(context: Context, new: Bundle | None, old: Bundle | None, generation: int) -> list[Step]:
    """From `old`'s programs to `new`'s. Raises StepError for a foreign XDP program on a device."""
    wanted, had = _programs(new), _programs(old)
    made: list[Step] = []
    moves = slot_tables.moves(old, new) if new is not None and old is not None else []
    if new is not None and wanted:
        objects.validate(new)
        _refuse_foreign(context, wanted)
        made.append(LoadStep(context, new, generation, tuple(nic for nic, _, _ in moves), old))
        made += xdp_offload.loading(context, new, old, generation)
        if any(item.never for item in new.sets) or (context.trial and new.sets):
            from runtime.steps import set_never

            made += set_never.steps(context, new, old)
    for key in wanted.keys() & had.keys():
        _refuse_other_mode(wanted[key], _mode(new, wanted[key]), _mode(old, had[key]))
    here = {key: (code, _mode(new, code)) for key, code in _ordered(wanted)}
    leaving = {key: (code, _mode(old, code)) for key, code in reversed(_ordered(had)) if key not in wanted}
    close, back = foreign_xdp.leaving(context, _left(context, new, [code for code, _ in leaving.values() if code.hook == "xdp"]))
    ends: list[Step] = []
    if context.trial:
        _refuse_foreign_trial(context, here, [*close, *back], generation)
        flips, ends = xdp_trial.steps(context, _of_hosts(here), _of_hosts(had), _of_hosts(leaving), generation)
        before, behind = xdp_offload.on_trial(context, new, old, generation)
        made += [*before, *flips]
        ends += behind
    else:
        made += _attaching(context, here, had, generation)
        made += [*close, *(DetachStep(context, code, mode) for code, mode in leaving.values()), *back]
    made += [MoveStep(nic, size, before) for nic, size, before in moves]
    made += ends
    if wanted or had:
        made.append(CleanStep(context, new if wanted else None, generation))
    return made


def _of_hosts(hooks: Mapping[tuple[str, str], Hook]) -> dict[tuple[str, str], Hook]:
    """Without what NICs run."""
    return {key: found for key, found in hooks.items() if key[1] != NIC_HOOK}


def _left(context: Context, new: Bundle | None, ended: list[Code]) -> list[str]:
    """The devices whose XDP hook netc leaves; with nothing new all that it ever took over."""
    if new is None:
        return sorted(foreign_kept.Keeper(context).all().programs)
    return [context.device(code.nic).name for code in ended]


def _attaching(context: Context, here: xdp_trial.Hooks, had: Collection[tuple[str, str]], generation: int) -> Iterator[Step]:
    """Every program onto its hook; where somebody else's is taken over, behind a closed gate."""
    for key, (code, mode) in here.items():
        theirs = foreign_xdp.taking(context, context.device(code.nic), generation) if code.hook == "xdp" else []
        yield from theirs
        yield AttachStep(context, code, generation, mode, key in had)
        yield from (foreign_xdp.Open(context.device(code.nic)) for _ in theirs)


def _refuse_foreign_trial(context: Context, here: xdp_trial.Hooks, leaving: Collection[Step], generation: int) -> None:
    """At the deadline nobody may be there to put another's program back. Raises StepError."""
    for code, _ in here.values():
        if leaving or (code.hook == "xdp" and foreign_xdp.taking(context, context.device(code.nic), generation)):
            raise StepError("--confirm", "an XDP program that is not netc's would go or come back, and the data path alone cannot bring that about at the deadline",
                            "apply it without --confirm")  # fmt: skip


def assign_slots(bundle: Bundle, known: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    """nic → counter name → slot: `known` with this bundle's counters. Raises StepError when a nic has too many."""
    try:
        return slot_tables.assign([bundle], known)
    except slot_tables.SlotsError as error:
        raise StepError("give every counter its slot", str(error), "use sets: one rule for many addresses or ports") from None


def read_counters(context: Context, bundle: Bundle, nics: Collection[str] | None = None) -> dict[str, tuple[int, int]]:
    """Counter name → (packets, bytes) of every BPF program, summed over CPUs, and over host and NIC; a name on several nics over these. `nics`: of those alone.

    Raises StepError.
    """
    found = read_hosts(context, bundle, nics)
    for name, (packets, octets) in nic_counters.read(context, [item for item in bundle.offloads if nics is None or item.nic in nics]).items():
        before = found.get(name, (0, 0))
        found[name] = (before[0] + packets, before[1] + octets)
    return found


def read_hosts(context: Context, bundle: Bundle, nics: Collection[str] | None = None) -> dict[str, tuple[int, int]]:
    """The part of it that the host's programs counted. Raises StepError."""
    slots = Store(context.state).slots()
    found: dict[str, tuple[int, int]] = {}
    for nic in dict.fromkeys(code.nic for code in bundle.programs if nics is None or code.nic in nics):
        mine = slot_tables.of_nic(bundle, nic, slots)
        names = {c.name for code in bundle.programs if code.nic == nic for c in slot_tables.counters_of(bundle, code.name)}
        if not names:  # a program that only lets the device send what others redirect to it
            continue
        try:
            wanted = {name: mine[name] for name in names}
            path = next(xdp_pins.map_path(context, m, 0) for m in bundle.maps if m.role == "counters" and m.name == f"{nic}.counters")
            with xdp_pins.opened(path) as descriptor:
                read = objects.read_slots(descriptor, wanted)
        except KeyError as error:
            raise StepError("read counters", f"the counter {error} has no slot", "slots.json was changed: apply again") from None
        except bpf.BpfError as error:
            raise StepError(f"read the counters of {nic}", str(error), "apply the policy again") from None
        for name, (packets, octets) in read.items():
            before = found.get(name, (0, 0))
            found[name] = (before[0] + packets, before[1] + octets)
    return found


def _programs(bundle: Bundle | None) -> dict[tuple[str, str], Code]:
    return {(code.nic, code.hook): code for code in (*(bundle.programs if bundle else ()), *xdp_offload.codes(bundle))}


def _ordered(programs: dict[tuple[str, str], Code]) -> list[tuple[tuple[str, str], Code]]:
    return sorted(programs.items(), key=lambda item: (_ORDER.index(item[1].hook) if item[1].hook in _ORDER else len(_ORDER), item[0]))


def _mode(bundle: Bundle | None, code: Code) -> str:
    """native or generic, as the policy says for the nic, offload for what the NIC runs; never chosen here."""
    if code.hook == NIC_HOOK:
        return xdp_offload.MODE
    if code.hook != "xdp":
        return ""
    said = next((nic.xdp for nic in bundle.nics if nic.name == code.nic), "") if bundle else ""
    if said not in ("native", "generic"):
        raise StepError(f"program {code.name}", f"nic {code.nic} asks for `xdp {said}`", "write `xdp native` or `xdp generic`")
    return said


def _refuse_other_mode(code: Code, mode: str, had: str) -> None:
    """The kernel has one mode on a device at a time, and a link keeps its own: a change would leave the device bare in between."""
    if mode != had:
        mend = "take the policy off first (netc remove), then apply this one"
        raise StepError(f"nic {code.nic}", f"its XDP program runs as {had}, and no update makes it {mode}", mend)


def _refuse_foreign(context: Context, wanted: dict[tuple[str, str], Code]) -> None:
    """A foreign XDP program is told while planning, before anything is done."""
    for code in wanted.values():
        try:
            device = context.device(code.nic)
        except KeyError:
            raise StepError(f"program {code.name}", f"nic {code.nic} is bound to no device", f"add --nic {code.nic}=DEVICE") from None
        if code.hook != "xdp":
            continue
        try:
            theirs = foreign_program.others(context, device)
        except NetlinkError as error:
            raise StepError(f"read {device.name}", error.words) from None
        if theirs and not context.take_over:
            raise foreign_program.refuse(f"attach {code.name}", device, theirs[0])
