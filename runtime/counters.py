"""The one reading of every counter of an installed bundle, over all backends, and the balance of each stage.

Packets are packets as the stage sees them; bytes are layer 2 without FCS (where nft leaves the Ethernet header out, its backend has
added it back). A stage balances when seen = rules + default + control + handed-on (LANGUAGE.md, meaning 10).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from compiler import bundle as bundles
from compiler.bundle import Bundle
from runtime import nic_counters, plan, retired, slots
from runtime.context import Context
from runtime.state import Store

BALANCED_KINDS = ("rule", "default", "control", "handed-on", "carried", "retired")
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


@dataclass(frozen=True, slots=True)
class Between:
    """Two stages of one list: what XDP handed on, and what the next stage judged of it."""

    chain: str
    stage: str
    handed: int
    judged: int


def between(readings: Sequence[Reading]) -> list[Between]:
    """For each chain with a stage behind XDP: its gap. It need not be zero (GRO, reassembly, drops of the stack, backlog)."""
    handed = {chain_of(r.counter): r.packets for r in readings if r.counter.stage == "xdp" and r.counter.kind == "handed-on"}
    carried = {(r.counter.stage, chain_of(r.counter)): r.packets for r in readings if r.counter.kind == "carried"}
    return [
        Between(chain, stage, handed[chain], seen - carried.get((stage, chain), 0))
        for (stage, chain), seen in seen_of(readings).items()
        if stage != "xdp" and chain in handed
    ]


def read(context: Context, bundle: Bundle) -> list[Reading]:
    """Every counter of `bundle` in its order, then for each stage what rules counted that are gone. Raises StepError, StateError."""
    return with_retired(read_kernel(context, bundle), _ledger(context, bundle))


def _ledger(context: Context, bundle: Bundle) -> retired.Ledger:
    """What is on disk; of a policy that is on trial what will be there once it is confirmed, for what the old one counted was seen, too."""
    store = Store(context.state)
    ledger = store.record().retired
    if not context.trial:
        return ledger
    from runtime import trial

    unfinished = trial.running(store)
    if unfinished is None or not unfinished.intent.old:
        return ledger
    return ledger_after(context, ledger, store.bundle(unfinished.intent.old), bundle)


def with_retired(readings: list[Reading], ledger: retired.Ledger) -> list[Reading]:
    """The kernel's readings with what came before: of counters that left and came back, and of rules that are gone."""
    readings = with_moved(readings, ledger)
    void = _void(readings, ledger)
    entries = {key: ledger[retired.key(*key)] for key in seen_of(readings) if retired.key(*key) in ledger and retired.key(*key) not in void}
    here = {(reading.counter.stage, reading.counter.name) for reading in readings}
    whole = [_continued(reading, entries) for reading in readings]
    for (stage, chain), entry in entries.items():
        gone = [total for name, total in entry.counters.items() if (stage, name) not in here]
        if gone:
            text = "counted by rules that are no longer in the policy"
            counter = bundles.Counter(f"{chain}.retired", stage, "retired", 0, "", "", 0, text)
            whole.append(Reading(counter, sum(packets for packets, _ in gone), sum(octets for _, octets in gone)))
    return whole


def with_moved(readings: Iterable[Reading], ledger: retired.Ledger) -> list[Reading]:
    """With what was counted in maps that are gone."""
    found = []
    for reading in readings:
        entry = ledger.get(retired.key(reading.counter.stage, chain_of(reading.counter)))
        packets, octets = entry.moved.get(reading.counter.name, (0, 0)) if entry else (0, 0)
        found.append(replace(reading, packets=reading.packets + packets, bytes=reading.bytes + octets) if packets else reading)
    return found


def _continued(reading: Reading, entries: dict[tuple[str, str], retired.Entry]) -> Reading:
    """An nft counter is made anew when its rule comes back: what it counted before is added."""
    stage, chain = reading.counter.stage, chain_of(reading.counter)
    entry = entries.get((stage, chain))
    if stage in retired.KEEPS_SLOTS or entry is None or reading.counter.name not in entry.counters:
        return reading
    packets, octets = entry.counters[reading.counter.name]
    return replace(reading, packets=reading.packets + packets, bytes=reading.bytes + octets)


def seen_of(readings: Iterable[Reading]) -> dict[tuple[str, str], int]:
    """(stage, chain) → packets seen on entry."""
    return {(r.counter.stage, chain_of(r.counter)): r.packets for r in readings if r.counter.kind == "seen"}


