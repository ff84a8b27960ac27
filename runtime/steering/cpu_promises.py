"""On which CPU a flow has to be: what XDP hands to other CPUs (cpumap), and what the stack spreads over them (RPS).

Which steer rule takes a packet, the very XDP program says that is installed, loaded once more with maps of its own: nothing it counts or remembers
is the installed one's. So members that came into dynamic sets are not known to it; a packet that it would drop for that is not judged.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Self

from compiler.bundle import Bundle, Setting
from runtime import objects, replay
from runtime.backends import bpf
from runtime.context import Context, Device
from runtime.steering import flows
from runtime.steering.nic_promises import Promise, holds, place, said

_XDP_DROP = 1
_AWAY = {"devmap": "to the other nic", "xskmap": "to the AF_XDP socket"}  # by stage
_SECOND = 1_000_000_000  # between two packets: limits have tokens again


class CpuPromises:
    """What one nic's packets meet. Use as a context manager. Raises BpfError, StepError where the program does not load.

    leaving: the program is asked also where no rule names a CPU, for `leaves`.
    """

    def __init__(self, context: Context, bundle: Bundle, device: Device, leaving: bool = False) -> None:
        mine = [item for item in bundle.settings if item.nic == device.nic and item.group in ("rps", "rfs", "require") and holds(context, item)]
        by_stack = next((item for item in mine if item.group == "rps"), None)
        self._by_sockets = by_stack if any(item.group == "rfs" for item in mine) else None
        self._rps = None if self._by_sockets else by_stack
        moved = {item.what for item in bundle.placements if item.stage == "cpumap"}
        self._cpus = {item.key.removesuffix(".cpus"): item for item in mine if item.group == "require" and item.key.removesuffix(".cpus") in moved}
        self._away = {item.what: item.stage for item in bundle.placements if item.stage in _AWAY}
        self._bundle, self._nic, self._now = replay.without_cpus(bundle), device.nic, 0
        self._opened = ExitStack()
        self._program, self._asked = 0, leaving or bool(self._cpus)

    def __enter__(self) -> Self:
        code = next((code for code in self._bundle.programs if code.nic == self._nic and code.hook == "xdp"), None)
        if code is None or not self._asked:
            return self
        with ExitStack() as opening:
            made = opening.enter_context(objects.load_fresh(self._bundle, lambda each: each.name == code.name))
            self._cpu = opening.enter_context(replay.on_one_cpu())
            self._program, roles = made.programs[code.name], {item.role: item.id for item in self._bundle.maps if item.id in code.maps}
            self._scratch, self._clock = made.maps[roles["scratch"]], made.maps.get(roles.get("clock", -1))
            self._names = {c.index: c.name for c in self._bundle.counters if c.program == code.name}
            self._opened = opening.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def of(self, head: bytes, vlan: int) -> Promise | None:
        """Where this packet is to be; None where the policy leaves it on the CPU of its queue, or it cannot be told."""
        if self._rps is not None:
            return self._promise(self._rps)
        _, rule = self._met(head, vlan)
        return self._promise(self._cpus[rule], rule) if rule in self._cpus else None

    def leaves(self, head: bytes, vlan: int) -> str:
        """Why no CPU of this host takes the packet on behind XDP; "" where one does."""
        gone, rule = self._met(head, vlan)
        return f"dropped by XDP: {rule}" if gone else _AWAY[self._away[rule]] if rule in self._away else ""

    def every(self) -> Iterator[tuple[str, str]]:
        """What is promised at all: words and place."""
        for setting in ([self._rps] if self._rps is not None else []) or self._cpus.values():
            yield said(setting), place(setting)

    def unseen(self) -> Iterator[tuple[str, str]]:
        """What no packet can prove, and why."""
        for name, stage in self._away.items():
            if name.startswith(f"{self._nic}."):
                yield name, f"its packets leave {_AWAY[stage]} before they can be watched"
        if self._by_sockets is not None:
            yield said(self._by_sockets), "with RFS a flow goes to the CPU on which its socket is read, wherever that is"

    def _promise(self, setting: Setting, rule: str = "") -> Promise:
        cpus = setting.value if isinstance(setting.value, tuple) else (setting.value,)
        allowed = frozenset(int(cpu) for cpu in cpus)
        return Promise(said(setting), place(setting), "cpu", allowed, "" if len(allowed) == 1 else "a flow's hash chooses among them")

    def _met(self, head: bytes, vlan: int) -> tuple[bool, str]:
        """Whether XDP drops the packet, and the rule that does; else the steer rule that takes it, "" for none."""
        frame = flows.whole(head, vlan)
        if not self._program or len(frame) < replay.MIN_FRAME:
            return False, ""
        self._now += _SECOND
        if self._clock is not None:
            bpf.map_update(self._clock, bytes(4), struct.pack("=Q", self._now))
        gone = bpf.test_run(self._program, frame).retval == _XDP_DROP
        judged, steered = objects.read_scratch(self._scratch, self._cpu)
        return gone, self._names.get(judged if gone else steered, "")
