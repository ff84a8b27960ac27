"""The call for the frame's flags in netc's code becomes the kernel's own, or the answer "has fragments"."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from compiler.tables.calls import BUFF_FLAGS, BUFF_FLAGS_AT
from runtime.backends import kernel_calls

_CALL = struct.pack("=BBhi", 0x85, 0, 0, BUFF_FLAGS)
_LOAD = struct.pack("=BBhi", 0x61, 0x06, BUFF_FLAGS_AT, 0)  # r6 = *(u32 *)(r0 + …)
_OTHER = bytes.fromhex("bf17000000000000")  # r7 = r1
_CODE = _OTHER + _CALL + _OTHER + _LOAD + _OTHER
_HEAD = struct.Struct("=HBBIIIII")


def _btf(types: list[tuple[int, ...]], names: bytes) -> bytes:
    body = b"".join(struct.pack(f"={len(words)}I", *words) for words in types)
    return _HEAD.pack(0xEB9F, 1, 0, 24, 0, len(body), len(body), len(names)) + body + names


def _info(kind: int, count: int = 0) -> int:
    return kind << 24 | count


_NAMES = b"\0u32\0xdp_buff\0data\0flags\0bpf_cast_to_kern_ctx\0"
_U32, _BUFF, _DATA, _FLAGS, _CAST = (_NAMES.index(b"\0" + word + b"\0") + 1 for word in (b"u32", b"xdp_buff", b"data", b"flags", b"bpf_cast_to_kern_ctx"))
_TYPES: list[tuple[int, ...]] = [
    (_U32, _info(1), 4, 32),  # 1: an integer
    (0, _info(4, 2), 8, _DATA, 1, 0, _FLAGS, 1, 32),  # 2: a nameless struct of two
    (0, _info(5, 1), 8, 0, 2, 0),  # 3: a nameless union around it
    (_BUFF, _info(4, 2), 16, _DATA, 1, 0, 0, 3, 64),  # 4
    (0, _info(13, 1), 0, 0, 1),  # 5: a prototype
    (_CAST, _info(12), 5),  # 6
]


def test_a_program_without_the_call_is_left_alone() -> None:
    code = _OTHER * 3 + _LOAD
    assert not kernel_calls.asks(code)
    assert kernel_calls.without(code) == kernel_calls.resolved(code, kernel_calls.Flags(7, 52)) == code


def test_the_kernels_function_and_its_offset_are_put_in() -> None:
    made = kernel_calls.resolved(_CODE, kernel_calls.Flags(63539, 52))
    call, load = struct.pack("=BBhi", 0x85, 0x20, 0, 63539), struct.pack("=BBhi", 0x61, 0x06, 52, 0)
    assert kernel_calls.asks(_CODE) and made == _OTHER + call + _OTHER + load + _OTHER


def test_where_the_kernel_cannot_the_answer_is_fragments() -> None:
    nothing, one = struct.pack("=BBhi", 0xB7, 0, 0, 0), struct.pack("=BBhi", 0xB7, 6, 0, 1)  # r0 = 0; r6 = 1
    assert kernel_calls.without(_CODE) == _OTHER + nothing + _OTHER + one + _OTHER


def test_a_member_in_a_nameless_part_is_found(tmp_path: Path) -> None:
    file = tmp_path / "btf"
    file.write_bytes(_btf(_TYPES, _NAMES))
    assert kernel_calls.of_this_kernel(file) == kernel_calls.Flags(6, 12)


@pytest.mark.parametrize("wrong", [b"", b"\0" * 64, _btf(_TYPES[:-1], _NAMES), _btf([*_TYPES[:3], *_TYPES[4:]], _NAMES), _btf([(0, _info(30), 0)], _NAMES)])
def test_what_does_not_tell_is_nothing(wrong: bytes, tmp_path: Path) -> None:
    file = tmp_path / "btf"
    file.write_bytes(wrong)
    assert kernel_calls.of_this_kernel(file) is None


def test_a_kernel_without_type_information_is_nothing(tmp_path: Path) -> None:
    assert kernel_calls.of_this_kernel(tmp_path / "none") is None