def ledger_after(context: Context, ledger: retired.Ledger, old: Bundle | None, new: Bundle | None) -> retired.Ledger:
    """The ledger for state.json, once `new` has taken `old`'s place and before what `old` left is cleaned up."""
    if old is None or new is None:
        return {}  # every counter begins at 0, or is gone
    staying = {(counter.stage, counter.name) for counter in new.counters}
    raw = read_kernel(context, old)
    void = _void(with_moved(raw, ledger), ledger)
    ledger = {place: entry for place, entry in ledger.items() if place not in void}
    before = with_retired(raw, ledger)
    if nics := [nic for nic, _, _ in slots.moves(old, new)]:
        ledger = retired.move(ledger, _leaving(old, host_counters(context, old, nics)), nics)
    if left := nic_counters.left(context, old, new):
        ledger = retired.move(ledger, _leaving(old, nic_counters.read(context, left)), ())
    stages = seen_of(with_moved(read_kernel(context, new), ledger))
    gone = {
        (r.counter.stage, r.counter.name): (r.packets, r.bytes)
        for r in before
        if (_is_balanced(r.counter) or (r.counter.kind == "seen" and (r.counter.stage, chain_of(r.counter)) not in stages))
        and r.counter.kind != "retired" and (r.counter.stage, r.counter.name) not in staying and r.packets
    }
    return retired.carry(ledger, gone, staying, stages)


def _leaving(old: Bundle, values: Mapping[str, tuple[int, int]]) -> dict[tuple[str, str], tuple[int, int]]:
    """What stands in maps that go, by stage and name."""
    return {(c.stage, c.name): values[c.name] for c in old.counters if c.stage in retired.KEEPS_SLOTS and c.name in values}


def host_counters(context: Context, bundle: Bundle, nics: Collection[str]) -> dict[str, tuple[int, int]]:
    """What these nics alone counted in the host's BPF programs of `bundle`."""
    values: dict[str, tuple[int, int]] = plan.backend("xdp").read_hosts(context, bundle, nics)
    return values


def _void(readings: Iterable[Reading], ledger: retired.Ledger) -> set[str]:
    """Entries of stages that have begun anew: they have seen less than when the entry was written."""
    return {retired.key(*at) for at, now in seen_of(readings).items() if retired.key(*at) in ledger and now < ledger[retired.key(*at)].seen}


def read_kernel(context: Context, bundle: Bundle) -> list[Reading]:
    """What the kernel has for every counter of `bundle`. Raises StepError where a backend cannot be read."""
    values = {name: _backend_values(name, context, bundle) for name in {_BACKEND_OF.get(c.stage, "xdp") for c in bundle.counters}}
    classes = _backend_values("tc", context, bundle) if bundle.trees else {}
    once = {(counter.stage, counter.name): counter for counter in bundle.counters}  # programs of two nics may count one set's `full`
    return [_reading(counter, values[_BACKEND_OF.get(counter.stage, "xdp")], classes) for counter in once.values()]


def balances(readings: Iterable[Reading]) -> list[Balance]:
    """For each chain and stage that has a `seen`: what it saw and what it accounts for."""
    seen: dict[tuple[str, str], int] = {}
    counted: dict[tuple[str, str], int] = {}
    for reading in readings:
        key = (chain_of(reading.counter), reading.counter.stage)
        if reading.counter.kind == "seen":
            seen[key] = seen.get(key, 0) + reading.packets
        elif _is_balanced(reading.counter):
            counted[key] = counted.get(key, 0) + reading.packets
    found = [Balance(chain, stage, value, counted.get((chain, stage), 0)) for (chain, stage), value in seen.items()]
    return sorted(found, key=lambda balance: (balance.chain, STAGES.index(balance.stage)))


def _is_balanced(counter: bundles.Counter) -> bool:
    return counter.kind in BALANCED_KINDS or (counter.kind == "class" and counter.stage == "tc")


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


def is_steering(name: str) -> bool:
    """Whether a counter of this name is a steer rule's: wan.steer.dns."""
    return name.rpartition(".")[0].endswith(".steer")


def chain_of(counter: bundles.Counter) -> str:
    """wan.in of wan.in.ssh."""
    return counter.name.rpartition(".")[0]


def value(readings: Iterable[Reading], name: str, what: str) -> int:
    """A counter by name as an expectation means it: `seen` is what the first stage saw, anything else the sum over its stages.

    what: packets, bytes or drops. Raises KeyError for an unknown counter, ValueError where it has no drops.
    """
    found = sorted((r for r in readings if r.counter.name == name and r.counter.kind != "retired"), key=lambda r: STAGES.index(r.counter.stage))
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
