"""What somebody can change by hand in loaded BPF objects, and whether it is as netc left it.

Tables whose content the policy alone says (static sets, counter slots, devices, CPUs, the classifier's words) are frozen when they are
filled: from then on no system call writes them, so what is left to find out is whether they are still the maps that the programs use.
"""

from __future__ import annotations

from compiler.bundle import Bundle, Code, Map
from runtime import changed_rules, objects, slots
from runtime.backends import bpf
from runtime.context import Context
from runtime.state import Store
from runtime.steps import StepError, xdp_known, xdp_pins

_LIVE = ("clock", "scratch", "changes")  # roles of generation maps that are written while they are in use
_MEND = "apply the policy again"


def is_fixed(item: Map) -> bool:
    """Nothing writes it once it is filled."""
    return item.scope == "generation" and item.role not in _LIVE


def freeze(fds: dict[int, int], bundle: Bundle) -> None:
    """Close the tables that nothing has to write any more. Raises BpfError."""
    for item in bundle.maps:
        if is_fixed(item):
            bpf.map_freeze(fds[item.id])


def check(context: Context, bundle: Bundle, generation: int) -> None:
    """Every pin is there and is what the programs use; no fixed table can have been written. Raises StepError, BpfError."""
    tables = Store(context.state).slots()
    numbers = {item.id: _check_map(context, bundle, item, generation, tables) for item in bundle.maps}
    for code in bundle.programs:
        _check_program(context, code, {number: numbers[number] for number in code.maps}, bundle, generation)
    for nic in {code.nic for code in bundle.programs}:
        xdp_known.check_owners(context, bundle, nic, generation, tables)


def _check_map(context: Context, bundle: Bundle, item: Map, generation: int, tables: slots.Tables) -> int:
    """The kernel's id of a map."""
    with xdp_pins.opened(xdp_pins.map_path(context, item, generation)) as descriptor:
        if not objects.same_shape(descriptor, item):
            raise StepError(f"map {item.name}", "it has another type or size than the policy's", _MEND)
        if is_fixed(item) and not bpf.map_is_frozen(descriptor):
            raise StepError(f"map {item.name}", "it is not the map that netc filled: another one was pinned in its place", _MEND)
        if item.role == "clock" and any(bpf.map_lookup(descriptor, bytes(4), 8) or b""):
            raise StepError(f"map {item.name}", "the programs' clock was set by hand: limits and timeouts stand still", _MEND)
        if item.role == "changes" and changed_rules.in_force(descriptor, item.value_size) != changed_rules.wanted(item):
            raise StepError(f"map {item.name}", "the rules that changed since the tables were built are others than the policy's", _MEND)
        xdp_known.check_map(context, bundle, item, descriptor, generation)
        xdp_known.check_slots(context, bundle, item, descriptor, tables)
        return bpf.map_info(descriptor).id


def _check_program(context: Context, code: Code, maps: dict[int, int], bundle: Bundle, generation: int) -> None:
    with xdp_pins.opened(xdp_pins.program_path(context, code.name, generation)) as program:
        used = bpf.prog_maps(program)
    for item in bundle.maps:
        if item.id in maps and maps[item.id] not in used:
            words = f"the program does not use the map that is pinned as {item.name}: one of the two was swapped by hand"
            raise StepError(f"program {code.name}", words, _MEND)
