"""A policy on a port: compiled on the controller against the probed profile, pushed, applied by the machine's own netc, and checked in three layers.

Read-back equals plan: a second plan finds no drift and nothing to change. Rule counters: `counters`. And what the far end received, which the
tests compare themselves, for they know what they sent.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from hwtests.rack.errors import CommandFailed
from hwtests.rack.machine import Done
from hwtests.rack.port import Port

ROOT = Path(__file__).parents[2]


class Installed:
    """What netc has on one port during one test. directory: on the controller, for policy, profile and bundle."""

    def __init__(self, port: Port, directory: Path) -> None:
        self.port, self._directory = port, directory
        self._place = f"{port.machine.work}/policy.bundle"
        self.plan: dict[str, Any] = {}
        self._undo = 0  # the number of the undo that removes netc; 0: nothing is installed

    def bundle(self, policy: str) -> bytes:
        """Compile `nic wan { device DEVICE … }` and what follows; DEVICE stands for the port's device. Raises CommandFailed."""
        for name, text in (("p.netc", policy.replace("DEVICE", self.port.device)), ("target.yaml", self.port.profile_text)):
            (self._directory / name).write_text(text)
        out = self._directory / "p.bundle"
        argv = [sys.executable, "-m", "runtime.cli", "compile", "p.netc", "--target", "target.yaml", "-o", str(out)]
        done = subprocess.run(argv, cwd=self._directory, env=_environment(), capture_output=True, text=True, check=False)
        if done.returncode:
            raise CommandFailed(f"compiling for {self.port.name}: {done.stderr.strip()[-3000:]}")
        return out.read_bytes()

    def apply(self, policy: str, *options: str) -> dict[str, Any]:
        """Put a policy on the port and check that what is read back is what was planned. Raises CommandFailed."""
        self.push(policy)
        self.plan = self.port.machine.netc_json("apply", self._place, "--allow-disruptive", *options)
        self.port.up()
        self.read_back()
        return self.plan

    def again(self) -> None:
        """The same policy once more: what was changed behind netc's back is mended. Raises CommandFailed."""
        self.port.machine.netc("apply", self._place, "--allow-disruptive")
        self.port.up()
        self.read_back()

    def try_apply(self, policy: str) -> Done:
        """Apply what may be refused: exit status and netc's words. Raises CommandFailed for a policy that does not compile."""
        self.push(policy)
        done = self.port.machine.netc("apply", self._place, "--allow-disruptive", status=None)
        self.port.up()
        if done.code == 0:
            self.read_back()
        return done

    def refused(self, policy: str) -> str:
        """Apply what must be refused: why it was, in netc's words. Raises CommandFailed when it was not."""
        done = self.try_apply(policy)
        if done.code != 1:
            raise CommandFailed(f"{self.port.name}: exit status {done.code}, where the policy had to be refused")
        return done.err + done.out

    def read_back(self) -> None:
        """The first layer: what the kernel and the device say now is what the bundle asks for. Raises CommandFailed."""
        said = self.port.machine.netc_json("plan", self._place, status=None)
        if said.get("changes") or said.get("drift"):
            raise CommandFailed(f"{self.port.name}: what is there is not what was planned: {said['drift'] or said['entries']}")

    def counters(self) -> dict[str, int]:
        """The second layer: packets by counter name, over all stages."""
        found: dict[str, int] = {}
        for counter in self.port.machine.netc_json("counters")["counters"]:
            found[counter["name"]] = found.get(counter["name"], 0) + counter["packets"]
        return found

    def verify(self) -> None:
        """Installed, balanced: `netc verify`. Raises CommandFailed."""
        self.port.machine.netc("verify")

    def remove(self) -> None:
        """Take it off. Also what the undo stack does when nobody is left to."""
        machine = self.port.machine
        machine.netc("remove", "--allow-disruptive")
        if self._undo:
            machine.release(self._undo)
            self._undo = 0
        self.port.up()

    def push(self, policy: str) -> None:
        """Compile, and bring the bundle to the machine. From here on the undo stack removes netc."""
        data = self.bundle(policy)
        machine = self.port.machine
        self._undo = self._undo or machine.netc_undoes("remove", "--allow-disruptive")
        machine.put(self._place, data, 0o600)


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
