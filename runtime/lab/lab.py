"""A lab that is up, as the commands, the demonstration and the tests use it."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from runtime.context import Context, Device
from runtime.lab import build, netns, topology, traffic
from runtime.lab.topology import DUT, LabError, Names, Side

_ETH_P_IP, _ETH_P_IPV6 = 0x0800, 0x86DD


@dataclass(frozen=True, slots=True)
class Lab:
    names: Names

    def enter(self) -> AbstractContextManager[None]:
        """Work in the device under test's network namespace."""
        return netns.enter(self.names.netns(DUT))

    def enter_peer(self, side: Side) -> AbstractContextManager[None]:
        """Work at the other end of a cable."""
        return netns.enter(self.names.netns(side.name))

    def context(self, nics: Sequence[str]) -> Context:
        """Where a policy with these nics is applied. Raises LabError for more nics than the lab has devices."""
        indexes = {side.device: side.ifindex for side in topology.SIDES}
        devices = tuple(Device(nic, device, indexes[device]) for nic, device in topology.bind(nics).items())
        return Context(self.names.state, self.names.bpffs, devices, self.names.netns(DUT))

    def send(self, side: Side, frame: bytes, count: int = 1, rate: float = 0) -> traffic.Sent:
        """Send a frame into the device of `side` from its other end. Raises TrafficError."""
        with self.enter_peer(side):
            return traffic.send(side.peer, frame, count, rate)

    def send_from_dut(self, frame: bytes, count: int = 1, device: str = "") -> traffic.Sent:
        """Let the device under test send what is in `frame` (IPv4 or IPv6) through its own stack: routing, conntrack, nftables, tc.

        device: leave by this one, whatever the routes say. Raises TrafficError.
        """
        import time

        began = time.monotonic()
        with self.enter(), _raw_socket(frame) as packets:
            if device:
                packets.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
            for _ in range(count):
                packets.sendto(frame[14:], _destination(frame))
        return traffic.Sent(count, time.monotonic() - began, "the stack")


def find(name: str) -> Lab:
    """A lab that is up. Raises LabError when there is none, or only half of one."""
    names = topology.names(name)
    record = build.read(names)
    if record is None:
        raise LabError(f"there is no lab {name}; make it with: netc lab up {name}")
    if not record.whole:
        raise LabError(f"lab {name} was left half made; remove it with: netc lab down {name}")
    return Lab(names)


def _raw_socket(frame: bytes) -> socket.socket:
    """IPPROTO_RAW: the packet brings its IP header along (raw(7), and net/ipv6/raw.c for IPv6)."""
    family = {_ETH_P_IP: socket.AF_INET, _ETH_P_IPV6: socket.AF_INET6}.get(_ethertype(frame))
    if family is None:
        raise traffic.TrafficError("the device under test itself sends IPv4 and IPv6 only, without VLAN tags")
    return socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)


def _destination(frame: bytes) -> tuple[str, int]:
    if _ethertype(frame) == _ETH_P_IP:
        return socket.inet_ntop(socket.AF_INET, frame[30:34]), 0
    return socket.inet_ntop(socket.AF_INET6, frame[38:54]), 0


def _ethertype(frame: bytes) -> int:
    if len(frame) < 34:
        raise traffic.TrafficError(f"a frame of {len(frame)} bytes holds no IP packet")
    return int(struct.unpack_from("!H", frame, 12)[0])
