"""The steps of one tree: the ifb, the root, this generation's classes, the shape's rate, the end of the old classes, the end of the tree.

Make before break: the root stays from the first apply to the last, new classes come beside the old ones, and the classifier's link update
(runtime/steps/xdp.py) moves the packets. Which steps there are depends on the two bundles alone, never on what is found on the device.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

from compiler.bundle import LeafQdisc
from runtime.backends.tc import Tc, TcError
from runtime.context import Context
from runtime.steps import StepError, tc_drops
from runtime.steps.tc_place import Place, base_of, find_device, ifb_name, is_own, number, parameters
from runtime.steps.tc_tree import (
    OTHERWISE,
    check_shape,
    delete_classes,
    delete_own_root,
    difference,
    drain,
    ensure_root,
    put_leaf,
    put_shape,
    refusals,
)

ALIAS = "netc "  # the ifb's alias begins so; what follows is the nic


@dataclass
class IfbStep:
    """An ifb device of netc's own, for a shape of what arrives. Kept when the old bundle had it too."""

    place: Place
    kept: bool
    phase: str = "stage"

    @property
    def text(self) -> str:
        return f"{self.place.words}: {'keep' if self.kept else 'make'} the ifb device {self.place.device}"

    def do(self) -> None:
        with refusals(self.text), Tc() as tc:
            found = tc.device(self.place.device)
            if found is None:
                tc.add_ifb(self.place.device, ALIAS + self.place.tree.nic)
            elif found.kind != "ifb" or not found.alias.startswith(ALIAS):
                mend = f"rename it, netc needs the name: ip link set {found.name} name NEW"
                raise StepError(self.text, f"a {found.kind or 'device'} of that name is somebody else's", mend)
            elif not found.up:
                tc.bring_up(found.ifindex)

    def undo(self) -> None:
        if self.kept:
            return
        with refusals(self.text), Tc() as tc:
            found = tc.device(self.place.device)
            if found is not None and found.alias.startswith(ALIAS):
                tc.delete_device(found.ifindex)

    def check(self) -> None:
        with refusals(self.text), Tc() as tc:
            found = tc.device(self.place.device)
            if found is None or not found.up:
                what = "the device is not there" if found is None else "the device is down: what arrives is dropped"
                raise StepError(self.text, what, "something changed it meanwhile; apply again")


@dataclass
class RootStep:
    """The first HTB on a device, in the place of the kernel's default qdisc."""

    place: Place
    phase: str

    @property
    def text(self) -> str:
        return f"{self.place.words}: htb 1: at the root, {self.place.tree.classes[0].rate} bit/s in all"

    def do(self) -> None:
        with refusals(self.text), Tc() as tc:
            ensure_root(tc, self.place)

    def undo(self) -> None:
        with refusals(self.text), Tc() as tc:
            delete_own_root(tc, self.place.device)

    def check(self) -> None:
        with refusals(self.text), Tc() as tc:
            if not is_own(tc.root(find_device(tc, self.place.device).ifindex)):
                raise StepError(self.text, "the root qdisc is not netc's htb", OTHERWISE)
        check_shape(self.text, self.place)


