"""The kernel's own flags of an XDP frame, where the kernel lets a program read them: what a helper call for the length would cost is saved.

netc's XDP programs hold a call of BUFF_FLAGS with a load behind it (compiler/targets/effects.h, netc_length). It becomes a call of the kfunc
bpf_cast_to_kern_ctx (Linux 6.2; the verifier replaces it by a register move) and a load of xdp_buff.flags. Both are found in the kernel's
type information, in the running kernel's own numbers. Where they are not to be had, the pair says "has fragments" (`without`), and the
program asks the helper. Format: Documentation/bpf/btf.rst.
"""

from __future__ import annotations

import struct
from functools import cache
from pathlib import Path
from typing import NamedTuple

from compiler.tables.calls import BUFF_FLAGS, BUFF_FLAGS_AT

VMLINUX = Path("/sys/kernel/btf/vmlinux")
_MAGIC, _HEADER = 0xEB9F, struct.Struct("=HBBIIIII")
_STRUCT, _UNION, _FUNC = 4, 5, 12
_WORDS = {1: 4, 3: 6, 14: 4, 17: 4}  # kind: words of a type, where they are not 3: int, array, variable, declaration tag
_WORDS_EACH = {4: 3, 5: 3, 6: 2, 13: 2, 15: 3, 19: 3}  # kind: words for each of its vlen: struct, union, enum, prototype, section, enum64
_KINDS = 19
_CALL, _LOAD_WORD, _MOVE_CONSTANT = 0x85, 0x61, 0xB7
_NEAR = 4  # instructions from the call to the load: clang moves one or two in between
_PSEUDO_KFUNC_CALL = 2
_SYMBOL = struct.pack("=i", BUFF_FLAGS)


class Flags(NamedTuple):
    """function: BTF number of bpf_cast_to_kern_ctx; offset: of `flags` in struct xdp_buff, in bytes."""

    function: int
    offset: int


def asks(code: bytes) -> bool:
    """Whether a program has the call."""
    return bool(_calls(code))


def resolved(code: bytes, flags: Flags) -> bytes:
    """The code with the kernel's own flags in it."""
    made = bytearray(code)
    for call, load in _calls(code):
        made[call : call + 8] = struct.pack("=BBhi", _CALL, _PSEUDO_KFUNC_CALL << 4, 0, flags.function)
        struct.pack_into("=h", made, load + 2, flags.offset)
    return bytes(made)


def without(code: bytes) -> bytes:
    """The code with "has fragments" in the place of the flags."""
    made = bytearray(code)
    for call, load in _calls(code):
        made[call : call + 8] = struct.pack("=BBhi", _MOVE_CONSTANT, 0, 0, 0)
        made[load : load + 8] = struct.pack("=BBhi", _MOVE_CONSTANT, code[load + 1] & 0xF, 0, 1)
    return bytes(made)


def _calls(code: bytes) -> list[tuple[int, int]]:
    """Where the calls are, and the load of each: offsets of instructions."""
    found, at = [], code.find(_SYMBOL)
    while at >= 0:
        call = at - 4
        if call >= 0 and call % 8 == 0 and code[call : call + 2] == bytes((_CALL, 0)):
            near = range(call + 8, min(len(code), call + 8 * (_NEAR + 1)), 8)
            loads = [i for i in near if code[i] == _LOAD_WORD and struct.unpack_from("=h", code, i + 2)[0] == BUFF_FLAGS_AT]
            if len(loads) == 1:
                found.append((call, loads[0]))
        at = code.find(_SYMBOL, at + 1)
    return found


@cache
def of_this_kernel(file: Path = VMLINUX) -> Flags | None:
    """None: the kernel has no such function, or does not tell its types."""
    try:
        return _search(file.read_bytes())
    except (OSError, ValueError, struct.error, IndexError):
        return None


def _search(btf: bytes) -> Flags | None:
    """Raises ValueError, IndexError or struct.error where the bytes are no BTF of a known kind."""
    magic, _, _, head, types_at, types_size, names_at, _ = _HEADER.unpack_from(btf)
    if magic != _MAGIC:
        raise ValueError("no BTF")
    names = head + names_at
    cast, buff, member = (btf.find(b"\0" + name + b"\0", names) + 1 - names for name in (b"bpf_cast_to_kern_ctx", b"xdp_buff", b"flags"))
    words = memoryview(btf)[head + types_at : head + types_at + types_size].cast("I")
    places = _places(words)
    function = next((i for i, at in enumerate(places) if words[at] == cast and words[at + 1] >> 24 & 31 == _FUNC), 0)
    frame = next((at for at in places if words[at] == buff and words[at + 1] >> 24 & 31 == _STRUCT), None)
    offset = None if frame is None else _offset(words, places, frame, member)
    return Flags(function, offset // 8) if function and offset is not None and offset % 32 == 0 else None


def _places(words: memoryview) -> list[int]:
    """Where each type begins, by its number; 0 is void, and here the first type once more."""
    places, at = [0], 0
    while at < len(words):
        places.append(at)
        info = words[at + 1]
        kind = info >> 24 & 31
        if kind > _KINDS:
            raise ValueError("a kind of type that is not known here")
        at += _WORDS.get(kind, 3) + (info & 0xFFFF) * _WORDS_EACH.get(kind, 0)
    return places


def _offset(words: memoryview, places: list[int], at: int, name: int) -> int | None:
    """Bits from the beginning of a struct or union to its member `name`, which may stand in a nameless part."""
    info = words[at + 1]
    for i in range(at + 3, at + 3 + 3 * (info & 0xFFFF), 3):
        begins = words[i + 2] & 0xFFFFFF if info >> 31 else words[i + 2]
        inner = places[words[i + 1]]
        if words[i] == name:
            return begins
        if words[i] == 0 and words[inner + 1] >> 24 & 31 in (_STRUCT, _UNION):
            found = _offset(words, places, inner, name)
            if found is not None:
                return begins + found
    return None
