"""What steps do to a tree in the kernel: make its root, its classes and queues, compare them with the plan, wait for them, delete them."""

from __future__ import annotations

import errno
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from compiler.bundle import LeafQdisc, Qdisc, TcClass
from runtime.backends import tc as backend
from runtime.backends import tc_options
from runtime.backends.tc import HtbClass, Tc, TcError
from runtime.backends.tc_options import HtbParameters
from runtime.steps import StepError
from runtime.steps.tc_place import (
    MAJOR,
    SHAPE,
    SIGNATURE,
    UNCLASSIFIED,
    Place,
    base_of,
    find_device,
    is_own,
    number,
    parameters,
    refuse_foreign,
)

DRAIN = 1.0  # seconds that packets in the queues of old classes get to leave: a recovery that drains has two in all
_POLL = 0.01  # seconds
OTHERWISE = "something else changed it meanwhile, or the kernel did not keep what it was told: see tc -d class show, and apply again"


class refusals:
    """Turns the kernel's refusals into StepErrors about `what`."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, TcError):
            mend = "netc needs CAP_NET_ADMIN here" if error.errno == errno.EPERM else "nothing was changed by this step"
            raise StepError(self.what, f"{error.what}: {error.words}", mend) from error


def ensure_root(tc: Tc, place: Place) -> int:
    """netc's root with 1:1 and 1:2 is there afterwards; gives the device's ifindex. Raises StepError for a foreign root."""
    device = find_device(tc, place.device)
    root = tc.root(device.ifindex)
    refuse_foreign(root, device.name)
    if not is_own(root):
        try:
            tc.add_htb(device.ifindex, MAJOR, SIGNATURE, UNCLASSIFIED & 0xFFFF)
            put_shape(tc, device.ifindex, place)
        except TcError:
            delete_own_root(tc, device.name)
            raise
    else:
        _delete_strays(tc, device.ifindex)
    return device.ifindex


def put_shape(tc: Tc, ifindex: int, place: Place) -> None:
    """1:1 and 1:2 as this tree wants them, with the queue of 1:2."""
    shape, unclassified = place.tree.classes[:2]
    tc.put_class(ifindex, SHAPE, MAJOR, parameters(shape))
    tc.put_class(ifindex, UNCLASSIFIED, SHAPE, parameters(unclassified))
    for leaf in place.tree.leaves:
        if leaf.parent == unclassified.classid:
            put_leaf(tc, ifindex, leaf, 0, {})


def put_leaf(tc: Tc, ifindex: int, leaf: LeafQdisc, base: int, unavailable: Mapping[str, str]) -> str:
    """The first of the alternatives that the kernel has; gives its kind, "" for HTB's own queue. Raises StepError when there is none."""
    said = []
    for choice in leaf.choices:
        if choice.kind in unavailable:
            said.append(f"{choice.kind}: {unavailable[choice.kind]}")
            continue
        try:
            tc.put_leaf(ifindex, number(choice.handle, base), number(leaf.parent, base), choice.kind, choice.options)
            return choice.kind
        except TcError as error:
            if error.errno != errno.ENOENT:
                raise
            said.append(f"{choice.kind}: {error.words}")
    if leaf.prefer:
        return ""
    raise StepError("queue " + " or ".join(choice.kind for choice in leaf.choices), "; ".join(said),
                    "this kernel has none of them: add `or pfifo`, write `prefer queue`, or load the module (sch_*)")  # fmt: skip


def check_shape(what: str, place: Place) -> None:
    """1:1 and 1:2 are as this tree wants them. Raises StepError."""
    with refusals(what), Tc() as tc:
        if wrong := difference(tc, find_device(tc, place.device).ifindex, place, place.tree.classes[:2], 0):
            raise StepError(what, wrong, OTHERWISE)


