"""Which XDP program of somebody else's is on a device: whose it is by the looks of it, and whether netc can take its place at all.

A program on somebody's bpf_link stays where it is: only its owner can take it off (the kernel refuses everyone else).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from compiler.bundle import NIC_HOOK
from runtime.backends import bpf, bpf_others, link
from runtime.context import Context, Device
from runtime.steps import StepError
from runtime.steps.foreign_kept import Keeper

_IP_LINK = {"native": "xdpdrv", "generic": "xdpgeneric", "offload": "xdpoffload"}
_NEEDS = "taking over needs CAP_SYS_ADMIN (a program can be had by its id with nothing less): run it as root with all capabilities"


def refuse(text: str, device: Device, program: int = 0) -> StepError:
    """Somebody else's program, or the one that is there: named with all that can be known of it, and what to do."""
    seen = link.get(device.name)
    program = program or seen.xdp_program
    mode = seen.xdp_mode_of(program) or seen.xdp
    said = bpf_others.origin_of(program)
    words = f"{device.name} already runs XDP {said.words if said else f'program {program}'} ({mode}), which is not netc's{_whose(said)}"
    by = _link_of(device, program)
    if by is not None:
        held = "; ".join(bpf_others.holders(by.id)) or "whoever made it"
        return StepError(text, f"{words}; it is on bpf_link {by.id}, held by {held}", "end what holds the link: no other program can take its place until then")
    slot = _IP_LINK[mode] if mode in _IP_LINK and (mode == "offload" or seen.xdp == "several") else "xdp"
    mend = f"take it off first (ip link set dev {device.name} {slot} off), write `xdp none`, or replace it until `netc remove`: --take-over"
    return StepError(text, words, mend)


def _whose(said: bpf_others.Origin | None) -> str:
    """By the looks of it."""
    if said is not None and said.name == "xdp_dispatcher":
        return "; by its name it is libxdp's dispatcher (xdp-loader, xdp-tools), which runs other programs in turn: xdp-loader status"
    return ""


def found(context: Context, device: Device, generation: int) -> int:
    """The program that this generation takes over: kept by it already, or there to be taken. 0: none."""
    kept = Keeper(context).all().programs.get(device.name)
    if kept is not None and kept.generation == generation:
        return kept.program
    if not context.take_over:
        return 0
    theirs = others(context, device)
    if not theirs:
        return 0
    text = f"take over {device.name}"
    if len(theirs) > 1:
        raise StepError(text, f"XDP programs of others run there in several modes at once: {', '.join(map(str, theirs))}", "take all but one off first (ip link set dev DEVICE xdpoffload off)")
    with opened(text, theirs[0]):
        if _link_of(device, theirs[0]) is not None:
            raise refuse(text, device, theirs[0])
    if kept is not None:
        raise StepError(text, f"program {kept.program} is kept for it already, and {theirs[0]} is another one", "take the policy off first: netc remove")
    return theirs[0]


def others(context: Context, device: Device) -> list[int]:
    """The XDP programs on a device that are not netc's, in whatever mode."""
    own = set(_own(context))
    return [program for program in link.get(device.name).xdp_programs.values() if program not in own]


def _own(context: Context) -> Iterator[int]:
    """The programs that netc's links run."""
    from runtime.steps import xdp_pins

    directory = xdp_pins.links(context)
    for path in sorted((*directory.glob("*-xdp"), *directory.glob(f"*-{NIC_HOOK}"))) if directory.is_dir() else ():
        with xdp_pins.opened_if_there(path) as found:
            if found is not None:
                yield bpf.link_info(found).prog_id


def _link_of(device: Device, program: int) -> bpf_others.OtherLink | None:
    try:
        return bpf_others.xdp_link(device.ifindex, program)
    except bpf.BpfError:
        return None  # without CAP_SYS_ADMIN nobody tells


@contextmanager
def opened(text: str, program: int) -> Iterator[int]:
    try:
        descriptor = bpf.prog_by_id(program)
    except bpf.BpfError as error:
        raise StepError(text, str(error), _NEEDS if error.errno == errno.EPERM else "apply again") from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)
