"""Random shapes and frames at their boundaries: the classifier in the kernel takes the class that the reference interpreter says."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from random import Random

import pytest

from compiler import bundle, ir
from compiler.interp import Interpreter
from runtime import objects
from runtime.backends import bpf, tc
from tests.differential.packets import boundary_packets
from tests.differential.policies import expression, random_program
from tests.kernel.tc.shaped import MBIT, compiled

SEEDS, FRAMES, BASE = range(12), 250, 0x3000
_PRIORITY = 32  # offset in struct __sk_buff


def random_shape(rng: Random, sets: tuple[ir.Set, ...]) -> ir.Shape:
    """Five classes, one of them with three inside, and a default in any place."""
    inner = [ir.Class(f"i{i}", expression(rng, sets)) for i in range(2)] + [ir.Class("inner-rest", None)]
    outer = [ir.Class(f"c{i}", expression(rng, sets)) for i in range(3)]
    outer.insert(rng.randrange(3), ir.Class("nest", expression(rng, sets), classes=tuple(rng.sample(inner, 3))))
    outer.insert(rng.randrange(4), ir.Class("rest", None))
    return ir.Shape("wan.shape.out", "wan", "out", 100 * MBIT, 0, tuple(outer))


def every_expression(classes: tuple[ir.Class, ...]) -> Iterator[ir.Expr]:
    for cls in classes:
        if cls.when is not None:
            yield cls.when
        yield from every_expression(cls.classes)


@pytest.mark.parametrize("seed", SEEDS)
def test_classes_as_the_interpreter_says(seed: int) -> None:
    rng = Random(seed)
    sets = tuple(item for item in random_program(rng).sets if item.size is None)
    shape = random_shape(rng, sets)
    rules = tuple(ir.Rule(f"r{i}", "pass", when) for i, when in enumerate(every_expression(shape.classes)))
    like_rules = ir.Program(sets=sets, chains=(ir.Chain("wan.out", "wan", "out", None, rules, "pass"),))
    drawn = boundary_packets(like_rules, rng, FRAMES)
    frames = [frame for frame in drawn if may_run(frame)]
    assert len(frames) > 0.9 * len(drawn)
    interpreter = Interpreter(ir.Program(nics=(ir.Nic("wan", "w0"),), sets=sets, shapes=(shape,)))
    expected = [interpreter.judge(frame, "wan", "out", 1).shape for frame in frames]
    assert judged(compiled(shape, sets=sets), frames) == expected
    assert len(set(expected)) > 1


def may_run(frame: bytes) -> bool:
    """A test run with an skb refuses frames without a payload, and IP shorter than its fixed header (net/bpf/test_run.c)."""
    return len(frame) - 14 >= {b"\x08\x00": 20, b"\x86\xdd": 40}.get(frame[12:14], 1)


def judged(new: bundle.Bundle, frames: list[bytes]) -> list[str]:
    """The class of each frame by the priority that the program gives it: what HTB goes by."""
    maps = {item.id: objects.create_map(item) for item in new.maps}
    made = objects.Objects()
    made.maps = maps
    try:
        for item in new.maps:
            objects.fill_map(maps[item.id], item, new)
            if item.role == "config":
                bpf.map_update(maps[item.id], bytes(4), struct.pack("=2I", 0, BASE))
        program = objects.load(new.programs[0], maps)
        made.programs["classifier"] = program
        names = {0x10000 | BASE + tc.handle(item.classid) % 0x10000: item.counter for item in new.trees[0].classes}
        return [names[priority(program, frame)] for frame in frames]
    finally:
        made.close()


def priority(program: int, frame: bytes) -> int:
    ran = bpf.test_run(program, frame, ctx=bytes(192))
    return int(struct.unpack_from("=I", ran.ctx_out, _PRIORITY)[0])
