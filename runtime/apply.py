"""Changes of what is installed: apply, rollback, remove. Each is one transaction under the lock, after ending an unfinished one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

import msgspec

from compiler import bundle as bundles
from compiler.bundle import Bundle
from runtime import (
    admission,
    adopt,
    beside,
    binding,
    boot,
    counters,
    disruption,
    live,
    lock,
    lockout,
    owner,
    plan,
    recover,
    slots,
    state,
    transaction,
    trial,
    verify,
    watchdog,
)
from runtime.context import Context
from runtime.journal import Intent, Journal
from runtime.lockout import Guarded
from runtime.outcome import Outcome, Report
from runtime.plan import Plan
from runtime.steps import StepError, probes
from runtime.transaction import Left


class ApplyError(Exception):
    """A change that is refused before anything was touched."""


class OvertakenError(ApplyError):
    """Another command changed what is installed since this change was made ready for it."""


@dataclass(frozen=True, slots=True)
class Change:
    """A wanted state: a bundle's bytes on its devices, or nothing (None). take_over: also what another state directory installed.

    onto: the only bundle that this may take the place of, by its hash; "": any. trial: seconds in which it has to be confirmed; 0.0: it need not be.
    allow_lockout: also what could cut the connection that the command is run over. proved: the connection that the bundle is proved to leave alone already;
    as_json: how the compiler tells what is not. allow_disruptive: also steps that interrupt a device's traffic. seen: what the host was when this was planned; it has to be that still.
    """

    command: str
    data: bytes | None
    bindings: Mapping[str, str]
    take_over: bool = False
    onto: str = ""
    trial: float = 0.0
    allow_lockout: bool = False
    proved: Guarded | None = None
    as_json: bool = False
    allow_disruptive: bool = False
    seen: live.Live | None = None


@contextmanager
def changing(store: state.Store, context: Context, change: Change) -> Iterator[list[str]]:
    """Hold the lock with no unfinished change left; gives what was recovered, in words. Raises OwnerError before anything is touched."""
    store.prepare()
    with lock.exclusive(store.directory, change.command):
        if not (change.take_over or _taking_over(store)):
            owner.require(context)
        with watchdog.armed(store, context):
            yield recover.recover(store, context, removing=change.data is None)


def _taking_over(store: state.Store) -> bool:
    """Was a taking over cut short? Until it is ended, what is there is partly ours and partly not."""
    unfinished = Journal(store.directory).unfinished()
    return unfinished is not None and unfinished.intent.take_over


def plan_change(store: state.Store, context: Context, change: Change) -> tuple[Plan, Context]:
    """The plan from what is installed to what is wanted. Reads only. Raises ApplyError, BindingError, OwnerError, StateError, StepError."""
    if not change.take_over:
        owner.require(context)
    known = (adopt.source(context) if change.take_over else None) or store
    record = _record(known, context)
    current = state.installed_here(record)
    old = known.bundle(current.bundle) if current else None
    new = admitted(change.data) if change.data is not None else None
    guarded = require_proof(context, change)
    before = current.bindings if current else {}
    if change.data is None:  # a device that is gone took its part along; the rest is still to be removed
        before = binding.present(before)
    bound = with_devices(context._replace(trial=change.trial, take_over=change.take_over), change.bindings, before)
    if not change.take_over:
        owner.require_roots(bound, new, current)
    return probes.added(plan.build(bound, new, old, record.generation + 1), bound, guarded), bound


def require_proof(context: Context, change: Change) -> Guarded | None:
    """The connection that the change is proved to leave alone; None where there is none, or it may be cut. Raises CompilerFailed."""
    if change.data is None or change.allow_lockout:
        return None
    known = lockout.guarded(context)
    if known != change.proved:
        lockout.require(known, change.bindings, change.data, change.as_json)
    return known


def _record(store: state.Store, context: Context) -> state.Record:
    """The record; where state.json was lost, its generation is what bpffs still holds: a new one must not take a running one's pins."""
    from runtime.steps import xdp_pins

    record = store.record()
    return msgspec.structs.replace(record, generation=max([record.generation, *xdp_pins.generations(context)]))


def admitted(data: bytes) -> Bundle:
    """A bundle file's content, which netc's own compiler could have written. Raises BundleError, StepError."""
    bundle = bundles.decode(data)
    admission.check(bundle)
    return bundle


def with_devices(context: Context, new: Mapping[str, str], old: Mapping[str, str]) -> Context:
    """The context with every device that the change is about. A nic cannot move to another device in one step."""
    for nic, device in old.items():
        if new.get(nic, device) != device:
            raise ApplyError(
                f"nic {nic} is installed on {device} and would move to {new[nic]}\n"
                "  = help: take the policy off first (netc remove), then apply it to the other device"
            )
    return context._replace(devices=binding.devices({**old, **new}))


