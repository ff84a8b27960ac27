"""What settings were before netc first changed them: <state>/settings.json. It gives them back when no policy asks for them any more."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import msgspec

from compiler.bundle import Setting
from runtime.knobs import Value
from runtime.steps import StepError

_FILE = "settings.json"


class Saved(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One knob of one device ("" for the host) and what it read before."""

    device: str
    setting: Setting
    before: int | str | list[int | str]


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
        except msgspec.DecodeError as error:
            mend = "take the file away; then netc no longer knows what the settings were before it"
            raise StepError(f"reading {self.state / _FILE}", f"not as netc wrote it: {error}", mend) from None

    def remember(self, device: str, setting: Setting, before: Value) -> bool:
        """Keep the value unless an older one is kept. True when it was new."""
        kept = self.all()
        key = knob_key(device, setting)
        if key in kept:
            return False
        self._write({**kept, key: Saved(device, setting, before if isinstance(before, int | str) else list(before))})
        return True

    def forget(self, device: str, setting: Setting) -> None:
        kept = self.all()
        if kept.pop(knob_key(device, setting), None) is not None:
            self._write(kept)

    def _write(self, kept: dict[str, Saved]) -> None:
        from runtime.state import write_atomically

        text = json.dumps(msgspec.to_builtins(kept), indent=1, sort_keys=True)
        write_atomically(self.state / _FILE, text.encode() + b"\n")


def knob_key(device: str, setting: Setting) -> str:
    """Names the knob on this host, whatever the policy calls the nic."""
    words = f" {' '.join(map(str, setting.value))}" if setting.group == "ntuple" and isinstance(setting.value, tuple) else ""
    return f"{device}/{setting.group}/{'' if words else setting.key}{words}"
