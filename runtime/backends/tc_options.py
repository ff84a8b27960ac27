"""TCA_OPTIONS of the qdiscs netc uses, as bytes and back.

pyroute2 silently drops options that it does not know and knows no fq or bfifo at all, so netc encodes them itself and reads every one
back. Option names are tc's, numbers are in the kernel's units (times in microseconds, sfq's perturb in seconds). Source:
include/uapi/linux/pkt_sched.h; each table says which structure or which attribute numbers.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from runtime.backends.netlink import attr, attributes

Options = Mapping[str, int | str | None]

# tc_fifo_qopt, tc_sfq_qopt: plain structures, an absent field is 0 ("the kernel's own choice")
_STRUCTURES: Mapping[str, tuple[str, ...]] = {"pfifo": ("limit",), "bfifo": ("limit",), "sfq": ("quantum", "perturb", "limit", "divisor", "flows")}
# TCA_CODEL_*, TCA_FQ_CODEL_*, TCA_FQ_*, TCA_CAKE_*: attributes of u32
_ATTRIBUTES: Mapping[str, Mapping[str, int]] = {
    "codel": {"target": 1, "limit": 2, "interval": 3, "ecn": 4},
    "fq_codel": {
        "target": 1, "limit": 2, "interval": 3, "ecn": 4, "flows": 5, "quantum": 6, "ce_threshold": 7, "memory_limit": 9,
    },
    "fq": {"limit": 1, "flow_limit": 2, "quantum": 3, "initial_quantum": 4},
    "cake": {"rtt": 7, "target": 8, "memlimit": 10, "nat": 11, "wash": 13, "split-gso": 17},
}  # fmt: skip
KINDS = (*_STRUCTURES, *_ATTRIBUTES)
ROUNDED = {"codel": ("target", "interval"), "fq_codel": ("target", "interval", "ce_threshold")}
"""Options the kernel keeps in units of 1.024 us (CODEL_SHIFT) and gives back a little smaller."""

_HTB_PARMS, _HTB_INIT, _HTB_RATE64, _HTB_CEIL64 = 1, 2, 6, 7
_HTB_OPT = struct.Struct("=BBHhHI BBHhHI 5I")  # tc_htb_opt: two tc_ratespec, then buffer, cbuffer, quantum, level, prio
_HTB_GLOB = struct.Struct("=5I")  # tc_htb_glob: version, rate2quantum, defcls, debug, direct_pkts
_LINKLAYER_ETHERNET = 1  # spares the kernel its guess from the rate tables of old tc
_TICK = 64  # ns, PSCHED_SHIFT 6: how HTB counts its buckets
_U32 = (1 << 32) - 1


def encode(kind: str, options: Options) -> bytes:
    """TCA_OPTIONS of a leaf qdisc. Raises ValueError for a kind or option that is not in the tables: nothing is dropped in silence."""
    numbers = {name: int(value) for name, value in options.items() if value is not None}
    if kind in _STRUCTURES:
        fields = _STRUCTURES[kind]
        _only(kind, numbers, fields)
        return struct.pack(f"={len(fields)}I", *(numbers.get(field, 0) for field in fields)) if numbers else b""
    known = _ATTRIBUTES.get(kind)
    if known is None:
        raise ValueError(f"netc cannot set up a qdisc of kind {kind!r}")
    _only(kind, numbers, tuple(known))
    return b"".join(attr(known[name], value) for name, value in sorted(numbers.items()))


def decode(kind: str, data: bytes) -> dict[str, int]:
    """What the kernel says a leaf qdisc has; {} for a kind that is not in the tables."""
    if kind in _STRUCTURES:
        fields = _STRUCTURES[kind]
        return dict(zip(fields, struct.unpack_from(f"={len(fields)}I", data), strict=True)) if len(data) >= 4 * len(fields) else {}
    found = attributes(data) if kind in _ATTRIBUTES else {}
    return {name: int.from_bytes(found[number][:4], sys.byteorder) for name, number in _ATTRIBUTES.get(kind, {}).items() if number in found}


def differs(kind: str, wanted: Options, got: Mapping[str, int]) -> str:
    """The first wanted option that the kernel does not have as asked, in words; "" when all are."""
    for name, value in wanted.items():
        if value is None:
            continue
        number, have = int(value), got.get(name)
        if have is None or (have != number and not (name in ROUNDED.get(kind, ()) and number - 2 <= have <= number)):
            return f"{name} is {have}, not {number}"
    return ""


def _only(kind: str, numbers: Mapping[str, int], known: tuple[str, ...]) -> None:
    for name, value in numbers.items():
        if name not in known:
            raise ValueError(f"{kind} has no option {name!r} (it has {', '.join(known)})")
        if not 0 <= value <= _U32:
            raise ValueError(f"{kind} {name} {value} does not fit 32 bits")


@dataclass(frozen=True, slots=True)
class HtbParameters:
    """An HTB class. rate, ceil in bit/s (multiples of 8); burst, cburst, quantum, overhead in bytes."""

    rate: int
    ceil: int
    burst: int
    cburst: int
    prio: int
    quantum: int
    overhead: int

    def ticks(self) -> tuple[int, int]:
        """burst and cburst as the kernel holds them: the time they take at rate and ceil."""
        return _to_ticks(self.burst, self.rate), _to_ticks(self.cburst, self.ceil)


def encode_htb(r2q: int, default: int) -> bytes:
    """TCA_OPTIONS of the HTB qdisc itself; `default` is a minor number. Version 3 is the only one there is (sch_htb.c)."""
    return attr(_HTB_INIT, _HTB_GLOB.pack(3, r2q, default, 0, 0))


def decode_htb(data: bytes) -> tuple[int, int]:
    """(r2q, default minor) of an HTB qdisc; (0, 0) when the kernel did not say."""
    found = attributes(data).get(_HTB_INIT, b"")
    if len(found) < _HTB_GLOB.size:
        return 0, 0
    _, r2q, default, _, _ = _HTB_GLOB.unpack_from(found)
    return r2q, default


def encode_htb_class(item: HtbParameters) -> bytes:
    """TCA_OPTIONS of an HTB class, without rate tables: the kernel has not used them since 3.8 when the link layer is given."""
    rate, ceil = item.rate // 8, item.ceil // 8
    buffer, cbuffer = item.ticks()
    spec = (0, _LINKLAYER_ETHERNET, item.overhead, -1, 0)
    data = attr(_HTB_PARMS, _HTB_OPT.pack(*spec, min(rate, _U32), *spec, min(ceil, _U32), buffer, cbuffer, item.quantum, 0, item.prio))
    if rate > _U32:
        data += attr(_HTB_RATE64, rate, 8)
    if ceil > _U32:
        data += attr(_HTB_CEIL64, ceil, 8)
    return data


def decode_htb_class(data: bytes) -> HtbParameters | None:
    """What the kernel says of a class; burst and cburst are the bytes that its ticks stand for."""
    found = attributes(data)
    if len(found.get(_HTB_PARMS, b"")) < _HTB_OPT.size:
        return None
    fields = _HTB_OPT.unpack_from(found[_HTB_PARMS])
    rate, ceil = fields[5], fields[11]
    if _HTB_RATE64 in found:
        rate = int.from_bytes(found[_HTB_RATE64], sys.byteorder)
    if _HTB_CEIL64 in found:
        ceil = int.from_bytes(found[_HTB_CEIL64], sys.byteorder)
    buffer, cbuffer, quantum, _, prio = fields[12:]
    return HtbParameters(rate * 8, ceil * 8, _to_bytes(buffer, rate), _to_bytes(cbuffer, ceil), prio, quantum, fields[2])


def same_class(wanted: HtbParameters, got: HtbParameters, leaf: bool) -> bool:
    """The kernel has what was asked for. Bursts are compared in ticks; an inner class has neither quantum nor prio of its own."""
    if (wanted.rate, wanted.ceil, wanted.overhead) != (got.rate, got.ceil, got.overhead):
        return False
    if any(abs(one - other) > 1 for one, other in zip(wanted.ticks(), got.ticks(), strict=True)):
        return False
    return not leaf or (wanted.quantum, wanted.prio) == (got.quantum, got.prio)


def _to_ticks(size: int, rate: int) -> int:
    return min(_U32, -(-size * 8 * 1_000_000_000 // (max(rate, 8) * _TICK)))


def _to_bytes(ticks: int, rate: int) -> int:
    """`rate` in bytes a second."""
    return ticks * _TICK * rate // 1_000_000_000

