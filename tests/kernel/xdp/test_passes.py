"""Rules dropped, sets merged and rules moved: XDP still agrees with the interpreter on the program as it was."""

from __future__ import annotations

import random

import pytest

from compiler import passes, place, profile
from compiler.passes import drop_unreachable
from compiler.targets import xdp
from tests.differential import packets as boundary
from tests.kernel.xdp import compare, rig
from tests.pure.reach import rules


@pytest.mark.parametrize("classifier", ["straight", "tables"])
@pytest.mark.parametrize("seed", range(3))
def test_the_interpreter_and_the_optimised_program_agree(seed: int, classifier: str) -> None:
    rng = random.Random(seed)
    made = rules.program(rng, 24)
    placed, _ = drop_unreachable.run(place.place(passes.run(made)[0], profile.default()))
    assert sum(bool(rule.covered) for rule in placed.program.chains[0].rules) > 2, "this proves nothing"
    lowered = rig.bundle_of(placed, xdp.lower(placed, classifier))
    assert not compare.differences(made, rules.packets(made, rng, 300), boundary.times(made, rng, 300), lowered)
