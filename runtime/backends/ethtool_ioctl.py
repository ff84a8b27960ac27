"""What ethtool's netlink family lacks on the kernels that netc supports: driver information, RSS, hash fields, flow rules. By ioctl(SIOCETHTOOL).

An ioctl has no extack: a refusal is an errno. Layouts: include/uapi/linux/ethtool.h (checked by tests/kernel/settings against the header).
"""

from __future__ import annotations

import ctypes
import fcntl
import ipaddress
import socket
import struct
from dataclasses import dataclass
from typing import NamedTuple

_SIOCETHTOOL = 0x8946
_GDRVINFO, _GRXFH, _SRXFH, _GRXRINGS = 0x03, 0x29, 0x2A, 0x2D
_GRXCLSRLCNT, _GRXCLSRULE, _GRXCLSRLALL, _SRXCLSRLDEL, _SRXCLSRLINS = 0x2E, 0x2F, 0x30, 0x31, 0x32
_GRSSH, _SRSSH = 0x46, 0x47
_RXNFC, _RULE_COUNT, _RULE_LOCATIONS = 192, 184, 188  # sizeof(struct ethtool_rxnfc), offsets of rule_cnt, rule_locs
_FLOW_SPEC = 16  # offset of fs in ethtool_rxnfc; in it: h_u 4, m_u 76, ring_cookie 152, location 160
_LOCATION_SPECIAL = 0x80000000  # RX_CLS_LOC_SPECIAL
_LOCATION_ANY = _INDIR_NO_CHANGE = 0xFFFFFFFF
_FLOW_RSS = 0x20000000  # in flow_type: rss_context stands where rule_cnt does
_MOST_QUEUE = 0xFFFF  # behind 32 bits of it stands a virtual function (ETHTOOL_RX_FLOW_SPEC_RING_VF): no policy sends packets to a guest
DROP = 0xFFFFFFFFFFFFFFFF  # RX_CLS_FLOW_DISC: the ring_cookie of `action -1`
_HEAD = struct.Struct("=IIIIBB6x")  # struct ethtool_rxfh: cmd, rss_context, indir_size, key_size, hfunc, input_xfrm
NEW_CONTEXT = 0xFFFFFFFF  # ETH_RXFH_CONTEXT_ALLOC
FLOW_TYPES = {"tcp4": 1, "udp4": 2, "sctp4": 3, "tcp6": 5, "udp6": 6, "sctp6": 7}
HASH_FIELDS = {"src-ip": 0x10, "dst-ip": 0x20, "src-port": 0x40, "dst-port": 0x80}


@dataclass(frozen=True, slots=True)
class Driver:
    name: str
    version: str
    firmware: str
    bus: str


@dataclass(frozen=True, slots=True)
class Rss:
    """table: the queue of every indirection entry; key: the hash key's bytes; transform: RXH_XFRM_* bits, what is done to a flow before it is hashed."""

    table: tuple[int, ...]
    key: bytes
    function: int
    transform: int = 0


class FlowRule(NamedTuple):
    """spec: struct ethtool_rx_flow_spec; context: the RSS context that it hands packets to, 0 for none."""

    spec: bytes
    context: int = 0


def driver(device: str) -> Driver:
    """ETHTOOL_GDRVINFO. Raises OSError."""
    answer = _ioctl(device, struct.pack("=I192x", _GDRVINFO))
    names = [answer[at : at + 32].split(b"\0", 1)[0].decode("utf-8", "replace") for at in (4, 36, 68, 100)]
    return Driver(*names)


def rss(device: str, context: int = 0) -> Rss:
    """ETHTOOL_GRSSH: the indirection table and key. Raises OSError (EOPNOTSUPP: no RSS to be read; ENOENT: no such context)."""
    _, _, entries, key_size, _, _ = _HEAD.unpack_from(_ioctl(device, _HEAD.pack(_GRSSH, context, 0, 0, 0, 0)))
    answer = _ioctl(device, _HEAD.pack(_GRSSH, context, entries, key_size, 0, 0) + bytes(4 * entries + key_size))
    *_, function, transform = _HEAD.unpack_from(answer)
    table = struct.unpack_from(f"={entries}I", answer, _HEAD.size)
    return Rss(table, answer[_HEAD.size + 4 * entries : _HEAD.size + 4 * entries + key_size], function, transform)


