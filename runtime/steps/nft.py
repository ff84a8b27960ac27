"""The nft steps of an apply: dry run, the swap of generations (steps/nft_phases.py), then what no rule uses any more goes.

Counters and limits keep their names, and so their values, over applies; chains and sets end in _gN and come and go with generation N.
The tables are netc's when they hold the chain that netc put in as a mark; a foreign table of the same name is never touched.
"""

from __future__ import annotations

from compiler.bundle import Bundle, Nft
from runtime import owner
from runtime.backends import nft as backend
from runtime.backends.nft import Json, NftError
from runtime.context import Context
from runtime.steps import PartlyDoneError, Step, StepError, closed, nft_phases, nft_record
from runtime.steps.nft_content import (
    FAMILIES,
    OWNER,
    TABLE,
    added,
    compare,
    decoded,
    fill,
    installed,
    marking,
    require_devices,
)
from runtime.steps.nft_fence import fences
from runtime.steps.nft_ports import require_stack

ETHER_HEADER = {"ingress": 14, "conntrack": 14, "egress": 0}  # octets a packet that nft's counters leave out there


def steps(context: Context, new: Bundle | None, old: Bundle | None, generation: int) -> list[Step]:
    """Raises StepError: a foreign table of netc's name, a nic without a device, no libnftables."""
    wanted, had = (_tables(bundle) for bundle in (new, old))
    present = installed()
    opening = closed.steps()
    if not wanted and not present:
        return opening
    for family, found in present.items():
        _refuse_foreign(family, found)
    for table in wanted.values():
        require_devices(fill(table, context, generation), context)
    if new is not None:
        require_stack(context, new)
    swap = _Swap(context, wanted, had, generation)
    before, behind = fences(context, new, old, generation)
    return [_DryRun(swap), *before, swap, *behind, _Clean(context, wanted, generation), *opening]


def read_counters(context: Context, bundle: Bundle) -> dict[tuple[str, str], tuple[int, int]]:
    """(stage, name) -> (packets, bytes): layer 2 bytes, the Ethernet header that nft left out added for every packet.

    Raises StepError.
    """
    found: dict[tuple[str, str], tuple[int, int]] = {}
    values = {table.family: _values(table.family) for table in bundle.nft}
    for counter in bundle.counters:
        family = {"conntrack": "inet", "ingress": "netdev", "egress": "netdev"}.get(counter.stage)
        if family in values and counter.name in values[family]:
            packets, octets = values[family][counter.name]
            found[counter.stage, counter.name] = (packets, octets + packets * ETHER_HEADER[counter.stage])
    return found