def difference(tc: Tc, ifindex: int, place: Place, wanted: Sequence[TcClass], base: int) -> str:
    """The first of these classes and their queues that the kernel has otherwise, in words; "" when all are as planned."""
    classes = tc.classes(ifindex)
    qdiscs = {qdisc.parent: qdisc for qdisc in backend.leaves_of(tc.qdiscs(ifindex))}
    for item in wanted:
        got = classes.get(number(item.classid, base))
        if got is None:
            return f"class {item.counter} is not there"
        # HTB shows a class right under its root qdisc with the root itself as parent.
        parent = backend.ROOT if item.parent == "1:" else number(item.parent, base)
        if got.parent != parent or not tc_options.same_class(parameters(item), got.parameters, item.classid in place.leaves):
            return f"class {item.counter} has {_numbers(got, parent, parameters(item))}"
    if wrong := _unasked(tc, ifindex, {number(item.classid, base) for item in wanted}, base, classes):
        return wrong
    names = {item.classid for item in wanted}
    for leaf in place.tree.leaves:
        if leaf.parent in names and (wrong := _leaf_difference(leaf, qdiscs.get(number(leaf.parent, base)))):
            return wrong
    return ""


def _numbers(got: HtbClass, parent: int, wanted: HtbParameters) -> str:
    """What differs, as tc's words: rate 5000000 instead of 1000000000 (bit/s, bytes)."""
    now, planned = asdict(got.parameters), asdict(wanted)
    differs = [f"{key} {now[key]} instead of {planned[key]}" for key in now if now[key] != planned[key]]
    if got.parent != parent:
        differs.append(f"parent {backend.words(got.parent)} instead of {backend.words(parent)}")
    return ", ".join(differs)


def _unasked(tc: Tc, ifindex: int, own: set[int], base: int, classes: Mapping[int, object]) -> str:
    """A class of this generation that the tree does not have, or a filter of HTB's own, which the classifier knows nothing of."""
    if more := sorted(classid for classid in classes if base_of(classid) == base and classid not in own):
        return f"class {backend.words(more[0])} is not the policy's"
    if filters := tc.filters(ifindex, MAJOR):
        return f"a {filters[0][0]} filter at 1:, which is not the policy's"
    return ""


def _leaf_difference(leaf: LeafQdisc, got: backend.Qdisc | None) -> str:
    if got is None:
        return "" if leaf.prefer else f"class {leaf.parent} has no queue of its own"
    choice: Qdisc | None = next((choice for choice in leaf.choices if choice.kind == got.kind), None)
    if choice is None:
        return f"class {leaf.parent} has a {got.kind} queue, which nobody asked for"
    wrong = tc_options.differs(got.kind, choice.options, tc_options.decode(got.kind, got.options))
    return f"queue {got.kind} of class {leaf.parent}: {wrong}" if wrong else ""


def delete_own_root(tc: Tc, device: str) -> None:
    """The kernel's default comes back where netc's root was; anything else stays."""
    found = tc.device(device)
    if found is not None and is_own(tc.root(found.ifindex)):
        tc.delete_qdisc(found.ifindex)


def delete_classes(tc: Tc, ifindex: int, bases: set[int]) -> None:
    """Every class of these generations, those inside others first."""
    _delete(tc, ifindex, {classid: item.parent for classid, item in tc.classes(ifindex).items() if base_of(classid) in bases})


def _delete_strays(tc: Tc, ifindex: int) -> None:
    """What somebody added to netc's root by hand: classes outside every generation, filters of HTB's own."""
    tc.delete_filters(ifindex, MAJOR)
    classes = tc.classes(ifindex).items()
    _delete(tc, ifindex, {number: item.parent for number, item in classes if base_of(number) == 0 and number not in (SHAPE, UNCLASSIFIED)})


def _delete(tc: Tc, ifindex: int, left: dict[int, int]) -> None:
    """These classes (class → its parent), those inside others first."""
    while left:
        for classid in [classid for classid in left if classid not in left.values()]:
            tc.delete_class(ifindex, classid)
            del left[classid]


def drain(tc: Tc, ifindex: int, bases: set[int]) -> None:
    """Wait until nothing waits in the classes of these generations, at most DRAIN seconds."""
    end = time.monotonic() + DRAIN
    while time.monotonic() < end:
        if not any(item.stats.qlen for classid, item in tc.classes(ifindex).items() if base_of(classid) in bases):
            return
        time.sleep(_POLL)
