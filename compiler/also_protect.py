"""One more protected flow beside a policy's own: the TCP connection that the command is run over (`--also-protect`).

The runtime knows the connection and the devices that it may come in by, and not the policy; so the flow names devices, and here it is found
which nics of the policy those are.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Annotated

import msgspec

from compiler import ir
from compiler.ir import Field
from compiler.source import NOWHERE

Port = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF)]


class Flow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """TCP between `client`, any port, and `local`:`port`. devices: what it can come in by. bound: nics that are on another device than the policy says."""

    client: str
    local: str
    port: Port
    devices: tuple[str, ...]
    bound: dict[str, str] = {}

    def protects(self, nics: Mapping[str, str]) -> tuple[ir.Protect, ...]:
        """What is to be proved of a policy with these nics (name: the device that it says)."""
        ends = (Field.SRC, ordinal(self.client)), (Field.DST, ordinal(self.local)), (Field.DPORT, self.port)
        when = ir.And((ir.Is("tcp"), *(ir.Within(field, ((value, value),)) for field, value in ends)))
        finding = "arp" if ends[0][1] >= ir.V4_BASE else "nd"  # how both ends find each other's hardware address
        flows = (when, f"tcp dport {self.port} src {self.client} dst {self.local}"), (ir.Is(finding), finding)
        here = [name for name, device in nics.items() if self.bound.get(name, device) in self.devices]
        return tuple(ir.Protect(name, expr, text, NOWHERE) for name in here for expr, text in flows)


def decode(text: str) -> Flow:
    """The option's argument: JSON of a Flow. Raises ValueError."""
    flow = msgspec.json.decode(text, type=Flow)
    ordinal(flow.client), ordinal(flow.local)
    return flow


def named(protect: ir.Protect) -> str:
    """By which it is known again that a flow was proved of a nic."""
    return f"{protect.nic}: {protect.text}"


def ordinal(address: str) -> int:
    """An address as the IR counts it. Raises ValueError."""
    found = ipaddress.ip_address(address)
    return int(found) + (ir.V4_BASE if found.version == 4 else 0)
