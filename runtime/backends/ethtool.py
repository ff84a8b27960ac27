"""The kernel's ethtool family over netlink: channels, rings, coalescing, pause, features, private flags. Read, set, and the device's own words.

Source: Documentation/networking/ethtool-netlink.rst, include/uapi/linux/ethtool_netlink.h. What netlink lacks on the kernels that netc
supports (RSS, hash fields, ntuple, driver information) is in ethtool_ioctl.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from runtime.backends.netlink import Generic, attr, attributes, each_attribute, nest, number, text

_HEADER, _HEADER_DEV_NAME = 1, 2
_FEATURES_GET, _FEATURES_SET = 11, 12
_PRIVFLAGS_GET, _PRIVFLAGS_SET, _PRIVFLAGS = 13, 14, 2
_FEATURES = {"hw": 2, "wanted": 3, "active": 4, "nochange": 5}
_SS_STATS, _SS_FEATURES = 1, 4  # enum ethtool_stringset
_NOMASK, _BITS, _BIT, _BIT_NAME, _BIT_VALUE = 1, 3, 1, 2, 3


@dataclass(frozen=True, slots=True)
class Group:
    """One pair of GET and SET commands with its attributes: name -> (number, size in bytes). `limits`: the maxima."""

    name: str
    get: int
    set: int
    values: Mapping[str, tuple[int, int]]
    limits: Mapping[str, int]


_COALESCE = (
    "rx-usecs", "rx-frames", "rx-usecs-irq", "rx-frames-irq", "tx-usecs", "tx-frames", "tx-usecs-irq", "tx-frames-irq", "stats-block-usecs",
    "adaptive-rx", "adaptive-tx", "pkt-rate-low", "rx-usecs-low", "rx-frames-low", "tx-usecs-low", "tx-frames-low", "pkt-rate-high",
    "rx-usecs-high", "rx-frames-high", "tx-usecs-high", "tx-frames-high", "sample-interval", "cqe-mode-tx", "cqe-mode-rx", "tx-aggr-max-bytes",
    "tx-aggr-max-frames", "tx-aggr-time-usecs",
)  # fmt: skip
_RINGS = {
    "rx": (6, 4), "rx-mini": (7, 4), "rx-jumbo": (8, 4), "tx": (9, 4), "rx-buf-len": (10, 4), "tcp-data-split": (11, 1), "cqe-size": (12, 4),
    "tx-push": (13, 1), "rx-push": (14, 1), "tx-push-buf-len": (15, 4), "hds-thresh": (17, 4),
}  # fmt: skip
_SWITCHES = ("adaptive-", "cqe-mode-")
GROUPS = {
    "channels": Group("CHANNELS", 17, 18, {"rx": (6, 4), "tx": (7, 4), "other": (8, 4), "combined": (9, 4)},
                      {"rx": 2, "tx": 3, "other": 4, "combined": 5}),
    "ring": Group("RINGS", 15, 16, _RINGS, {"rx": 2, "rx-mini": 3, "rx-jumbo": 4, "tx": 5, "tx-push-buf-len": 16, "hds-thresh": 18}),
    "coalesce": Group("COALESCE", 19, 20, {key: (n, 1 if key.startswith(_SWITCHES) else 4) for n, key in enumerate(_COALESCE, 2)}, {}),
    "pause": Group("PAUSE", 21, 22, {"autoneg": (2, 1), "rx": (3, 1), "tx": (4, 1)}, {}),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Values:
    """What a GET answered: only the keys that the device has."""

    now: dict[str, int]
    most: dict[str, int]


@dataclass(frozen=True, slots=True)
class Feature:
    """hw: the driver can switch it; active: it is on; wanted: it was asked for; fixed: it can never be changed."""

    hw: bool
    wanted: bool
    active: bool
    fixed: bool


def message(group: str, write: bool = False) -> str:
    """The command's name, as evidence: ETHTOOL_MSG_RINGS_GET."""
    return f"ETHTOOL_MSG_{GROUPS[group].name}_{'SET' if write else 'GET'}"


