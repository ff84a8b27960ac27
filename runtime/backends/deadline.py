"""A BPF program that hands every packet to one of two others: to `trial` until a moment, to `before` from then on, whoever is alive then.

The moment is a word in a map that is mapped into memory, in jiffies (bpf_jiffies64, which the kernel's compiler inlines to one load). A place of the array
that is empty lets packets pass, as no program would. The array's entries live as long as something holds it open, so it has to be pinned.
"""

from __future__ import annotations

import math
import os
import struct
import time
from typing import NamedTuple

from runtime.backends import bpf

TRIAL, BEFORE = 1, 0  # places in the array
NEVER = 2**64 - 1
_MOMENT, _PROGRAMS = 1, 2  # symbolic map ids
_WORD = 8
_MONOTONIC_COARSE = 6  # CLOCK_MONOTONIC_COARSE of include/uapi/linux/time.h, which Python does not name
_PASS = {"xdp": 2, "sched_cls": -1}  # XDP_PASS, TCX_NEXT: include/uapi/linux/bpf.h
_JIFFIES64, _TAIL_CALL = 118, 12  # enum bpf_func_id
_R0, _R1, _R2, _R3, _R6, _R7 = 0, 1, 2, 3, 6, 7


class Root(NamedTuple):
    """Descriptors of the program that goes onto the hook, and of the array with the two others. The caller closes both."""

    program: int
    programs: int


def make_moment() -> int:
    """A map for the moment, already passed. Raises BpfError."""
    return bpf.create_map("array", 4, _WORD, 1, bpf.F_MMAPABLE, "netc_moment")


def load(kind: str, attach_type: int, frags: bool, moment: int, trial: int | None, before: int | None, name: str) -> Root:
    """Load the root with its array filled. All three programs need the same type, attach type and frags flag. Raises BpfError."""
    programs = bpf.create_map("prog_array", 4, 4, 2, 0, "netc_trial")
    try:
        root = bpf.load_program(kind, _code(_PASS[kind]), {_MOMENT: moment, _PROGRAMS: programs}, name, attach_type, frags)
        try:
            for at, program in ((TRIAL, trial), (BEFORE, before)):
                if program is not None:
                    bpf.map_update(programs, struct.pack("=I", at), struct.pack("=I", program))
        except BaseException:
            os.close(root)
            raise
    except BaseException:
        os.close(programs)
        raise
    return Root(root, programs)


def set_moment(moment: int, jiffies: int) -> None:
    """Move the moment, by one store. Raises BpfError."""
    memory = bpf.map_array(moment, _WORD)
    try:
        memory[:_WORD] = struct.pack("=Q", jiffies)
    finally:
        memory.close()


def moment_of(moment: int) -> int:
    """The moment in jiffies. Raises BpfError."""
    return int(struct.unpack("=Q", bpf.map_lookup(moment, bytes(4), _WORD) or bytes(_WORD))[0])


def jiffies_at(deadline: float) -> int:
    """A moment of CLOCK_MONOTONIC (seconds) in jiffies, at most one tick off. Raises BpfError.

    A tick is what the coarse clock's resolution is (kernel/time/posix-timers.c: TICK_NSEC); what jiffies are now is asked of the kernel by a test run.
    """
    tick = time.clock_getres(_MONOTONIC_COARSE)
    return _jiffies_now() + math.ceil((deadline - time.monotonic()) / tick)


def _jiffies_now() -> int:
    word = make_moment()
    try:
        program = bpf.load_program("sched_cls", _reader(), {_MOMENT: word}, "netc_jiffies")
        try:
            bpf.test_run(program, bytes(14))
        finally:
            os.close(program)
        return moment_of(word)
    finally:
        os.close(word)


def _insn(code: int, dst: int = 0, src: int = 0, offset: int = 0, value: int = 0) -> bytes:
    """One struct bpf_insn."""
    return struct.pack("=BBhi", code, src << 4 | dst, offset, value)


def _wide(dst: int, kind: int, number: int) -> bytes:
    """ld_imm64 of a map (kind 1) or of its value (kind 2), by symbolic id."""
    return _insn(0x18, dst, kind, 0, number) + _insn(0)


def _reader() -> bytes:
    return b"".join((
        _insn(0x85, value=_JIFFIES64),
        _wide(_R1, 2, _MOMENT),
        _insn(0x7B, _R1, _R0),  # *(u64 *)r1 = r0
        _insn(0xB7, _R0),
        _insn(0x95),
    ))  # fmt: skip


def _code(otherwise: int) -> bytes:
    return b"".join((
        _insn(0xBF, _R6, _R1),  # the context, kept over the call
        _wide(_R1, 2, _MOMENT),
        _insn(0x79, _R7, _R1),  # r7 = *(u64 *)r1
        _insn(0x85, value=_JIFFIES64),
        _insn(0xB7, _R3, value=BEFORE),
        _insn(0x3D, _R0, _R7, 1),  # if r0 >= r7 skip one
        _insn(0xB7, _R3, value=TRIAL),
        _insn(0xBF, _R1, _R6),
        _wide(_R2, 1, _PROGRAMS),
        _insn(0x85, value=_TAIL_CALL),
        _insn(0xB7, _R0, value=otherwise),
        _insn(0x95),
    ))  # fmt: skip
