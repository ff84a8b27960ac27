"""What rules with `sample` or `log` copied into the ring buffer: the record of compiler/targets/effects.h as a Sample, a line, a pcap record."""

from __future__ import annotations

import ipaddress
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass

from compiler.bundle import Bundle

_RECORD = struct.Struct("=Q6I")  # struct sample: time, nic, slot, bytes, captured, log, zero; then the frame
FRAME_SIZE = 224  # SAMPLE_FRAME
_HEX_SHOWN = 32  # bytes of a frame that no words fit
_VLAN, _IP4, _IP6, _ARP = (0x8100, 0x88A8), 0x0800, 0x86DD, 0x0806
_PORTED = {6: "tcp", 17: "udp", 132: "sctp"}
_NAMED = {1: "icmp4", 58: "icmp6", 2: "igmp", 47: "gre", 50: "esp", 51: "ah", 89: "ospf"}
_FLAGS = ("fin", "syn", "rst", "psh", "ack", "urg")


@dataclass(frozen=True, slots=True)
class Sample:
    """time: ns since the epoch. rule: the counter's name (wan.in.ssh); verdict "" for a rule that is gone. size: the whole frame's bytes."""

    time: int
    nic: str
    rule: str
    verdict: str
    size: int
    log: bool
    frame: bytes


class Reader:
    """Makes Samples of records, by the installed bundle and its slots."""

    def __init__(self, bundle: Bundle, slots: Mapping[str, Mapping[str, int]]) -> None:
        self._nics = {nic.index: nic.name for nic in bundle.nics}
        self._rules = {nic: {slot: name for name, slot in named.items()} for nic, named in slots.items()}
        self._verdicts = {counter.name: counter.verdict for counter in bundle.counters if counter.stage == "xdp"}
        self._epoch = time.time_ns() - time.monotonic_ns()

    def sample(self, record: bytes) -> Sample:
        """Raises struct.error for a record that is shorter than its head."""
        when, number, slot, size, captured, log, _ = _RECORD.unpack_from(record)
        nic = self._nics.get(number, f"nic {number}")
        rule = self._rules.get(nic, {}).get(slot, f"slot {slot}")
        frame = record[_RECORD.size : _RECORD.size + min(captured, FRAME_SIZE)]
        return Sample(self._epoch + when, nic, rule, self._verdicts.get(rule, ""), size, bool(log), frame)


def line(sample: Sample) -> str:
    """For people: time, nic, rule, verdict, length, the packet."""
    seconds, rest = divmod(sample.time, 10**9)
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds)) + f".{rest // 1000:06}"
    what = f" {sample.verdict}" if sample.verdict else ""
    return f"{when} {sample.nic} {sample.rule}{what}{' log' if sample.log else ''} {sample.size} bytes: {packet(sample.frame)}"


def as_json(sample: Sample) -> dict[str, object]:
    """One sample for `--json`; keys never change their meaning."""
    return {
        "time": sample.time, "nic": sample.nic, "rule": sample.rule, "verdict": sample.verdict, "bytes": sample.size, "log": sample.log,
        "packet": packet(sample.frame), "frame": sample.frame.hex(),
    }  # fmt: skip


def pcap_header() -> bytes:
    """A pcap file with nanosecond times (magic 0xa1b23c4d) of Ethernet frames (link type 1), of which FRAME_SIZE bytes are kept."""
    return struct.pack("=IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, FRAME_SIZE, 1)


def pcap_record(sample: Sample) -> bytes:
    """dpkt's writer would make the frame's length that of what was kept."""
    return struct.pack("=4I", *divmod(sample.time, 10**9), len(sample.frame), sample.size) + sample.frame


def packet(frame: bytes) -> str:
    """In the words that policies' tests use, as far as they go; in hexadecimal where the frame is not one of those."""
    try:
        kind, at, tags = _link(frame)
        if kind == _IP4:
            return _ip4(frame[at:]) + tags
        if kind == _IP6:
            return _ip6(frame[at:]) + tags
        if kind == _ARP:
            return f"arp {_address(frame[at + 14 : at + 18])} -> {_address(frame[at + 24 : at + 28])}{tags}"
    except (struct.error, IndexError, ValueError):
        pass
    return frame[:_HEX_SHOWN].hex(" ") + (" ..." if len(frame) > _HEX_SHOWN else "")


def _link(frame: bytes) -> tuple[int, int, str]:
    """EtherType behind at most two tags, where its header begins, the tags in words."""
    at = 12
    found: list[str] = []
    (kind,) = struct.unpack_from("!H", frame, at)
    while kind in _VLAN and len(found) < 2:
        tag, kind = struct.unpack_from("!HH", frame, at + 2)
        found.append(str(tag & 0xFFF))
        at += 4
    return kind, at + 2, f" vlan {'.'.join(found)}" if found else ""


def _ip4(header: bytes) -> str:
    place = struct.unpack_from("!H", header, 6)[0]
    size = (header[0] & 15) * 4
    part = " later-fragment" if place & 0x1FFF else " first-fragment" if place & 0x2000 else ""
    return _transport(header[9], _address(header[12:16]), _address(header[16:20]), header[size:], part)


def _ip6(header: bytes) -> str:
    return _transport(header[6], _address(header[8:24]), _address(header[24:40]), header[40:], "")


def _transport(proto: int, src: str, dst: str, data: bytes, part: str) -> str:
    name = _PORTED.get(proto)
    if name is None or part == " later-fragment":
        return f"{name or _NAMED.get(proto) or f'protocol {proto}'} {src} -> {dst}{_icmp(proto, data) if not part else part}"
    sport, dport = struct.unpack_from("!HH", data)
    src, dst = (f"[{address}]" if ":" in address else address for address in (src, dst))
    flags = "".join(f" {flag}" for bit, flag in enumerate(_FLAGS) if data[13] >> bit & 1) if name == "tcp" else ""
    return f"{name} {src}:{sport} -> {dst}:{dport}{flags}{part}"


def _icmp(proto: int, data: bytes) -> str:
    return f" type {data[0]} code {data[1]}" if proto in (1, 58) else ""


def _address(data: bytes) -> str:
    return str(ipaddress.ip_address(data))
