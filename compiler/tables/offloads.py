"""What the short names of offloads stand for, and which offload the kernel turns off for want of another.

Sources: ethtool's off_flag_def (common.c) for the names; netdev_fix_features in the kernel's net/core/dev.c for what needs what.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

_TSO = (
    "tx-tcp-segmentation", "tx-tcp-ecn-segmentation", "tx-tcp-accecn-segmentation", "tx-tcp-mangleid-segmentation", "tx-tcp6-segmentation",
)  # fmt: skip
_CHECKSUMS = "tx-checksum-*"
# What ethtool -K's short names stand for; `*`: whatever the kernel has there (a newer one has more).
SHORT = {
    "rx": ("rx-checksum",),
    "tx": (_CHECKSUMS,),
    "sg": ("tx-scatter-gather*",),
    "tso": ("tx-tcp*-segmentation",),
    "ufo": ("tx-udp-fragmentation",),
    "gso": ("tx-generic-segmentation",),
    "gro": ("rx-gro",),
    "lro": ("rx-lro",),
    "rxvlan": ("rx-vlan-hw-parse",),
    "txvlan": ("tx-vlan-hw-insert",),
    "ntuple": ("rx-ntuple-filter",),
    "rxhash": ("rx-hashing",),
}
# Feature -> one of these has to be on, else the kernel takes the wish and leaves it off; and its words (netdev_dbg: rarely in the log).
NEEDS: dict[str, tuple[tuple[tuple[str, ...], str], ...]] = {
    **{name: ((("tx-scatter-gather",), "Dropping TSO features since no SG feature"),) for name in _TSO},
    "tx-generic-segmentation": ((("tx-scatter-gather",), "Dropping NETIF_F_GSO since no SG feature"),),
    "rx-gro-hw": ((("rx-checksum",), "Dropping HW-GRO feature since no RXCSUM feature"),),
    "tls-hw-rx-offload": ((("rx-checksum",), "Dropping TLS RX HW offload feature since no RXCSUM feature"),),
}  # fmt: skip
for _name in ("tx-tcp-segmentation", "tx-tcp-ecn-segmentation"):
    NEEDS[_name] += ((("tx-checksum-ipv4", "tx-checksum-ip-generic"), "Dropping TSO features since no CSUM feature"),)
NEEDS["tx-tcp6-segmentation"] += ((("tx-checksum-ipv6", "tx-checksum-ip-generic"), "Dropping TSO6 features since no CSUM feature"),)
NEEDS["tx-tcp-mangleid-segmentation"] += ((("tx-tcp-segmentation",), "TSO with IPv4 ID mangling requires IPv4 TSO be enabled"),)
_BARS = {"rx-lro": "rx-fcs", "rx-gro-hw": "rx-fcs"}  # the second, when on, turns the first off
_FIRST = ("tx", _CHECKSUMS, "tx-scatter-gather", "rx", "rx-checksum", "sg")


def patterns(name: str) -> tuple[str, ...]:
    """The kernel's names for one of ethtool's, or the name itself: that one is no pattern, whatever is in it."""
    return SHORT.get(name) or ("".join(f"[{char}]" if char in "*?[" else char for char in name),)


def members(name: str, known: Iterable[str]) -> list[str]:
    """Those of the kernel's names that `name` stands for."""
    return [each for each in known if any(fnmatchcase(each, pattern) for pattern in patterns(name))]


def overlap(one: str, other: str) -> bool:
    """Do two names switch a feature in common?"""
    return one == other or any(fnmatchcase(a, b) or fnmatchcase(b, a) for a in patterns(one) for b in patterns(other))


def is_first(name: str) -> bool:
    """Is it one that others need? Those are turned first, whichever way: the kernel drops what needs them, and takes it back by itself."""
    return name in _FIRST or name.startswith(_CHECKSUMS[:-1])


def lacking(feature: str, on: Iterable[str]) -> str:
    """Why the kernel leaves `feature` off while just the features `on` are on; "" when nothing known is in its way."""
    there = set(on)
    for needed, words in NEEDS.get(feature, ()):
        if there.isdisjoint(needed):
            return f"{words} ({' or '.join(needed)})"
    bar = _BARS.get(feature, "")
    return f"Dropping it since {bar} is on" if bar in there else ""


def contradiction(on: str, off: str) -> str:
    """Why the offload `on` cannot be on while `off` is off; "" when it can. Names as a policy has them, short or the kernel's."""
    for feature in members(on, NEEDS):
        for needed, words in NEEDS[feature]:
            if all(any(fnmatchcase(each, pattern) for pattern in patterns(off)) for each in needed):
                return words
    return ""
