"""What a legal program is. Runs after the front end and after every pass: a pass that breaks a rule is found at once.

`check` looks at the whole program and raises one IrError with every violation; it assumes the types of `ir` (mypy and
`ir_text.parse` hold them). A violation is a mistake of netc's own, so the texts speak of nodes, not of what a policy should say.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from compiler import ir
from compiler.ir_spec_expr import check_expr, check_set

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
DEVICE = re.compile(r"[A-Za-z0-9_.:@-]{1,15}\Z")  # IFNAMSIZ, no `/` or space
RESERVED = frozenset(("default", "control", "seen", "handed-on"))
VERDICTS = ("pass", "drop")
XDP_MODES = ("native", "generic", "offload", "none")
Faults = Iterator[str]
Sets = Mapping[str, ir.Set]


class IrError(Exception):
    """A program that no pass may hand on. `violations`: each one line, beginning with the node's name."""

    def __init__(self, violations: list[str]) -> None:
        super().__init__("illegal program:\n" + "\n".join(f"  {line}" for line in violations))
        self.violations = violations


def check(program: ir.Program) -> None:
    """Raises IrError with everything that is illegal."""
    violations = list(_program(program))
    if violations:
        raise IrError(violations)


def _program(program: ir.Program) -> Faults:
    nics = {nic.name for nic in program.nics}
    sets = {item.name: item for item in program.sets}
    yield from _unique("nic", (nic.name for nic in program.nics))
    yield from _unique("set", (item.name for item in program.sets))
    yield from _unique("chain", (f"{c.nic} {c.direction} {c.to or ''}".strip() for c in program.chains))
    yield from _unique("steer of", (steer.nic for steer in program.steers))
    yield from _unique("shape of", (f"{shape.nic} {shape.direction}" for shape in program.shapes))
    for nic in program.nics:
        yield from _of(f"nic {nic.name}", _nic(nic))
    for item in program.sets:
        yield from _of(f"set {item.name}", (*_name(item.name), *check_set(item, sets)))
    for chain in program.chains:
        yield from _of(f"chain {chain.name}", _chain(chain, nics, sets))
    for steer in program.steers:
        yield from _of(f"steer {steer.name}", _steer(steer, nics, sets))
    for shape in program.shapes:
        yield from _of(f"shape {shape.name}", _shape(shape, nics, sets))
    for setting in program.settings:
        yield from _of(f"setting {setting.group} {setting.key}", _setting(setting, nics))
    for protect in program.protects:
        yield from _of("protect", (*_known(protect.nic, nics), *check_expr(protect.when, sets)))
    for expect in program.expects:
        yield from _of(f"expect {expect.nic}", _expect(expect, nics))
    for scenario in program.tests:
        for step in scenario.steps:
            yield from _of(f"test {scenario.name!r}: {step.kind}", _step(step, nics, sets))


def _of(place: str, faults: Iterable[str]) -> Faults:
    return (f"{place}: {fault}" for fault in faults)


def _unique(what: str, names: Iterable[str]) -> Faults:
    return (f"{what} {name}: there are {count} of it" for name, count in Counter(names).items() if count > 1)


def _name(name: str) -> Faults:
    if not NAME.match(name):
        yield f"`{name}` is no name: letters, digits, - and _, at most 64"


def _known(nic: str, nics: set[str]) -> Faults:
    if nic not in nics:
        yield f"there is no nic `{nic}`"


def _nic(nic: ir.Nic) -> Faults:
    yield from _name(nic.name)
    if not DEVICE.match(nic.device):
        yield f"`{nic.device}` is no device name"
    if nic.xdp not in XDP_MODES:
        yield f"`{nic.xdp}` is no XDP mode"


def _chain(chain: ir.Chain, nics: set[str], sets: Sets) -> Faults:
    yield from _known(chain.nic, nics)
    if chain.direction == "forward":
        yield from _known(chain.to or "", nics)
        wanted = f"{chain.nic}->{chain.to}"
    else:
        wanted = f"{chain.nic}.{chain.direction}"
        if chain.direction not in ("in", "out") or chain.to is not None:
            yield f"direction `{chain.direction}` to {chain.to}"
    if chain.name != wanted:
        yield f"its name should be {wanted}"
    if chain.default not in VERDICTS:
        yield f"default `{chain.default}`: it is pass or drop"
    yield from _unique("rule", (rule.name for rule in chain.rules))
    legal: set[int] = set()
    for rule in chain.rules:
        if faults := list(_rule(rule, chain.name, sets, legal)):
            yield from _of(f"rule {rule.name}", faults)


def _rule(rule: ir.Rule, chain: str, sets: Sets, legal: set[int]) -> Faults:
    yield from _name(rule.name)
    if rule.name in RESERVED:
        yield "the name is reserved"
    if rule.verdict not in VERDICTS:
        yield f"verdict `{rule.verdict}`: it is pass or drop"
    yield from check_expr(rule.when, sets, legal)
    if rule.limit is not None:
        yield from _limit(rule.limit, f"{chain}.{rule.name}")
    for effect in rule.effects:
        yield from _effect(effect, sets)
    if rule.covered and (rule.when != ir.Const(False) or rule.limit or rule.effects):
        yield f"covered by {', '.join(rule.covered)}, and still judges"


def _limit(limit: ir.Limit, name: str) -> Faults:
    if limit.name != name:
        yield f"its limit is named {limit.name}"
    if limit.interval < 1 or limit.burst < 1 or limit.size < 1:
        yield f"limit: interval {limit.interval}, burst {limit.burst}, size {limit.size} are at least 1"
    if limit.per not in (None, ir.Field.SRC, ir.Field.DST):
        yield f"limit: per {limit.per}: it is src or dst"
    if not 0 <= limit.v4_prefix <= 32 or not 0 <= limit.v6_prefix <= 128:
        yield f"limit: prefix lengths {limit.v4_prefix}, {limit.v6_prefix}"


