"""A port under test: its device, what netc's probe says of it, and the wire at its far end."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from ipaddress import ip_interface
from typing import Any

from hwtests.rack.errors import RackError
from hwtests.rack.file import Quirk
from hwtests.rack.machine import Machine
from hwtests.rack.wire import Wire

CARRIER_SECONDS = 15.0  # igb takes 2 s after a reset, 10GBASE-T up to 10 s


@dataclass
class Port:
    """near, far: addresses with prefix length of this end and the other; mbit: the link's rate, 0 unknown. cable: pulls it (False) or puts it back, where that can be done.
    settings: the machine's, as the last test left them (hwtests/rack/snapshot.py)."""

    name: str
    machine: Machine
    device: str
    near: str
    far: str
    wire: Wire
    mbit: int = 0
    quirks: tuple[Quirk, ...] = ()
    cable: Callable[[bool], None] | None = None
    settings: dict[str, Any] | None = None

    @cached_property
    def profile_text(self) -> str:
        """What `netc probe --try` writes on the machine: the compiler's target. Once a run, before the first test changes anything."""
        path = f"{self.machine.work}/{self.name}.yaml"
        self.machine.netc("probe", self.device, "--try", "-o", path)
        self.up()
        return self.machine.get(path).decode()

    @cached_property
    def profile(self) -> dict[str, Any]:
        """The same, read."""
        import yaml

        content: dict[str, Any] = yaml.safe_load(self.profile_text)
        return content

    @cached_property
    def identity(self) -> dict[str, str]:
        """What results name: driver, firmware, bus address, kernel, machine."""
        driver = self.profile["facts"].get("driver", {})
        kernel = self.machine.ask("ping", 1)["kernel"]
        return {"nic": self.name, "device": self.device, "driver": str(driver.get("name") or self.profile["driver"]),
                "firmware": str(driver.get("firmware", "")), "bus": str(driver.get("bus", "")), "kernel": kernel}  # fmt: skip

    @property
    def mac(self) -> str:
        """The device's own address, as it is now."""
        return str(self.link()["address"])

    @property
    def address(self) -> str:
        """This end's address without its prefix length."""
        return str(ip_interface(self.near).ip)

    @property
    def far_address(self) -> str:
        return str(ip_interface(self.far).ip)

    def link(self) -> dict[str, Any]:
        """What `ip -d -j link` says of the device."""
        links: list[dict[str, Any]] = self.machine.json("ip", "-d", "-j", "link", "show", "dev", self.device)
        return links[0]

    def up(self) -> None:
        """Wait for carrier and an IPv4 address that can be used. Raises RackError."""
        done = self.machine.run("sh", "-c", _AWAIT, "sh", self.device, str(round(CARRIER_SECONDS * 10)), status=None, timeout=CARRIER_SECONDS + 60)
        if done.code:
            raise RackError(f"{self.name}: {self.device} has had no carrier for {CARRIER_SECONDS:g} s: {done.out.strip()}")

    def settle(self) -> None:
        """Until the device's receive count stands still: frames are on their way in, and a machine may be slow to take them."""
        read = ("cat", "/proc/net/dev")
        last, now = "", self.machine.run(*read).out
        until = time.monotonic() + 10
        while last != now and time.monotonic() < until:
            time.sleep(0.3)
            last, now = now, self.machine.run(*read).out

    def frame(self, words: str, *, to: str = "", source: str = "") -> bytes:
        """A frame in the words of a policy's tests, from the far end to this device: `udp 192.0.2.9:4000 -> 192.0.2.1:53`."""
        from compiler import frames
        from compiler.frontend import parse_packet

        return frames.build(parse_packet(words), src_mac=source or self.wire.mac, dst_mac=to or self.mac)

    def frames(self, words: Sequence[str]) -> list[bytes]:
        """The same for many, with the device's address asked for once."""
        mac = self.mac
        return [self.frame(text, to=mac) for text in words]

    def answers(self) -> None:
        """Traffic goes through, both ways: ten pings, ten answers. Raises AssertionError."""
        frames = self.frames([f"icmp {self.far_address} -> {self.address} echo-request id 3 seq {n}" for n in range(10)])
        with self.wire.listening() as heard:
            self.wire.send(frames, rate=500)
            heard.wait(10)
        answered = sum(frame.icmp_type == 0 for frame in heard.frames)
        assert answered == 10, f"{self.name}: {answered} of 10 pings are answered"

    def known(self, test: str) -> Quirk | None:
        """The rack file's quirk that says this test is known to fail here."""
        from fnmatch import fnmatchcase

        return next((quirk for quirk in self.quirks if fnmatchcase(test, quirk.test)), None)


_AWAIT = """i=0
while [ $i -lt $2 ]; do
  case "$(ip link show dev "$1")" in *LOWER_UP*) exit 0;; esac
  i=$((i + 1)); sleep 0.1
done
ip link show dev "$1"; exit 1"""
"""Wait for carrier on the machine itself: a question a tenth of a second, without a round trip each. (iproute2 shows LOWER_UP for carrier.)"""
