"""The classes of a shape as HTB classes: their numbers, their place, their rates and queues.

Class ids in a bundle are those of generation 0; the runtime adds the generation's base (a multiple of `bundle.GENERATION_MINORS`) to
every minor from FIRST_MINOR on, so that the classes of two generations stand side by side while the classifier is swapped:

    1:    root; what no program has classified goes to 1:2
    1:1   the shape's rate; parent of everything
    1:2   unclassified: packets sent while no classifier is attached; never past the shape's rate
    1:10… the policy's classes, in the order of the text
"""

from __future__ import annotations

from dataclasses import dataclass

from compiler import bundle, ir
from compiler.targets import tc_queues, tc_rates

MAJOR, SHAPE_MINOR, UNCLASSIFIED_MINOR, FIRST_MINOR = 1, 1, 2, 0x10
MAX_CLASSES = bundle.GENERATION_MINORS - FIRST_MINOR
MAX_DEPTH = 7  # TC_HTB_MAXDEPTH is 8 levels, and 1:1 is one of them


@dataclass(frozen=True, slots=True)
class Numbered:
    """A class of the policy with its place in the tree. ancestors: outermost first, without the class itself."""

    cls: ir.Class
    minor: int
    ancestors: tuple[Numbered, ...] = ()

    @property
    def parent(self) -> int:
        return self.ancestors[-1].minor if self.ancestors else SHAPE_MINOR


def number(shape: ir.Shape) -> tuple[Numbered, ...]:
    """The shape's classes in the order of the text, parents before their children, with minors from FIRST_MINOR on."""
    made: list[Numbered] = []

    def walk(classes: tuple[ir.Class, ...], ancestors: tuple[Numbered, ...]) -> None:
        for cls in classes:
            made.append(Numbered(cls, FIRST_MINOR + len(made), ancestors))
            walk(cls.classes, (*ancestors, made[-1]))

    walk(shape.classes, ())
    return tuple(made)


def tree(shape: ir.Shape) -> bundle.Tree:
    """The HTB tree of a shape that `check` has nothing against."""
    one = tc_rates.quantum_of_one_share(shape.rate)
    whole = tc_rates.rates(shape.rate, shape.rate, quantum=one)
    rest = tc_rates.rates(tc_rates.FLOOR, shape.rate, quantum=one)
    classes = [
        _tc_class(shape, SHAPE_MINOR, "1:", whole, shape.name),
        _tc_class(shape, UNCLASSIFIED_MINOR, "1:1", rest, f"{shape.name}.unclassified"),
    ]
    unclassified, _ = tc_queues.leaf(ir.Class("unclassified", None, queues=(ir.Queue("pfifo"),)), UNCLASSIFIED_MINOR)
    leaves = [unclassified]
    ceils = {SHAPE_MINOR: shape.rate}
    for item in number(shape):
        cls = item.cls
        ceil = ceils[item.minor] = tc_rates.ceiling(cls, ceils[item.parent])
        numbers = tc_rates.rates(tc_rates.guarantee(cls), ceil, urgent=cls.urgent, quantum=one * cls.share)
        classes.append(_tc_class(shape, item.minor, f"1:{item.parent:x}", numbers, f"{shape.name}.{cls.name}"))
        if not cls.classes:
            leaves.append(tc_queues.leaf(cls, item.minor)[0])
    root = bundle.Qdisc("htb", "1:", "root", {"default": UNCLASSIFIED_MINOR})
    return bundle.Tree(shape.nic, shape.direction, root, tuple(classes), tuple(leaves))


def _tc_class(shape: ir.Shape, minor: int, parent: str, numbers: tc_rates.Rates, counter: str) -> bundle.TcClass:
    return bundle.TcClass(
        classid=f"1:{minor:x}", parent=parent, rate=numbers.rate, ceil=numbers.ceil, burst=numbers.burst, cburst=numbers.cburst,
        prio=numbers.prio, quantum=numbers.quantum, overhead=shape.overhead, counter=counter,
    )  # fmt: skip
