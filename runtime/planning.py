"""Gathers what a plan says: the steps, the differences in the policy's words, drift, disruptions, windows. And saves it. Reads only."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from compiler import bundle as bundles
from compiler.bundle import Bundle
from runtime import apply, disruption, live, plan_diff, plan_file, plan_windows, state, verify
from runtime.context import Context
from runtime.plan_view import View
from runtime.verify import Finding

if TYPE_CHECKING:
    from runtime.apply import Change
    from runtime.plan import Plan


def view(store: state.Store, context: Context, change: Change) -> View:
    """The plan of a change as it would be applied now. Raises what runtime.apply.plan_change raises."""
    record = store.record()
    current = state.installed_here(record)
    bundle = apply.admitted(change.data) if change.data is not None else None
    if apply.nothing_to_do(store, context, record, change):
        return View(bundle, None)
    planned, bound = apply.plan_change(store, context, change)
    devices = {device.nic: device.name for device in bound.devices}
    entries = [*plan_diff.settings(planned.steps, planned.old), *plan_diff.differences(planned.old, planned.new, devices)]
    found = drift(store, context, current)
    return View(
        bundle, planned, entries, found, disruption.found(planned.steps), plan_windows.windows(planned), since(current),
        notes=_notes(planned, record, current, bool(entries), bool(found)),
    )  # fmt: skip


def drift(store: state.Store, context: Context, current: state.Installed | None) -> list[Finding]:
    """What of the installed policy is no longer as it was applied, without what is only preferred."""
    if current is None:
        return []
    bound = apply.with_devices(context, current.bindings, {})
    return [item for item in verify.drift(bound, store.bundle(current.bundle), current.generation) if not verify.warns(item)]


def since(current: state.Installed | None) -> str:
    """What is installed, and since when."""
    if current is None:
        return ""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(current.when))
    return f"number {current.number} ({current.policy}, {when})"


def _notes(planned: Plan, record: state.Record, current: state.Installed | None, changes: bool, drifted: bool) -> list[str]:
    if current is None and record.current is not None:
        return [f"a reboot took {record.current.policy} off: nothing of netc is in the kernel"]
    if not changes and not drifted and planned.steps:
        return ["no rule, set, class or setting differs: the same policy, compiled anew or bound anew"]
    return []


def save(path: Path, store: state.Store, context: Context, change: Change, shown: View) -> None:
    """Write the plan file. Raises StateError where it cannot be written, MovedOnError where the host changed while it was looked at."""
    assert change.data is not None and shown.bundle is not None
    bundle: Bundle = shown.bundle
    seen = apply.seen_now(store, context, change)
    if shown.planned is not None and seen.steps != tuple(step.text for step in shown.planned.ordered()):
        raise live.MovedOnError("the host changed while the plan was made; nothing was saved\n  = help: make it again")
    saved = plan_file.Saved(
        netc=bundle.netc, made=int(time.time()), policy=bundle.policy, target=plan_file.target_of(bundle), bindings=dict(change.bindings),
        take_over=change.take_over,
        live=seen, bundle=bundles.identity(change.data),
    )  # fmt: skip
    state.write_atomically(path, plan_file.encode(saved, change.data))
