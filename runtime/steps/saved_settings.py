"""What settings were before netc first changed them: <state>/settings.json. It gives them back when no policy asks for them any more."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import msgspec

from compiler.bundle import Setting
from runtime.knobs import Value
from runtime.steps import StepError
from runtime.steps.queue_settings import PER_QUEUE, is_only_kept, joined

_FILE = "settings.json"


class Saved(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One knob of one device ("" for the host) and what it read before. took: what the driver made of `asked`, where it rounded."""

    device: str
    setting: Setting
    before: int | str | list[int | str]
    asked: int | str | None = None
    took: int | str | None = None


@dataclass(frozen=True, slots=True)
class SavedSettings:
    """The file, read anew at every call: steps run in one process, and a crash between two must leave it true."""

    state: Path

    def all(self) -> dict[str, Saved]:
        """Raises StepError when the file is not as netc wrote it."""
        try:
            data = (self.state / _FILE).read_bytes()
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise StepError(f"reading {self.state / _FILE}", error.strerror or str(error)) from None
        try:
            return msgspec.json.decode(data, type=dict[str, Saved])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            mend = "take the file away; then netc no longer knows what the settings were before it"
            raise StepError(f"reading {self.state / _FILE}", f"not as netc wrote it: {error}", mend) from None

    def get(self, device: str, setting: Setting) -> Saved | None:
        return self.all().get(knob_key(device, setting))

    def put(self, device: str, setting: Setting, before: Value) -> None:
        """Keep the value in place of what is kept."""
        self._put(knob_key(device, setting), Saved(device, setting, before if isinstance(before, int | str) else list(before)))

    def rounded(self, device: str, setting: Setting, asked: int | str, took: int | str) -> None:
        """Beside what is kept: what the driver made of a value, so that it is not taken for drift."""
        if (saved := self.get(device, setting)) is not None:
            self._put(knob_key(device, setting), msgspec.structs.replace(saved, asked=asked, took=took))

    def _put(self, key: str, saved: Saved) -> None:
        kept = self.all()
        if kept.get(key) != saved:
            self._write({**kept, key: saved})

    def remember(self, device: str, setting: Setting, before: Value) -> None:
        """Keep the value unless an older one is kept; of queues that came since, what they have now."""
        old = self.get(device, setting)
        if old is None:
            self.put(device, setting, before)
        elif setting.group in PER_QUEUE:
            self.put(device, old.setting if is_only_kept(setting) else setting, joined(old.before, before))

    def go_back(self, device: str, setting: Setting, to: Saved | None) -> None:
        """Keep what `get` gave before."""
        if to is None:
            self.forget(device, setting)
        else:
            self._put(knob_key(device, to.setting), to)

    def forget(self, device: str, setting: Setting) -> None:
        kept = self.all()
        if kept.pop(knob_key(device, setting), None) is not None:
            self._write(kept)

    def keeps(self, device: str, group: str) -> bool:
        """Is a setting of this group still netc's?"""
        return any(saved.device == device and saved.setting.group == group for saved in self.all().values())

    def _write(self, kept: dict[str, Saved]) -> None:
        from runtime.state import write_atomically

        text = json.dumps(msgspec.to_builtins(kept), indent=1, sort_keys=True)
        write_atomically(self.state / _FILE, text.encode() + b"\n")


def knob_key(device: str, setting: Setting) -> str:
    """Names the knob on this host, whatever the policy calls the nic."""
    words = f" {' '.join(map(str, setting.value))}" if setting.group == "ntuple" and isinstance(setting.value, tuple) else ""
    return f"{device}/{setting.group}/{'' if words else setting.key}{words}"