def set_rss(device: str, table: tuple[int, ...] | None = None, key: bytes = b"", context: int = 0, transform: int | None = None) -> int:
    """ETHTOOL_SRSSH: the table (None: as it is), the key (b"": as it is), of a context (NEW_CONTEXT: make one); which it is. Raises OSError.

    transform: None writes it as it was read: 0 would switch a symmetric one off, and kernels before 6.8 know no "no change".
    """
    if transform is None:
        transform = rss(device, 0 if context == NEW_CONTEXT else context).transform
    entries = _INDIR_NO_CHANGE if table is None else len(table)
    request = _HEAD.pack(_SRSSH, context, entries, len(key), 0, transform) + struct.pack(f"={len(table or ())}I", *(table or ())) + key
    return int(_HEAD.unpack_from(_ioctl(device, request))[1])


def reset_rss_table(device: str) -> None:
    """Give the table back to the driver: the default one, which follows the number of queues from now on (indir_size 0). Raises OSError."""
    _ioctl(device, _HEAD.pack(_SRSSH, 0, 0, 0, 0, rss(device).transform))


def delete_context(device: str, context: int) -> None:
    """ETHTOOL_SRSSH with a context and indir_size 0. Raises OSError (EBUSY: a flow rule names it)."""
    _ioctl(device, _HEAD.pack(_SRSSH, context, 0, 0, 0, rss(device).transform))


def hash_fields(device: str, flow: str, context: int = 0) -> tuple[str, ...]:
    """ETHTOOL_GRXFH: what the RSS hash of a flow type covers. Raises OSError."""
    answer = _ioctl(device, _fields_request(_GRXFH, flow, 0, context))
    mask = struct.unpack_from("=Q", answer, 8)[0]
    return tuple(name for name, bit in HASH_FIELDS.items() if mask & bit)


def set_hash_fields(device: str, flow: str, fields: tuple[str, ...], context: int = 0) -> None:
    """ETHTOOL_SRXFH. Raises OSError."""
    _ioctl(device, _fields_request(_SRXFH, flow, sum(HASH_FIELDS[name] for name in fields), context))


def _fields_request(command: int, flow: str, mask: int, context: int) -> bytes:
    kind = FLOW_TYPES[flow] | (_FLOW_RSS if context else 0)
    return struct.pack("=IIQ168xII", command, kind, mask, context, 0)


def receive_rings(device: str) -> int:
    """ETHTOOL_GRXRINGS: the queues that RSS spreads over. Raises OSError."""
    return int(struct.unpack_from("=Q", _ioctl(device, struct.pack("=IIQ", _GRXRINGS, 0, 0) + bytes(_RXNFC - 16)), 8)[0])


def flow_rule_count(device: str) -> tuple[int, bool]:
    """ETHTOOL_GRXCLSRLCNT: rules there are, and whether the driver chooses places itself. Raises OSError."""
    answer = _ioctl(device, struct.pack("=II", _GRXCLSRLCNT, 0) + bytes(_RXNFC - 8))
    return int(struct.unpack_from("=I", answer, _RULE_COUNT)[0]), bool(struct.unpack_from("=Q", answer, 8)[0] & _LOCATION_SPECIAL)


def flow_table_size(device: str) -> int:
    """How many rules the NIC's table has room for, as ETHTOOL_GRXCLSRLALL says it (0: it does not say). Raises OSError."""
    return int(struct.unpack_from("=Q", _all_rules(device)[0], 8)[0])


def flow_rules(device: str) -> dict[int, FlowRule]:
    """Every rule in the NIC by its location. Raises OSError."""
    answer, count = _all_rules(device)
    found = min(struct.unpack_from("=I", answer, _RULE_COUNT)[0], count)
    return {at: flow_rule(device, at) for at in struct.unpack_from(f"={found}I", answer, _RULE_LOCATIONS)}


