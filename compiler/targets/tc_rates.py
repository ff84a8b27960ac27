"""What HTB is told about each class: rate, ceil, bursts, quantum, prio; and which wishes HTB cannot keep.

Rates are bit/s in the policy, bytes/s in the kernel (include/uapi/linux/pkt_sched.h, tc_ratespec): only a multiple of 8 bit/s is exact, so
anything else is an error and never rounded. HTB always sends a leaf's own `rate`, whatever its parents say: guarantees that do not fit would
exceed the shape's rate, so they are an error too. A class without `min` still needs a rate: FLOOR, which is counted like a guarantee.
"""

from __future__ import annotations

from dataclasses import dataclass

from compiler import ir
from compiler.diagnostics import Diagnostic
from compiler.source import Span

FLOOR = 8_000  # bit/s owed to a class without `min`: HTB has no class with a rate of 0
HZ = 250  # HTB refills once a timer tick at worst: a bucket has to hold one tick's bytes
FRAME = 1600  # bytes: an Ethernet frame with two tags, and some room; HTB's own default mtu
MAX_QUANTUM = 60_000  # bytes, for share 1; HTB warns above 200,000 and below 1,000
MAX_SHARE = 1_000
MAX_OVERHEAD = 2_000  # bytes; the kernel's field is an unsigned 16 bit number
PRIO_URGENT, PRIO_OTHERS = 0, 1


@dataclass(frozen=True, slots=True)
class Rates:
    """One class in HTB's terms: bit/s and bytes."""

    rate: int
    ceil: int
    burst: int
    cburst: int
    prio: int
    quantum: int


def rates(rate: int, ceil: int, *, urgent: bool = False, quantum: int = 0) -> Rates:
    return Rates(rate, ceil, burst(rate), burst(ceil), PRIO_URGENT if urgent else PRIO_OTHERS, quantum)


def burst(rate: int) -> int:
    """Bytes that HTB's bucket needs for `rate` bit/s: a timer tick's worth, at least one frame."""
    return max(FRAME, -(-rate // (8 * HZ)))


def quantum_of_one_share(shape_rate: int) -> int:
    """Bytes of one deficit round for share 1: a millisecond of the shape's rate, at least a frame, so that shares stay exact for large
    (GSO) packets on fast links and rounds stay short on slow ones."""
    return min(MAX_QUANTUM, max(FRAME, shape_rate // 8_000))


def guarantee(cls: ir.Class) -> int:
    """What HTB will always send of this class, in bit/s: its `min`; without one what its own classes are owed, or FLOOR."""
    if cls.min is not None:
        return cls.min
    return max(FLOOR, sum(map(guarantee, cls.classes)))


def ceiling(cls: ir.Class, parent: int) -> int:
    """The most that this class may send: never more than its parent, so a larger `max` means the parent's."""
    return parent if cls.max is None else min(cls.max, parent)


def findings(shape: ir.Shape) -> list[Diagnostic]:
    """Everything about the rates of this shape that HTB could not keep exactly. Empty: all of it can be."""
    found = _number("rate", shape.rate, shape.span)
    if not 0 <= shape.overhead <= MAX_OVERHEAD:
        found.append(Diagnostic("N951", f"overhead {shape.overhead} cannot be had from HTB", shape.span, f"use 0 to {MAX_OVERHEAD} bytes"))
    return found + _fit(shape.classes, shape.rate, f"the shape's {shape.rate} bit/s", shape) + [
        finding for cls in shape.classes for finding in _class_findings(cls, shape.rate, shape)
    ]  # fmt: skip


def _class_findings(cls: ir.Class, parent_ceil: int, shape: ir.Shape) -> list[Diagnostic]:
    found: list[Diagnostic] = []
    for what, value in (("min", cls.min), ("max", cls.max)):
        if value is not None:
            found += _number(what, value, cls.span)
    ceil = ceiling(cls, parent_ceil)
    if guarantee(cls) > ceil:
        found.append(
            Diagnostic("N951", f"class {cls.name} is owed {guarantee(cls)} bit/s and may send at most {ceil} bit/s", cls.span,
                       f"lower its min, or raise the max (without min a class is owed {FLOOR} bit/s)")
        )  # fmt: skip
    if cls.urgent and cls.max is None:
        found.append(Diagnostic("N951", f"class {cls.name} is urgent without a max: it could starve every other class", cls.span, "add max RATE"))
    if not 1 <= cls.share <= MAX_SHARE:
        found.append(Diagnostic("N951", f"share {cls.share} of class {cls.name} is out of range", cls.span, f"use 1 to {MAX_SHARE}"))
    if cls.classes and cls.min is not None:
        found += _fit(cls.classes, cls.min, f"the min {cls.min} bit/s of class {cls.name}", shape)
    return found + [finding for inner in cls.classes for finding in _class_findings(inner, ceil, shape)]


def _fit(classes: tuple[ir.Class, ...], room: int, words: str, shape: ir.Shape) -> list[Diagnostic]:
    owed = sum(map(guarantee, classes))
    if owed <= room:
        return []
    parts = ", ".join(f"{cls.name} {guarantee(cls)}" for cls in classes)
    return [
        Diagnostic("N951", f"the guarantees of {shape.name} need {owed} bit/s of {words}: {parts}", shape.span,
                   f"lower a min (a class without min is owed {FLOOR} bit/s: HTB has no smaller one)")
    ]  # fmt: skip


def _number(what: str, value: int, span: Span) -> list[Diagnostic]:
    if value % 8 == 0 and FLOOR <= value < 1 << 40:
        return []
    return [
        Diagnostic("N951", f"{what} {value} bit/s cannot be set exactly: HTB counts whole bytes a second", span,
                   f"use a multiple of 8 bit/s from {FLOOR} bit/s up to 1 Tbit/s")
    ]  # fmt: skip
