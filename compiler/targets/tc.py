"""Lowering of shapes: an HTB tree for each direction, and the programs that put packets into its classes.

The tree of `shape NIC out` stands on the device, that of `shape NIC in` on an ifb device of netc's own. Class ids in a bundle are those of
generation 0; the runtime adds the generation's base (`bundle.GENERATION_MINORS`) to every minor from FIRST_MINOR on, so that the classes
of two generations stand side by side while the classifier is swapped (make before break):

    1:    root; what no program has classified goes to 1:2
    1:1   the shape's rate; parent of everything
    1:2   unclassified: packets sent while no classifier is attached; never past the shape's rate
    1:10… the policy's classes, in the order of the text
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from compiler import bundle, ir, place
from compiler.diagnostics import CompileError, Diagnostic
from compiler.targets import tc_classify, tc_queues, tc_rates

ROOT, SHAPE_MINOR, UNCLASSIFIED_MINOR, FIRST_MINOR = "1:", 1, 2, 0x10
MAX_CLASSES = bundle.GENERATION_MINORS - FIRST_MINOR
MAX_DEPTH = 7  # TC_HTB_MAXDEPTH is 8 levels, and 1:1 is one of them
RESERVED = ("seen", "unclassified")  # counter names of the shape itself


@dataclass(frozen=True, slots=True)
class TcParts:
    """What shaping adds to a bundle. sources: program name → C text."""

    trees: tuple[bundle.Tree, ...]
    maps: tuple[bundle.Map, ...]
    programs: tuple[bundle.Code, ...]
    counters: tuple[bundle.Counter, ...]
    sources: dict[str, str]


@dataclass(frozen=True, slots=True)
class Numbered:
    """A class of the policy with its place in the tree. ancestors: outermost first, without the class itself."""

    cls: ir.Class
    minor: int
    ancestors: tuple[Numbered, ...] = ()

    @property
    def parent(self) -> int:
        return self.ancestors[-1].minor if self.ancestors else SHAPE_MINOR


def lower(placed: place.Placed) -> TcParts:
    """Every shape of the placed program. Raises CompileError with everything that HTB or the classifier cannot express."""
    found = [finding for nic in placed.nics for shape in nic.shapes for finding in check(nic, shape)]
    if found:
        raise CompileError(found)
    trees = tuple(tree(shape) for nic in placed.nics for shape in nic.shapes)
    classified = tc_classify.lower(placed)
    return TcParts(trees, classified.maps, classified.programs, classified.counters, classified.sources)


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
    root = bundle.Qdisc("htb", ROOT, "root", {"default": UNCLASSIFIED_MINOR})
    return bundle.Tree(shape.nic, shape.direction, root, tuple(classes), tuple(leaves))


def _tc_class(shape: ir.Shape, minor: int, parent: str, numbers: tc_rates.Rates, counter: str) -> bundle.TcClass:
    return bundle.TcClass(
        classid=f"1:{minor:x}", parent=parent, rate=numbers.rate, ceil=numbers.ceil, burst=numbers.burst, cburst=numbers.cburst,
        prio=numbers.prio, quantum=numbers.quantum, overhead=shape.overhead, counter=counter,
    )  # fmt: skip


def check(nic: place.NicPlacement, shape: ir.Shape) -> list[Diagnostic]:
    """Everything about this shape that cannot be lowered, in the words of the policy."""
    found = [*_structure(shape), *tc_rates.findings(shape)]
    for item in number(shape):
        if not item.cls.classes:
            found += tc_queues.leaf(item.cls, item.minor)[1]
        elif item.cls.queues:
            found.append(Diagnostic("N950", f"class {item.cls.name} has classes of its own, so it holds no packets and can have no queue",
                                    item.cls.span, "give the queue to the classes inside it"))  # fmt: skip
        if len(item.ancestors) >= MAX_DEPTH:
            found.append(Diagnostic("N950", f"class {item.cls.name} is nested too deeply for HTB", item.cls.span, f"nest at most {MAX_DEPTH} deep"))
        found += _expression(item.cls)
    if shape.direction == "in":
        found += [_skipped(shape, chain) for chain in nic.chains if chain.early == "ingress" and chain.chain.direction == "in"]
    return found


def _structure(shape: ir.Shape) -> Iterator[Diagnostic]:
    names: set[str] = set(RESERVED)
    numbered = number(shape)
    for item in numbered:
        if item.cls.name in names:
            yield Diagnostic("N950", f"the class name {item.cls.name} is used twice or reserved in {shape.name}", item.cls.span, "choose another name")
        names.add(item.cls.name)
    if len(numbered) > MAX_CLASSES:
        yield Diagnostic("N950", f"{shape.name} has {len(numbered)} classes; there is room for {MAX_CLASSES}", shape.span, "merge classes")
    yield from _defaults(shape.classes, shape.name, shape.span)
    for item in numbered:
        if item.cls.classes:
            yield from _defaults(item.cls.classes, f"class {item.cls.name}", item.cls.span)


def _defaults(classes: tuple[ir.Class, ...], where: str, span: ir.Span) -> Iterator[Diagnostic]:
    """A packet must end in exactly one leaf, so each level has exactly one default."""
    if sum(cls.when is None for cls in classes) != 1:
        yield Diagnostic("N950", f"{where} needs exactly one default class: every packet has to be owed something", span,
                         "write one of its classes as: class rest { default }")  # fmt: skip


def _expression(cls: ir.Class) -> Iterator[Diagnostic]:
    if cls.when is not None and any(isinstance(part, ir.Connection) for part in _parts(cls.when)):
        yield Diagnostic("N950", f"class {cls.name} matches on connection tracking, which the classifier does not see", cls.span,
                         "match addresses, ports or dscp; let a filter rule `then set dscp` and match that")  # fmt: skip


def _parts(expr: ir.Expr) -> Iterator[ir.Expr]:
    yield expr
    if isinstance(expr, ir.Not):
        yield from _parts(expr.item)
    elif isinstance(expr, ir.And | ir.Or):
        for item in expr.items:
            yield from _parts(item)


def _skipped(shape: ir.Shape, chain: place.ChainPlacement) -> Diagnostic:
    """The kernel runs tcx before nf_ingress and marks what comes back from the ifb to skip both (net/core/dev.c, skb_skip_tc_classify)."""
    return Diagnostic("N953", f"{shape.name} sends packets through an ifb, and what comes back skips the nft ingress hook that judges {chain.chain.name}",
                      shape.span, "use `xdp native` or `xdp generic` on this nic, or write no shape in")  # fmt: skip
