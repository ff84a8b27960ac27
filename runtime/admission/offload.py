"""Programs of a bundle that NICs run: code with one map, whose places are counters of rules that drop, of a nic whose host half judges the same chain."""

from __future__ import annotations

from compiler.bundle import OFFLOAD_MAP, Bundle, Offload
from runtime.admission.refusal import refuse

_PAIR = 16  # bytes: packets and bytes
_WIDE = 0x18  # BPF_LD | BPF_IMM | BPF_DW


def check_offload(item: Offload, bundle: Bundle) -> None:
    """Raises StepError with the first thing that no compiler of netc writes."""
    what = f"program {item.name}"
    if item.name != f"{item.nic}.offload":
        refuse(what, f"the program of {item.nic} in the NIC has another name")
    host = next((code for code in bundle.programs if code.nic == item.nic and code.hook == "xdp"), None)
    if host is None:
        refuse(what, f"nic {item.nic} has no program on the host, which judges what the NIC passes on")
    if not item.code or len(item.code) % 8:
        refuse(what, "it is cut")
    if other := sorted(referred(item.code) - {OFFLOAD_MAP}):
        refuse(what, f"it refers to maps that are not its counters: {', '.join(map(str, other))}")
    _check_places(what, item)
    chain = f"{item.nic}.in"
    known = {counter.name for counter in bundle.counters if counter.stage == "xdp" and counter.verdict == "drop" and counter.kind in ("rule", "default")}
    for name in item.counters:
        if name not in known or name.rpartition(".")[0] != chain:
            refuse(what, f"{name} is no counter of a rule of {chain} that drops in XDP")


def _check_places(what: str, item: Offload) -> None:
    pairs = item.value_size // _PAIR
    if not item.counters or len(set(item.counters)) != len(item.counters):
        refuse(what, "it counts nothing, or one thing twice")
    if not (item.elements - 1) * pairs < len(item.counters) <= item.elements * pairs:
        refuse(what, f"{item.elements} elements of {item.value_size} bytes for {len(item.counters)} counters")


def referred(code: bytes) -> set[int]:
    """The symbolic ids in ld_imm64 instructions (linux/bpf.h: BPF_PSEUDO_MAP_FD 1, BPF_PSEUDO_MAP_VALUE 2)."""
    found, at = set(), 0
    while at + 8 <= len(code):
        wide = code[at] == _WIDE
        if wide and code[at + 1] >> 4 in (1, 2):
            found.add(int.from_bytes(code[at + 4 : at + 8], "little"))
        at += 16 if wide else 8
    return found