class _Swap:
    """The flip: the new generation's chains come beside the old ones', the base chains take each other's place in one transaction, the old ones' go."""

    phase = "flip"

    def __init__(self, context: Context, wanted: dict[str, Nft], before: dict[str, Nft], generation: int) -> None:
        self.context, self.wanted, self.before, self.generation = context, wanted, before, generation
        self.saved: dict[str, int] | None = None  # generation that was there, by family: what undo brings back
        count = sum("rule" in added(item) for table in wanted.values() for item in decoded(table))
        self.text = f"nft: {count} rules in {_names(wanted)} replace the old ones at once" if wanted else "nft: remove netc's rules"

    def do(self) -> None:
        present = installed()
        saved = {family: _generation(found) for family, found in present.items()}
        for family in self.changed_tables(present):  # a dormant table wakes up, and only then lets its chains be replaced
            _run([{"add": {"table": {"family": family, "name": TABLE}}}], self.text)
        self.saved = saved
        for number, commands in enumerate(self._phases(present)):
            try:
                _run(commands, self.text)
            except StepError as error:
                if number == 0:
                    raise
                raise PartlyDoneError(str(error)) from None
        nft_record.save(self.context.state, {family: _static_sets(table) for family, table in self.wanted.items()})

    def _phases(self, present: dict[str, list[Json]]) -> list[list[Json]]:
        """The transactions, in order; one alone where a set or limit of the same name has to be made anew."""
        families = [(family, self.wanted.get(family), present.get(family, [])) for family in FAMILIES]
        filled = {family: fill(table, self.context, self.generation) for family, table, _ in families if table}
        if any(any(_changed(self.context, family, filled[family], found)) for family, table, found in families if table):
            return [_transaction(self.context, self.wanted, self.generation, present)]
        mark = owner.comment(self.context)
        return nft_phases.transactions([(family, filled.get(family, []), found, marking(family, mark) if table else []) for family, table, found in families])

    def changed_tables(self, present: dict[str, list[Json]]) -> list[str]:
        """The tables whose flags are no longer netc's."""
        return [family for family in present if family in self.wanted and nft_record.table_changed(self.context.state, family)]

    def undo(self) -> None:
        """What was there before, by one transaction, from the old bundle; the counters that the new one alone brought go with the dry run's undo."""
        commands: list[Json] = []
        present = installed()
        for family in FAMILIES:
            number = (self.saved or {}).get(family, self.generation - 1)
            commands += _restore(self.context, family, self.before.get(family), number, present.get(family))
        if commands:
            _run(commands, "nft: bring back the old rules")
            nft_record.save(self.context.state, {family: _static_sets(table) for family, table in self.before.items()})

    def check(self) -> None:
        """Every chain, rule, set with its members, limit and counter of the bundle is in the kernel as it was applied, and no chain more."""
        present = installed()
        for family, table in self.wanted.items():
            if family not in present:
                raise StepError(f"table {family} {TABLE}", "it is not there", "apply again")
            filled = fill(table, self.context, self.generation)
            compare(family, filled, present[family])
            nft_record.compare(self.context.state, family, filled, present[family])
        for family in set(present) - set(self.wanted):
            if left := {name for name in backend.names(present[family], "chain") if name != OWNER}:
                raise StepError(f"table {family} {TABLE}", f"chains that nothing asks for: {', '.join(sorted(left))}", "apply again")


class _DryRun:
    """nft --check of the very transaction: the kernel's refusal comes before anything has changed."""

    phase = "stage"
    text = "nft: dry run of the new rules"

    def __init__(self, swap: _Swap) -> None:
        self.swap = swap

    def do(self) -> None:
        swap, present = self.swap, installed()
        anew = swap.changed_tables(present)  # these are tried from nothing: as they are the kernel would refuse
        commands = _transaction(swap.context, swap.wanted, swap.generation, {f: i for f, i in present.items() if f not in anew})
        _run([*(_delete("table", family, TABLE) for family in anew), *commands], self.text, dry_run=True)

    def undo(self) -> None:
        """What the new rules alone counted with goes again, once it was written down (runtime.steps.record)."""
        swap = self.swap
        before = [(family, table, found) for family, found in installed().items() if (table := swap.before.get(family))]
        commands = [c for family, table, found in before for c in _unused(family, fill(table, swap.context, swap.generation), found)]
        if commands:
            _run(commands, "nft: remove the new rules' counters and limits")

    def check(self) -> None:
        """Nothing was changed."""


class _Clean:
    """Counters and limits that no rule uses go, and a table that holds nothing any more."""

    phase = "clean"
    text = "nft: remove counters and limits that no rule uses"

    def __init__(self, context: Context, wanted: dict[str, Nft], generation: int) -> None:
        self.context, self.wanted, self.generation = context, wanted, generation

    def do(self) -> None:
        commands: list[Json] = []
        for family, found in installed().items():
            if table := self.wanted.get(family):
                commands += _unused(family, fill(table, self.context, self.generation), found)
            else:
                commands.append(_delete("table", family, TABLE))
        if commands:
            _run(commands, self.text)

    def undo(self) -> None:
        """Never called: what is cleaned is no longer needed."""

    def check(self) -> None:
        """Left-overs do no harm."""


def _transaction(context: Context, wanted: dict[str, Nft], generation: int, present: dict[str, list[Json]]) -> list[Json]:
    return [c for family in FAMILIES for c in _replace(context, family, wanted.get(family), generation, present.get(family, []))]


