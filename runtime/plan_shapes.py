"""Which shapes and classes of one bundle another one changes, with their rates. Pure."""

from __future__ import annotations

from compiler.bundle import Bundle, Counter, TcClass, Tree
from runtime.plan_entry import ADDED, CHANGED, REMOVED, Entry

_UNITS = ((10**9, "gbit"), (10**6, "mbit"), (10**3, "kbit"), (1, "bit"))
_FIRST = 2  # of a tree's classes the first are the shape itself and what no classifier saw


def differences(old: Bundle | None, new: Bundle | None) -> list[Entry]:
    """Shapes with their rate, then classes as the policy has them."""
    had, wanted = _trees(old), _trees(new)
    entries: list[Entry] = []
    for key, tree in wanted.items():
        entries += _tree(had.get(key), tree, _counters(old), _counters(new))
    for key in had.keys() - wanted.keys():
        entries.append(_shape(had[key], REMOVED))
        entries += [_class(item, _counters(old), REMOVED) for item in had[key].classes[_FIRST:]]
    return entries


def rate(number: int) -> str:
    """Bits a second as a policy has them: 50mbit, 1.5gbit, 1234567bit."""
    for unit, word in _UNITS:
        if number >= unit and number * 1000 % unit == 0:
            return f"{number / unit:.3f}".rstrip("0").rstrip(".") + word
    return f"{number}bit"


def _trees(bundle: Bundle | None) -> dict[tuple[str, str], Tree]:
    return {(tree.nic, tree.direction): tree for tree in (bundle.trees if bundle else ())}


def _counters(bundle: Bundle | None) -> dict[str, Counter]:
    return {counter.name: counter for counter in (bundle.counters if bundle else ()) if counter.kind == "class"}


def _tree(old: Tree | None, new: Tree, texts_before: dict[str, Counter], texts: dict[str, Counter]) -> list[Entry]:
    entries: list[Entry] = []
    before, after = _rate(old) if old else "", _rate(new)
    if old is None:
        entries.append(_shape(new, ADDED))
    elif before != after:
        entries.append(_shape(new, CHANGED, before))
    had = {item.counter: item for item in (old.classes[_FIRST:] if old else ())}
    for item in new.classes[_FIRST:]:
        if item.counter not in had:
            entries.append(_class(item, texts, ADDED))
        elif changed := _changed(item, had[item.counter], new, old, texts, texts_before):
            entries.append(changed)
    there = {item.counter for item in new.classes}
    return entries + [_class(item, texts_before, REMOVED) for name, item in had.items() if name not in there]


def _shape(tree: Tree, sign: str, was: str = "") -> Entry:
    return Entry("tc", sign, "shape", f"{tree.nic}.shape.{tree.direction}", _rate(tree), was)


def _rate(tree: Tree) -> str:
    return f"rate {rate(tree.classes[0].rate)}"


def _class(item: TcClass, texts: dict[str, Counter], sign: str, was: str = "", text: str = "") -> Entry:
    known = texts.get(item.counter)
    words = text or (known.text if known and known.text else _numbers(item))
    return Entry("tc", sign, "class", item.counter, words, was, file=known.file if known else "", line=known.line if known else 0)


def _changed(
    item: TcClass, before: TcClass, tree: Tree, old_tree: Tree | None, texts: dict[str, Counter], texts_before: dict[str, Counter]
) -> Entry | None:
    """By its text where that differs, else by its numbers: they can follow from what other classes got."""
    now, was = (known.text if known else "" for known in (texts.get(item.counter), texts_before.get(item.counter)))
    if now != was:
        return _class(item, texts, CHANGED, was)
    if _numbers(item) != _numbers(before):
        return _class(item, texts, CHANGED, _numbers(before), _numbers(item))
    queue, queue_before = _queue(tree, item.classid), _queue(old_tree, before.classid)
    return _class(item, texts, CHANGED, queue_before, queue) if queue != queue_before else None


def _numbers(item: TcClass) -> str:
    """burst and quantum follow from the rates."""
    return f"min {rate(item.rate)} max {rate(item.ceil)} prio {item.prio}" + (f" overhead {item.overhead}" if item.overhead else "")


def _queue(tree: Tree | None, classid: str) -> str:
    leaf = next((leaf for leaf in (tree.leaves if tree else ()) if leaf.parent == classid), None)
    if leaf is None:
        return "the default queue"
    options = (" ".join([choice.kind, *(f"{key} {value}" for key, value in choice.options.items())]) for choice in leaf.choices)
    return f"queue {' or '.join(options)}"
