"""Steps that packets see: a program goes onto its hook by a pinned bpf_link, or another takes its place in one update.

Each reads its state from the kernel (which program the link runs, which generation has it pinned), so that an undo works in another process
than the do, after a crash.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from compiler.bundle import NIC_HOOK, Code
from runtime import objects
from runtime.backends import bpf, link
from runtime.backends.netlink import NetlinkError
from runtime.context import Context, Device
from runtime.steps import StepError, foreign_program, port_reset, xdp_pins

_XDP = ("xdp", NIC_HOOK)
_FLAGS = {"native": bpf.XDP_FLAGS_DRV, "generic": bpf.XDP_FLAGS_SKB, "offload": bpf.XDP_FLAGS_HW}
_MENDS = {
    errno.EOPNOTSUPP: "the driver has no native XDP, or none as the device is set up now: write `xdp generic`, or `xdp none` for nft alone",
    errno.ERANGE: "the MTU is too large for native XDP on this driver: lower it",
    errno.ENOSPC: "veth needs at least as many receive queues as its peer has transmit queues: set channels",
    errno.EPERM: "run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON",
}

_NO_OFFLOAD = "the NIC takes no program as it is set up now: probe it again (netc probe DEV --try), or write `xdp native`"


def _kept(code: Code, mode: str, device: str) -> AbstractContextManager[list[str]]:
    """A driver may reset its port for a program that goes on or off in it or in the NIC; generic XDP and tcx are the kernel's own."""
    return port_reset.outlived(device, same_queues=True) if device and code.hook in _XDP and mode != "generic" else nullcontext([])


def _elsewhere(ifindex: int, device: Device) -> str:
    """Why a link is not on its device."""
    if not ifindex:
        return f"it is not attached: it was detached by hand, or {device.name} was made anew"
    there = next((name for index, name in socket.if_nameindex() if index == ifindex), f"another device (ifindex {ifindex})")
    return f"it is attached to {there}, not to {device.name}"


