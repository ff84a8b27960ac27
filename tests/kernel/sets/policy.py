"""A policy with a set of each kind, on a host of its own: what the tests of `netc set` change and send packets through."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compiler import bundle as bundles
from compiler import ir
from compiler.bundle import Bundle, DynamicSet
from runtime import sets
from runtime.backends import bpf
from runtime.context import Context
from runtime.steps import xdp_pins
from tests.kernel.apply.hosts import Host

POLICY = """\
nic wan { device wan0; xdp native }
set office = { 198.51.100.0/24, 2001:db8:1::/48 }
set web = { 80, 8080-8089 }
set banned : address timeout 10m size 4 never office full keep
set last : address size 2 full evict
filter wan in {
  drop src in banned as banned
  drop dst in banned as to-banned
  drop src in last as last
  drop tcp dport 22 as ssh then add src to banned
  drop tcp dport in web src in office as web
  default pass
}
"""


@dataclass(frozen=True, slots=True)
class Live:
    host: Host

    def apply(self, text: str) -> None:
        path = self.host.directory / "p.netc"
        path.write_text(text)
        self.host.netc("apply", path)

    def set(self, *words: str | Path, status: int = 0) -> str:
        """What `netc set` prints, or says where it refuses."""
        done = self.host.netc("set", *words, status=status)
        return done.stderr if status else done.stdout

    def members(self, name: str = "banned") -> dict[str, Any]:
        """member → seconds left, None for ever."""
        return {item["member"]: item.get("left") for item in self.host.json("set", "list", name)["members"]}

    def judged(self, source: str, dport: int = 53) -> str:
        """The rule that a UDP (port 22: TCP) packet from there met, "default" when it passed. The packet is really sent."""
        before = self.host.counts()
        target = "2001:db8::1" if ":" in source else "192.0.2.1"
        proto, flags = ("tcp", (("syn", 1),)) if dport == 22 else ("udp", ())
        self.host.send(ir.PacketSpec(proto, source, target, 40000, dport, flags))
        after = self.host.counts()
        moved = [name.rpartition(".")[2] for (_, name), count in after.items() if count > before[_, name]]
        return next(name for name in moved if name not in ("seen", "control"))

    @property
    def context(self) -> Context:
        return Context(self.host.directory / "state", self.host.directory / "bpf")

    @property
    def bundle(self) -> Bundle:
        current = self.host.json("status")["bundle"]
        return bundles.decode((self.host.directory / "state" / "bundles" / f"{current}.bundle").read_bytes())

    def program(self, bundle: Bundle) -> int:
        """The descriptor of the attached XDP program."""
        generation = xdp_pins.generations(self.context)[0]
        return bpf.get_pinned(xdp_pins.program_path(self.context, next(c.name for c in bundle.programs if c.hook == "xdp"), generation))


def item(bundle: Bundle, name: str = "banned") -> DynamicSet:
    return next(each for each in bundle.sets if each.name == name)


def whole(context: Context, bundle: Bundle, of: DynamicSet) -> bool:
    """Every member stands in the slot that it names, all other slots are free, no change is left (struct ring of compiler/targets/keyed.h)."""
    table, ring = sets.open_maps(context, bundle, of)
    try:
        content = bpf.map_lookup(ring, bytes(4), 24 + 24 * of.size) or b""
        members = {key: struct.unpack("=3Q", value) for key, value in bpf.map_items(table, 20, 24)}
    finally:
        os.close(table)
        os.close(ring)
    count, _, free = struct.unpack_from("=3Q", content)
    keys = [struct.unpack_from("=Q16s", content, 24 + 24 * i) for i in range(min(count, of.size))]
    empty, at = set(), (free & 0xFFFFFFFF) - 1
    while 0 <= at < of.size and at not in empty:
        empty.add(at)
        at = struct.unpack_from("=I", content, 24 + 24 * at + 8)[0] - 1
    taken = {struct.pack("=I16s", *key): slot for slot, key in enumerate(keys) if key[0]}
    settled = all(change == 0 for _, change, _ in members.values())
    return settled and taken == {key: slot for key, (_, _, slot) in members.items()} and empty == {i for i, key in enumerate(keys) if not key[0]}
