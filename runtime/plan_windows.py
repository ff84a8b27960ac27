"""Which backends a new generation cannot be carried to in the same instant, and what is judged how in between. In words; reads nothing.

Each program judges a packet whole, by the old policy or the new one; between two of them lies time. docs/decisions/0003 has the order of
the flips and why, docs/decisions/0012 what was measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runtime.plan_shapes import rate

if TYPE_CHECKING:
    from runtime.plan import Plan

_FLIPS = "from XDP's flip to nft's (measured: 0.08 s, 0.13 at most, with 72 rules on two busy CPUs)"


@dataclass(frozen=True, slots=True)
class Window:
    """backend: whose generation comes at another instant than the one before it. words: from when to when, and what holds meanwhile."""

    backend: str
    words: str


def windows(planned: Plan) -> list[Window]:
    """The windows of a plan, in the order in which they open; none where one link update, or one nft transaction, is all."""
    made = [_settings(planned), _nics(planned), _nft(planned), *_tc(planned)]
    return [window for window in made if window is not None]


def _settings(planned: Plan) -> Window | None:
    if not any(item.backend == "settings" for item in planned.steps):
        return None
    if planned.new is None:
        return Window("settings", "put back one after another, before anything else is taken off: until the end the old policy runs on them")
    runs = "the old policy runs on the new value" if planned.old else "the device runs on the new value, still without a policy"
    before = f"written one after another, before the flip: from each one's write to the flip {runs}"
    behind = "what steers is written one after another behind the program, which may take it along: until then packets come to the queues that they came to"
    phases = {item.step.phase for item in planned.steps if item.backend == "settings"}
    return Window("settings", "; ".join(words for phase, words in (("stage", before), ("flip", behind)) if phase in phases) or before)


def _nics(planned: Plan) -> Window | None:
    """Programs of several hooks or nics are flipped by one update each."""
    flips = [item.step.text for item in planned.steps if item.backend == "xdp" and item.step.phase == "flip"]
    if len(flips) < 2:
        return None
    if planned.old is None:
        return Window("xdp", f"{len(flips)} programs, put on one after another: until the last one is there a packet meets only some of them")
    return Window("xdp", f"{len(flips)} programs, one update each: between the first and the last (measured: 4 to 24 ms an update) a packet "
                         "may meet the old one on one hook or nic and the new one on another")  # fmt: skip


def _nft(planned: Plan) -> Window | None:
    new, old = planned.new, planned.old
    flipped = {item.backend for item in planned.steps if item.step.phase == "flip"}
    if not {"xdp", "nft"} <= flipped or not ((new and new.nft) or (old and old.nft)):
        return None
    if new is None:
        return Window("nft", "nft's rules go first, then XDP's program: in between what XDP hands on passes")
    if old is None:
        return Window("nft", f"{_FLIPS}: what XDP leaves to nft passes, as it did before there was a policy")
    first = any(table.fence for table in new.nft)
    had = any(table.fence for table in old.nft)
    if first and had:
        return Window("nft", f"{_FLIPS}: the new rules judge what XDP hands on in front of the old ones (the fence): what both policies drop is dropped "
                             "at every moment; a new connection that only one of them passes may be dropped")  # fmt: skip
    if first or had:
        which = "the first that need" if first else "the last that needed"
        return Window("nft", f"{_FLIPS}: these are {which} connection tracking: what both policies drop is dropped at every moment; what both pass may "
                             "be dropped, too")  # fmt: skip
    return Window("nft", f"{_FLIPS}: the early rules are the new policy's, the later ones the old one's")


def _tc(planned: Plan) -> list[Window]:
    from runtime.steps.tc_steps import ClassesStep, RateStep, RemoveStep, RootStep

    made = []
    steps = [item.step for item in planned.steps if item.backend == "tc"]
    if any(isinstance(step, ClassesStep) for step in steps) and not any(isinstance(step, RootStep) for step in steps):
        made.append(Window("tc", "none: new classes stand beside the old ones, and the update of the classifier moves the packets; the old ones go when empty"))
    if any(isinstance(step, RootStep) and step.phase == "flip" for step in steps):
        made.append(Window("tc", "from the root's coming until its classes are made (some ms) what is sent goes unclassified, at the shape's rate"))
    for step in steps:
        if isinstance(step, RateStep) and (now := step.place.tree.classes[0].rate) != (was := step.old.tree.classes[0].rate):
            made.append(Window("tc", f"{step.place.words}: {rate(now)} in all instead of {rate(was)} from after the classifier's update on"))
    if any(isinstance(step, RemoveStep) for step in steps):
        made.append(Window("tc", "a shape that goes is taken off last: until then what is sent goes through it unclassified"))
    return made
