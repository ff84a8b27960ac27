"""State-changing system calls of a command, found by strace(1), and one of them made to fail or to be the last: no hook in netc."""

from __future__ import annotations

import contextlib
import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ERRORS = ("SIGKILL", "ENOMEM", "EBUSY", "EINTR", "EPERM")
_FILES = ("write", "pwrite64", "fsync", "fdatasync", "ftruncate", "fchmod", "chmod", "rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir", "mkdir",
          "mkdirat", "symlink", "symlinkat", "openat", "flock", "mount", "umount2", "close")  # fmt: skip
SYSCALLS = (*_FILES, "bpf", "sendmsg", "sendto", "ioctl", "membarrier", "clone", "clone3", "vfork", "fork")
_LINE = re.compile(r"(?P<name>\w+)\((?P<rest>.*)")
_TYPE = re.compile(r"nlmsg_type=(\w+(?:<<8\|NFT_MSG_\w+)?)")
_GENERIC = re.compile(r'nlmsg_type=(0x10 |nlctrl,)?[^"{]*\}, "\\x([0-9a-f]{2})')
_READS = ("BPF_OBJ_GET_INFO_BY_FD", "BPF_OBJ_GET,", "BPF_MAP_LOOKUP", "BPF_MAP_GET_NEXT_KEY", "BPF_PROG_GET_NEXT_ID")
_ETHTOOL_SETS = {3, 5, 8, 10, 12, 14, 16, 18, 20, 22, 24}  # ETHTOOL_MSG_LINKINFO_SET, … of include/uapi/linux/ethtool_netlink.h
_KEPT = re.compile(r"/(?:state|other)/[^>\"]*|/proc/sys/net|/sys/class")  # files that are netc's, or the kernel's settings
_WRITTEN = re.compile(r"/(?:state|other)/(?:[^>\"]*/)?(?:journal\.jsonl|lock|\.[^>\"/]*)>")
_ATTACHED = 5.0  # seconds
_CHILDREN = 1.5  # seconds that a watchdog has to end a change, and to be killed at it


@dataclass(frozen=True, slots=True)
class Call:
    """The `number`th call of this name in the process; text: its arguments as strace shows them."""

    name: str
    number: int
    text: str


@dataclass(frozen=True, slots=True)
class Point:
    """What happens at which call."""

    call: Call
    how: str

    def options(self) -> list[str]:
        """strace's own words for it."""
        what = "signal=SIGKILL" if self.how == "SIGKILL" else f"error={self.how}"
        return ["-e", f"inject={self.call.name}:{what}:when={self.call.number}"]


def tracing(log: Path, space: str, *options: str, children: bool = False) -> Callable[[int], contextlib.AbstractContextManager[None]]:
    """For Prelude.run: strace attached to a process, its log in `log`. children: also to what it forks, which counts its own calls: netc's watchdog."""

    @contextlib.contextmanager
    def attached(number: int) -> Iterator[None]:
        inside = ["nsenter", f"--net=/run/netns/{space}"]  # where strace finds which protocol a netlink socket speaks
        command = [*inside, "strace", *(["-f"] if children else []), "-yy", "-qq", "-s", "64", "-o", str(log), "-e", f"trace={','.join(SYSCALLS)}", *options, "-p", str(number)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as tracer:
            until = time.monotonic() + _ATTACHED
            while "TracerPid:\t0\n" in Path(f"/proc/{number}/status").read_text():
                assert time.monotonic() < until and tracer.poll() is None, tracer.communicate()[1]
                time.sleep(0.001)
            yield
            with contextlib.suppress(subprocess.TimeoutExpired):
                tracer.wait(_CHILDREN)
            tracer.terminate()  # what still runs goes on untraced: a trial has a watchdog

    return attached


def calls(log: Path) -> list[Call]:
    """The state-changing calls in the log of one process, in order."""
    found: list[Call] = []
    counts: Counter[str] = Counter()
    for line in log.read_text(errors="replace").splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        counts[match["name"]] += 1
        if _changes(match["name"], match["rest"]):
            found.append(Call(match["name"], counts[match["name"]], match["rest"]))
    return found


def _changes(name: str, rest: str) -> bool:
    """Does a call with these arguments change what is installed, or the files that say so?"""
    match name:
        case "bpf":
            return not rest.startswith(_READS)
        case "sendto" | "sendmsg":
            return _asks_to_change(rest)
        case "membarrier":
            return "QUERY" not in rest
        case "ioctl":
            return "SIOCETHTOOL" in rest
        case "openat":
            return "O_CREAT" in rest and bool(_KEPT.search(rest))
        case "write" | "pwrite64":
            return bool(_KEPT.search(rest))
        case "close":
            return bool(_WRITTEN.search(rest))
        case _:
            return True


def _asks_to_change(rest: str) -> bool:
    """Netlink: of a generic family the first byte is the command, which of ethtool's is even to set; else the message's name says it."""
    if command := _GENERIC.search(rest):
        return not command[1] and int(command[2], 16) in _ETHTOOL_SETS
    return any("GET" not in kind for kind in _TYPE.findall(rest))
