"""The program that a NIC runs itself: loaded into it with its counters, before anything is flipped. It goes on and off as any other (xdp_attach).

It only drops what the policy drops, and the host judges whatever it passes by the whole policy. So a NIC's and a host's program of two generations
give each packet the whole verdict of one of them, and need not be flipped in one instant. While a generation is on trial no NIC has a program:
nobody could take it off at the deadline.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path

from compiler.bundle import NIC_HOOK, OFFLOAD_MAP, Bundle, Code, Offload
from runtime.backends import bpf
from runtime.context import Context, Device
from runtime.steps import Step, StepError, xdp_pins
from runtime.steps.xdp_attach import AttachStep, DetachStep
from runtime.steps.xdp_trial import SettleStep

MODE = "offload"
_MEND = "apply the policy again"
_NEEDS = "memory of a NIC needs CAP_SYS_ADMIN: run it as root with all capabilities; for `netc boot`: systemctl edit netc, [Service] CapabilityBoundingSet=CAP_SYS_ADMIN"
_REFUSED = "the NIC has the last word on what it can run: write `xdp native` or `xdp generic`, and the host judges alone"


def code_of(item: Offload) -> Code:
    """The program as the steps know programs."""
    return Code(item.name, item.nic, NIC_HOOK, item.code, (OFFLOAD_MAP,), frags=False)


def codes(bundle: Bundle | None) -> list[Code]:
    """The programs of a bundle that NICs run."""
    return [code_of(item) for item in (bundle.offloads if bundle else ())]


def loading(context: Context, new: Bundle, old: Bundle | None, generation: int) -> list[Step]:
    """A step for each NIC that runs a program of `new`."""
    known = {xdp_pins.nic_map_path(context, item) for item in (old.offloads if old else ())}
    return [LoadNicStep(context, item, generation, xdp_pins.nic_map_path(context, item) in known) for item in new.offloads]


def on_trial(context: Context, new: Bundle | None, old: Bundle | None, generation: int) -> tuple[list[Step], list[Step]]:
    """NICs run nothing during a trial: the steps before it, and those behind the confirmation."""
    off = [DetachStep(context, code, MODE, flips="fence", before=generation) for code in codes(old)]
    return list(off), [SettleStep(AttachStep(context, code, generation, MODE, False)) for code in codes(new)]


@dataclass(slots=True)
class LoadNicStep:
    """Make the counters in the NIC, or go on with those of the generation before (`known`), and load the program. saved: the map was made."""

    context: Context
    item: Offload
    generation: int
    known: bool
    saved: bool = False
    phase: str = "stage"

    @property
    def text(self) -> str:
        count = len(self.item.counters)
        return f"load {self.item.name} ({len(self.item.code) // 8} instructions) into the NIC {self._device().name}, with {count} counter{'s' * (count > 1)}"

    def do(self) -> None:
        device = self._device()
        try:
            counters = self._counters(device)
            try:
                program = bpf.load_program("xdp", self.item.code, {OFFLOAD_MAP: counters}, self.item.name, offload=device.ifindex)
            finally:
                os.close(counters)
            try:
                bpf.pin(program, self._program())
            finally:
                os.close(program)
        except bpf.BpfError as error:
            self.undo()
            said = f"{os.strerror(error.errno or 0)}\n{error.log}" if error.log else os.strerror(error.errno or 0)
            raise StepError(f"{device.name}: {error.what}", said, _NEEDS if error.errno == errno.EPERM else _REFUSED) from None

    def undo(self) -> None:
        self._program().unlink(missing_ok=True)
        if not self.known:
            self._map().unlink(missing_ok=True)

    def check(self) -> None:
        """The pins are there, and the program is the NIC's and counts where netc reads."""
        device = self._device()
        try:
            with xdp_pins.opened(self._map()) as counters, xdp_pins.opened(self._program()) as program:
                if not self._fits(counters, device):
                    raise StepError(f"counters of {self.item.name}", f"they are not those that netc made in {device.name}", _MEND)
                if bpf.map_info(counters).id not in bpf.prog_maps(program):
                    raise StepError(f"program {self.item.name}", "it does not count where netc reads: the program or its counters were swapped by hand", _MEND)
        except bpf.BpfError as error:
            words = f"{device.name} was made anew, without it" if error.errno == errno.ENODEV else str(error)
            raise StepError(f"program {self.item.name}", words, _MEND) from None

    def _counters(self, device: Device) -> int:
        """The descriptor of the array in the NIC. One that no generation in force goes on with is of an attempt that died."""
        path = self._map()
        if self.known:
            with xdp_pins.opened_if_there(path) as found:
                if found is not None and self._fits(found, device):
                    return os.dup(found)
        path.unlink(missing_ok=True)
        made = bpf.create_map("array", 4, self.item.value_size, self.item.elements, 0, self.item.name, offload=device.ifindex)
        try:
            bpf.pin(made, path)
        except BaseException:
            os.close(made)
            raise
        self.saved = True
        return made

    def _fits(self, fd: int, device: Device) -> bool:
        try:
            if bpf.map_ifindex(fd) != device.ifindex:
                return False
        except bpf.BpfError as error:
            if error.errno != errno.ENODEV:
                raise
            return False
        info = bpf.map_info(fd)
        return (info.type, info.key_size, info.value_size, info.max_entries) == (bpf.MAP_TYPES["array"], 4, self.item.value_size, self.item.elements)

    def _map(self) -> Path:
        return xdp_pins.nic_map_path(self.context, self.item)

    def _program(self) -> Path:
        return xdp_pins.program_path(self.context, self.item.name, self.generation)

    def _device(self) -> Device:
        return self.context.device(self.item.nic)
