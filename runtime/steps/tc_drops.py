"""What classes dropped, also in generations that are gone: the kernel's count dies with the class, a counter survives an apply.

`<state>/tc-drops.json`: {class counter: packets}, written when old classes are removed. Packets and bytes of a class need no such help: they
are counted by the classifier in slots that stay.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from compiler.bundle import Tree
from runtime.backends.tc import HtbClass, Qdisc, Stats, Tc, leaves_of
from runtime.state import write_atomically
from runtime.steps.tc_place import base_of, number

_FILE = "tc-drops.json"


def of_tree(tc: Tc, ifindex: int, tree: Tree, bases: Iterable[int]) -> dict[str, Stats]:
    """The statistics of every class of the tree by counter name, summed over these generations. Classes with classes inside are their sum."""
    queues = {qdisc.parent: qdisc for qdisc in leaves_of(tc.qdiscs(ifindex))}
    classes = tc.classes(ifindex)  # after the queues: what no longer waits has been counted as sent
    found: dict[str, Stats] = {}
    for base in bases:
        for counter, stats in _one_generation(tree, base, classes, queues).items():
            found[counter] = _sum(found.get(counter, Stats()), stats)
    return found


def bases(tc: Tc, ifindex: int) -> set[int]:
    """The generations that have classes on the device."""
    return {base_of(classid) for classid in tc.classes(ifindex)} - {0}


def _one_generation(tree: Tree, base: int, classes: dict[int, HtbClass], queues: dict[int, Qdisc]) -> dict[str, Stats]:
    parents = {item.parent for item in tree.classes}
    by_class: dict[str, Stats] = {}
    for item in reversed(tree.classes):  # children stand after their parents
        classid = number(item.classid, base)
        own = Stats()
        if classid in classes and item.classid not in parents:
            own = _of_leaf(classes[classid].stats, queues.get(classid))
        by_class[item.classid] = _sum(by_class.get(item.classid, Stats()), own)
        by_class[item.parent] = _sum(by_class.get(item.parent, Stats()), by_class[item.classid])
    return {item.counter: by_class[item.classid] for item in tree.classes}


def _of_leaf(of_class: Stats, queue: Qdisc | None) -> Stats:
    """Sent is the class's; what was dropped (also on the way out, by codel) and what waits is the queue's."""
    if queue is None:
        return of_class
    return Stats(of_class.packets, of_class.bytes, queue.stats.drops, of_class.overlimits, queue.stats.backlog, queue.stats.qlen)


def _sum(one: Stats, other: Stats) -> Stats:
    return Stats(one.packets + other.packets, one.bytes + other.bytes, one.drops + other.drops, one.overlimits + other.overlimits,
                 one.backlog + other.backlog, one.qlen + other.qlen)  # fmt: skip


def kept(state: Path) -> dict[str, int]:
    """Drops of classes that are gone; {} when there are none, or when the file cannot be understood."""
    try:
        found = json.loads((state / _FILE).read_bytes())
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    return {name: value for name, value in found.items() if isinstance(value, int)} if isinstance(found, dict) else {}


def keep(state: Path, gone: dict[str, Stats], tree: Tree) -> None:
    """Add what classes dropped that are about to go; names of this direction that the new tree does not have are forgotten."""
    prefix = tree.classes[0].counter + "."
    names = {item.counter for item in tree.classes}
    totals = {name: value for name, value in kept(state).items() if name in names or not name.startswith(prefix)}
    for name, stats in gone.items():
        if name in names and stats.drops and not name.endswith(".unclassified"):  # the root's own classes stay
            totals[name] = totals.get(name, 0) + stats.drops
    write_atomically(state / _FILE, json.dumps(totals, sort_keys=True).encode())
