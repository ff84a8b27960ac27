"""Lowering of shapes: an HTB tree for each direction (tc_tree.py), and the programs that put packets into its classes (tc_classify.py).

The tree of `shape NIC out` stands on the device, that of `shape NIC in` on an ifb device of netc's own. What HTB or the classifier cannot
express exactly is a CompileError: N950 the classes, N951 the rates, N952 the queues, N953 a shape `in` that would skip a filter.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from compiler import bundle, ir, place
from compiler.diagnostics import CompileError, Diagnostic
from compiler.source import Span
from compiler.targets import tc_classify, tc_queues, tc_rates
from compiler.targets.tc_tree import MAX_CLASSES, MAX_DEPTH, number, tree

RESERVED = ("seen", "unclassified")  # counter names of the shape itself


@dataclass(frozen=True, slots=True)
class TcParts:
    """What shaping adds to a bundle. sources: program name → C text."""

    trees: tuple[bundle.Tree, ...]
    maps: tuple[bundle.Map, ...]
    programs: tuple[bundle.Code, ...]
    counters: tuple[bundle.Counter, ...]
    sets: tuple[bundle.DynamicSet, ...]
    sources: dict[str, str]


def lower(placed: place.Placed) -> TcParts:
    """Every shape of the placed program. Raises CompileError with everything that HTB or the classifier cannot express."""
    found = [finding for nic in placed.nics for shape in nic.shapes for finding in check(nic, shape)]
    if found:
        raise CompileError(found)
    trees = tuple(tree(shape) for nic in placed.nics for shape in nic.shapes)
    classified = tc_classify.lower(placed)
    return TcParts(trees, classified.maps, classified.programs, classified.counters, classified.sets, classified.sources)


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


def _defaults(classes: tuple[ir.Class, ...], where: str, span: Span) -> Iterator[Diagnostic]:
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
