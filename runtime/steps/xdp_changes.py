"""The step that changes rules in place: another half of a running program's map comes into force by one store (runtime.changed_rules)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from compiler.tables.changes import Delta
from runtime import changed_rules, objects, slots
from runtime.backends import bpf
from runtime.context import Context
from runtime.state import Store
from runtime.steps import StepError, xdp_pins, xdp_slots

_MEND = "apply the policy again"


@dataclass(slots=True)
class ChangeStep:
    """From the change that is in force to the one that is wanted; `generation` has the pins. nic: whose counters the new rules count in."""

    context: Context
    nic: str
    generation: int
    wanted: Delta
    before: Delta
    phase: str = "flip"
    flips: str = field(default="xdp")

    @property
    def text(self) -> str:
        came, gone = len(self.wanted.added), len(self.wanted.gone)
        return f"change rules of {self.wanted.chain} in place, by one store: {gone} of its tables' rules gone, {came} beside them"

    def do(self) -> None:
        with self._map() as (fd, size):
            changed_rules.publish(fd, size, self.wanted.half, self._slots(self.wanted))

    def undo(self) -> None:
        with self._map() as (fd, size):
            changed_rules.publish(fd, size, self.before.half, self._slots(self.before))

    def check(self) -> None:
        with self._map() as (fd, size):
            if changed_rules.in_force(fd, size) != self.wanted.half:
                raise StepError(self.text, "other rules are in force", _MEND)

    @contextmanager
    def _map(self) -> Iterator[tuple[int, int]]:
        path = xdp_pins.generation(self.context, self.generation) / xdp_pins.pin_name(self.wanted.map)
        try:
            with xdp_pins.opened(path) as fd:
                yield fd, bpf.map_info(fd).value_size
        except (bpf.BpfError, OSError, ValueError) as error:
            raise StepError(self.text, str(error), _MEND) from None

    def _slots(self, delta: Delta) -> dict[int, int]:
        if not delta.added:
            return {}
        known = slots_of(self.context, self.nic, Store(self.context.state).slots())[2]
        return {rule.nth: known[rule.name] for rule in delta.added}


def slots_of(context: Context, nic: str, tables: slots.Tables) -> tuple[str, int, dict[str, int]]:
    """What slots.json calls the table of the nic's counter map, the map's size, and name → slot. Raises StepError."""
    with _persistent(context, f"{nic}.counters") as counters:
        size = bpf.map_info(counters).max_entries
    name = slots.table_name(nic, size)
    return name, size, {each: slot for each, slot in tables.get(name, {}).items() if slot < size}


def claim(context: Context, nic: str, wanted: Mapping[str, int]) -> None:
    """Slots that last belonged to another name begin at zero; the kernel remembers whose they are. Raises StepError."""
    if not wanted:
        return
    with _persistent(context, f"{nic}.owners") as owners, _persistent(context, f"{nic}.counters") as counters:
        objects.clear_counters(counters, xdp_slots.take(owners, bpf.map_info(owners).value_size, wanted))


def read_counters(context: Context, nic: str, wanted: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """name → (packets, bytes) of these slots. Raises StepError."""
    with _persistent(context, f"{nic}.counters") as counters:
        return objects.read_slots(counters, wanted)


def is_attached(context: Context, nic: str, program: str, generation: int, ifindex: int) -> bool:
    """Whether the nic's link runs this generation's program on this device."""
    link = xdp_pins.links(context) / f"{xdp_pins.pin_name(nic)}-xdp"
    try:
        with xdp_pins.opened(link) as found, xdp_pins.opened(xdp_pins.program_path(context, program, generation)) as own:
            info = bpf.link_info(found)
            return (info.ifindex, info.prog_id) == (ifindex, bpf.prog_info(own).id)
    except bpf.BpfError:
        return False


@contextmanager
def _persistent(context: Context, name: str) -> Iterator[int]:
    """The pin of a persistent map, whatever its size. Raises StepError."""
    found = sorted(xdp_pins.maps(context).glob(f"{xdp_pins.pin_name(name)}~*"), key=_newest)
    if not found:
        raise StepError(f"map {name}", "it is not pinned", _MEND)
    try:
        with xdp_pins.opened(found[-1]) as fd:
            yield fd
    except bpf.BpfError as error:
        raise StepError(f"map {name}", str(error), _MEND) from None


def _newest(path: Path) -> float:
    return path.stat().st_mtime