@dataclass(slots=True)
class AttachStep:
    """Attach generation N's program, or update the link. mode: native, generic, offload (XDP); `had`: the old bundle has this hook too.

    saved: whether a link was there and was updated. warnings: what the device lost over it and did not get back. trial: not the program itself, but the one that calls it until the trial's end (xdp_trial).
    """

    context: Context
    code: Code
    generation: int
    mode: str
    had: bool
    saved: bool = False
    phase: str = "flip"
    trial: bool = False
    flips: str = "xdp"
    warnings: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        hook = f"xdp {self.mode}" if self.code.hook in _XDP else self.code.hook
        return f"{'replace' if self.had else 'attach'} {self.code.name} on {self._device().name} ({hook}){' on trial' if self.trial else ''}"

    def do(self) -> None:
        device = self._device()
        path = xdp_pins.link_path(self.context, self.code)
        with self._refusals(device), xdp_pins.opened(self._own()) as program:
            with xdp_pins.opened_if_there(path) as found:
                if found is not None and bpf.link_info(found).ifindex == device.ifindex:
                    self._update(found, program)
                    self.saved = True
                    return
            path.unlink(missing_ok=True)  # a link whose device is gone
            with _kept(self.code, self.mode, device.name) as self.warnings:
                made = bpf.link_create(program, device.ifindex, self._attach_type(), _FLAGS[self.mode] if self.code.hook in _XDP else 0)
            try:
                bpf.pin(made, path)
            finally:
                os.close(made)

    def undo(self) -> None:
        """Back to the old generation's program, or off the device."""
        path = xdp_pins.link_path(self.context, self.code)
        with self._refusals(self._device()), xdp_pins.opened_if_there(path) as found:
            if found is None:
                return
            if bpf.link_info(found).ifindex != self._device().ifindex:  # its device has gone, and another has the name
                path.unlink(missing_ok=True)
                return
            if not (self.had or self.saved):
                with _kept(self.code, self.mode, self._device().name):
                    bpf.link_detach(found)
                path.unlink(missing_ok=True)
                return
            with xdp_pins.opened_if_there(self._own()) as own:
                if own is not None and bpf.link_info(found).prog_id == bpf.prog_info(own).id:
                    with self._earlier() as before:
                        bpf.link_update(found, before, own)

    def check(self) -> None:
        device = self._device()
        with self._refusals(device), xdp_pins.opened(xdp_pins.link_path(self.context, self.code)) as found:
            info = bpf.link_info(found)
            with xdp_pins.opened(self._own()) as program:
                wanted = bpf.prog_info(program).id
            if info.ifindex != device.ifindex:
                raise StepError(self.text, _elsewhere(info.ifindex, device), "apply the policy again")
            if info.prog_id != wanted:
                raise StepError(self.text, f"the link runs program {info.prog_id}, not {wanted}", "apply the policy again")
            if self.code.hook in _XDP and self.mode not in (seen := link.get(device.name)).xdp_programs:
                raise StepError(self.text, f"the device runs XDP as {seen.xdp}", f"take it off and apply again (netc remove, netc apply): no update changes the mode of what is attached; or write `xdp {seen.xdp}`")

    def _update(self, found: int, program: int) -> None:
        """One update, only if the link still runs a program of netc's."""
        running = bpf.link_info(found).prog_id
        if running == bpf.prog_info(program).id:
            return
        with self._running(running) as before:
            bpf.link_update(found, program, before)

    @contextmanager
    def _running(self, number: int) -> Iterator[int]:
        """The pinned program with this id."""
        paths = [self._program(generation) for generation in xdp_pins.generations(self.context)]
        for path in (*paths, xdp_pins.root_path(self.context, self.code.name)):
            with xdp_pins.opened_if_there(path) as program:
                if program is not None and bpf.prog_info(program).id == number:
                    yield program
                    return
        raise StepError(self.text, f"the link runs program {number}, which netc did not put there", "take it off, then apply again")

    @contextmanager
    def _earlier(self) -> Iterator[int]:
        """The same program of the newest generation before this one."""
        for generation in xdp_pins.generations(self.context):
            with xdp_pins.opened_if_there(self._program(generation)) as program:
                if program is not None and generation < self.generation:
                    yield program
                    return
        raise StepError(self.text, "the program that ran before is no longer pinned", "apply the policy again")

    def _program(self, generation: int) -> Path:
        return xdp_pins.program_path(self.context, self.code.name, generation)

    def _own(self) -> Path:
        """What the link runs once this is done."""
        return xdp_pins.root_path(self.context, self.code.name) if self.trial else self._program(self.generation)

    def _attach_type(self) -> int:
        return bpf.XDP if self.code.hook in _XDP else objects.HOOKS[self.code.hook][1]

    def _device(self) -> Device:
        try:
            return self.context.device(self.code.nic)
        except KeyError:
            words = f"nic {self.code.nic} is bound to no device"
            raise StepError(f"program {self.code.name}", words, f"add --nic {self.code.nic}=DEVICE") from None

    @contextmanager
    def _refusals(self, device: Device) -> Iterator[None]:
        try:
            yield
        except bpf.BpfError as error:
            raise self._refusal(error, device) from None
        except NetlinkError as error:
            raise StepError(f"read {device.name}", error.words) from None

    def _refusal(self, error: bpf.BpfError, device: Device) -> StepError:
        if error.errno in (errno.EBUSY, errno.EEXIST) and self.code.hook in _XDP:
            return foreign_program.refuse(self.text, device, next(iter(foreign_program.others(self.context, device)), 0))
        mend = _NO_OFFLOAD if self.mode == "offload" and error.errno != errno.EPERM else _MENDS.get(error.errno or 0, "")
        if self.code.hook == "xdp" and self.mode == "native":
            from runtime import driver_hints

            mend = driver_hints.beside(mend, device.name, "xdp")
        return StepError(self.text, f"{error.what}: {os.strerror(error.errno or 0)}", mend)


@dataclass(slots=True)
class DetachStep:
    """A hook that the new bundle does not use: its program comes off, once another stage judges. before: the undo takes a generation before this one (0: any)."""

    context: Context
    code: Code
    mode: str
    phase: str = "flip"
    flips: str = "xdp off"
    before: int = 0
    warnings: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return f"take {self.code.name} off ({'xdp offload' if self.code.hook == NIC_HOOK else self.code.hook})"

    def do(self) -> None:
        path = xdp_pins.link_path(self.context, self.code)
        try:
            with xdp_pins.opened_if_there(path) as found:
                if found is not None and (ifindex := bpf.link_info(found).ifindex):
                    name = next((device.name for device in self.context.devices if device.ifindex == ifindex), "")
                    with _kept(self.code, self.mode, name) as self.warnings:
                        bpf.link_detach(found)
        except bpf.BpfError as error:
            raise StepError(self.text, str(error)) from None
        path.unlink(missing_ok=True)

    def undo(self) -> None:
        """Attach the newest generation that has the program again: programs are only cleaned up after the commit."""
        for generation in xdp_pins.generations(self.context):
            if self.before and generation >= self.before:
                continue
            with xdp_pins.opened_if_there(xdp_pins.program_path(self.context, self.code.name, generation)) as program:
                if program is not None:
                    AttachStep(self.context, self.code, generation, self.mode, False).do()
                    return
        raise StepError(self.text, "the program is no longer pinned", "apply the policy again")

    def check(self) -> None:
        if xdp_pins.link_path(self.context, self.code).exists():
            raise StepError(self.text, "it is still attached")
