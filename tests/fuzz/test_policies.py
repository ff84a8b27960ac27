"""Mutants of the five policies: each becomes a bundle's parts or a CompileError that can be drawn, never anything else."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from compiler import ir_spec, passes, place, profile, protect
from compiler.diagnostics import CompileError
from compiler.frontend import load
from compiler.source import Sources
from compiler.targets import ethtool, nft
from tests.fuzz.mutations import ROOT, mutated_policy, policy_texts

SEEDS = range(12)
MUTANTS = 40  # a seed


def compiled(path: Path, sources: Sources) -> bool:
    """Everything but clang. True when the policy was accepted."""
    try:
        program = load(path, sources).program
        ir_spec.check(program)
        if cuts := protect.prove(program):
            raise CompileError(cuts)
        placed = place.place(passes.run(program)[0], profile.chosen(None))
        nft.lower(placed)
        ethtool.lower(placed)
    except CompileError as error:
        assert error.diagnostics
        for diagnostic in error.diagnostics:
            drawn = diagnostic.draw(sources)
            assert diagnostic.code[0] in "NW" and diagnostic.message
            assert all(c.isprintable() or c == "\n" for c in drawn), drawn
        return False
    return True


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policies folder with its set files: the mutants' own."""
    made = tmp_path_factory.mktemp("mutants")
    (made / "sets").mkdir()
    for path in (ROOT / "policies/sets").iterdir():
        if path.stat().st_size < 1 << 16:
            shutil.copy(path, made / "sets")
    return made


@pytest.mark.parametrize("seed", SEEDS)
def test_mutants(folder: Path, seed: int) -> None:
    rng = random.Random(seed)
    texts = policy_texts()
    for number in range(MUTANTS):
        path = folder / f"{seed}.netc"
        path.write_bytes(mutated_policy(rng.choice(texts), rng).encode("utf-8", "surrogatepass"))
        try:
            compiled(path, Sources())
        except Exception:
            kept = folder / f"crash-{seed}-{number}.netc"
            shutil.copy(path, kept)
            print(kept)
            raise
