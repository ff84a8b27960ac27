"""Host knobs: sysctl under net., and what a policy needs of the machine."""

from __future__ import annotations

import errno
import os
import re
import stat

from runtime.backends import sysfs
from runtime.knobs import Refusal, Value, Wanted, conntrack
from runtime.knobs.affinity import online, online_cpus, shown
from runtime.knobs.queues import power_of_two

_NAME = re.compile(r"net(\.[A-Za-z0-9][A-Za-z0-9_/-]*){1,6}\Z")  # the allow-list; `/` stands for a dot in a device's name
NOT_LOADED = "none: the module nf_conntrack is not loaded"
_CONGESTION, _CONGESTIONS = "sys/net/ipv4/tcp_congestion_control", "sys/net/ipv4/tcp_available_congestion_control"
_NOT_IN_A_LAB = "a lab does not touch the host: write `prefer`, or try it where the host is yours"
_OF_THE_KERNEL = {  # every namespace has the file and may write it; what it switches is one for all (net/netfilter/nf_hooks_lwtunnel.c)
    "sys/net/netfilter/nf_hooks_lwtunnel": "one switch of the whole kernel, which nothing turns off again",
}


class Sysctl:
    """One value under /proc/sys/net, of this thread's network namespace. Blanks between numbers count as one."""

    resets = False
    after: tuple[str, ...] = ()

    def __init__(self, name: str, lab: bool = False) -> None:
        """lab: what would reach the host beyond this network namespace is refused."""
        if not _NAME.match(name):
            raise Refusal(f"{name!r} is not a setting that netc may change", "only what lies under net. is netc's to set")
        self._lab = lab
        self._path = "sys/" + "/".join(part.replace("/", ".") for part in name.split("."))

    def prepare(self) -> None:
        """Before it is changed: the module that has it is loaded (runtime.knobs.conntrack). Reading alone loads nothing."""
        if self._may_come():
            conntrack.load()

    def read(self) -> Value:
        try:
            return _one_line(sysfs.read_proc(self._path))
        except OSError as error:
            if self._may_come():
                return NOT_LOADED
            raise self._refused(error) from None

    def resolve(self, wanted: Wanted) -> Value:
        value = " ".join(map(str, wanted)) if isinstance(wanted, tuple) else _one_line(str(wanted))
        if self.read() not in (value, NOT_LOADED):
            self._require_writable(value)
        return value

    def write(self, value: Value) -> None:
        try:
            sysfs.write_proc(self._path, str(value))
        except OSError as error:
            raise self._refused(error) from None

    def _may_come(self) -> bool:
        """Is it connection tracking's, whose module is not loaded yet? A lab never loads one: that would be the host's."""
        return self._path.startswith(conntrack.PREFIX) and not self._lab and not conntrack.is_loaded()

    def _require_writable(self, value: str) -> None:
        """The kernel lets a namespace only read what is the host's (net/sysctl_net.c, ensure_safe_net_sysctl); some reaches further yet."""
        try:
            mode = os.stat(f"/proc/{self._path}").st_mode
        except OSError as error:
            raise self._refused(error) from None
        if not mode & stat.S_IWUSR:
            raise self._refused(PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
        if self._lab and self._path in _OF_THE_KERNEL:
            raise Refusal(f"/proc/{self._path}: {_OF_THE_KERNEL[self._path]}", _NOT_IN_A_LAB)
        if self._lab and self._path == _CONGESTION and value not in sysfs.read_proc(_CONGESTIONS).split():
            raise Refusal(f"/proc/{self._path}: {value} is not loaded, and asking for it would load a module into the host's kernel",
                          f"load it on the host first: modprobe tcp_{value}")  # fmt: skip

    def _refused(self, error: OSError) -> Refusal:
        hints = {
            errno.ENOENT: "the kernel lacks it, or it is no setting of a network namespace and this one (a lab?) is not the host's",
            errno.EACCES: "in this network namespace it can only be read: it belongs to the host",
        }
        return Refusal(f"/proc/{self._path}: {error.strerror}", hints.get(error.errno or 0, ""))


class AtLeast(Sysctl):
    """A sysctl of numbers, each of which has to be as large as the wish: what is larger stays."""

    def resolve(self, wanted: Wanted) -> Value:
        least = wanted if isinstance(wanted, tuple) else (wanted,)
        now = str(self.read()).split()
        if len(now) != len(least) or not all(item.isdecimal() for item in now):
            raise Refusal(f"/proc/{self._path}: reads {' '.join(now)!r}, not {len(least)} numbers")
        value = " ".join(str(max(int(have), int(want))) for have, want in zip(now, least, strict=True))
        if value != " ".join(now):
            self._require_writable(value)
        return value


class RfsTable(AtLeast):
    """The number of flows that all devices' RFS share: a power of two, never made less than it is."""

    def resolve(self, wanted: Wanted) -> Value:
        return super().resolve(power_of_two(int(str(wanted))))


class RequiredCpus:
    """CPUs that steering redirects to. Nothing is changed: they are online, or the wish is refused."""

    resets = False
    after: tuple[str, ...] = ()

    def read(self) -> Value:
        return "online"

    def resolve(self, wanted: Wanted) -> Value:
        online(wanted)
        return "online"

    def write(self, value: Value) -> None:
        raise Refusal(f"CPUs are not netc's to bring up (online: {shown(sorted(online_cpus()))})")


def _one_line(text: str) -> str:
    return " ".join(text.split())
