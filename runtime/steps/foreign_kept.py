"""What netc took over from somebody else and keeps until it is put back: <state>/foreign.json, and pins in <bpffs>/foreign.

Both are written before anything is taken off a device, so that a crash loses nothing. A record says by which generation it was taken over:
an apply that fails puts back what it took over itself, and nothing that an earlier one did.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from runtime import boot
from runtime.context import Context
from runtime.state import write_atomically
from runtime.steps import StepError

_FILE = "foreign.json"


class KeptProgram(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An XDP program that was attached without a link. mode: native, generic, offload. program: its id, which holds while it is pinned."""

    device: str
    ifindex: int
    mode: str
    program: int
    name: str
    generation: int
    boot: str


class KeptQdisc(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A device's root qdisc with all below it: rtnetlink's messages, in the order in which they make it again (backends/tc_dump.py)."""

    device: str
    ifindex: int
    words: str
    messages: tuple[tuple[int, bytes], ...]
    generation: int
    boot: str


class Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file, each by its device."""

    programs: dict[str, KeptProgram] = {}
    qdiscs: dict[str, KeptQdisc] = {}


@dataclass(frozen=True, slots=True)
class Keeper:
    """The file of one state directory, read anew at every call."""

    context: Context

    def all(self) -> Kept:
        """What is kept and can still be put back: nothing outlives a reboot. Raises StepError for a damaged file."""
        path = self.context.state / _FILE
        try:
            kept = msgspec.json.decode(path.read_bytes(), type=Kept)
        except FileNotFoundError:
            return Kept()
        except OSError as error:
            raise StepError(f"reading {path}", error.strerror or str(error)) from None
        except (msgspec.DecodeError, RecursionError) as error:
            mend = "move the file away; then netc no longer knows what it took over from others, and cannot put it back"
            raise StepError(f"reading {path}", f"not as netc wrote it: {error}", mend) from None
        now = boot.boot_id()
        return Kept(
            {device: item for device, item in kept.programs.items() if item.boot == now},
            {device: item for device, item in kept.qdiscs.items() if item.boot == now},
        )

    def put_program(self, item: KeptProgram) -> None:
        kept = self.all()
        self._write(Kept({**kept.programs, item.device: item}, kept.qdiscs))

    def put_qdisc(self, item: KeptQdisc) -> None:
        kept = self.all()
        self._write(Kept(kept.programs, {**kept.qdiscs, item.device: item}))

    def forget_program(self, device: str) -> None:
        """The record goes before its pin: a pin without a record is nothing, a record without its pin could not be put back."""
        kept = self.all()
        if device in kept.programs:
            self._write(Kept({name: item for name, item in kept.programs.items() if name != device}, kept.qdiscs))
        pin = self.pin(device)
        pin.unlink(missing_ok=True)
        if pin.parent.is_dir() and not any(pin.parent.iterdir()):
            pin.parent.rmdir()

    def forget_qdisc(self, device: str) -> None:
        kept = self.all()
        if device in kept.qdiscs:
            self._write(Kept(kept.programs, {name: item for name, item in kept.qdiscs.items() if name != device}))

    def pin(self, device: str) -> Path:
        """Where a device's program is pinned (bpffs refuses dots)."""
        return self.context.bpffs / "foreign" / (device.replace(".", "~") + "-xdp")

    def _write(self, kept: Kept) -> None:
        path = self.context.state / _FILE
        if kept == Kept():
            path.unlink(missing_ok=True)
            return
        write_atomically(path, msgspec.json.encode(kept) + b"\n")
