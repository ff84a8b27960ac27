"""Saved plans that a liar wrote, with the right hash: whatever stands in them, they are refused in words, or what they hold passed the same admission as any bundle."""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import msgspec
import pytest

from compiler import bundle as bundles
from compiler.bundle import BundleError
from runtime import plan_file
from runtime.apply import Change
from runtime.binding import BindingError
from runtime.commands import apply as command
from runtime.commands.target import Target
from runtime.context import Context
from runtime.plan_file import PlanFileError
from runtime.steps import StepError
from tests.fuzz.mutations import SMALL, bundle_bytes, content, mutated_bundle, sealed
from tests.pure.runtime.test_plan_file import SAVED
from tests.pure.runtime.test_plan_file import sealed as sealed_plan

REFUSALS = (PlanFileError, BundleError, StepError, BindingError)
TARGET = Target(Context(Path("/nowhere"), Path("/nowhere")), "")


def taken(path: Path, data: bytes) -> Change | None:
    """What `netc apply FILE` does before it looks at the host. None: it does not begin as a plan does. Raises one of REFUSALS."""
    path.write_bytes(data)
    options = argparse.Namespace(file=path, nic=[], target=None, take_over=False, allow_disruptive=False, allow_lockout=False, json=False)
    saved = command.saved_plan(options)
    return command.saved_change(saved, options, TARGET) if saved else None


def read(path: Path, data: bytes) -> Change | str:
    """The change, or the refusal's words."""
    try:
        made = taken(path, data)
        assert made is not None, "it begins as a plan does"
        return made
    except REFUSALS as error:
        return str(error)


def plan_of(bundle: bytes) -> bytes:
    header = msgspec.structs.replace(SAVED, bundle=bundles.identity(bundle))
    return plan_file.encode(header, bundle)


def test_what_is_built_here_is_a_plan(tmp_path: Path) -> None:
    made = read(tmp_path / "p.plan", plan_of(bundle_bytes("edge")))
    assert isinstance(made, Change) and made.seen == SAVED.live and dict(made.bindings) == {"wan": "wan0"}


@pytest.mark.parametrize("name", SMALL)
def test_any_bundle_in_a_plan_is_admitted_as_any_other(name: str, tmp_path: Path) -> None:
    rng, value = random.Random(name), content(bundle_bytes(name))
    refused = 0
    for _ in range(60):
        bundle = sealed(mutated_bundle(value, rng))
        told = read(tmp_path / "p.plan", plan_of(bundle))
        refused += isinstance(told, str)
        assert isinstance(told, Change) or told
    assert refused > 20, "the mutations meet nothing that is looked at"


@pytest.mark.parametrize("seed", range(4))
def test_a_plan_cut_or_changed_anywhere(seed: int, tmp_path: Path) -> None:
    rng, whole = random.Random(seed), plan_of(bundle_bytes("dns"))
    for _ in range(60):
        at = rng.randrange(len(b"netc-plan"), len(whole))
        data = rng.choice((whole[:at], whole[:at] + bytes([whole[at] ^ 1 << rng.randrange(8)]) + whole[at + 1 :], whole[:at] + rng.randbytes(9) + whole[at:]))
        told = read(tmp_path / "p.plan", data)
        assert isinstance(told, str) and "netc plan" in told and str(tmp_path / "p.plan") in told
        header = whole.partition(b"\n")[2].partition(b"\n")[0]
        cut = header[: rng.randrange(len(header))]
        assert isinstance(read(tmp_path / "p.plan", sealed_plan(cut + b"\n" + bundle_bytes("dns"))), str)
