"""A veth pair between two namespaces for tests that attach: w0 near, f0 far, frames sent from f0 arrive at w0's XDP."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from compiler import frames
from compiler.bundle import Bundle
from runtime import plan, slots
from runtime.context import Context, Device
from runtime.lab import netns, traffic
from runtime.state import Store
from runtime.steps import Step
from runtime.steps import xdp as steps

NEAR, FAR = "w0", "f0"


@dataclass
class Wire:
    """near: the namespace of the policy's device; far: where frames are sent from."""

    near: str
    far: str
    context: Context

    def build(self, new: Bundle | None, old: Bundle | None, generation: int) -> list[Step]:
        """The steps, with the slots assigned as `netc apply` does."""
        store = Store(self.context.state)
        store.prepare()
        if new:
            store.write_slots(slots.assign([new], store.slots()))
        planned = [plan.Planned("xdp", step) for step in steps.steps(self.context, new, old, generation)]
        return [item.step for item in plan.order(planned, removing=new is None)]

    def apply(self, new: Bundle | None, old: Bundle | None = None, generation: int = 1) -> list[Step]:
        """Do, check and clean, as runtime.transaction does."""
        with netns.enter(self.near):
            made = self.build(new, old, generation)
            for step in made:
                if step.phase != "clean":
                    step.do()
            for step in made:
                if step.phase != "clean":
                    step.check()
            for step in made:
                if step.phase == "clean":
                    step.do()
                    step.check()
        return made

    def send(self, frame: bytes, count: int = 1) -> None:
        with netns.enter(self.far):
            assert traffic.send(FAR, frame, count).packets == count

    def counters(self, made: Bundle) -> dict[str, tuple[int, int]]:
        with netns.enter(self.near):
            return steps.read_counters(self.context, made)


def ip(namespace: str, *words: str) -> str:
    """iproute2's view, independent of netc's own netlink."""
    return subprocess.run(["ip", "-n", namespace, *words], check=True, capture_output=True, text=True).stdout


@contextmanager
def wired(near: str, far: str, state: Path) -> Iterator[Wire]:
    """Up, silent (no IPv6 autoconfiguration), with queues enough for native XDP, and a bpffs in `state` that is unmounted at the end."""
    ip(near, "link", "add", NEAR, "numrxqueues", "2", "numtxqueues", "2", "type", "veth", "peer", "name", FAR, "netns", far,
       "numrxqueues", "2", "numtxqueues", "2")  # fmt: skip
    ip(near, "link", "set", NEAR, "address", frames.DST_MAC)
    for namespace, device in ((near, NEAR), (far, FAR)):
        ip(namespace, "link", "set", device, "addrgenmode", "none", "arp", "off", "up")
    index = int(ip(near, "-o", "link", "show", NEAR).split(":")[0])
    bpffs = state / "bpf"
    try:
        yield Wire(near, far, Context(state / "state", bpffs, (Device("wan", NEAR, index),), near))
    finally:
        if bpffs.exists():
            subprocess.run(["umount", bpffs], check=False, capture_output=True)
