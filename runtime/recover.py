"""Ends a change that a crash left half way: takes it back if it was not committed, cleans up if it was.

Called under the lock before anything else is changed. The steps are made again from the stored bundles and found by their text, so
the text of a step depends on the bundles alone.
"""

from __future__ import annotations

from runtime import binding, boot, plan, state, transaction, trial
from runtime.context import Context
from runtime.journal import Intent, Journal, Unfinished
from runtime.steps import Step, StepError, probes


class RecoveryFailed(Exception):
    """The unfinished change could not be ended. The text says what is left and where; the journal stays."""


def recover(store: state.Store, context: Context, removing: bool, ending: bool = False) -> list[str]:
    """What was done, in words; empty when nothing was unfinished. removing: all is to go, so a device that is gone is no obstacle.

    ending: a trial ends now, before its deadline. Raises RecoveryFailed, StateError, OnTrialError.
    """
    store.sweep()
    journal = Journal(store.directory)
    unfinished = journal.unfinished()
    if unfinished is None:
        journal.path.unlink(missing_ok=True)
        return []
    intent = unfinished.intent
    name = f"netc {intent.command} (generation {intent.generation})"
    if intent.boot != boot.boot_id():
        journal.close()
        return [f"{name} was cut short by a reboot: the kernel has forgotten it"]
    committed = store.record().generation >= intent.generation
    if unfinished.deadline is not None and not (committed or ending or trial.is_over(unfinished)):
        raise trial.OnTrialError(unfinished)
    if ending and not committed:
        journal.end_trial()
    if gone := sorted({*_bindings(intent).values()} - {*binding.present(_bindings(intent)).values()}):
        return _without(gone, store, context, unfinished, journal, removing)
    if intent.in_place:
        return [f"{name} was cut short: {_in_place(store, context, intent, journal)}"]
    if committed:
        left = transaction.clean(steps_of(store, context, unfinished), _silent)
        journal.close()
        return [f"{name} was cut short after it was done: finished it", *(f"not cleaned up: {x.text}: {x.words}" for x in left)]
    undone, left = _take_back(store, context, unfinished)
    if left:
        what = "\n".join(f"  {x.text}: {x.words}" for x in left)
        raise RecoveryFailed(f"{name} was cut short and could not be taken back; still there:\n{what}")
    journal.close()
    why = "was cut short" if unfinished.deadline is None else "was on trial" if ending else "was on trial, and nobody confirmed it"
    return [f"{name} {why}: took back {len(undone)} steps, what was installed before is in force"]


def prepare() -> None:
    """Import what taking a change back needs, so that it does not have to be read when it is wanted."""
    for name in plan.BACKENDS:
        plan.backend(name)


def _in_place(store: state.Store, context: Context, intent: Intent, journal: Journal) -> str:
    from runtime import rule_change

    try:
        done = rule_change.take_back(store, context, intent)
    except (StepError, binding.BindingError) as error:
        raise RecoveryFailed(f"netc {intent.command} was cut short and cannot be ended: {error}") from None
    journal.close()
    return done


def _without(gone: list[str], store: state.Store, context: Context, unfinished: Unfinished, journal: Journal, removing: bool) -> list[str]:
    """A change whose device has gone meanwhile can be neither finished nor taken back there; what is left of it can be removed."""
    intent = unfinished.intent
    name = f"netc {intent.command} (generation {intent.generation}) was cut short, and meanwhile {', '.join(gone)} has gone"
    if not removing:
        raise RecoveryFailed(
            f"{name}: it can be neither finished nor taken back\n  = help: take what is left of it off with: netc remove; "
            f"or make {', '.join(gone)} again and run this command again"
        )
    left = _remove_rest(store, context, intent)
    if left:
        what = "\n".join(f"  {x.text}: {x.words}" for x in left)
        raise RecoveryFailed(f"{name}; still there:\n{what}\n  = help: run netc remove again when that is mended")
    journal.close()
    return [f"{name}: removed what it had begun"]


def _remove_rest(store: state.Store, context: Context, intent: Intent) -> list[transaction.Left]:
    """Remove both bundles from the devices that are there, whatever of them is installed."""
    from runtime.steps import foreign_gate, nft_fence

    left: list[transaction.Left] = []
    try:
        nft_fence.remove_stray()
        foreign_gate.remove_stray()
        bound = context._replace(devices=binding.devices(binding.present(_bindings(intent))))
        steps = [step for name in {intent.new: 0, intent.old: 0} if name for step in plan.build(bound, None, store.bundle(name), intent.generation).ordered()]
    except (StepError, OSError) as error:
        return [transaction.Left("what was begun", str(error))]
    for step in steps:
        try:
            step.do()
        except (StepError, OSError) as error:
            left.append(transaction.Left(step.text, str(error)))
    return left


def _bindings(intent: Intent) -> dict[str, str]:
    return {**intent.old_bindings, **intent.bindings}


def _take_back(store: state.Store, context: Context, unfinished: Unfinished) -> tuple[list[str], list[transaction.Left]]:
    """Undo what was started, then give the settings their former values.

    Settings know from their own file what they were before netc, so going back is one more apply of theirs, from new to old; a
    setting that was already changed has no step to undo.
    """
    started = {(step.phase, step.text): step for step in steps_of(store, context, unfinished) if step.phase != "clean"}
    again = [started[phase, text] for phase, text in unfinished.started if (phase, text) in started]
    undone, left = transaction.undo([step for step in again if not hasattr(step, "setting")], _silent)
    left += probes.stray()
    for step in steps_of(store, context, unfinished, backwards=True, only="settings"):
        try:
            step.do()
        except (StepError, OSError) as error:
            left.append(transaction.Left(step.text, str(error)))
    return undone, left


def steps_of(store: state.Store, context: Context, unfinished: Unfinished, backwards: bool = False, only: str = "") -> list[Step]:
    """The steps of an unfinished change, made again. Raises RecoveryFailed, StateError."""
    intent = unfinished.intent
    new = store.bundle(intent.new) if intent.new else None
    old = store.bundle(intent.old) if intent.old else None
    if backwards:
        new, old = old, new
    try:
        bound = context._replace(devices=binding.devices(_bindings(intent)), trial=intent.trial, take_over=intent.take_over)
        if only:
            steps: list[Step] = plan.backend(only).steps(bound, new, old, intent.generation)
            return steps
        return plan.build(bound, new, old, intent.generation).ordered()
    except (binding.BindingError, StepError, OSError) as error:
        raise RecoveryFailed(f"netc {intent.command} was cut short and cannot be taken back: {error}") from None


def _silent(_what: str, _step: Step) -> None:
    """Recovery reports its result, not each step."""
