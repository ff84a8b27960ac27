"""A bundle that no netc compiled, but with the right hash: refused in words, before anything is made."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from compiler import bundle, ir
from runtime import objects
from runtime.steps import StepError
from tests.kernel.xdp import rig, small

WHOLE = rig.bundle_of(rig.placed_of(small.program(ir.Rule("dns", "pass", small.port(53), ir.Limit("wan.in.dns", 1000, 2, False, ir.Field.SRC)))))


def with_map(role: str, **changed: object) -> bundle.Bundle:
    maps = tuple(msgspec.structs.replace(m, **changed) if m.role == role else m for m in WHOLE.maps)
    return msgspec.structs.replace(WHOLE, maps=maps)


def with_code(change: Callable[[bundle.Code], bundle.Code]) -> bundle.Bundle:
    return msgspec.structs.replace(WHOLE, programs=tuple(map(change, WHOLE.programs)))


@pytest.mark.parametrize(
    "made",
    [
        with_map("clock", kind="timer_of_doom"),
        with_map("counters", value_size=8),
        with_map("scratch", value_size=8),
        with_map("slots", value_size=4),
        with_map("clock", key_size=8),
        with_map("slots", inner="x"),
        with_map("buckets", value_size=4),
        with_code(lambda code: msgspec.structs.replace(code, code=code.code[:-3])),
        with_code(lambda code: msgspec.structs.replace(code, code=b"")),
        with_code(lambda code: msgspec.structs.replace(code, maps=(*code.maps, 1))),
        msgspec.structs.replace(WHOLE, maps=WHOLE.maps * 2),
        msgspec.structs.replace(WHOLE, programs=WHOLE.programs * 2),
    ],
)
def test_refused_before_anything_is_made(made: bundle.Bundle) -> None:
    with pytest.raises(StepError, match="bundle|map|program"):
        objects.load_fresh(made)


def test_code_that_asks_for_a_map_that_it_does_not_list() -> None:
    made = with_code(lambda code: msgspec.structs.replace(code, maps=()))
    with pytest.raises(StepError, match="has no map"):
        objects.load_fresh(made)


def test_code_that_ends_in_half_a_wide_instruction() -> None:
    made = with_code(lambda code: msgspec.structs.replace(code, code=code.code + bytes((0x18, 0x11, 0, 0, 1, 0, 0, 0)), maps=code.maps))
    with pytest.raises((StepError, OSError)):
        objects.load_fresh(made)


def test_entries_that_do_not_fit() -> None:
    with pytest.raises(StepError, match="entries do not fit"):
        objects.load_fresh(with_map("clock", entries=bytes(100)))
