"""Ends of a trial: it is kept for good, or what was there before comes back at once (runtime.trial)."""

from __future__ import annotations

from runtime import apply, binding, lock, owner, plan, recover, state, transaction, trial, watchdog
from runtime.apply import ApplyError
from runtime.context import Context
from runtime.journal import Journal, Unfinished
from runtime.outcome import Outcome, Report
from runtime.steps import Step, StepError


def confirm(store: state.Store, context: Context, report: Report) -> Outcome:
    """Keep what is on trial. Raises ApplyError where nothing is, or no longer, or it is not as it was applied; LockedError, RecoveryFailed."""
    store.prepare()
    with lock.exclusive(store.directory, "confirm"), watchdog.armed(store, context):
        owner.require(context)
        unfinished = trial.running(store)
        if unfinished is None:
            recovered = recover.recover(store, context, removing=False)
            raise ApplyError("\n".join([*recovered, "nothing is on trial, so there is nothing to confirm"]))
        if trial.is_over(unfinished):
            recovered = recover.recover(store, context, removing=False)
            raise ApplyError("\n".join([*recovered, "the confirmation came too late: apply again"]))
        return _commit(store, context, unfinished, report)


def _commit(store: state.Store, context: Context, unfinished: Unfinished, report: Report) -> Outcome:
    planned, bound = _planned(store, context, unfinished)
    record = store.record()
    after = trial.record_after(store, record, unfinished)
    for step in planned.ordered():
        if step.phase != "clean":
            report("check", step)
            _check(step)
    apply.write_after(store, bound, record, after, planned)
    left = transaction.clean(planned.ordered(), report)
    left += transaction.closed(Journal(store.directory), bool(left))
    return Outcome(planned, store.record(), True, tuple(left))


def _check(step: Step) -> None:
    try:
        step.check()
    except StepError as error:
        words = f"{error}\nwhat is on trial is no longer as it was applied; it goes on until its deadline"
        raise ApplyError(f"{words}\n  = help: netc rollback ends it at once; or put that right and confirm again") from None


def _planned(store: state.Store, context: Context, unfinished: Unfinished) -> tuple[plan.Plan, Context]:
    intent = unfinished.intent
    bound = context._replace(devices=binding.devices({**intent.old_bindings, **intent.bindings}), trial=intent.trial)
    old = store.bundle(intent.old) if intent.old else None
    return plan.build(bound, store.bundle(intent.new), old, intent.generation), bound


def end(store: state.Store, context: Context) -> list[str] | None:
    """Take back what is on trial, before its deadline: what was done, in words; None where nothing is on trial. Raises LockedError, RecoveryFailed."""
    if trial.running(store) is None:
        return None
    with lock.exclusive(store.directory, "rollback"), watchdog.armed(store, context):
        owner.require(context)
        return recover.recover(store, context, removing=False, ending=True)
