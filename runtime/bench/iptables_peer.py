"""iptables as a peer: the same rules in the raw table's PREROUTING, the first place where it sees a packet, on live frames in a namespace of its own.

Whichever variant `iptables-restore` is (nf_tables or legacy) is measured, and named. IPv4 and IPv6 have a list each.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from compiler.tables.flows import Material, PeerFilter
from runtime.bench.live_peer import LivePeer, places
from runtime.bench.rig import BenchError, Rig
from runtime.lab import netns

IPTABLES, FLOOR = "iptables", "iptables floor"
_TOOLS = {4: "iptables", 6: "ip6tables"}
_COUNTED = re.compile(r"\[(\d+):\d+\] -A PREROUTING ")
_DEFAULT = re.compile(r":PREROUTING \w+ \[(\d+):\d+\]")
_SECONDS = 120.0  # ten thousand rules take a few


def reason_against(material: Material) -> str:
    """Why it cannot be measured beside this policy; "" when it can."""
    if any(shutil.which(f"{tool}-{what}") is None for tool in _TOOLS.values() for what in ("restore", "save")):
        return "not installed"
    if material.stateful:
        return "not comparable: limits and dynamic sets do not start alike there"
    return material.refused.get(IPTABLES, "")


def version() -> str:
    """As it names itself: `iptables v1.8.9 (nf_tables)`."""
    return _tool(["iptables", "--version"], "").strip()


class Peer(LivePeer):
    """Made by `opened`. Raises BenchError where the tool refuses the rules."""

    def __init__(self, rig: Rig, where: tuple[str, str]) -> None:
        super().__init__(rig, IPTABLES, FLOOR, where)
        self._filters = [item for item in rig.material.peers if item.peer == IPTABLES]
        self._ruled = where[0]
        frame = rig.material.scenarios[0].frames
        for name, with_rules in zip(where, (True, False), strict=True):
            with netns.enter(name):
                _lo_up(frame[:6])
                for item in self._filters:
                    _restore(item, with_rules)

    def counted(self) -> Mapping[str, int]:
        found: Counter[str] = Counter()
        outcomes = self._rig.material.outcomes
        names = {outcome.index: outcome.counter for outcome in outcomes}
        with netns.enter(self._ruled):
            for item in self._filters:
                text = _tool([f"{_TOOLS[item.family]}-save", "-c", "-t", "raw"], "")
                packets = [int(match[1]) for match in _COUNTED.finditer(text)]
                default = _DEFAULT.search(text)
                if len(packets) != len(item.rules) or default is None:
                    raise BenchError(f"{_TOOLS[item.family]} lists {len(packets)} rules of {len(item.rules)}")
                found[names[-1]] += int(default[1])
                for rule, number in zip(item.rules, packets, strict=True):
                    found[names[rule]] += number
        return found


@contextmanager
def opened(rig: Rig) -> Iterator[Peer]:
    """Raises BenchError, NetnsError."""
    with places("i") as where:
        yield Peer(rig, where)


def _restore(item: PeerFilter, with_rules: bool) -> None:
    lines = [f"-A PREROUTING {line} -j DROP" for line in item.lines] if with_rules else []
    _tool([f"{_TOOLS[item.family]}-restore"], "\n".join(["*raw", ":PREROUTING DROP [0:0]", *lines, "COMMIT", ""]))


def _lo_up(address: bytes) -> None:
    """The stack takes only frames to the device's own address."""
    from pyroute2 import IPRoute

    with IPRoute() as kernel:
        kernel.link("set", index=1, address=address.hex(":"))
        kernel.link("set", index=1, state="up")


def _tool(command: list[str], text: str) -> str:
    """Run in the thread's namespace, which a child inherits."""
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchError(f"{command[0]}: {error}") from None
    if done.returncode:
        raise BenchError(f"{command[0]}: {done.stderr.strip()[:300]}")
    return done.stdout
