"""What maps of a bundle hold that only this host knows: its devices and their addresses, the words of the classifiers, whose the slots are.

LoadStep fills them so, and its check compares.
"""

from __future__ import annotations

import struct

from compiler.bundle import CONFIG_WORDS, Bundle, Code, Map
from runtime import slots as slot_tables
from runtime.backends import bpf, link
from runtime.backends.netlink import NetlinkError
from runtime.context import Context
from runtime.steps import StepError, xdp_pins, xdp_slots

_MAC_SIZE = 6
_KEY = bytes(4)  # of the one entry
_MEND = "apply the policy again"


def devices(context: Context, bundle: Bundle) -> dict[bytes, bytes]:
    """The entries of a `devices` map: the index of a nic in the bundle, and its device's on this host."""
    bound = {device.nic: device.ifindex for device in context.devices}
    return {struct.pack("=I", nic.index): struct.pack("=I", bound[nic.name]) for nic in bundle.nics if nic.name in bound}


def address(context: Context, item: Map) -> bytes:
    """A `mac` map's value: the address of its nic's device, 0 where it has none. Raises StepError.

    A device that gets another address later forwards by the stack until the next apply.
    """
    device = context.device(item.name.removesuffix(".mac"))
    try:
        found = link.get(device.name).address
    except NetlinkError as error:
        raise StepError(f"read {device.name}", error.words) from None
    return struct.pack("=Q", int.from_bytes(found, "big") if len(found) == _MAC_SIZE else 0)


def words(context: Context, code: Code, generation: int) -> bytes:
    """A `config` map's value: what tc knows once its stage steps are done. Raises StepError."""
    from runtime.steps import tc  # pyroute2, only where something is shaped

    known = tc.config_words(context, code.nic, generation)
    return b"".join(struct.pack("=I", known[name]) for name in CONFIG_WORDS)


def check_map(context: Context, bundle: Bundle, item: Map, fd: int, generation: int) -> None:
    """Does the map of such a role still say what is true on this host? Raises StepError, BpfError."""
    if item.role == "devices":
        for key, index in devices(context, bundle).items():
            if bpf.map_lookup(fd, key, 4) != index:
                nic = next(nic.name for nic in bundle.nics if struct.pack("=I", nic.index) == key)
                raise StepError(f"map {item.name}", f"what goes to nic {nic} goes to a device that is gone: {context.device(nic).name} was made anew", _MEND)
    elif item.role == "mac" and bpf.map_lookup(fd, _KEY, item.value_size) != address(context, item):
        raise StepError(f"map {item.name}", "the device got another MAC address: what is sent to it is forwarded by the stack, not by XDP", _MEND)
    elif item.role == "config":
        code = next(code for code in bundle.programs if item.id in code.maps)
        if bpf.map_lookup(fd, _KEY, item.value_size) != words(context, code, generation):
            raise StepError(f"map {item.name}", "the classifier is told of an ifb that is gone", _MEND)


def check_slots(context: Context, bundle: Bundle, item: Map, fd: int, tables: slot_tables.Tables) -> None:
    """Does a program count where slots.json says? Counters of rules that are gone since are not asked for. Raises StepError, BpfError."""
    code = next((code for code in bundle.programs if item.id in code.maps), None)
    if item.role != "slots" or code is None:
        return
    told, known = bpf.map_lookup(fd, _KEY, item.value_size) or b"", slot_tables.of_nic(bundle, code.nic, tables)
    for counter in slot_tables.counters_of(bundle, code.name):
        if 4 * counter.index < len(told) and struct.unpack_from("=I", told, 4 * counter.index)[0] != known.get(counter.name):
            words_ = f"the program counts {counter.name} at another place than slots.json says: one of the two was changed by hand"
            raise StepError(f"map {item.name}", words_, _MEND)


def check_owners(context: Context, bundle: Bundle, nic: str, generation: int, tables: slot_tables.Tables) -> None:
    """Does the kernel remember the slots of this bundle's counters and limits as theirs? Raises StepError, BpfError."""
    names = {counter.name for counter in bundle.counters}
    for role, item, slots in xdp_slots.owned(bundle, nic, tables):
        with xdp_pins.opened(xdp_pins.map_path(context, item, generation)) as fd:
            wrong = xdp_slots.not_theirs(fd, item.value_size, {name: slot for name, slot in slots.items() if name in names})
        if wrong:
            what = "counted" if role == "counters" else "limit"
            raise StepError(f"map {item.name}", f"the {what} place of {wrong[0]} belongs to another name: it was changed by hand", f"{_MEND}: it begins anew")
