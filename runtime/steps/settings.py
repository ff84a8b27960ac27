"""NIC and host settings as steps: read, set, read back; the undo writes what was read before.

A setting that already holds has no step. One that the device refuses stops the apply with the device's own words, unless it is
preferred: then it is skipped and `skipped` says why. What an earlier policy set and this one does not mention goes back to what it was.
"""

from __future__ import annotations

from compiler.bundle import Bundle, Setting
from runtime.context import Context
from runtime.knobs import Knob, Refusal, Value, knob
from runtime.steps import Step, StepError
from runtime.steps.saved_settings import SavedSettings, knob_key

# Channels reset RSS tables and queue files in many drivers, so they come first; flow rules need the queues.
ORDER = ("require", "channels", "ring", "rss", "hash", "ntuple", "vlan", "feature", "priv-flag", "coalesce", "pause", "irq", "xps", "rps", "sysctl")


class SettingStep:
    """Turns one knob. `saved` (after do): {"before": value} or None; `skipped`: (setting, words) of a preferred one that is not to be had."""

    phase = "stage"

    def __init__(self, context: Context, setting: Setting, turn: Knob, wanted: Value | None = None) -> None:
        """wanted: the very value to write (restoring), else the setting's own is resolved when the step runs."""
        self.setting, self._knob, self._exact = setting, turn, wanted
        self._kept = SavedSettings(context.state)
        self._device = device_name(context, setting)
        self._newly_kept = False
        self.saved: dict[str, Value] | None = None
        self.skipped: list[tuple[Setting, str]] = []
        self.disruptive = turn.outage
        self.text = f"{place(setting)}: {'put back to ' + show(wanted) if wanted is not None else 'set to ' + show(setting.value)}"

    def do(self) -> None:
        try:
            self._turn()
        except Refusal as refusal:
            if not self.setting.prefer:
                raise refusal_error(self.setting, refusal) from None
            self._skip(refusal.words)

    def undo(self) -> None:
        if self.saved is None:
            return
        before, self.saved = self.saved["before"], None
        try:
            if self._knob.read() != before:  # a refused write changed nothing, and writing again would be refused again
                self._knob.write(before)
        except Refusal as refusal:
            raise StepError(f"putting {place(self.setting)} back to {show(before)}", refusal.words, refusal.mend) from None
        if self._newly_kept:
            self._kept.forget(self._device, self.setting)
        if self._exact is not None:
            self._kept.remember(self._device, self.setting, self._exact)

    def check(self) -> None:
        if self.skipped:
            return
        try:
            now, wanted = self._knob.read(), self._wanted()
        except Refusal as refusal:
            raise refusal_error(self.setting, refusal) from None
        if not self._holds(now, wanted):
            mend = "something else changes it too; find it, or take the setting out of the policy"
            raise StepError(place(self.setting), f"is {show(now)}, not {show(wanted)}", mend)

    def _holds(self, now: Value, wanted: Value) -> bool:
        """What was put back queue by queue stays right when the queues themselves are put back after it, and there are more of them."""
        if self._exact is not None and self._knob.after and isinstance(now, list) and isinstance(wanted, list):
            return all(a == b for a, b in zip(now, wanted, strict=False))
        return now == wanted

    def _wanted(self) -> Value:
        return self._exact if self._exact is not None else self._knob.resolve(self.setting.value)

    def _turn(self) -> None:
        before, wanted = self._knob.read(), self._wanted()
        if before == wanted:
            if self._exact is not None:
                self._kept.forget(self._device, self.setting)
            return
        if self._exact is None:
            self._newly_kept = self._kept.remember(self._device, self.setting, before)
        self.saved = {"before": before}
        try:
            self._knob.write(wanted)
            if (now := self._knob.read()) != wanted:
                raise Refusal(f"taken without a complaint, but it reads back {show(now)} instead of {show(wanted)}")
        except Refusal:
            self.undo()
            raise
        if self._exact is not None:
            self._kept.forget(self._device, self.setting)

    def _skip(self, words: str) -> None:
        self.skipped = [(self.setting, words)]
        self.text = f"{place(self.setting)}: skipped, {words}"


