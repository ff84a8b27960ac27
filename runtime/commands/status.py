"""status, counters: what is installed, whether it is still there, and what it counted."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from runtime.commands import target as targets

if TYPE_CHECKING:
    from compiler.bundle import Bundle
    from runtime.context import Context
    from runtime.counters import Reading
    from runtime.state import Installed
    from runtime.verify import Finding


def add_parser(subparsers: Any) -> None:
    status = subparsers.add_parser(
        "status", help="what is installed, and whether it is still there",
        description="The installed policy, its devices, each stage's balance, and what has changed since (drift). "
                    "Exit status 1 when something has.",
    )  # fmt: skip
    counting = subparsers.add_parser(
        "counters", help="what every rule, default and class counted",
        description="Every counter: packets and bytes (layer 2, without FCS) since it first existed; an apply does not reset it.",
    )  # fmt: skip
    counting.add_argument("--openmetrics", action="store_true", help="OpenMetrics text, as Prometheus reads it")
    for command, run in ((status, run_status), (counting, run_counters)):
        targets.add_options(command)
        command.set_defaults(run=run)


def installed(target: targets.Target) -> tuple[Installed, Bundle, Context]:
    """What is installed, with the context of its devices. Raises ApplyError when nothing is."""
    from runtime import apply, binding, closed_host, owner, state, trial

    warn_unfinished(target)
    on_trial = trial.running(target.store)
    record = target.store.record()
    current = trial.installed(target.store, on_trial) if on_trial else state.installed_here(record)
    if current is None:
        owner.require(target.context)
        why = "a reboot took the last policy off" if record.current else "nothing is installed"
        if closed_host.is_closed():
            why += "; no policy could be applied at boot, so the devices let in only what is protected, until an apply or netc remove (nft list table inet netc-boot)"
        raise apply.ApplyError(f"{why}\n  = help: install a policy with: netc apply POLICY")
    try:
        context = target.context._replace(trial=on_trial.intent.trial if on_trial else 0.0)
        return current, target.store.bundle(current.bundle), apply.with_devices(context, current.bindings, {})
    except binding.BindingError as error:
        words = str(error).partition("\n")[0]
        raise apply.ApplyError(f"{current.policy} is installed, but {words}\n  = help: take what is left of it off with: netc remove; "
                               "or make the device again and run: netc apply") from None  # fmt: skip


def warn_unfinished(target: targets.Target) -> None:
    """A change that was cut short, or one that another process is at right now: what is shown may be of both."""
    from runtime import output, trial
    from runtime.journal import Journal

    unfinished = Journal(target.store.directory).unfinished()
    if unfinished is None:
        return
    name = f"netc {unfinished.intent.command} (generation {unfinished.intent.generation})"
    if trial.running(target.store) and trial.is_over(unfinished):
        output.show_warning(f"{name} was on trial, nobody confirmed it, and not all of it is taken back yet: netc recover does that")
    elif trial.running(target.store):
        output.show_warning(f"{name} is on trial for {trial.left(unfinished):.0f} s more: netc confirm keeps it, netc rollback takes it back")
    else:
        output.show_warning(f"{name} is not finished: it is running, or it was cut short and netc recover ends it")


def run_counters(options: argparse.Namespace) -> int:
    from runtime import counters, output
    from runtime.usage import UsageError

    if options.openmetrics and options.json:
        raise UsageError("--openmetrics and --json are two formats: give one of them")
    with targets.opened(options) as target:
        current, bundle, context = installed(target)
        readings = counters.read(context, bundle)
    if options.openmetrics:
        sys.stdout.write(counters.openmetrics(readings))
    elif options.json:
        output.show_json({
            "policy": current.policy, "generation": current.generation,
            "counters": [counters.as_json(reading) for reading in readings],
            "balances": [{"chain": b.chain, "stage": b.stage, "seen": b.seen, "counted": b.counted} for b in counters.balances(readings)],
        })  # fmt: skip
    else:
        print(counter_table(readings))
    return 0


def counter_table(readings: Sequence[Reading]) -> str:
    """Every counter a line; drops and backlog where there are classes; then each stage's balance."""
    from runtime import counters, output

    classes = any(reading.drops is not None for reading in readings)
    heads = ["counter", "stage", "verdict", "packets", "bytes", *(["drops", "backlog"] if classes else []), "line"]
    rows = []
    for reading in readings:
        counter = reading.counter
        extra = ["" if n is None else output.number(n) for n in (reading.drops, reading.backlog)] if classes else []
        numbers = [output.number(reading.packets), output.number(reading.bytes), *extra]
        rows.append([counter.name, counter.stage, counter.verdict, *numbers, output.place(counter.file, counter.line)])
    text = output.table(heads, rows, right=range(3, len(heads) - 1))
    return "\n".join([text, "", *map(_balance_line, counters.balances(readings)), *map(_between_line, counters.between(readings))])


def _balance_line(balance: Any) -> str:
    from runtime import output

    mark = output.paint("balanced", "green") if balance.gap == 0 else output.paint(f"{balance.gap:+,}", "red")
    return f"{output.printable(balance.chain)} ({output.printable(balance.stage)}): seen {balance.seen:,} = counted {balance.counted:,}  {mark}"


def _between_line(gap: Any) -> str:
    from runtime import output

    text = f"{gap.chain}: xdp handed {gap.handed:,} on, {gap.stage} judged {gap.judged:,}"
    if gap.handed > gap.judged:
        text += " (the stack merged or reassembled the rest, dropped it, or has it still waiting)"
    elif gap.judged > gap.handed:
        text += " (the rest came without a mark: by another device, or before XDP was on)"
    return output.printable(text)


