"""The netc command as a user types it, on a host of the test's own: every refusal is a sentence, in time, and changes nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.kernel import reduced
from tests.kernel.apply.hosts import Host

NETC = Path(sys.executable).with_name("netc")
HANG = 20  # seconds after which netc is said to hang; nothing here takes two
POLICY = b"nic wan { device wan0; xdp native }\nfilter wan in { drop udp dport 53 as dns; pass established as est; default pass }\n"
OTHER = b"nic wan { device wan0; xdp native }\nfilter wan in { drop udp dport 54 as other; pass established as est; default pass }\n"


@dataclass(frozen=True, slots=True)
class Terminal:
    host: Host
    cwd: Path

    def run(self, *words: str | Path | bytes, env: Mapping[str, str] | None = None, where: bool = True) -> subprocess.CompletedProcess[str]:
        place = ["--state-dir", str(self.host.directory / "state"), "--bpffs", str(self.host.directory / "bpf")] if where else []
        given = list(words) if any(isinstance(word, bytes) for word in words) else reduced.prepared([str(word) for word in words], self.cwd)
        netc = [str(NETC), *(word if isinstance(word, bytes) else str(word) for word in given)]
        command = [*reduced.command(self.host.netns, netc), *place]
        done = subprocess.run(command, capture_output=True, cwd=self.cwd, env={**os.environ, **(env or {})}, timeout=HANG, check=False)
        said = done.stderr.decode("utf-8", "replace")
        assert "Traceback" not in said and "this is a bug in netc" not in said, said
        return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode("utf-8", "replace"), said)

    def refused(self, *words: str | Path | bytes, env: Mapping[str, str] | None = None, where: bool = True) -> str:
        """What netc says instead of doing it. The device and what is installed are as before."""
        before = self.there()
        done = self.run(*words, env=env, where=where)
        assert done.returncode in (1, 2), f"{words}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "error" in done.stderr, done.stderr
        assert all(c.isprintable() or c == "\n" for c in done.stderr), done.stderr
        assert len(done.stderr) < 64 << 10, f"{len(done.stderr)} characters of complaint"
        after = self.there()
        assert after == before, [(name, before.get(name), after.get(name)) for name in before | after if before.get(name) != after.get(name)]
        return done.stderr

    def done(self, *words: str | Path) -> str:
        done = self.run(*words)
        assert done.returncode == 0, f"{words}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def write(self, name: str, data: bytes) -> Path:
        path = self.cwd / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def there(self) -> dict[str, Any]:
        """The kernel's side (programs, qdiscs, rules, sysctls, devices) and the state directory's: all that a refusal must leave alone."""
        host = self.host
        state = host.directory / "state"
        files = ("state.json", "settings.json", "journal.jsonl")  # not slots.json: a counter may have its place before it has a policy
        return {
            **host.attached(),
            "pins": sorted(str(p.relative_to(host.directory)) for p in (host.directory / "bpf").rglob("*") if p.is_file()),
            "ruleset": host.run("nft", "list", "ruleset"),
            "features": host.run("ethtool", "-k", "wan0"),
            "sysctls": host.run("sysctl", "-a", "--pattern", r"^net\.ipv4\.(ip_forward|conf)"),
            "state": {name: (state / name).read_bytes() for name in files if (state / name).is_file()},
        }
