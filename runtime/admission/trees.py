"""Shapes of a bundle: an HTB tree in the numbers that runtime/steps/tc_place.py expects, with queues that netc can set up."""

from __future__ import annotations

import re

from compiler.bundle import GENERATION_MINORS, LeafQdisc, TcClass, Tree
from runtime.admission.refusal import refuse
from runtime.backends import tc_options

_U32 = (1 << 32) - 1
_CLASS = re.compile(r"1:([0-9a-f]{1,4})\Z")
_OWN = ("1:1", "1:2")  # the shape itself and what no classifier saw
_FIRST_MINOR = 0x10
_MAX_OVERHEAD = 65535  # tc_ratespec has 16 bits


def check_tree(tree: Tree, nics: set[str], counters: set[str]) -> None:
    """Raises StepError."""
    what = f"shape {tree.nic} {tree.direction}"
    if tree.nic not in nics or tree.direction not in ("in", "out"):
        refuse(what, "there is no such nic and direction")
    if (tree.root.kind, tree.root.handle, tree.root.parent) != ("htb", "1:", "root"):
        refuse(what, f"its root is a {tree.root.kind} {tree.root.handle} at {tree.root.parent}, not netc's htb")
    if tuple(item.classid for item in tree.classes[:2]) != _OWN:
        refuse(what, "it does not begin with the classes 1:1 and 1:2")
    earlier: set[str] = {"1:"}
    for item in tree.classes:
        _check_class(what, item, earlier, counters)
        earlier.add(item.classid)
    parents = {item.parent for item in tree.classes}
    queued: set[str] = set()
    for leaf in tree.leaves:
        if leaf.parent in queued or leaf.parent in parents or leaf.parent not in earlier:
            refuse(what, f"class {leaf.parent} is not there, has two queues, or has classes inside")
        _check_leaf(what, leaf)
        queued.add(leaf.parent)


def _check_class(what: str, item: TcClass, earlier: set[str], counters: set[str]) -> None:
    number = _CLASS.match(item.classid)
    if not number or item.classid in earlier or item.parent not in earlier or (item.parent == "1:") != (item.classid == "1:1"):
        refuse(what, f"there is no place for a class {item.classid} under {item.parent}")
    minor = int(number[1], 16)
    if item.classid not in _OWN and not _FIRST_MINOR <= minor < GENERATION_MINORS:
        refuse(what, f"the class number {item.classid} is not netc's to give")
    if item.classid not in _OWN and item.counter not in counters:
        refuse(what, f"class {item.classid} has no counter")
    if min(item.rate, item.ceil) < 8 or max(item.quantum, item.prio) > _U32 or not 0 <= item.overhead <= _MAX_OVERHEAD:
        refuse(what, f"class {item.counter}: rate {item.rate}, ceil {item.ceil}, quantum {item.quantum}, prio {item.prio}, overhead {item.overhead}")


def _check_leaf(what: str, leaf: LeafQdisc) -> None:
    wanted = leaf.parent.removeprefix("1:") + ":"
    if not leaf.choices or leaf.handle != wanted:
        refuse(what, f"the queue {leaf.handle} of class {leaf.parent} is none")
    for choice in leaf.choices:
        if (choice.handle, choice.parent) != (wanted, leaf.parent):
            refuse(what, f"the {choice.kind} of class {leaf.parent} says that it is {choice.handle} under {choice.parent}")
        try:
            tc_options.encode(choice.kind, choice.options)
        except ValueError as error:
            refuse(what, f"class {leaf.parent}: {error}")