def add_flow_rule(device: str, rule: FlowRule) -> int:
    """ETHTOOL_SRXCLSRLINS at a place of the driver's choice, else at the last free one as ethtool(8) does; returns it. Raises OSError."""
    location = _LOCATION_ANY
    if not flow_rule_count(device)[1]:
        taken = flow_rules(device)
        location = next((at for at in reversed(range(flow_table_size(device))) if at not in taken), _LOCATION_ANY)
    flow = _FLOW_RSS if rule.context else 0
    request = bytearray(struct.pack("=II8x", _SRXCLSRLINS, flow) + rule.spec + struct.pack("=II", rule.context, 0))
    struct.pack_into("=I", request, _FLOW_SPEC + 160, location)
    return int(struct.unpack_from("=I", _ioctl(device, bytes(request)), _FLOW_SPEC + 160)[0])


def delete_flow_rule(device: str, location: int) -> None:
    """ETHTOOL_SRXCLSRLDEL. Raises OSError."""
    request = bytearray(struct.pack("=II", _SRXCLSRLDEL, 0) + bytes(_RXNFC - 8))
    struct.pack_into("=I", request, _FLOW_SPEC + 160, location)
    _ioctl(device, bytes(request))


def flow_spec(words: tuple[int | str, ...], location: int = _LOCATION_ANY) -> bytes:
    """struct ethtool_rx_flow_spec of words as `ethtool -N` has them: udp4 dst-port 53 action 7; action -1 drops; context NAME in its place: RSS there.

    Raises ValueError.
    """
    kind, pairs = str(words[0]), dict(zip(words[1::2], words[2::2], strict=True))
    known = {"src-ip", "dst-ip", "src-port", "dst-port", "action", "context"}
    action = int(pairs.get("action", 0))
    said_once = 2 * len(pairs) + 1 == len(words)
    if kind not in FLOW_TYPES or not said_once or not set(pairs) <= known or ("action" in pairs) == ("context" in pairs) or not -1 <= action <= _MOST_QUEUE:
        raise ValueError(f"not a flow rule: {' '.join(map(str, words))}")
    width = 4 if kind.endswith("4") else 16
    value, mask = bytearray(52), bytearray(52)
    for at, name in ((0, "src-ip"), (width, "dst-ip")):
        if name in pairs:
            network = ipaddress.ip_network(str(pairs[name]))
            if len(network.network_address.packed) != width:
                raise ValueError(f"{kind} has no address {network}")
            value[at : at + width], mask[at : at + width] = network.network_address.packed, network.netmask.packed
    for at, name in ((2 * width, "src-port"), (2 * width + 2, "dst-port")):
        if name in pairs:
            value[at : at + 2], mask[at : at + 2] = int(pairs[name]).to_bytes(2, "big"), b"\xff\xff"
    head = struct.pack("=I52s20x52s20x4x", FLOW_TYPES[kind] | (_FLOW_RSS if "context" in pairs else 0), bytes(value), bytes(mask))
    return head + struct.pack("=QI4x", DROP if action == -1 else action, location)


def _all_rules(device: str) -> tuple[bytes, int]:
    count, _ = flow_rule_count(device)
    request = bytearray(struct.pack("=II", _GRXCLSRLALL, 0) + bytes(_RXNFC - 8 + 4 * count))
    struct.pack_into("=I", request, _RULE_COUNT, count)
    return _ioctl(device, bytes(request)), count


def flow_rule(device: str, location: int) -> FlowRule:
    """ETHTOOL_GRXCLSRULE: one rule. Raises OSError (ENOENT, EINVAL: there is none)."""
    request = bytearray(struct.pack("=II", _GRXCLSRULE, 0) + bytes(_RXNFC - 8))
    struct.pack_into("=I", request, _FLOW_SPEC + 160, location)
    answer = _ioctl(device, bytes(request))
    spec = answer[_FLOW_SPEC : _FLOW_SPEC + 168]
    in_context = struct.unpack_from("=I", spec)[0] & _FLOW_RSS
    return FlowRule(spec, int(struct.unpack_from("=I", answer, _RULE_COUNT)[0]) if in_context else 0)


def _ioctl(device: str, request: bytes) -> bytes:
    """Hand the kernel a pointer to `request`; returns what it made of it."""
    name = device.encode()
    if not 0 < len(name) < 16:
        raise ValueError(f"not a device name: {device!r}")
    buffer = ctypes.create_string_buffer(request, len(request))
    argument = struct.pack("16sP16x", name, ctypes.addressof(buffer))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as plain:
        fcntl.ioctl(plain.fileno(), _SIOCETHTOOL, argument)
    return buffer.raw
