"""Somebody else's XDP program on a device of the policy: recognised, named, and with --take-over kept and put back.

Taking over, in the order of an apply:  keep (record, pin) → close the device → their program off → netc's on → open
Putting back, where netc leaves:        close → netc's off → theirs on → open → forget
What is there, and whether it can be taken at all: foreign_program.py.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from runtime import boot
from runtime.backends import bpf, bpf_others, link, xdp_netlink
from runtime.backends.netlink import NetlinkError
from runtime.context import Context, Device
from runtime.steps import Step, StepError, foreign_gate, foreign_program
from runtime.steps.foreign_kept import Keeper, KeptProgram


def taking(context: Context, device: Device, generation: int) -> list[Step]:
    """The step that takes a foreign program off, if this generation does that or did it before a crash."""
    found = foreign_program.found(context, device, generation)
    return [TakeOff(context, device, generation, found)] if found else []


def leaving(context: Context, devices: list[str]) -> tuple[list[Step], list[Step]]:
    """Steps before and behind the end of netc's programs on these devices, where a program of somebody else's is kept."""
    kept = Keeper(context).all().programs
    mine = [kept[name] for name in devices if name in kept]
    before: list[Step] = [Close(Device("", item.device, item.ifindex)) for item in mine if _is_there(item)]
    return before, [*(PutBack(context, item) for item in mine), *(Forget(context, item) for item in mine)]


@dataclass(slots=True)
class TakeOff:
    """Their program is kept and goes, once netc's is ready; with the gate closed until netc's is on."""

    context: Context
    device: Device
    generation: int
    program: int
    phase: str = "flip"
    flips: str = "xdp"
    of_others: bool = True

    @property
    def text(self) -> str:
        return f"take over {self.device.name} from XDP program {self.program}, which is kept for `netc remove`"

    def do(self) -> None:
        seen = link.get(self.device.name)
        mode = seen.xdp_mode_of(self.program)
        if not mode:
            raise StepError(self.text, f"program {seen.xdp_program} runs there by now", "see what changed it, then apply again")
        with foreign_program.opened(self.text, self.program) as program:
            try:
                self._keep(program, mode)
                foreign_gate.close(self.device)
                _netlink(self.text, xdp_netlink.detach, self.device.ifindex, program, mode)
            except BaseException:
                self.undo()
                raise

    def _keep(self, program: int, mode: str) -> None:
        keeper = Keeper(self.context)
        pin = keeper.pin(self.device.name)
        name = bpf_others.origin(program).name
        try:
            pin.parent.mkdir(mode=0o700, exist_ok=True)
            pin.unlink(missing_ok=True)  # of an attempt that died before its record
            bpf.pin(program, pin)
        except OSError as error:
            raise StepError(self.text, f"it cannot be kept in {pin.parent}: {error}") from None
        keeper.put_program(KeptProgram(self.device.name, self.device.ifindex, mode, self.program, name, self.generation, boot.boot_id()))

    def undo(self) -> None:
        item = Keeper(self.context).all().programs.get(self.device.name)
        if item is not None and item.generation == self.generation:
            put_back(self.context, item)
            Keeper(self.context).forget_program(self.device.name)
        foreign_gate.open_again(self.device)

    def check(self) -> None:
        """netc's own program, which is there now, is checked by its own step."""


@dataclass(slots=True)
class Open:
    """netc's program judges: the gate goes."""

    device: Device
    phase: str = "flip"
    flips: str = "xdp"

    @property
    def text(self) -> str:
        return f"open {self.device.name} again"

    def do(self) -> None:
        foreign_gate.open_again(self.device)

    def undo(self) -> None:
        foreign_gate.close(self.device)

    def check(self) -> None:
        if foreign_gate.is_closed(self.device):
            raise StepError(self.text, "it is still closed", "apply again")


@dataclass(slots=True)
class Close:
    """Before netc's program goes and theirs comes back."""

    device: Device
    phase: str = "flip"
    flips: str = "xdp off"

    @property
    def text(self) -> str:
        return f"close {self.device.name} until the XDP program from before netc is back"

    def do(self) -> None:
        foreign_gate.close(self.device)

    def undo(self) -> None:
        foreign_gate.open_again(self.device)

    def check(self) -> None:
        """It is open again when the steps are checked."""


@dataclass(slots=True)
class PutBack:
    """Their program runs again, in its mode."""

    context: Context
    item: KeptProgram
    phase: str = "flip"
    flips: str = "xdp off"
    of_others: bool = True

    @property
    def text(self) -> str:
        return f"put XDP program {self.item.program} ({self.item.name or 'without a name'}) back on {self.item.device} ({self.item.mode})"

    def do(self) -> None:
        if not _is_there(self.item):
            return  # the device has gone, and took what was on it along
        put_back(self.context, self.item)
        foreign_gate.open_again(self._device())

    def undo(self) -> None:
        if not _is_there(self.item):
            return
        foreign_gate.close(self._device())
        if link.get(self.item.device).xdp_mode_of(self.item.program):
            with _pinned(self.context, self.item) as program:
                _netlink(self.text, xdp_netlink.detach, self.item.ifindex, program, self.item.mode)

    def check(self) -> None:
        if _is_there(self.item) and not (seen := link.get(self.item.device)).xdp_mode_of(self.item.program):
            raise StepError(self.text, f"program {seen.xdp_program} runs there", "see what changed it")

    def _device(self) -> Device:
        return Device("", self.item.device, self.item.ifindex)


@dataclass(slots=True)
class Forget:
    """What was put back is no longer netc's to keep."""

    context: Context
    item: KeptProgram
    phase: str = "clean"

    @property
    def text(self) -> str:
        return f"forget XDP program {self.item.program} of {self.item.device}, which is back"

    def do(self) -> None:
        Keeper(self.context).forget_program(self.item.device)

    def undo(self) -> None:
        """Cleaning is never undone."""

    def check(self) -> None:
        """A clean step is not part of what has to hold."""


def put_back(context: Context, item: KeptProgram) -> None:
    """Attach a kept program again, unless it runs. Raises StepError, and then it is still kept."""
    if not _is_there(item) or link.get(item.device).xdp_mode_of(item.program):
        return
    with _pinned(context, item) as program:
        _netlink(f"put XDP program {item.program} back on {item.device}", xdp_netlink.attach, item.ifindex, program, item.mode)


def _is_there(item: KeptProgram) -> bool:
    """Is the device still the one that it was taken from?"""
    try:
        return link.get(item.device).ifindex == item.ifindex
    except NetlinkError as error:
        if error.errno == errno.ENODEV:
            return False
        raise StepError(f"read {item.device}", error.words) from None


@contextmanager
def _pinned(context: Context, item: KeptProgram) -> Iterator[int]:
    pin = Keeper(context).pin(item.device)
    try:
        descriptor = bpf.get_pinned(pin)
    except bpf.BpfError as error:
        raise StepError(f"open what was kept of {item.device}", str(error), "start what had attached it again") from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _netlink(text: str, call: Callable[[int, int, str], None], ifindex: int, program: int, mode: str) -> None:
    try:
        call(ifindex, program, mode)
    except NetlinkError as error:
        raise StepError(text, error.words) from None
