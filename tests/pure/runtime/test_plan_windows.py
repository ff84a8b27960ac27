"""Which backend comes at another instant than the one before it, and what is judged how meanwhile: said where it is so, and only there."""

from __future__ import annotations

from dataclasses import dataclass, replace

import msgspec
import pytest

from compiler.bundle import Bundle, Nft, Qdisc, TcClass, Tree
from runtime import plan_windows
from runtime.plan import Plan, Planned
from runtime.steps.tc_place import Place
from runtime.steps.tc_steps import ClassesStep, RateStep, RemoveStep, RootStep
from tests.pure.runtime.bundles import small_bundle


@dataclass
class Flip:
    text: str = "x"
    phase: str = "flip"

    def do(self) -> None: ...

    undo = check = do


XDP, NFT, SETTING = Planned("xdp", Flip()), Planned("nft", Flip()), Planned("settings", Flip(phase="stage"))
PLAIN = small_bundle(nft=(Nft("netdev", "netc", ()),))
STATEFUL = small_bundle(nft=(Nft("inet", "netc", (), (), (msgspec.Raw(b"{}"),)),))


def tree(rate: int) -> Place:
    root = TcClass("1:1", "1:", rate, rate, 0, 0, 1, 0, 0, "wan.shape.out")
    return Place(Tree("wan", "out", Qdisc("htb", "1:", "root", {}), (root, replace_id(root)), ()), "wan0", "wan0")


def replace_id(item: TcClass) -> TcClass:
    return msgspec.structs.replace(item, classid="1:2", parent="1:1")


def told(old: Bundle | None, new: Bundle | None, *steps: Planned) -> list[tuple[str, str]]:
    return [(window.backend, window.words) for window in plan_windows.windows(Plan(2, new, old, steps, ()))]


def test_one_program_alone_has_no_window() -> None:
    assert told(small_bundle(), small_bundle(), XDP) == []


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (None, STATEFUL, "what XDP leaves to nft passes, as it did before"),
        (STATEFUL, STATEFUL, "in front of the old ones (the fence): what both policies drop is dropped at every moment"),
        (PLAIN, STATEFUL, "these are the first that need connection tracking"),
        (STATEFUL, PLAIN, "these are the last that needed connection tracking"),
        (PLAIN, PLAIN, "the early rules are the new policy's, the later ones the old one's"),
        (STATEFUL, None, "nft's rules go first, then XDP's program: in between what XDP hands on passes"),
    ],
)
def test_between_xdp_and_nft(old: Bundle | None, new: Bundle | None, words: str) -> None:
    ((backend, said),) = told(old, new, XDP, NFT)
    assert backend == "nft" and words in said


def test_several_programs() -> None:
    assert "2 programs, put on one after another" in told(None, small_bundle(), XDP, XDP)[0][1]
    assert "may meet the old one on one hook or nic and the new one on another" in told(small_bundle(), small_bundle(), XDP, XDP)[0][1]


def test_settings() -> None:
    assert "the old policy runs on the new value" in told(small_bundle(), small_bundle(), SETTING)[0][1]
    assert "still without a policy" in told(None, small_bundle(), SETTING)[0][1]
    assert "put back one after another" in told(small_bundle(), None, SETTING)[0][1]


def test_shapes() -> None:
    old, new = tree(10**9), tree(9 * 10**8)
    classes = Planned("tc", ClassesStep(new, 0x1000, "stage", {}))
    assert [words.partition(":")[0] for _, words in told(small_bundle(), small_bundle(), classes)] == ["none"]
    both = told(small_bundle(), small_bundle(), classes, Planned("tc", RateStep(new, old)))
    assert both[1][1].startswith("shape wan out: 900mbit in all instead of 1gbit from after the classifier's update on")
    assert len(told(small_bundle(), small_bundle(), classes, Planned("tc", RateStep(new, replace(new))))) == 1, "the same rate is no window"
    first = told(None, small_bundle(), Planned("tc", RootStep(new, "flip")), classes)
    assert [words.partition(" until")[0] for _, words in first] == ["from the root's coming"]
    assert "taken off last" in told(small_bundle(), None, Planned("tc", RemoveStep(old)))[0][1]