def run_status(options: argparse.Namespace) -> int:
    from runtime import output, trial, verify, watchdog
    from runtime.commands import foreign

    with targets.opened(options) as target:
        current, bundle, context = installed(target)
        on_trial = trial.running(target.store)
        seconds = trial.left(on_trial) if on_trial else 0.0
        overdue = on_trial is not None and trial.is_over(on_trial)
        endings = watchdog.last(target.store)
        findings = verify.drift(context, bundle, current.generation)
        readings, sets, unreadable = _readings(context, bundle, current.generation)
        findings += unreadable
        beside = foreign.as_json(context, bundle)
        sockets = _sockets(context, bundle, current.generation)
        rounded = _rounded(context, bundle)
    if options.json:
        whole = {**_status_json(current, bundle, findings, readings, sets), "sockets": sockets}
        output.show_json({**whole, "rounded": [{"what": what, "words": words} for what, words in rounded], "trial": seconds, "watchdog": endings, **beside})
    else:
        places = [f"socket      {each['name']} of {each['nic']}: put it into {each['map']} under the number of its queue" for each in sockets]
        _show_status(current, bundle, findings, readings, sets, [*(f"rounded     {what}: {words}" for what, words in rounded), *places,
                                                                *(f"watchdog    {line}" for line in endings)])  # fmt: skip
        foreign.show(beside)
    return int(overdue or verify.failed(findings))


def _readings(context: Context, bundle: Bundle, generation: int) -> tuple[list[Reading], dict[str, int], list[Finding]]:
    """Counters and sizes of sets; where they cannot be read, a finding that says so: the rest of the status is wanted all the more."""
    from runtime import counters, verify
    from runtime.steps import StepError

    try:
        return counters.read(context, bundle), _set_sizes(context, bundle), []
    except StepError as error:
        return [], {}, [verify.Finding("installed", error.what, "counters", "broken", error.words)]


def _rounded(context: Context, bundle: Bundle) -> list[tuple[str, str]]:
    """Settings that hold as the driver rounded them. Where they cannot be read, drift has said so."""
    from runtime.steps import StepError, rounding

    try:
        return rounding.kept(context, bundle)
    except StepError:
        return []


def _set_sizes(context: Context, bundle: Bundle) -> dict[str, int]:
    """How many live members each dynamic set has."""
    from runtime import sets

    return {item.name: sets.size(context, bundle, item) for item in bundle.sets}


def _sockets(context: Context, bundle: Bundle, generation: int) -> list[dict[str, str]]:
    """Where programs put their AF_XDP sockets: a pinned map for each name, with a place for each receive queue."""
    from runtime.steps import xdp_pins

    mine = [(item, item.name.partition(".socket.")) for item in bundle.maps if item.role == "sockets"]
    return [{"name": name, "nic": nic, "map": str(xdp_pins.map_path(context, item, generation))} for item, (nic, _, name) in mine]


def _status_json(current: Installed, bundle: Bundle, findings: Sequence[Finding], readings: Sequence[Reading], sets: dict[str, int]) -> dict[str, object]:
    import msgspec

    from runtime import counters
    from runtime.steps import xdp_offload

    return {
        **msgspec.to_builtins(current),
        "nics": [{"nic": nic.name, "device": current.bindings[nic.name], "xdp": nic.xdp} for nic in bundle.nics],
        "programs": [{"name": code.name, "nic": code.nic, "hook": code.hook} for code in (*bundle.programs, *xdp_offload.codes(bundle))],
        "drift": [{"what": f.what, "where": f.where, "detail": f.detail} for f in findings],
        "balances": [{"chain": b.chain, "stage": b.stage, "seen": b.seen, "counted": b.counted} for b in counters.balances(readings)],
        "between": [{"chain": g.chain, "stage": g.stage, "handed": g.handed, "judged": g.judged} for g in counters.between(readings)],
        "sets": sets,
    }


def _show_status(
    current: Installed, bundle: Bundle, findings: Sequence[Finding], readings: Sequence[Reading], sets: dict[str, int], lines: Sequence[str]
) -> None:
    from runtime import counters, output, verify
    from runtime.steps import xdp_offload

    when = time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(current.when))
    print(output.printable(f"policy      {current.policy} ({current.bundle[:12]}), generation {current.generation}, since {when}"))
    for nic in bundle.nics:
        programs = ", ".join(code.hook for code in (*bundle.programs, *xdp_offload.codes(bundle)) if code.nic == nic.name) or "no programs"
        print(output.printable(f"nic         {nic.name} on {current.bindings[nic.name]}, xdp {nic.xdp}; {programs}"))
    for name, size in sets.items():
        print(output.printable(f"set         {name}: {size:,} members"))
    for balance in counters.balances(readings):
        print("balance    ", _balance_line(balance))
    for gap in counters.between(readings):
        print("between    ", _between_line(gap))
    for finding in findings:
        colour = "yellow" if verify.warns(finding) else "red"
        print(output.paint(output.printable(f"changed     {finding.where}: {finding.what}: {finding.detail}"), colour))
    for line in lines:
        print(output.printable(line))
    broken = verify.failed(findings)
    print("installed  ", "changed since: apply again to put it right" if broken else output.paint("as applied", "green"))
