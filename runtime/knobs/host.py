"""Host knobs: sysctl under net., and what a policy needs of the machine."""

from __future__ import annotations

import errno
import re

from runtime.backends import sysfs
from runtime.knobs import Refusal, Value, Wanted
from runtime.knobs.affinity import online, online_cpus, shown

_NAME = re.compile(r"net(\.[A-Za-z0-9][A-Za-z0-9_/-]*){1,6}\Z")  # the allow-list; `/` stands for a dot in a device's name


class Sysctl:
    """One value under /proc/sys/net, of this thread's network namespace. Blanks between numbers count as one."""

    outage = ""
    after: tuple[str, ...] = ()

    def __init__(self, name: str) -> None:
        if not _NAME.match(name):
            raise Refusal(f"{name!r} is not a setting that netc may change", "only what lies under net. is netc's to set")
        self._path = "sys/" + "/".join(part.replace("/", ".") for part in name.split("."))

    def read(self) -> Value:
        try:
            return _one_line(sysfs.read_proc(self._path))
        except OSError as error:
            raise self._refused(error) from None

    def resolve(self, wanted: Wanted) -> Value:
        return " ".join(map(str, wanted)) if isinstance(wanted, tuple) else _one_line(str(wanted))

    def write(self, value: Value) -> None:
        try:
            sysfs.write_proc(self._path, str(value))
        except OSError as error:
            raise self._refused(error) from None

    def _refused(self, error: OSError) -> Refusal:
        hints = {
            errno.ENOENT: "the kernel lacks it, or it is no setting of a network namespace and this one (a lab?) is not the host's",
            errno.EACCES: "in this network namespace it can only be read: it belongs to the host",
        }
        return Refusal(f"/proc/{self._path}: {error.strerror}", hints.get(error.errno or 0, ""))


class RequiredCpus:
    """CPUs that steering redirects to. Nothing is changed: they are online, or the wish is refused."""

    outage = ""
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
