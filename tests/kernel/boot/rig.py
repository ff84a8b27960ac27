"""A real systemd as process 1 of namespaces of its own, over a copy of this machine's files that nobody else sees (overlayfs on a tmpfs).

It starts what the test gives it and the few targets that the unit is ordered against, in the test's network namespace.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SYSTEMD = Path("/lib/systemd/systemd")
UNITS = Path("/lib/systemd/system")
TARGETS = ("sysinit", "shutdown", "network-pre", "local-fs", "basic")
LIMIT = 60  # seconds until a systemd that hangs is killed
_SCRIPT = r"""
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
mkdir "$1/up" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/up,workdir=$1/work" "$1/root"
R=$1/root
mount -t proc proc "$R/proc"
mount -t sysfs sysfs "$R/sys"
mount -t cgroup2 cgroup2 "$R/sys/fs/cgroup"
mount -t bpf -o mode=0700 bpf "$R/sys/fs/bpf"
mount -t tmpfs -o mode=755 tmpfs "$R/run"
mount --rbind /dev "$R/dev"
rm -rf "$R/var/lib/netc"
cp -a "$2/state" "$R/var/lib/netc"
cp -a "$2/units" "$R/units"
mkdir "$R/old"
cd "$R"
pivot_root . old
umount -l /old
exec env -i "PATH=$PATH" container=netc-test SYSTEMD_UNIT_PATH=/units SYSTEMD_LOG_LEVEL=crit /lib/systemd/systemd --system --unit=go.target --show-status=no
"""
_GO = "[Unit]\nDefaultDependencies=no\nWants=netc.service network-pre.target done.service\n"
_DONE = """[Unit]
DefaultDependencies=no
After=netc.service network-pre.target
[Service]
Type=oneshot
ExecStart=/bin/touch /run/done
"""


class CannotError(Exception):
    """No systemd can be started here. The text says why."""


@dataclass(frozen=True, slots=True)
class Machine:
    """One that has started. process: systemd's, as seen from here."""

    process: int

    def run(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """A command inside: its mounts, its network, its processes."""
        inside = ["nsenter", "-t", str(self.process), "--mount", "--net", "--pid", *map(str, words)]
        return subprocess.run(inside, capture_output=True, text=True, check=False, timeout=LIMIT, cwd="/")

    def show(self, name: str) -> str:
        return self.run("systemctl", "show", "--value", "-p", name, "netc.service").stdout.strip()


@contextmanager
def started(netns: str, directory: Path, unit: str, more: str) -> Iterator[Machine]:
    """A systemd that has tried the unit; `more` is a drop-in of the test's. directory: has state/. Raises CannotError."""
    cgroup = _cgroup(directory)
    _write_units(directory / "units", unit, more)
    (directory / "root").mkdir()
    script = f'echo $BASHPID > {cgroup}/cgroup.procs; exec nsenter --net=/run/netns/{netns} unshare --pid --fork --kill-child --mount --uts --ipc --cgroup bash -c "$0" "$@"'
    said = directory / "said"
    with said.open("wb") as output:
        outer = subprocess.Popen(["bash", "-c", script, _SCRIPT, "rig", str(directory / "root"), str(directory)], stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        process = _ready(outer, said)
        yield Machine(process)
    finally:
        outer.send_signal(signal.SIGKILL)  # --kill-child: process 1 goes with it, and all of its processes with process 1
        outer.wait()
        _remove(cgroup)


def _cgroup(directory: Path) -> Path:
    if not SYSTEMD.exists() or shutil.which("systemctl") is None:
        raise CannotError("there is no systemd here (apt-get install systemd)")
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    place = next((Path(words[1]) for words in mounts if words[2] == "cgroup2"), None)
    if place is None:
        raise CannotError("no cgroup2 is mounted here")
    made = place / f"netc-{os.getpid()}-{directory.name}"
    try:
        made.mkdir()
    except OSError as error:
        raise CannotError(f"no cgroup can be made in {place}: {error.strerror}") from None
    return made


def _write_units(place: Path, unit: str, more: str) -> None:
    place.mkdir()
    (place / "netc.service").write_text(unit)
    (place / "netc.service.d").mkdir()
    (place / "netc.service.d/test.conf").write_text(more)
    (place / "go.target").write_text(_GO)
    (place / "done.service").write_text(_DONE)
    for name in TARGETS:
        lines = (UNITS / f"{name}.target").read_text().splitlines()
        (place / f"{name}.target").write_text("\n".join(line for line in lines if not line.startswith(("Wants=", "Requires="))) + "\n")


def _ready(outer: subprocess.Popen[bytes], said: Path) -> int:
    """systemd's process id, once it has done what it was started for."""
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        if outer.poll() is not None:
            raise CannotError(f"namespaces, overlayfs or systemd: {said.read_text().strip()[-300:]}")
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()
        if children and Path(f"/proc/{children[0]}/root/run/done").exists():
            return int(children[0])
        time.sleep(0.1)
    raise CannotError(f"systemd did not get ready in {LIMIT} s: {said.read_text().strip()[-300:]}")


def _remove(cgroup: Path) -> None:
    """Its processes are dead; the kernel lets go of them a moment later."""
    for _ in range(100):
        try:
            for path in sorted(cgroup.rglob("*/"), reverse=True):
                path.rmdir()
            cgroup.rmdir()
        except OSError:
            time.sleep(0.05)
        else:
            return