@dataclass
class ClassesStep:
    """The policy's classes with their queues, in the numbers of one generation. unavailable: leaf kinds this kernel lacks, with its words."""

    place: Place
    base: int
    phase: str
    unavailable: Mapping[str, str]
    chosen: dict[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        names = [item.counter.rpartition(".")[2] + self._queue(item.classid) for item in self.place.tree.classes[2:]]
        return f"{self.place.words}: htb classes " + ", ".join(names)

    def _own_leaves(self) -> list[LeafQdisc]:
        """Without the queue of 1:2, which comes with the root."""
        return [leaf for leaf in self.place.tree.leaves if leaf.parent != self.place.tree.classes[1].classid]

    def _queue(self, classid: str) -> str:
        leaf = next((leaf for leaf in self.place.tree.leaves if leaf.parent == classid), None)
        if leaf is None:
            return ""
        left = [choice.kind for choice in leaf.choices if choice.kind not in self.unavailable]
        return f" ({self.chosen.get(classid) or ' or '.join(left[:1]) or 'the default queue'})"

    @property
    def skipped(self) -> list[tuple[str, str]]:
        """Preferred queues that this kernel has none of, with its words (runtime.plan shows them)."""
        return [
            (f"queue {' or '.join(choice.kind for choice in leaf.choices)}", "; ".join(self.unavailable[c.kind] for c in leaf.choices))
            for leaf in self.place.tree.leaves
            if leaf.prefer and all(choice.kind in self.unavailable for choice in leaf.choices)
        ]

    def do(self) -> None:
        with refusals(self.text), Tc() as tc:
            ifindex = ensure_root(tc, self.place)
            try:
                delete_classes(tc, ifindex, {self.base})  # what a crash may have left under these numbers
                for item in self.place.tree.classes[2:]:
                    tc.put_class(ifindex, number(item.classid, self.base), number(item.parent, self.base), parameters(item))
                for leaf in self._own_leaves():
                    self.chosen[leaf.parent] = put_leaf(tc, ifindex, leaf, self.base, self.unavailable)
            except (TcError, StepError):
                delete_classes(tc, ifindex, {self.base})
                raise

    def undo(self) -> None:
        with refusals(self.text), Tc() as tc:
            device = tc.device(self.place.device)
            if device is not None and is_own(tc.root(device.ifindex)):
                delete_classes(tc, device.ifindex, {self.base})

    def check(self) -> None:
        with refusals(self.text), Tc() as tc:
            ifindex = find_device(tc, self.place.device).ifindex
            if wrong := difference(tc, ifindex, self.place, self.place.tree.classes[2:], self.base):
                raise StepError(self.text, wrong, OTHERWISE)


@dataclass
class RateStep:
    """The shape's whole rate, where the root stays. old: the tree that was there before."""

    place: Place
    old: Place
    phase: str = "flip"

    @property
    def text(self) -> str:
        return f"{self.place.words}: {self.place.tree.classes[0].rate} bit/s in all (was {self.old.tree.classes[0].rate})"

    def do(self) -> None:
        with refusals(self.text), Tc() as tc:
            ifindex = find_device(tc, self.place.device).ifindex
            try:
                put_shape(tc, ifindex, self.place)
            except TcError:
                put_shape(tc, ifindex, self.old)
                raise

    def undo(self) -> None:
        with refusals(self.text), Tc() as tc:
            device = tc.device(self.old.device)
            if device is not None and is_own(tc.root(device.ifindex)):
                put_shape(tc, device.ifindex, self.old)

    def check(self) -> None:
        check_shape(self.text, self.place)


@dataclass
class CleanStep:
    """The classes of earlier generations go when their queues are empty; what still waits after DRAIN seconds goes with them."""

    place: Place
    old: Place | None
    base: int
    context: Context
    phase: str = "clean"

    @property
    def text(self) -> str:
        return f"{self.place.words}: remove the classes of earlier generations"

    def do(self) -> None:
        with refusals(self.text), Tc() as tc:
            _delete_strays(tc, self.place.tree.nic)
            ifindex = find_device(tc, self.place.device).ifindex
            bases = {base_of(classid) for classid in tc.classes(ifindex)} - {0, self.base}
            if not bases:
                return
            drain(tc, ifindex, bases)
            if self.old is not None:
                tc_drops.keep(self.context.state, tc_drops.of_tree(tc, ifindex, self.old.tree, bases), self.place.tree)
            delete_classes(tc, ifindex, bases)

    def undo(self) -> None:
        """Cleaning is never undone."""

    def check(self) -> None:
        """A clean step is not part of what has to hold."""


@dataclass
class RemoveStep:
    """A tree that the new bundle no longer has: the kernel's default qdisc comes back, an ifb goes."""

    place: Place
    phase: str = "clean"

    @property
    def text(self) -> str:
        what = "the device's default qdisc comes back" if self.place.tree.direction == "out" else "the ifb device goes"
        return f"{self.place.words}: removed; {what}"

    def do(self) -> None:
        with refusals(self.text), Tc() as tc:
            device = tc.device(self.place.device)
            if device is None:
                return
            if self.place.tree.direction == "out":
                delete_own_root(tc, device.name)
            elif device.alias.startswith(ALIAS):
                drain(tc, device.ifindex, {base_of(classid) for classid in tc.classes(device.ifindex)})
                tc.delete_device(device.ifindex)

    def undo(self) -> None:
        """Cleaning is never undone."""

    def check(self) -> None:
        """A clean step is not part of what has to hold."""


@dataclass
class StraysStep:
    """A tree whose device is gone: its qdiscs went with it, an ifb did not."""

    nic: str
    direction: str
    phase: str = "clean"

    @property
    def text(self) -> str:
        return f"shape {self.nic} {self.direction}: the device is gone; its ifb device goes, too"

    def do(self) -> None:
        with refusals(self.text), Tc() as tc:
            _delete_strays(tc, self.nic)

    def undo(self) -> None:
        """Cleaning is never undone."""

    def check(self) -> None:
        """A clean step is not part of what has to hold."""


def _delete_strays(tc: Tc, nic: str) -> None:
    """netc's ifbs of this nic whose device is no longer there: the ifb has the device's index in its name."""
    there = {index for index, _ in socket.if_nameindex()}
    for found in tc.ifbs():
        index = found.name.removeprefix(ifb_name(0)[:-1])
        if found.alias == ALIAS + nic and index.isdecimal() and int(index) not in there:
            tc.delete_device(found.ifindex)