def _effect(effect: ir.Effect, sets: Sets) -> Faults:
    match effect:
        case ir.Add(name, field, timeout):
            target = sets.get(name)
            if target is None or target.size is None:
                yield f"add: `{name}` is no dynamic set"
            elif target.type != "address" or field not in (ir.Field.SRC, ir.Field.DST):
                yield f"add: {field} into `{name}`: addresses go into address sets"
            if timeout is not None and timeout < 1:
                yield f"add: a timeout of {timeout} ns"
        case ir.Sample(one_in) if one_in < 1:
            yield f"sample 1/{one_in}"
        case ir.SetDscp(value) if not 0 <= value < 64:
            yield f"set dscp {value}: it has 6 bits"


def _steer(steer: ir.Steer, nics: set[str], sets: Sets) -> Faults:
    yield from _known(steer.nic, nics)
    if steer.name != f"{steer.nic}.steer":
        yield f"its name should be {steer.nic}.steer"
    yield from _unique("rule", (rule.name for rule in steer.rules))
    for rule in steer.rules:
        faults = (*_name(rule.name), *check_expr(rule.when, sets), *_target(rule.target, nics))
        yield from _of(f"rule {rule.name}", faults)
        if rule.name in RESERVED:
            yield f"rule {rule.name}: the name is reserved"
    if steer.default is not None:
        yield from _of("default", _target(steer.default, nics))


def _target(target: ir.Target, nics: set[str]) -> Faults:
    if target.kind in ("queues", "cpus"):
        if not target.numbers or min(target.numbers) < 0 or len(set(target.numbers)) < len(target.numbers):
            yield f"to {target.kind} {target.numbers}: different numbers from 0 on, at least one"
    elif target.kind == "nic":
        yield from _known(target.name, nics)
    elif target.kind == "socket":
        yield from _name(target.name)
    elif target.kind == "drop":
        if target.numbers or target.name:
            yield f"to drop {target.numbers} {target.name}: it goes nowhere"
    else:
        yield f"`{target.kind}` is no target"


def _shape(shape: ir.Shape, nics: set[str], sets: Sets) -> Faults:
    yield from _known(shape.nic, nics)
    if shape.direction not in ("in", "out") or shape.name != f"{shape.nic}.shape.{shape.direction}":
        yield f"its name should be {shape.nic}.shape.in or .out"
    if shape.rate < 1:
        yield f"a rate of {shape.rate} bit/s"
    yield from _unique("class", (item.name for item in _all_classes(shape.classes)))
    yield from _classes(shape.classes, shape.rate, sets)


def _all_classes(classes: tuple[ir.Class, ...]) -> Iterator[ir.Class]:
    for item in classes:
        yield item
        yield from _all_classes(item.classes)


def _classes(classes: tuple[ir.Class, ...], rate: int, sets: Sets) -> Faults:
    """The classes of one parent, whose rate (bit/s) their guarantees share."""
    if sum(item.when is None for item in classes) != 1:
        yield "in each list of classes exactly one is the default"
    if sum(item.min or 0 for item in classes) > rate:
        yield f"the guarantees exceed the {rate} bit/s that there are"
    for item in classes:
        place = f"class {item.name}"
        yield from _of(place, _name(item.name))
        if item.when is not None:
            yield from _of(place, check_expr(item.when, sets))
        least, most = item.min or 0, rate if item.max is None else item.max
        if least < 0 or most < 1 or least > most or item.share < 1 or item.min == 0:
            yield f"{place}: min {item.min}, max {item.max}, share {item.share}"
        if item.urgent and item.max is None:
            yield f"{place}: urgent needs a max"
        if item.classes:
            yield from _classes(item.classes, min(rate, most), sets)


def _setting(setting: ir.Setting, nics: set[str]) -> Faults:
    if setting.nic:
        yield from _known(setting.nic, nics)
    if not setting.group or not setting.key:
        yield "a setting has a group and a key"


def _expect(expect: ir.Expect, nics: set[str]) -> Faults:
    yield from _known(expect.nic, nics)
    if expect.window < 1 or expect.otherwise not in ("roll-back", "warn"):
        yield f"over {expect.window} ns else {expect.otherwise}"
    for item in expect.assertions:
        if item.what not in ("packets", "bytes", "drops") or item.op not in ("<", "<=", "=", ">=", ">"):
            yield f"{item.counter} {item.what} {item.op}"
        if not math.isfinite(item.bound) or item.bound < 0:
            yield f"{item.counter}: a bound of {item.bound}"


def _step(step: ir.Step, nics: set[str], sets: Sets) -> Faults:
    if step.over < 0 or step.count < 1:
        yield f"{step.count} packets over {step.over} ns"
    if step.kind in ("packet", "send"):
        yield from _known(step.nic, nics)
        if step.packet is None or step.direction not in ("in", "out") or step.verdict not in VERDICTS:
            yield f"direction `{step.direction}`, verdict `{step.verdict}`, packet {step.packet}"
        if step.kind == "send" and not 0 <= step.low <= step.high <= step.count:
            yield f"gives {step.low}..{step.high} of {step.count}"
    elif step.kind == "given":
        target = sets.get(step.set)
        if target is None or target.size is None:
            yield f"`{step.set}` is no dynamic set"
        if not 0 <= step.member <= ir.V4_LAST:
            yield f"{step.member} is no address"
    elif step.kind != "wait":
        yield "this is no kind of step"
