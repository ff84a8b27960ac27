"""A policy in which some rules have changed, applied in place: no program is made, no table written, and one store commits.

What has changed was found by runtime.rules_found. Here it is checked against what runs, journalled, put in force, and recorded as a change of the bundle that was applied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

import msgspec

from compiler.tables import changes
from compiler.tables.changes import Delta
from runtime import binding, lock, owner, retired, rules_found, slots, state, transaction, watchdog
from runtime.backends import membarrier
from runtime.context import Context
from runtime.journal import Intent, Journal
from runtime.outcome import Outcome, Report
from runtime.plan import Plan, Planned
from runtime.rules_found import RuleChange
from runtime.steps import StepError, xdp_changes
from runtime.steps.xdp_changes import ChangeStep


def planned(context: Context, change: RuleChange, generation: int) -> tuple[Plan, ChangeStep]:
    """The plan of one step."""
    step = ChangeStep(context, _nic(change.wanted), change.now.generation, change.wanted, change.before)
    return Plan(generation, None, None, (Planned("xdp", step),), ()), step


def _nic(delta: Delta) -> str:
    return delta.program.rpartition(".")[0]


class NotInPlaceError(Exception):
    """What runs now is not what the change was told for, so the policy has to be applied whole. recovered: an unfinished change that was ended, in words."""

    def __init__(self, recovered: Sequence[str]) -> None:
        super().__init__("the policy has to be applied whole")
        self.recovered = tuple(recovered)


def apply_change(store: state.Store, context: Context, change: RuleChange, report: Report) -> Outcome:
    """Put it in force. Raises NotInPlaceError, and what apply.apply raises."""
    with lock.exclusive(store.directory, "apply"), watchdog.armed(store, context):
        recovered = _recovered(store, context)
        record = store.record()
        bound = context._replace(devices=binding.devices(change.now.bindings))
        if record.current != change.now or not (holds(store, bound, change) if change.is_none else is_running(bound, change)):
            raise NotInPlaceError(recovered)
        if change.is_none:
            return Outcome(None, record, False, (), tuple(recovered))
        assigned = _slots(store, bound, change)
        if assigned is None:
            raise NotInPlaceError(recovered)
        plan, step = planned(bound, change, record.generation + 1)
        after = _record_after(store, record, change)
        left = _transact(store, record, after, change, plan, step, assigned, report)
        return Outcome(plan, after, True, tuple(left), tuple(recovered))


def holds(store: state.Store, context: Context, change: RuleChange) -> bool:
    """Is what is installed still there as it was installed?"""
    from runtime import verify  # with every backend

    bound = context._replace(devices=binding.devices(change.now.bindings))
    return not verify.failed(verify.drift(bound, store.bundle(change.now.bundle), change.now.generation))


def _recovered(store: state.Store, context: Context) -> list[str]:
    if not Journal(store.directory).path.exists():
        return []
    from runtime import recover  # with every backend

    return recover.recover(store, context, removing=False)


def is_running(context: Context, change: RuleChange) -> bool:
    """Ours, attached, and as the last change left it, on a kernel that tells when packets have been judged: only then may rules change in place."""
    if not membarrier.is_there():
        return False
    context = context._replace(devices=binding.devices(change.now.bindings))
    mark = owner.pinned(context)
    nic = _nic(change.wanted)
    step = ChangeStep(context, nic, change.now.generation, change.before, change.before)
    try:
        step.check()
        ifindex = context.device(nic).ifindex
    except (StepError, KeyError):
        return False
    ours = mark is not None and mark.id == owner.known(context.state)
    return ours and xdp_changes.is_attached(context, nic, change.wanted.program, change.now.generation, ifindex)


def _slots(store: state.Store, context: Context, change: RuleChange) -> dict[str, int] | None:
    """The nic's slots with some for the rules that come, kept on disk; None where there is no room without forgetting old ones."""
    known = store.slots()
    table, size, mine = xdp_changes.slots_of(context, _nic(change.wanted), known)
    missing = [rule.name for rule in change.wanted.added if rule.name not in mine]
    if len(mine) + len(missing) + slots.FIRST > size:
        return None
    assigned = slots.assign_slots(missing, mine, size)
    if missing:
        store.write_slots({**known, table: assigned})
    return assigned


def _record_after(store: state.Store, record: state.Record, change: RuleChange) -> state.Record:
    """The pins' generation stays; the record's grows, since it says what was committed."""
    name = store.keep_change(change.data) if change.wanted.lines else change.wanted.base
    after = state.installed_now(record, name, change.now.policy, change.now.bindings, "apply")
    assert after.current is not None
    return msgspec.structs.replace(after, current=msgspec.structs.replace(after.current, generation=change.now.generation))


def _transact(
    store: state.Store, record: state.Record, after: state.Record, change: RuleChange, plan: Plan, step: ChangeStep, known: Mapping[str, int],
    report: Report,
) -> list[transaction.Left]:
    assert after.current is not None
    journal = Journal(store.directory)
    now = change.now
    journal.begin(Intent("apply", plan.generation, after.current.bundle, now.bundle, now.bindings, now.bindings, now.boot, in_place=True))

    def commit() -> None:
        ledger = _ledger(step, change, record.retired, known)
        store.write_record(msgspec.structs.replace(after, retired=ledger))

    try:
        xdp_changes.claim(step.context, step.nic, {rule.name: known[rule.name] for rule in _new(change)})
        return transaction.run(plan.ordered(), journal, commit, report)
    except (transaction.TransactionFailed, StepError) as failure:
        if not getattr(failure, "left", ()):
            with suppress(state.StateError):
                journal.close()
        raise


def _new(change: RuleChange) -> list[changes.Added]:
    """Rules that neither the tables nor the last change had."""
    had = {rule.name for rule in change.before.added}
    return [rule for rule in change.wanted.added if rule.name not in had and rule.name not in change.wanted.gone]


def _ledger(step: ChangeStep, change: RuleChange, ledger: retired.Ledger, known: Mapping[str, int]) -> retired.Ledger:
    """With what the rules counted that left; without those that came back, whose slots go on."""
    left = _left(change.before, change.wanted)
    back = _left(change.wanted, change.before)
    chain = change.wanted.chain
    seen = f"{chain}.seen"
    read = xdp_changes.read_counters(step.context, step.nic, {name: known[name] for name in (*left, seen) if name in known})
    gone = {name: read[name] for name in left if read.get(name, (0, 0))[0]}
    return retired.moved(ledger, "xdp", chain, gone, back, read[seen][0])


def _left(old: Delta, new: Delta) -> set[str]:
    """The names that `old` has and `new` has not. A name may have left the tables and have come again beside them."""
    tables = {*old.gone, *new.gone}

    def has(delta: Delta, name: str) -> bool:
        return name in {rule.name for rule in delta.added} or (name in tables and name not in delta.gone)

    return {name for name in {rule.name for rule in old.added} | set(new.gone) if has(old, name) and not has(new, name)}


def take_back(store: state.Store, context: Context, intent: Intent) -> str:
    """After a crash: what the record says comes into force, whether that is the change or what was before. Raises StepError, StateError."""
    record = store.record()
    now = record.current
    new, old = (store.change(name) for name in (intent.new, intent.old))
    known = new or old
    if now is None or known is None:
        return "nothing of it is installed any more"
    held = store.change(now.bundle) or rules_found.empty(known)
    bound = context._replace(devices=binding.devices(now.bindings))
    ChangeStep(bound, _nic(known), now.generation, held, held).do()
    return "finished it" if now.bundle == intent.new else "took it back, what was installed before is in force"
