"""Which steps bring the NIC's and the host's settings to what a policy asks for.

A setting that already holds has no step. One that the device refuses stops the apply with the device's own words, unless it is
preferred: then it is skipped and `skipped` says why. What an earlier policy set and this one does not mention goes back to what it was.
"""

from __future__ import annotations

import socket

from compiler.bundle import Bundle, Setting
from compiler.tables import offloads
from runtime.context import Context
from runtime.knobs import Refusal, Value, knob
from runtime.steps import Step, implied, queue_settings, settings_order
from runtime.steps.saved_settings import Saved, SavedSettings, knob_key
from runtime.steps.setting_step import ForgetStep, SettingStep, SkippedSetting
from runtime.steps.setting_words import device_name, refusal_error

# Channels and rings reset tables, rules and queue files in many drivers, and so do features and flags: they come first. Contexts need the hash,
# flow rules the queues and contexts.
ORDER = (
    "require", "channels", "ring", "vlan", "feature", "priv-flag", "rss", "hash", "rss-context", "ntuple",
    "coalesce", "pause", "link", "napi", "irq", "xps", "rps", "rfs", "queue", "rfs-host", "buffers", "sysctl",
)  # fmt: skip


def is_there(device: str) -> bool:
    """Is there a device of this name in this network namespace?"""
    return device in {name for _, name in socket.if_nameindex()}


def steps(context: Context, new: Bundle | None, old: Bundle | None, generation: int) -> list[Step]:
    """What has to change for `new` to hold; with `new` None everything goes back. Raises StepError for a setting that cannot be had.

    What netc changed before is known from the state directory, not from `old`: it is true also after a crash.
    """
    wanted = sorted((*new.settings, *implied.settings(new)) if new else (), key=_rank)
    keys = {knob_key(device_name(context, setting), setting) for setting in wanted if not _left_by_an_earlier_policy(context, setting)}
    leaving = _leaving(context, keys)
    made = _restores(context, [saved for saved in leaving if not queue_settings.is_only_kept(saved.setting)])
    changed: set[str] = {step.setting.group for step in made if isinstance(step, SettingStep)}
    for setting in wanted:
        if step := _plan(context, setting, changed):
            made.append(step)
            if isinstance(step, SettingStep):
                changed.add(setting.group)
    gone = [saved for saved in leaving if new is None and saved.device and not is_there(saved.device)]
    if gone:
        made.append(ForgetStep(context, gone))
    if "channels" in changed or not any(setting.group == "channels" for setting in wanted):
        made += _restores(context, [saved for saved in leaving if queue_settings.is_only_kept(saved.setting)])
    settings_order.place(context, new, [step for step in made if isinstance(step, SettingStep)])
    return made


def _left_by_an_earlier_policy(context: Context, setting: Setting) -> bool:
    """Whether a preferred setting cannot be had while its knob still has an earlier policy's value: nobody asks for that one any more."""
    if not setting.prefer or SavedSettings(context.state).get(device_name(context, setting), setting) is None:
        return False
    try:
        turn = knob(context, setting)
        turn.read()
    except Refusal:
        return False  # there is no such knob any more, and nothing that could be given back
    try:
        turn.resolve(setting.value)
    except Refusal:
        return True
    return False


def _leaving(context: Context, wanted: set[str]) -> list[Saved]:
    """What netc changed and no setting asks for any more: the last first, and what queues have after the queues themselves.

    Offloads that others need go first all the same: while they are off, the kernel does not take the others back.
    """
    every = sorted(SavedSettings(context.state).all().items(), key=lambda item: _rank(item[1].setting))
    kept = [saved for group in reversed((*ORDER, "")) for key, saved in _of(group, every) if key not in wanted]
    with_queues = {saved.device for saved in kept if saved.setting.group == "channels"}

    def late(saved: Saved) -> bool:
        return saved.setting.group in queue_settings.PER_QUEUE or (saved.setting.group == "rss" and saved.device in with_queues)

    return sorted(kept, key=late)


def _of(group: str, every: list[tuple[str, Saved]]) -> list[tuple[str, Saved]]:
    """Those of a group ("": of none that is known), in the order in which they are given back."""
    found = [item for item in every if (item[1].setting.group if item[1].setting.group in ORDER else "") == group]
    return found if group == "feature" else found[::-1]


def _restores(context: Context, leaving: list[Saved]) -> list[Step]:
    steps = (_restore(context, saved.device, saved.setting, saved.before) for saved in leaving)
    return [step for step in steps if step is not None]


def skipped(made: list[Step]) -> list[tuple[Setting, str]]:
    """Every preferred setting that was not to be had, with the device's words."""
    return [item for step in made for item in getattr(step, "skipped", ())]


def _plan(context: Context, setting: Setting, changed: set[str]) -> Step | None:
    """The step for one setting; None when it holds already. Where an earlier step may change what is read, the step decides when it runs."""
    try:
        turn = knob(context, setting)
        step = SettingStep(context, setting, turn)
        now, wanted = step.reading()
        return None if now == wanted and changed.isdisjoint(turn.after) else step
    except Refusal as refusal:
        if setting.prefer:
            return SkippedSetting(setting, refusal.words)
        raise refusal_error(setting, refusal, device_name(context, setting)) from None


def _restore(context: Context, device: str, setting: Setting, before: Value) -> Step | None:
    """Give a knob back what it was before netc; None when its device is not of this apply."""
    nic = next((bound.nic for bound in context.devices if bound.name == device), None)
    if device and nic is None:
        return None
    moved = Setting(nic or "", setting.group, setting.key, setting.value, True, setting.file, setting.line, setting.text)
    try:
        return SettingStep(context, moved, knob(context, moved), before)
    except Refusal as refusal:
        return SkippedSetting(moved, refusal.words)


def _rank(setting: Setting) -> tuple[int, str, bool, str]:
    late = setting.group == "feature" and not offloads.is_first(setting.key)
    return ORDER.index(setting.group) if setting.group in ORDER else len(ORDER), setting.nic, late, setting.key
