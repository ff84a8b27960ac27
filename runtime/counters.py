"""The one reading of every counter of an installed bundle, over all backends, and the balance of each stage.

Packets are packets as the stage sees them; bytes are layer 2 without FCS (where nft leaves the Ethernet header out, its backend has
added it back). A stage balances when seen = rules + default + control + handed-on (LANGUAGE.md, meaning 10).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from compiler import bundle as bundles
from compiler.bundle import Bundle
from runtime import plan
from runtime.context import Context

BALANCED_KINDS = ("rule", "default", "control", "handed-on", "carried")
STAGES = ("xdp", "ingress", "conntrack", "egress", "steer", "tc")
_BACKEND_OF = {"xdp": "xdp", "steer": "xdp", "tc": "xdp", "ingress": "nft", "conntrack": "nft", "egress": "nft"}


@dataclass(frozen=True, slots=True)
class Reading:
    """One counter's value. drops and backlog only for classes, else None."""

    counter: bundles.Counter
    packets: int
    bytes: int
    drops: int | None = None
    backlog: int | None = None


@dataclass(frozen=True, slots=True)
class Balance:
    """One list of rules in one stage: how many packets it saw on entry, and how many its counters account for."""

    chain: str
    stage: str
    seen: int
    counted: int

    @property
    def gap(self) -> int:
        return self.seen - self.counted


def read(context: Context, bundle: Bundle) -> list[Reading]:
    """Every counter of `bundle`, in its order. Raises StepError where a backend cannot be read."""
    values = {name: _backend_values(name, context, bundle) for name in {_BACKEND_OF.get(c.stage, "xdp") for c in bundle.counters}}
    classes = _backend_values("tc", context, bundle) if bundle.trees else {}
    return [_reading(counter, values[_BACKEND_OF.get(counter.stage, "xdp")], classes) for counter in bundle.counters]


def balances(readings: Iterable[Reading]) -> list[Balance]:
    """For each chain and stage that has a `seen`: what it saw and what it accounts for."""
    seen: dict[tuple[str, str], int] = {}
    counted: dict[tuple[str, str], int] = {}
    for reading in readings:
        key = (chain_of(reading.counter), reading.counter.stage)
        if reading.counter.kind == "seen":
            seen[key] = seen.get(key, 0) + reading.packets
        elif reading.counter.kind in BALANCED_KINDS or (reading.counter.kind == "class" and reading.counter.stage == "tc"):
            counted[key] = counted.get(key, 0) + reading.packets
    return [Balance(chain, stage, value, counted.get((chain, stage), 0)) for (chain, stage), value in seen.items()]


def unbalanced(first: Sequence[Reading], middle: Sequence[Reading], last: Sequence[Reading]) -> list[Balance]:
    """The stages that do not add up, judged from three readings in a row: seen, rules, seen.

    Under traffic no two counters are read at the same moment; what the rules say in the middle has to lie between what was seen
    before and after. When traffic stands still the three are equal and the test is exact.
    """
    before = {(b.chain, b.stage): b.seen for b in balances(first)}
    after = {(b.chain, b.stage): b.seen for b in balances(last)}
    wrong = []
    for balance in balances(middle):
        low, high = before[balance.chain, balance.stage], after[balance.chain, balance.stage]
        if not low <= balance.counted <= high:
            wrong.append(Balance(balance.chain, balance.stage, high if balance.counted > high else low, balance.counted))
    return wrong


def chain_of(counter: bundles.Counter) -> str:
    """wan.in of wan.in.ssh."""
    return counter.name.rpartition(".")[0]


def value(readings: Iterable[Reading], name: str, what: str) -> int:
    """A counter by name as an expectation means it: `seen` is what the first stage saw, anything else the sum over its stages.

    what: packets, bytes or drops. Raises KeyError for an unknown counter, ValueError where it has no drops.
    """
    found = sorted((r for r in readings if r.counter.name == name), key=lambda r: STAGES.index(r.counter.stage))
    if not found:
        raise KeyError(name)
    if found[0].counter.kind == "seen":
        found = found[:1]
    numbers = [getattr(reading, what) for reading in found]
    if None in numbers:
        raise ValueError(f"{name} has no {what}")
    return sum(numbers)


def as_json(reading: Reading) -> dict[str, object]:
    """One counter for `--json`; keys never change their meaning."""
    counter = reading.counter
    shown: dict[str, object] = {
        "name": counter.name, "stage": counter.stage, "kind": counter.kind, "verdict": counter.verdict, "file": counter.file,
        "line": counter.line, "text": counter.text, "packets": reading.packets, "bytes": reading.bytes,
    }  # fmt: skip
    if reading.drops is not None:
        shown |= {"drops": reading.drops, "backlog": reading.backlog}
    return shown


def openmetrics(readings: Sequence[Reading]) -> str:
    """OpenMetrics text (openmetrics.io, 1.0): one family each for packets and bytes, labels name and stage."""
    lines = []
    for what, unit in (("packets", ""), ("bytes", "bytes"), ("drops", "")):
        rows = [(r.counter, getattr(r, what)) for r in readings if getattr(r, what) is not None]
        lines += [f"# TYPE netc_{what} counter", *([f"# UNIT netc_{what} {unit}"] if unit else []),
                  f"# HELP netc_{what} {what.capitalize()} that a rule, a default or a class counted."]  # fmt: skip
        lines += [f"netc_{what}_total{{{_labels(counter)}}} {count}" for counter, count in rows]
    return "\n".join([*lines, "# EOF"]) + "\n"


def _labels(counter: bundles.Counter) -> str:
    pairs = {"name": counter.name, "stage": counter.stage, "kind": counter.kind, "verdict": counter.verdict}
    return ",".join(f'{key}="{_escape(text)}"' for key, text in pairs.items())


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _backend_values(name: str, context: Context, bundle: Bundle) -> dict[object, object]:
    values: dict[object, object] = plan.backend(name).read_counters(context, bundle)
    return values


def _reading(counter: bundles.Counter, values: dict[object, object], classes: dict[object, object]) -> Reading:
    packets, octets = _pair(values.get((counter.stage, counter.name), values.get(counter.name, (0, 0))))
    of_class = classes.get(counter.name)
    if counter.kind == "class" and isinstance(of_class, dict):
        return Reading(counter, packets, octets, of_class["drops"], of_class["backlog"])
    return Reading(counter, packets, octets)


def _pair(value: object) -> tuple[int, int]:
    assert isinstance(value, tuple)
    packets, octets = value
    return int(packets), int(octets)