def get(device: str, group: str) -> Values:
    """Read one group of settings. Raises NetlinkError with the device's words (EOPNOTSUPP: it has none)."""
    layout = GROUPS[group]
    found = attributes(_ask(layout.get, device))
    now = {key: number(found[kind]) for key, (kind, _) in layout.values.items() if kind in found}
    most = {key: number(found[kind]) for key, kind in layout.limits.items() if kind in found}
    return Values(now, most)


def put(device: str, group: str, values: Mapping[str, int]) -> None:
    """Set keys of one group at once; the device takes all or none. Raises NetlinkError, KeyError for a key that the group lacks."""
    layout = GROUPS[group]
    payload = b"".join(attr(layout.values[key][0], value, layout.values[key][1]) for key, value in values.items())
    _ask(layout.set, device, payload)


def features(device: str) -> dict[str, Feature]:
    """Every feature that the kernel knows, by the name that ethtool -k prints. Raises NetlinkError."""
    found = attributes(_ask(_FEATURES_GET, device))
    sets = {which: set(_bits(found.get(kind, b""))) for which, kind in _FEATURES.items()}
    names = sorted(filter(None, set().union(*sets.values()) | set(_feature_names())))
    return {
        name: Feature(name in sets["hw"], name in sets["wanted"], name in sets["active"], name in sets["nochange"] or name not in sets["hw"])
        for name in names
    }


def set_features(device: str, wanted: Mapping[str, bool]) -> None:
    """Ask for features to be on or off. The kernel may take the wish and not act on it: read back. Raises NetlinkError."""
    _ask(_FEATURES_SET, device, nest(_FEATURES["wanted"], _bitset(wanted)))


def private_flags(device: str) -> dict[str, bool]:
    """The driver's private flags. Raises NetlinkError."""
    found = attributes(_ask(_PRIVFLAGS_GET, device))
    bitset = attributes(found.get(_PRIVFLAGS, b""))
    names = (attributes(bit) for _, bit in each_attribute(bitset.get(_BITS, b"")))
    return {text(bit[_BIT_NAME]): _BIT_VALUE in bit for bit in names if _BIT_NAME in bit}


def set_private_flags(device: str, flags: Mapping[str, bool]) -> None:
    """Raises NetlinkError."""
    _ask(_PRIVFLAGS_SET, device, nest(_PRIVFLAGS, _bitset(flags)))


def statistics(device: str) -> list[str]:
    """The names of the driver's own counters (ethtool -S). Raises NetlinkError."""
    return _strings(_SS_STATS, nest(_HEADER, attr(_HEADER_DEV_NAME, device)))


def _ask(command: int, device: str, payload: bytes = b"") -> bytes:
    with Generic("ethtool") as ethtool:
        answers = ethtool.request(command, nest(_HEADER, attr(_HEADER_DEV_NAME, device)) + payload)
    return answers[0] if answers else b""


def _bitset(bits: Mapping[str, bool]) -> bytes:
    """A bit list with a mask: only the named bits change."""
    return nest(_BITS, *(nest(_BIT, attr(_BIT_NAME, name), attr(_BIT_VALUE, b"") if on else b"") for name, on in bits.items()))


def _bits(bitset: bytes) -> Iterator[str]:
    """The names of the bits that are set, of a verbose bitset with or without a mask."""
    parts = attributes(bitset)
    for _, data in each_attribute(parts.get(_BITS, b"")):
        bit = attributes(data)
        if _BIT_NAME in bit and (_NOMASK in parts or _BIT_VALUE in bit):
            yield text(bit[_BIT_NAME])


def _feature_names() -> list[str]:
    """The kernel's own list of feature names."""
    return _strings(_SS_FEATURES, nest(_HEADER))


def _strings(which: int, header: bytes) -> list[str]:
    """One string set, of the kernel or of the device that the header names; [] where there are none."""
    stringset = nest(1, attr(1, which))  # STRINGSETS_STRINGSET: STRINGSET_ID
    with Generic("ethtool") as ethtool:
        answer = ethtool.request(1, header + nest(2, stringset))[0]
    strings = attributes(attributes(attributes(answer).get(2, b"")).get(1, b"")).get(3, b"")
    return [text(name) for _, item in each_attribute(strings) if (name := attributes(item).get(2))]