def apply(store: state.Store, context: Context, change: Change, report: Report) -> Outcome:
    """Make `change` true, or leave everything as it was. Raises what plan_change raises, OvertakenError, DisruptiveError,
    MovedOnError, TransactionFailed."""
    with changing(store, context, change) as recovered:
        if change.take_over and adopt.source(context) is not None:
            disruption.require(plan_change(store, context, change)[0].steps, change.allow_disruptive)  # refused before anything is ours
            adopt.adopt(store, context)
        record = _record(store, context)
        if change.onto and change.onto != getattr(state.installed_here(record), "bundle", ""):
            raise OvertakenError("another command changed what is installed; nothing was changed, try again")
        if change.seen is not None:
            require_seen(store, context, change)
        if nothing_to_do(store, context, record, change):
            return Outcome(None, record, False, recovered=tuple(recovered))
        planned, bound = plan_change(store, context, change)
        disruption.require(planned.steps, change.allow_disruptive)
        prepare_slots(store, change.data, state.installed_here(record))
        after = _record_after(store, record, change)
        left = _transact(store, record, after, change, planned, bound, report)
        return Outcome(planned, after, True, tuple(left), tuple(recovered), change.trial)


def seen_now(store: state.Store, context: Context, change: Change) -> live.Live:
    """What the host is, as far as a change depends on it, and what would be done; on trial or not is the same. Raises what plan_change raises."""
    planned, bound = plan_change(store, context, replace(change, trial=0.0))
    return live.read(store, bound, planned)


def require_seen(store: state.Store, context: Context, change: Change) -> None:
    """The host is what it was when this change was planned. Raises live.MovedOnError, OwnerError, StateError."""
    if change.seen is not None:
        live.require(change.seen, lambda: seen_now(store, context, change), store.record(), (ApplyError, binding.BindingError, StepError))


def nothing_to_do(store: state.Store, context: Context, record: state.Record, change: Change) -> bool:
    """Is the same bundle installed on the same devices, and still there as it was installed?"""
    current = state.installed_here(record)
    if current is None:
        return change.data is None and record.current is None and not _left_of_others(context)
    if change.data is None or bundles.identity(change.data) != current.bundle or dict(change.bindings) != current.bindings:
        return False
    bound = with_devices(context, current.bindings, {})
    return not verify.failed(verify.drift(bound, store.bundle(current.bundle), current.generation))


def _left_of_others(context: Context) -> bool:
    """Is there something to put back, or to open, although nothing is installed? (a removal that could not end, a boot without a policy)"""
    from runtime import closed_host
    from runtime.steps.foreign_kept import Keeper, Kept

    return Keeper(context).all() != Kept() or closed_host.is_closed()


def prepare_slots(store: state.Store, new: bytes | None, old: state.Installed | None) -> None:
    """Give every counter of the new bundle its slot; a counter that is gone keeps its own for when it comes back."""
    if new is None:
        return
    known = store.slots()
    assigned = slots.assign([admitted(new), *([store.bundle(old.bundle)] if old else [])], known)
    if assigned != known:
        store.write_slots(assigned)


def _record_after(store: state.Store, record: state.Record, change: Change) -> state.Record:
    if change.data is None:
        return state.removed_now(record)
    bundle = bundles.decode(change.data)
    return state.installed_now(record, store.keep_bundle(change.data, bundle), bundle.policy, dict(change.bindings), change.command)


def _transact(
    store: state.Store, record: state.Record, after: state.Record, change: Change, planned: Plan, bound: Context, report: Report
) -> list[Left]:
    journal = Journal(store.directory)
    current = state.installed_here(record)
    journal.begin(
        Intent(
            command=change.command,
            generation=after.generation,
            new=after.current.bundle if after.current else "",
            old=current.bundle if current else "",
            bindings=dict(change.bindings),
            old_bindings=current.bindings if current else {},
            boot=boot.boot_id(),
            trial=change.trial,
            take_over=change.take_over,
        )
    )

    if change.trial:
        watchdog.entrust(bound, after.generation)

    def commit() -> None:
        beside.remember(bound, planned.new)
        if change.trial:
            trial.start(bound, journal)
        else:
            write_after(store, bound, record, after, planned)

    try:
        return transaction.run(planned.ordered(), journal, commit, report, trial=bool(change.trial))
    except transaction.TransactionFailed as failure:
        if not failure.left:  # what is left stays in the journal: the next command tries again
            with suppress(state.StateError):  # as it does where the journal itself is left: there is nothing to take back twice
                journal.close()
        raise


def write_after(store: state.Store, bound: Context, record: state.Record, after: state.Record, planned: Plan) -> None:
    """The commit: one rename of state.json, with what was counted by rules that are no longer in the policy."""
    ledger = counters.ledger_after(bound, record.retired if state.installed_here(record) else {}, planned.old, planned.new)
    store.write_record(msgspec.structs.replace(after, retired=ledger))
