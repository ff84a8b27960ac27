"""Somebody else's root qdisc on a device to be shaped: recognised, named, and with --take-over kept and put back.

The whole tree (qdiscs, classes, filters) is kept as the messages that make it again; whether they do is tried in a namespace of its own before
anything is touched. While a tree is kept the device queues as netc's policy says; in between there is the kernel's default queue, which drops nothing.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass

from runtime import boot
from runtime.backends import link, tc_dump
from runtime.backends.netlink import NetlinkError
from runtime.backends.tc import Tc
from runtime.context import Context
from runtime.steps import Step, StepError, tc_place
from runtime.steps.foreign_kept import Keeper, KeptQdisc

_NEEDS = "taking a qdisc over needs CAP_SYS_ADMIN (its restoration is tried in a namespace of its own): run it as root with all capabilities"


def taking(context: Context, device: str, generation: int, phase: str) -> list[Step]:
    """The step that takes a foreign root off, if this generation does that or did it before a crash."""
    kept = Keeper(context).all().qdiscs.get(device)
    if kept is not None and kept.generation == generation:
        return [TakeRoot(context, device, generation, phase, kept.words)]
    root = foreign_root(device)
    if not context.take_over or root is None:
        return []
    text = f"take over the root qdisc of {device}"
    if kept is not None:
        raise StepError(text, f"{kept.words} is kept for it already, and {root} is another one", "take the policy off first: netc remove")
    _proved(text, device)
    return [TakeRoot(context, device, generation, phase, root)]


def putting_back(context: Context, devices: set[str] | None) -> list[Step]:
    """For the devices that netc shapes no more (None: all) what is kept of them."""
    kept = Keeper(context).all().qdiscs
    return [PutRootBack(context, item) for name, item in sorted(kept.items()) if devices is None or name in devices]


def foreign_root(device: str) -> str | None:
    """The root qdisc in words, where it is neither netc's nor the kernel's default."""
    try:
        ifindex = link.get(device).ifindex
    except NetlinkError:
        return None
    with Tc() as tc:
        root = tc.root(ifindex)
    from runtime.backends.tc import words

    return None if root is None or root.handle == 0 or tc_place.is_own(root) else f"{root.kind} {words(root.handle)}"


@dataclass(slots=True)
class TakeRoot:
    """Their tree is kept and goes; the kernel's default queue is there until netc's tree is."""

    context: Context
    device: str
    generation: int
    phase: str
    words: str
    of_others: bool = True

    @property
    def text(self) -> str:
        return f"take over the root qdisc of {self.device} ({self.words}), which is kept for `netc remove`"

    def do(self) -> None:
        seen = foreign_root(self.device)
        if seen != self.words:
            raise StepError(self.text, f"it is {seen or 'no foreign one'} by now", "see what changed it, then apply again")
        messages = _proved(self.text, self.device)
        ifindex = link.get(self.device).ifindex
        keeper = Keeper(self.context)
        keeper.put_qdisc(KeptQdisc(self.device, ifindex, self.words, messages, self.generation, boot.boot_id()))
        try:
            tc_dump.delete_root(ifindex)
        except NetlinkError as error:
            keeper.forget_qdisc(self.device)
            raise StepError(self.text, error.words) from None

    def undo(self) -> None:
        keeper = Keeper(self.context)
        item = keeper.all().qdiscs.get(self.device)
        if item is not None and item.generation == self.generation:
            put_back(item)
            keeper.forget_qdisc(self.device)

    def check(self) -> None:
        """netc's own root, which is there now, is checked by its own step."""


@dataclass(slots=True)
class PutRootBack:
    """Their tree is the device's again."""

    context: Context
    item: KeptQdisc
    phase: str = "clean"
    of_others: bool = True

    @property
    def text(self) -> str:
        return f"put the root qdisc {self.item.words} back on {self.item.device}"

    def do(self) -> None:
        put_back(self.item)
        Keeper(self.context).forget_qdisc(self.item.device)

    def undo(self) -> None:
        """Cleaning is never undone."""

    def check(self) -> None:
        """A clean step is not part of what has to hold."""


def put_back(item: KeptQdisc) -> None:
    """Make a kept tree again, unless it is there; a device that was made anew begins with its own. Raises StepError, and then it is still kept."""
    text = f"put the root qdisc {item.words} back on {item.device}"
    try:
        if link.get(item.device).ifindex != item.ifindex:
            return
        present = foreign_root(item.device)
        if present is not None:
            if present != item.words or tc_dump.save(item.ifindex) != item.messages:
                raise StepError(text, f"somebody has put {present} there meanwhile", f"if it is not needed: tc qdisc del dev {item.device} root; then netc remove")
            return
        tc_dump.restore(item.ifindex, item.messages)
    except NetlinkError as error:
        if error.errno != errno.ENODEV:
            raise StepError(text, error.words) from None
    except tc_dump.UnsavableError as error:
        raise StepError(text, str(error)) from None


def _proved(text: str, device: str) -> tuple[tc_dump.Message, ...]:
    """The tree as messages of which it is proved that they make it again."""
    try:
        seen = link.get(device)
        messages = tc_dump.save(seen.ifindex)
        tc_dump.prove(seen, messages)
    except tc_dump.UnsavableError as error:
        mend = f"netc takes over only what it can put back; if it is not needed: tc qdisc del dev {device} root"
        raise StepError(text, str(error), mend) from None
    except NetlinkError as error:
        raise StepError(text, error.words, _NEEDS if error.errno == errno.EPERM else "") from None
    return messages
