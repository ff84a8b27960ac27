"""Where a tree of a bundle stands in this namespace: its device, and the numbers of its classes in one generation.

A bundle numbers its classes from 1:10 on, as if there were one generation. In the kernel the classes of generation N stand at
`class_base(N)` and above, and their qdiscs have the class's minor as their handle, so that the classes of two generations stand side by side:
the new ones are made, the classifier is swapped to them, the old ones go when they are empty.
"""

from __future__ import annotations

from dataclasses import dataclass

from compiler import bundle
from compiler.bundle import GENERATION_MINORS, Bundle, Tree
from runtime.backends import tc as backend
from runtime.backends.tc import Tc
from runtime.backends.tc_options import HtbParameters
from runtime.context import Context
from runtime.steps import StepError

MAJOR = 1 << 16
SHAPE, UNCLASSIFIED = MAJOR | 1, MAJOR | 2  # the same in every generation (compiler/targets/tc_tree.py)
_FIRST_MINOR = 0x10
_BASES = 7  # handles from 8000: on are the kernel's own to give
SIGNATURE = 28276
"""r2q of netc's root, "nt": HTB keeps the number, dumps it, and never uses it, as every netc class has a quantum. So a root of netc's is known
as such without any state on disk, also after a crash."""


@dataclass(frozen=True, slots=True)
class Place:
    """One tree on its device. device: the nic's own for `out`, the ifb's name for `in`."""

    tree: Tree
    nic_device: str
    device: str

    @property
    def words(self) -> str:
        return f"shape {self.tree.nic} {self.tree.direction}" + ("" if self.tree.direction == "out" else f" ({self.device})")

    @property
    def leaves(self) -> frozenset[str]:
        return frozenset(leaf.parent for leaf in self.tree.leaves)


def place(context: Context, tree: Tree) -> Place:
    """Raises StepError when the tree's nic is bound to no device here."""
    try:
        device = context.device(tree.nic)
    except KeyError:
        raise StepError(f"shape {tree.nic} {tree.direction}", f"nic {tree.nic} is bound to no device", f"add --nic {tree.nic}=DEVICE") from None
    return Place(tree, device.name, device.name if tree.direction == "out" else ifb_name(device.ifindex))


def ifb_name(ifindex: int) -> str:
    """netc's ifb for the device with this index: an index stays when policies renumber their nics."""
    return f"netc-ifb{ifindex}"


def trees(bundle: Bundle | None) -> dict[tuple[str, str], Tree]:
    return {(tree.nic, tree.direction): tree for tree in (bundle.trees if bundle else ())}


def class_base(generation: int) -> int:
    """What this generation adds to every minor of the policy's classes: 1000, 2000, … 7000 (hexadecimal) in turn."""
    return (generation % _BASES + 1) * GENERATION_MINORS


def base_of(classid: int) -> int:
    """The generation's base of a class; 0 for the two that belong to no generation."""
    return (classid & 0xFFFF) // GENERATION_MINORS * GENERATION_MINORS


def number(text: str, base: int) -> int:
    """A bundle's handle (`1:10`, `10:`, `root`) in the generation at `base`."""
    value = backend.handle(text)
    if value == backend.ROOT:
        return value
    major, minor = value >> 16, value & 0xFFFF
    if minor:  # a class
        return value + (base if minor >= _FIRST_MINOR else 0)
    return value if major < _FIRST_MINOR else (major + base) << 16  # a qdisc: `1:`, or a leaf named after its class


def parameters(item: bundle.TcClass) -> HtbParameters:
    return HtbParameters(item.rate, item.ceil, item.burst, item.cburst, item.prio, item.quantum, item.overhead)


def find_device(tc: Tc, name: str) -> backend.Device:
    """Raises StepError where the device is not in this namespace."""
    device = tc.device(name)
    if device is None:
        raise StepError(f"shaping on {name}", "there is no such device in this network namespace", "see: ip link")
    return device


def is_own(root: backend.Qdisc | None) -> bool:
    """Whether this root qdisc is netc's: an HTB `1:` with netc's signature."""
    from runtime.backends import tc_options

    return root is not None and root.kind == "htb" and root.handle == MAJOR and tc_options.decode_htb(root.options)[0] == SIGNATURE


def refuse_foreign(root: backend.Qdisc | None, device: str) -> None:
    """Only the kernel's own default (handle 0) or netc's root may be replaced. Raises StepError."""
    if root is None or root.handle == 0 or is_own(root):
        return
    raise StepError(
        f"shaping on {device}", f"it has a root qdisc of somebody else's: {root.kind} {backend.words(root.handle)}",
        f"netc never replaces what it did not make unasked; if it is not needed: tc qdisc del dev {device} root; to replace it until `netc remove`: --take-over",
    )  # fmt: skip
