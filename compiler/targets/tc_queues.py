"""The leaf qdiscs a class may ask for, with their options under tc's names and in the kernel's units.

Times come in ns and leave in microseconds (sfq's `perturb`: seconds), sizes are bytes or packets as tc counts them. What is not in KINDS is
an error: the runtime's encoder (runtime/backends/tc_options.py) knows exactly these. Source: include/uapi/linux/pkt_sched.h, tc(8).
"""

from __future__ import annotations

from collections.abc import Mapping

from compiler import bundle, ir
from compiler.diagnostics import Diagnostic

COUNT, MICROSECONDS, SECONDS, FLAG = "count", "us", "s", "flag"

KINDS: Mapping[str, Mapping[str, str]] = {
    "pfifo": {"limit": COUNT},
    "bfifo": {"limit": COUNT},
    "sfq": {"limit": COUNT, "quantum": COUNT, "perturb": SECONDS},
    "codel": {"limit": COUNT, "target": MICROSECONDS, "interval": MICROSECONDS, "ecn": FLAG},
    "fq_codel": {
        "limit": COUNT, "flows": COUNT, "quantum": COUNT, "target": MICROSECONDS, "interval": MICROSECONDS, "ce_threshold": MICROSECONDS,
        "ecn": FLAG, "memory_limit": COUNT,
    },
    "fq": {"limit": COUNT, "flow_limit": COUNT, "quantum": COUNT, "initial_quantum": COUNT},
    "cake": {"rtt": MICROSECONDS, "target": MICROSECONDS, "memlimit": COUNT, "nat": FLAG, "wash": FLAG, "split-gso": FLAG},
}  # fmt: skip

# Without a limit, pfifo takes the device's txqueuelen, which is 0 on some virtual devices: a queue of one packet.
ALWAYS = {"pfifo": {"limit": 1_000}, "bfifo": {"limit": 1_600_000}}
DEFAULT = (ir.Queue("fq_codel"), ir.Queue("pfifo"))
"""What a class gets that asks for no queue: fair and short where the kernel can, else a plain one."""

_NS = {MICROSECONDS: 1_000, SECONDS: 1_000_000_000}
_FLAGS: Mapping[int | str, int] = {1: 1, "on": 1, "": 1, 0: 0, "off": 0}


def leaf(cls: ir.Class, minor: int) -> tuple[bundle.LeafQdisc, list[Diagnostic]]:
    """The alternatives for the queue of a class, best first, and what is wrong with them."""
    handle, parent = f"{minor:x}:", f"1:{minor:x}"
    found: list[Diagnostic] = []
    choices = []
    for queue in cls.queues or DEFAULT:
        options, wrong = _options(cls, queue)
        found += wrong
        choices.append(bundle.Qdisc(queue.kind, handle, parent, options))
    return bundle.LeafQdisc(parent, handle, tuple(choices), cls.prefer_queue), found


def _options(cls: ir.Class, queue: ir.Queue) -> tuple[dict[str, int | str | None], list[Diagnostic]]:
    known = KINDS.get(queue.kind)
    if known is None:
        return {}, [Diagnostic("N952", f"class {cls.name}: netc knows no queue of kind {queue.kind!r}", cls.span, "use " + ", ".join(KINDS))]
    options: dict[str, int | str | None] = dict(ALWAYS.get(queue.kind, {}))
    found: list[Diagnostic] = []
    for name, value in queue.options:
        unit = known.get(name)
        number = None if unit is None else _in_kernel_units(value, unit)
        if unit is None:
            found.append(Diagnostic("N952", f"class {cls.name}: {queue.kind} has no option {name!r}", cls.span, f"it has {', '.join(known)}"))
        elif number is None:
            found.append(Diagnostic("N952", f"class {cls.name}: {queue.kind} cannot take {name} {value}", cls.span, _wanted(unit)))
        else:
            options[name] = number
    if queue.kind == "cake" and isinstance(rtt := options.get("rtt"), int):
        options.setdefault("target", max(1, rtt // 20))  # as tc-cake(8) has it; the kernel does not derive it
    return options, found


def _in_kernel_units(value: int | str, unit: str) -> int | None:
    """The number the kernel is told, or None where it would have to be rounded or does not fit."""
    if unit == FLAG:
        return _FLAGS.get(value)
    if not isinstance(value, int):
        return None
    whole, rest = divmod(value, _NS.get(unit, 1))
    return whole if rest == 0 and 0 < whole < 1 << 31 else None


def _wanted(unit: str) -> str:
    return {
        COUNT: "use a whole number from 1 to 2147483647",
        MICROSECONDS: "use a time in whole microseconds, such as 5ms",
        SECONDS: "use a time in whole seconds, such as 10s",
        FLAG: "use on or off",
    }[unit]
