"""One NIC or host setting as a step: read, set, read back; the undo writes what was read before."""

from __future__ import annotations

from compiler.bundle import Setting
from runtime.context import Context
from runtime.knobs import Knob, Refusal, Value, contexts
from runtime.knobs.device_files import fitted
from runtime.knobs.host import Sysctl
from runtime.knobs.offloads import OffloadFeature, same
from runtime.knobs.steering import RESETS, fits
from runtime.steps import StepError, port_reset, queue_settings, rounding
from runtime.steps.saved_settings import Saved, SavedSettings
from runtime.steps.setting_words import device_name, place, refusal_error, show

RESETTING = (*RESETS, "pause")  # groups of which a change may take the RSS table and the carrier along


class SettingStep:
    """Turns one knob. `saved` (after do): {"before": value} or None; `skipped`: (setting, words) of a preferred one that is not to be had."""

    def __init__(self, context: Context, setting: Setting, turn: Knob, wanted: Value | None = None) -> None:
        """wanted: the very value to write (restoring), else the setting's own is resolved when the step runs."""
        self.phase, self.flips = "stage", "settings"  # settings_order says where it stands
        self.warnings: list[str] = []
        self._room: dict[int, tuple[int, ...]] = {}
        self.setting, self._knob, self._exact = setting, turn, wanted
        self._context, self._kept = context, SavedSettings(context.state)
        self._device = device_name(context, setting)
        self._kept_before: list[tuple[Setting, Saved | None]] = []
        self._queue_files: list[tuple[Setting, Knob, Value]] = []
        self.saved: dict[str, Value] | None = None
        self.skipped: list[tuple[Setting, str]] = []
        self._instead: SettingStep | None = None
        self.rounded = ""  # "asked 1000, the driver took 1024"
        names_queues = wanted is not None and setting.group in ("ntuple", "rss-context")  # fewer channels are refused while one that goes is named
        self.resets = turn.resets or names_queues  # it comes before the programs do (runtime.plan)
        self.text = f"{place(setting)}: {'put back to ' + show(wanted) if wanted is not None else 'set to ' + show(setting.value)}"

    @property
    def device(self) -> str:
        """The device whose knob this is; "" for the host."""
        return self._device

    @property
    def is_restored(self) -> bool:
        """No policy asks for it any more: it gets the value that it had before netc."""
        return self._exact is not None

    def reading(self) -> tuple[Value, Value]:
        """What the knob reads now, and what it has to read afterwards. Raises Refusal."""
        now = self._knob.read()
        return now, self._wanted(now)

    def do(self) -> None:
        try:
            self._turn()
        except Refusal as refusal:
            if not self.setting.prefer or self.is_restored:  # what was preferred and taken is owed back like anything else
                if self.is_restored and not refusal.mend:  # no policy asks for it: `prefer` is no mend
                    refusal = Refusal(refusal.words, "set it by hand to that value, then do this again")
                raise refusal_error(self.setting, refusal, self._device) from None
            self._skip(refusal.words)
            self._put_back_earlier()

    def undo(self) -> None:
        if self._instead is not None:
            self._instead.undo()
            return
        if self.saved is None:
            self._keep_as_before()
            return
        before, self.saved = self.saved["before"], None
        try:
            if self._knob.read() != before:  # a refused write changed nothing, and writing again would be refused again
                self._write(before)
            port_reset.take_room(self._device, self._room)
            for _, turn, value in self._queue_files:
                if turn.read() != value:
                    turn.write(value)
        except Refusal as refusal:
            raise StepError(f"putting {place(self.setting)} back to {show(before)}", refusal.words, refusal.mend) from None
        self._keep_as_before()

    def check(self) -> None:
        if self.skipped:
            return
        try:
            now = self._knob.read()
            wanted = self._wanted(now)
        except Refusal as refusal:
            raise refusal_error(self.setting, refusal, self._device) from None
        if not self._is(now, wanted):
            mend = "something else changes it too; find it, or take the setting out of the policy"
            raise StepError(place(self.setting), f"is {show(now)}, not {show(wanted)}", mend)

    def _is(self, now: Value, wanted: Value) -> bool:
        """An offload that is given back is asked for again, whether or not what it needs is there."""
        return now == wanted or (self.is_restored and self.setting.group == "feature" and same(now, wanted))

    def _wanted(self, now: Value) -> Value:
        if self._exact is None:
            wanted = self._knob.resolve(self.setting.value)
            kept = self._kept.get(self._device, self.setting)
            return kept.took if kept is not None and kept.took is not None and kept.asked == wanted else wanted
        if self.setting.group == "napi":
            return fitted(self._exact, now)
        if self.setting.group == "rss" and not fits(self._device, self._exact, now):
            return now  # it comes back with the queues that it names
        return queue_settings.fitted(self._exact, now) if self.setting.group in queue_settings.PER_QUEUE else self._exact

    def _turn(self) -> None:
        if isinstance(self._knob, Sysctl):
            self._knob.prepare()
        before = self._knob.read()
        wanted = self._wanted(before)
        self._kept_before = [(self.setting, self._kept.get(self._device, self.setting))]
        if self._is(before, wanted):
            self._given_back(before)
            return
        self._keep(before)
        self.saved = {"before": before}
        try:
            self._write(wanted)
            if not self._is(now := self._knob.read(), wanted):
                self._take(wanted, now)
        except Refusal:
            self.undo()
            raise
        self._given_back(wanted)

    def _take(self, asked: Value, took: Value) -> None:
        """Something else was set than was asked for: a rounding is kept and told, anything else refused."""
        if isinstance(self._knob, OffloadFeature):
            raise self._knob.unmet(asked)
        if self._exact is not None or not rounding.near(self.setting, asked, took) or not isinstance(took, int | str) or not isinstance(asked, int | str):
            mend = f"write {show(took)}, if that will do" if rounding.is_size(self.setting, took) else ""
            raise Refusal(f"taken without a complaint, but it reads back {show(took)} instead of {show(asked)}", mend)
        self._kept.rounded(self._device, self.setting, asked, took)
        self.rounded = rounding.told(asked, took)
        self.text = f"{place(self.setting)}: {self.rounded}"

    def _write(self, value: Value) -> None:
        if self.setting.group not in RESETTING:
            self._knob.write(value)
            return
        if self.setting.group == "channels":
            mine = contexts.every(self._context.state, self._context.device(self.setting.nic))
            port_reset.make_room(self._device, value, [0, *mine] if self._kept.keeps(self._device, "rss") else mine, self._room)
        with port_reset.outlived(self._device) as self.warnings:
            self._knob.write(value)

    def _keep(self, before: Value) -> None:
        """In the state directory, before anything changes: the value, and what the queues have that a change of their number forgets."""
        if self.setting.group == "channels":
            self._queue_files = queue_settings.files(self._context, self.setting)
        kept = [(self.setting, before), *((setting, value) for setting, _, value in self._queue_files)]
        self._kept_before = [(setting, self._kept.get(self._device, setting)) for setting, _ in kept]
        if self._exact is None:
            for setting, value in kept:
                self._kept.remember(self._device, setting, value)

    def _keep_as_before(self) -> None:
        for setting, saved in self._kept_before:
            self._kept.go_back(self._device, setting, saved)

    def _given_back(self, now: Value) -> None:
        """Forget what is given back, unless queues that netc took away have their part of it still to come."""
        if self._exact is None:
            return
        short = self.setting.group in queue_settings.PER_QUEUE and isinstance(now, list) and len(now) < len(_entries(self._exact))
        if self.setting.group == "rss" and now != self._exact:
            return
        if short and self._kept.keeps(self._device, "channels"):
            self._kept.put(self._device, queue_settings.only_kept(self.setting, self.setting.group, self.setting.key), self._exact)
        else:
            self._kept.forget(self._device, self.setting)

    def _put_back_earlier(self) -> None:
        """What is skipped does not stay as an earlier policy had it, which nobody asks for any more."""
        kept = self._kept.get(self._device, self.setting)
        if kept is None:
            return
        self._instead = SettingStep(self._context, self.setting, self._knob, kept.before)
        try:
            self._instead.do()
        except StepError as error:
            self._skip(f"{self.skipped[0][1]}; it stays as the policy before had it: {error.words}")

    def _skip(self, words: str) -> None:
        self.skipped = [(self.setting, words)]
        self.text = f"{place(self.setting)}: skipped, {words}"


class SkippedSetting:
    """A preferred setting of which the device said beforehand that it cannot be had. Changes nothing; the plan shows it."""

    phase = "stage"
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


class ForgetStep:
    """What settings of a device were that is gone: a new device of its name begins with its own."""

    phase = "clean"

    def __init__(self, context: Context, gone: list[Saved]) -> None:
        self._gone, self._kept = gone, SavedSettings(context.state)
        self.text = f"forget what settings of {', '.join(sorted({saved.device for saved in gone}))} were: the device is gone"

    def do(self) -> None:
        for saved in self._gone:
            self._kept.forget(saved.device, saved.setting)

    def undo(self) -> None:
        """Cleaning is never undone."""

    def check(self) -> None:
        """A clean step is not part of what has to hold."""


def _entries(value: Value) -> list[int | str]:
    return value if isinstance(value, list) else []