class SkippedSetting:
    """A preferred setting of which the device said beforehand that it cannot be had. Changes nothing; the plan shows it."""

    phase, disruptive = "stage", ""
    saved = None

    def __init__(self, setting: Setting, words: str) -> None:
        self.setting = setting
        self.skipped = [(setting, words)]
        self.text = f"{place(setting)}: skipped, {words}"

    def do(self) -> None:
        """Nothing to do."""

    def undo(self) -> None:
        """Nothing to undo."""

    def check(self) -> None:
        """Nothing to check."""


def steps(context: Context, new: Bundle | None, old: Bundle | None, generation: int) -> list[Step]:
    """What has to change for `new` to hold; with `new` None everything goes back. Raises StepError for a setting that cannot be had.

    What netc changed before is known from the state directory, not from `old`: it is true also after a crash.
    """
    wanted = sorted(new.settings if new else (), key=_rank)
    keys = {knob_key(device_name(context, setting), setting) for setting in wanted}
    made: list[Step] = []
    for saved in sorted(SavedSettings(context.state).all().values(), key=lambda saved: _rank(saved.setting), reverse=True):
        if knob_key(saved.device, saved.setting) not in keys and (step := _restore(context, saved.device, saved.setting, saved.before)):
            made.append(step)
    changed: set[str] = {step.setting.group for step in made if isinstance(step, SettingStep)}
    for setting in wanted:
        if step := _plan(context, setting, changed):
            made.append(step)
            if isinstance(step, SettingStep):
                changed.add(setting.group)
    return made


def skipped(made: list[Step]) -> list[tuple[Setting, str]]:
    """Every preferred setting that was not to be had, with the device's words."""
    return [item for step in made for item in getattr(step, "skipped", ())]


def device_name(context: Context, setting: Setting) -> str:
    """The device that a setting's nic is bound to; "" for the host. Raises StepError."""
    if not setting.nic:
        return ""
    try:
        return context.device(setting.nic).name
    except KeyError:
        raise StepError(place(setting), f"nic {setting.nic} is bound to no device", f"bind it: --nic {setting.nic}=DEVICE") from None


def place(setting: Setting) -> str:
    """A setting and where it was written: wan ring rx (edge.netc:31)."""
    return f"{setting.nic or 'host'} {setting.group} {setting.key} ({setting.file}:{setting.line})"


def show(value: Value | tuple[int | str, ...]) -> str:
    """A value for people; a queue that no CPU is named for shows as none."""
    return (", ".join(str(item) or "none" for item in value) or "none") if isinstance(value, list | tuple) else str(value)


def refusal_error(setting: Setting, refusal: Refusal) -> StepError:
    written = setting.text or f"{setting.group} {setting.key}"
    mend = refusal.mend or f"write `prefer {written.removeprefix('prefer ')}` to go on without it"
    return StepError(place(setting), refusal.words, mend)


def _plan(context: Context, setting: Setting, changed: set[str]) -> Step | None:
    """The step for one setting; None when it holds already. Where an earlier step may change what is read, the step decides when it runs."""
    try:
        turn = knob(context, setting)
        step = SettingStep(context, setting, turn)
        if changed.isdisjoint(turn.after) and turn.read() == turn.resolve(setting.value):
            return None
        turn.resolve(setting.value)
        return step
    except Refusal as refusal:
        if setting.prefer:
            return SkippedSetting(setting, refusal.words)
        raise refusal_error(setting, refusal) from None


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


def _rank(setting: Setting) -> tuple[int, str, str]:
    return ORDER.index(setting.group) if setting.group in ORDER else len(ORDER), setting.nic, setting.key
