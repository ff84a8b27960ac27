"""The host that is spoilt: two nics, a policy of every backend, netc's commands run in this process, and what a kind of spoiling is.

netc runs in the process of the tests (each start of an own one would take longer than what it does); its words are those of the command.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from runtime import cli
from runtime.backends import bpf, sysfs
from runtime.lab import netns
from tests.kernel.apply.hosts import Host

POLICY = """\
nic wan { device wan0; xdp native }
nic lan { device lan0; xdp native }
set office = { 198.51.100.0/24, 2001:db8:1::/48 }
set vips = { 192.0.2.7, 192.0.2.8 }
set banned : address timeout 10m size 1k never office full keep
filter wan in {
  drop  src in banned                                   as banned
  drop  vlan 10 udp dport 9                             as tagged
  pass  tcp dport 22 src in office                      as ssh
  drop  tcp dport 22 syn                                as ssh-scan  then add src to banned
  pass  udp dport 53 limit 20kpps burst 4k per src      as dns
  pass  icmp echo-request limit 100pps                  as ping
  pass  dst in vips                                     as vips
  drop  udp                                             as udp
  pass  established                                     as est
  pass  tcp dport 443 src in office new                 as tls
  drop  tcp dport 80 new                                as web
  default drop
}
steer wan {
  queues 2
  xps on cpus 0-1
  udp dport 5000 to cpus 1
  dst in vips    to nic lan routed
}
steer lan { rps on cpus 0-1 }
shape wan out rate 100mbit {
  class voice { match dscp ef; min 5mbit; max 20mbit; urgent }
  class bulk  { default; min 10mbit; queue fq_codel { target 5ms } or pfifo }
}
shape wan in rate 90mbit { class all { default; queue pfifo } }
tune wan { offload gro off, tso off }
host { sysctl net.ipv4.tcp_sack = 0 }
"""
Undo = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Site:
    """host: where the policy is installed from `bundle`."""

    host: Host
    bundle: Path

    def netc(self, *words: str | Path) -> tuple[int, str, str]:
        """Exit status, stdout and stderr of one command."""
        out, err = io.StringIO(), io.StringIO()
        where = ["--state-dir", str(self.host.directory / "state"), "--bpffs", str(self.host.directory / "bpf")]
        with netns.enter(self.host.netns), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = cli.main([*map(str, words), *where])
        return status, out.getvalue(), err.getvalue()

    def verify(self) -> tuple[int, list[dict[str, str]]]:
        """Its exit status, and what it found broken."""
        status, out, err = self.netc("verify", "--json")
        assert out, err
        return status, [found for found in json.loads(out)["findings"] if found["result"] == "broken"]

    def apply(self) -> bool:
        """The same policy again: was there something to do?"""
        status, out, err = self.netc("apply", self.bundle, "--json", "--allow-disruptive")
        assert status == 0, err
        return bool(json.loads(out)["changed"])

    def restore(self) -> None:
        """After a case that failed: from nothing."""
        self.netc("remove")
        self.apply()

    def run(self, words: str) -> str:
        return self.host.run(*words.split())

    def peer(self, words: str) -> None:
        subprocess.run(["nsenter", f"--net=/run/netns/{self.host.peer}", *words.split()], check=True)

    def write_queue(self, device: str, name: str, text: str) -> None:
        """A file of one of the device's queues in sysfs."""
        with netns.enter(self.host.netns), sysfs.Sysfs() as tree:
            tree.write(f"class/net/{device}/queues/{name}", text)

    def nft(self, words: str) -> None:
        self.host.run("nft", words)

    def nft_json(self, *words: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.host.run("nft", "-a", "-j", *words))["nftables"]
        return found

    @property
    def ifb(self) -> str:
        return next(link["ifname"] for link in json.loads(self.run("ip -j link")) if link["ifname"].startswith("netc-ifb"))

    def pins(self, under: str) -> list[Path]:
        """What is pinned below a directory of netc's in the bpf file system; `gen`: the generation that is installed."""
        root = self.host.directory / "bpf"
        where = max(root.glob("gen-*"), key=lambda path: int(path.name[4:])) if under == "gen" else root / under
        return sorted(where.iterdir())

    def pin(self, under: str, name: str) -> Path:
        (found,) = [path for path in self.pins(under) if path.name.startswith(name)]
        return found

    @contextlib.contextmanager
    def opened(self, path: Path) -> Iterator[int]:
        """The descriptor of what is pinned there."""
        descriptor = bpf.get_pinned(path)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to spoil an installation. act: does it by the kernel's own means, and gives what takes it back by hand (None: an apply of the
    same policy does). where and words: the backend that `netc verify` names, and what it says of the thing at least."""

    name: str
    where: str
    words: str
    act: Callable[[Site, Random], Undo | None]