def _replace(context: Context, family: str, table: Nft | None, generation: int, found: list[Json]) -> list[Json]:
    """Commands that make one table, now `found`, what `table` says (None: no rules): old chains and sets go, new ones come.

    A set that is there stays and is not loaded again: its name has its content's hash. What somebody changed by hand is made anew.
    """
    filled = fill(table, context, generation) if table else []
    wanted, there = backend.names(map(added, filled), "set"), backend.names(found, "set")
    sets, limits = _changed(context, family, filled, found)
    coming = [command for command in filled if added(command).get("set", {}).get("name") not in there - sets]
    chains = _removal(family, found)
    unused = [_delete("set", family, name) for name in sorted(there - wanted | sets)]
    unused += [_delete("limit", family, name) for name in sorted(limits)]
    marks = marking(family, owner.comment(context)) if table else []
    return [*coming[:2], *marks, *chains, *unused, *coming[2:]]


def _changed(context: Context, family: str, filled: list[Json], found: list[Json]) -> tuple[set[str], set[str]]:
    """The sets and limits, of those that stay, that somebody changed by hand."""
    wanted, there = backend.names(map(added, filled), "set"), backend.names(found, "set")
    limits = backend.names(map(added, filled), "limit") & backend.names(found, "limit")
    return nft_record.changed(context.state, family, there & wanted, limits)


def _restore(context: Context, family: str, table: Nft | None, generation: int, found: list[Json] | None) -> list[Json]:
    """Commands that bring a table back to `table` (None: not there)."""
    if table is None:
        return [] if found is None else [_delete("table", family, TABLE)]
    return _replace(context, family, table, generation, found or [])


def _removal(family: str, found: list[Json]) -> list[Json]:
    """The chains of every generation that the kernel has: crashed applies may have left more than one."""
    chains = sorted(backend.names(found, "chain") - {OWNER})
    commands: list[Json] = [{"flush": {"chain": {"family": family, "table": TABLE, "name": name}}} for name in chains]
    return commands + [_delete("chain", family, name) for name in chains]


def _unused(family: str, wanted: list[Json], found: list[Json]) -> list[Json]:
    """Commands that delete those found counters and limits that `wanted` does not add."""
    asked = [added(command) for command in wanted]
    return [
        _delete(kind, family, name)
        for kind in ("counter", "limit")
        for name in sorted(backend.names(found, kind) - backend.names(asked, kind))
    ]


def _delete(kind: str, family: str, name: str) -> Json:
    place = {} if kind == "table" else {"table": TABLE}
    return {"delete": {kind: {"family": family, **place, "name": name}}}


def _tables(bundle: Bundle | None) -> dict[str, Nft]:
    return {table.family: table for table in bundle.nft} if bundle else {}


def _static_sets(table: Nft) -> set[str]:
    return backend.names(map(added, decoded(table)), "set")


def _names(tables: dict[str, Nft]) -> str:
    return " and ".join(f"{family} {TABLE}" for family in tables)


def _refuse_foreign(family: str, found: list[Json]) -> None:
    if OWNER not in backend.names(found, "chain"):
        mend = f"rename or delete it: nft delete table {family} {TABLE}"
        raise StepError(f"nft table {family} {TABLE}", "it is there and netc did not make it", mend)


def _generation(found: list[Json]) -> int:
    """The newest generation whose chains are there; 0 when there are none."""
    ends = [name.rpartition("_g")[2] for name in backend.names(found, "chain")]
    return max((int(end) for end in ends if end.isascii() and end.isdigit()), default=0)


def _values(family: str) -> dict[str, tuple[int, int]]:
    try:
        values = backend.counters(family, TABLE)
    except NftError as error:
        raise StepError(f"counters of nft table {family} {TABLE}", str(error), "apply the policy again") from None
    return {_policy_name(name): value for name, value in values.items()}


def _policy_name(name: str) -> str:
    """The counter's name from its nft name, in which `/` and two hexadecimal digits are one octet."""
    head, *coded = name.split("/")
    return head + "".join(chr(int(part[:2], 16)) + part[2:] for part in coded if len(part) >= 2)


def _run(commands: list[Json], what: str, dry_run: bool = False) -> None:
    try:
        backend.run(commands, dry_run)
    except NftError as error:
        raise StepError(what, str(error), "the old rules are still in force; nothing was changed") from None
