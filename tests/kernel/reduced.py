"""netc with the three capabilities that it is meant to have on a host, and no more: `NETC_TEST_CAPS=1 pytest tests/kernel`.

Every netc that a test starts on a host of its own then runs as uid 0 with exactly CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON in its bounding,
permitted and effective sets, and with no_new_privs. What needs more is done before: setns(2), a sysfs of the namespace on /sys (as every host
has it), the bpf file system (systemd mounts it), compiling a policy (a bundle is applied, as `netc boot` does). A test of what netc can only do
with more carries `needs("compiler")` and the like: those capabilities come on top, by name, and the run counts it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from runtime.backends import bpf

ON = os.environ.get("NETC_TEST_CAPS", "") not in ("", "0")
THREE = ("bpf", "net_admin", "perfmon")
MORE = {
    "compiler": ("setuid", "setgid", "setpcap", "chown", "kill", "dac_override", "dac_read_search"),  # the compiler's child becomes nobody
    "take-over": ("sys_admin",),  # a foreign program by its id; a network namespace to try a qdisc's dump in
    "other processes": ("sys_ptrace",),  # which process holds a link: /proc/PID/fd of a process that may do more
    "queues": ("sys_admin",),  # kinds of queues are tried in a network namespace of their own
    "mount": ("sys_admin",),  # a bpf file system where there is none, a lab's namespace
}
_NOT_ON_A_HOST = {"compile", "check", "explain", "import", "replay", "test", "bench", "lab"}
_granted: list[str] = []
counted: dict[str, list[str]] = {}  # what was needed → tests
_SCRIPT = 'mount -t sysfs sysfs /sys && exec setpriv --bounding-set "$1" --inh-caps=-all --no-new-privs "${@:2}"'


def command(netns: str, netc: Sequence[str]) -> list[str]:
    """The words that start this netc in a network namespace, reduced when that is asked for and the command works on a host."""
    enter = ["nsenter", f"--net=/run/netns/{netns}"]
    if not ON or not _NOT_ON_A_HOST.isdisjoint(netc[:4]):
        return [*enter, *netc]
    capabilities = dict.fromkeys((*THREE, *(name for need in _granted for name in MORE[need])))
    bounding = ",".join(["-all", *(f"+{name}" for name in capabilities)])
    return [*enter, "unshare", "--mount", "bash", "-c", _SCRIPT, "netc", bounding, *netc]


def prepared(arguments: Sequence[str | Path], cwd: Path = Path()) -> list[str]:
    """The arguments, with a bundle in the place of a policy that compiles: it was compiled where one may. cwd: of the command."""
    words = [str(argument) for argument in arguments]
    if not ON or "compiler" in _granted or words[:1] not in (["apply"], ["plan"]):
        return words
    for at, word in enumerate(words[1:], 1):
        path = cwd / word
        if path.is_file() and not path.read_bytes().startswith(b"netc-bundle"):
            made = path.with_name(f".{path.name}.bundle")
            target = words[words.index("--target") :][:2] if "--target" in words else []
            done = subprocess.run([sys.executable, "-m", "runtime.cli", "compile", str(path), "-o", str(made), *target], capture_output=True, check=False)
            return [*words[:at], str(made), *words[at + 1 :]] if done.returncode == 0 else words
    return words


def mount(directory: Path) -> None:
    """A bpf file system, as every host that runs netc with three capabilities has one."""
    if ON and "mount" not in _granted:
        bpf.mount_bpffs(directory)


@contextmanager
def needing(item: pytest.Item) -> Iterator[None]:
    """What this test's netc needs besides the three, while it runs."""
    needs = [str(need) for marker in item.iter_markers("needs") for need in marker.args]
    for need in needs:
        counted.setdefault(need, []).append(item.nodeid)
    _granted.extend(needs)
    try:
        yield
    finally:
        _granted.clear()
