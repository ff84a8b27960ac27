"""Queueing disciplines, classes and ifb devices of the network namespace that the caller is in, through rtnetlink.

pyroute2 carries the messages; the options inside them are encoded by `tc_options`, because pyroute2 drops what it does not know. It is
imported when a `Tc` is opened: a process that only reads maps does not pay for it. No policy knowledge here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import SimpleNamespace, TracebackType
from typing import Any, Self

from runtime.backends import tc_options
from runtime.backends.tc_options import HtbParameters, Options

ROOT = 0xFFFFFFFF  # TC_H_ROOT
INGRESS = 0xFFFFFFF1  # TC_H_INGRESS, TC_H_CLSACT: no queue, and nobody's root
IFB_QUEUE = 1000  # packets, as Ethernet devices have


class TcError(OSError):
    """A refusal by the kernel. `words`: its extack sentence where it gave one, else the errno's text."""

    def __init__(self, number: int, what: str, words: str) -> None:
        super().__init__(number, f"{what}: {words}")
        self.what, self.words = what, words


@dataclass(frozen=True, slots=True)
class Stats:
    """packets, bytes: sent. drops, overlimits: since it exists. backlog in bytes, qlen in packets: waiting now."""

    packets: int = 0
    bytes: int = 0
    drops: int = 0
    overlimits: int = 0
    backlog: int = 0
    qlen: int = 0


@dataclass(frozen=True, slots=True)
class Qdisc:
    """handle and parent as 32-bit numbers (major << 16 | minor); handle 0 is a qdisc that the kernel made by itself."""

    kind: str
    handle: int
    parent: int
    options: bytes
    stats: Stats


@dataclass(frozen=True, slots=True)
class HtbClass:
    classid: int
    parent: int
    parameters: HtbParameters
    stats: Stats


@dataclass(frozen=True, slots=True)
class Device:
    """One device. alias: the free text of `ip link set alias`, by which netc knows its own. up: administratively."""

    ifindex: int
    name: str
    kind: str
    alias: str
    up: bool = True


def handle(text: str) -> int:
    """`1:10` (hexadecimal, as tc writes it) or `root` as a number. Raises ValueError."""
    if text == "root":
        return ROOT
    major, colon, minor = text.partition(":")
    numbers = int(major or "0", 16), int(minor or "0", 16)
    if not colon or not all(0 <= number <= 0xFFFF for number in numbers):
        raise ValueError(f"{text!r} is no tc handle")
    return numbers[0] << 16 | numbers[1]


def words(number: int) -> str:
    """A handle as tc prints it."""
    return "root" if number == ROOT else f"{number >> 16:x}:{number & 0xFFFF or '':x}" if number & 0xFFFF else f"{number >> 16:x}:"


class Tc:
    """An open rtnetlink socket; use it as a context manager. It belongs to the namespace in which it was opened."""

    def __init__(self) -> None:
        from pyroute2 import IPRoute

        _register_kinds()
        self._route = IPRoute(ext_ack=True)  # without it the kernel keeps its sentences to itself

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._route.close()

    def qdiscs(self, ifindex: int) -> list[Qdisc]:
        """Every qdisc of the device that tc would show, clsact and ingress too."""
        answers = self._ask("dump the qdiscs", "get_qdiscs", index=ifindex)
        return [
            Qdisc(_kind(a), a["handle"], a["parent"], _options(a), _stats(a)) for a in answers if a["index"] == ifindex
        ]  # fmt: skip

    def root(self, ifindex: int) -> Qdisc | None:
        """The root qdisc, or None where the device has none (noqueue is not shown on some kernels)."""
        return next((qdisc for qdisc in self.qdiscs(ifindex) if qdisc.parent == ROOT), None)

    def classes(self, ifindex: int) -> dict[int, HtbClass]:
        """The HTB classes of the device by class id."""
        found = {}
        for answer in self._ask("dump the classes", "get_classes", index=ifindex):
            parameters = tc_options.decode_htb_class(_options(answer)) if _kind(answer) == "htb" else None
            if parameters is not None:
                found[answer["handle"]] = HtbClass(answer["handle"], answer["parent"], parameters, _stats(answer))
        return found

    def add_htb(self, ifindex: int, major: int, r2q: int, default: int) -> None:
        """Make HTB the root qdisc in the place of the kernel's default one."""
        self._tc("add", "htb", ifindex, major, ROOT, tc_options.encode_htb(r2q, default))

    def delete_qdisc(self, ifindex: int, parent: int = ROOT, number: int = 0) -> None:
        """Remove a qdisc; at the root the kernel puts back the device's default."""
        self._tc("del", None, ifindex, number, parent, b"")

    def put_class(self, ifindex: int, classid: int, parent: int, parameters: HtbParameters) -> None:
        """Make an HTB class, or give one that is there new numbers."""
        self._tc("replace-class", "htb", ifindex, classid, parent, tc_options.encode_htb_class(parameters))

    def delete_class(self, ifindex: int, classid: int) -> None:
        """Remove a class with its qdisc. The kernel refuses while it has classes inside (EBUSY)."""
        self._tc("del-class", "htb", ifindex, classid, 0, b"")

    def put_leaf(self, ifindex: int, number: int, parent: int, kind: str, options: Options) -> None:
        """Give a class its queue. Raises TcError: ENOENT where the kernel has no such kind."""
        self._tc("replace", kind, ifindex, number, parent, tc_options.encode(kind, options))

    def device(self, name: str) -> Device | None:
        """A device of this namespace by name."""
        for link in self._ask(f"look for {name}", "link", command="dump"):
            if link.get_attr("IFLA_IFNAME") == name:
                info = link.get_attr("IFLA_LINKINFO")
                kind = info.get_attr("IFLA_INFO_KIND") if info is not None else None
                return Device(link["index"], name, kind or "", link.get_attr("IFLA_IFALIAS") or "", bool(link["flags"] & 1))  # IFF_UP
        return None

    def ifbs(self) -> list[Device]:
        """Every ifb device of this namespace."""
        links = ((link, link.get_attr("IFLA_LINKINFO")) for link in self._ask("look for ifb devices", "link", command="dump"))
        found = [link for link, info in links if info is not None and info.get_attr("IFLA_INFO_KIND") == "ifb"]
        return [Device(a["index"], a.get_attr("IFLA_IFNAME"), "ifb", a.get_attr("IFLA_IFALIAS") or "") for a in found]

    def add_ifb(self, name: str, alias: str) -> Device:
        """Make an ifb device and bring it up."""
        self._ask(f"make the ifb device {name}", "link", command="add", ifname=name, kind="ifb", txqlen=IFB_QUEUE)
        made = self.device(name)
        if made is None:
            raise TcError(19, f"make the ifb device {name}", "it is not there afterwards")
        try:
            self._ask(f"bring {name} up", "link", command="set", index=made.ifindex, ifalias=alias, state="up")
        except TcError:
            self.delete_device(made.ifindex)
            raise
        return Device(made.ifindex, name, made.kind, alias)

    def bring_up(self, ifindex: int) -> None:
        self._ask("bring the device up", "link", command="set", index=ifindex, state="up")

    def filters(self, ifindex: int, parent: int) -> list[tuple[str, int]]:
        """(kind, priority) of the filters at a qdisc."""
        answers = self._ask("dump the filters", "get_filters", index=ifindex, parent=parent)
        return sorted({(_kind(a), a["info"] >> 16) for a in answers if a["index"] == ifindex and a["parent"] == parent})

    def delete_filters(self, ifindex: int, parent: int) -> None:
        """Every filter at a qdisc goes: a deletion without kind, priority and protocol (tc_del_tfilter)."""
        if self.filters(ifindex, parent):
            self._ask("delete the filters", "tc", command="del-filter", kind=None, index=ifindex, parent=parent, handle=0, info=0)

    def delete_device(self, ifindex: int) -> None:
        self._ask("delete the device", "link", command="del", index=ifindex)

    def _tc(self, command: str, kind: str | None, ifindex: int, number: int, parent: int, options: bytes) -> None:
        what = f"{command.replace('-', ' ')} {kind or 'qdisc'} {words(number)} at {words(parent)}"
        arguments: dict[str, Any] = {"command": command, "kind": kind, "index": ifindex, "handle": number, "raw_options": options}
        if parent:
            arguments["parent"] = parent
        self._ask(what, "tc", **arguments)

    def _ask(self, what: str, method: str, **arguments: Any) -> list[Any]:
        """One request with its answers. Raises TcError."""
        from pyroute2.netlink.exceptions import NetlinkError

        command = arguments.pop("command", None)
        call = getattr(self._route, method)
        try:
            return list(call(command, **arguments) if command else call(**arguments))
        except NetlinkError as error:
            raise TcError(error.code, what, str(error.args[-1])) from None


def available(kinds: tuple[str, ...]) -> dict[str, str]:
    """Which leaf qdisc kinds this kernel has: kind → "" or the kernel's words, tried on a throw-away ifb in a namespace of its own. Raises TcError."""
    from runtime.backends import tc_kinds

    try:
        return tc_kinds.in_a_namespace_of_its_own(lambda: _try_kinds(kinds))
    except TcError:
        raise
    except OSError as error:
        raise TcError(error.errno or 0, "try which qdiscs there are", error.strerror or "") from None


def _try_kinds(kinds: tuple[str, ...]) -> dict[str, str]:
    said = {}
    with Tc() as tc:
        device = tc.add_ifb("trial", "netc trial")
        for kind in kinds:
            try:
                tc.put_leaf(device.ifindex, 1 << 16, ROOT, kind, {"limit": 10} if kind.endswith("fifo") else {})
                tc.delete_qdisc(device.ifindex)
                said[kind] = ""
            except TcError as error:
                said[kind] = error.words
    return said


def _register_kinds() -> None:
    """Tell pyroute2 to carry our TCA_OPTIONS as bytes, for every kind that we encode ourselves. Repeating it changes nothing."""
    from pyroute2.netlink.rtnl import tcmsg

    class Raw(tcmsg.tcmsg.cdata):
        """TCA_OPTIONS untouched."""

    def given(arguments: Mapping[str, Any]) -> bytes | None:
        return arguments.get("raw_options") or None

    raw = SimpleNamespace(
        options=Raw, get_parameters=given, get_class_parameters=given, parent=0, stats=tcmsg.sched_template.stats, stats2=tcmsg.sched_template.stats2
    )
    for kind in ("htb", *tc_options.KINDS):
        tcmsg.plugins[kind] = raw


def _kind(answer: Any) -> str:
    return answer.get_attr("TCA_KIND") or ""


def _options(answer: Any) -> bytes:
    """TCA_OPTIONS as bytes; b"" for the kinds that pyroute2 decodes itself."""
    value = answer.get_attr("TCA_OPTIONS")
    return bytes(value) if isinstance(value, bytes | bytearray) else b""


def _stats(answer: Any) -> Stats:
    found = answer.get_attr("TCA_STATS2")
    basic = found.get_attr("TCA_STATS_BASIC") if found is not None else None
    queue = found.get_attr("TCA_STATS_QUEUE") if found is not None else None
    basic, queue = basic or {}, queue or {}
    return Stats(basic.get("packets", 0), basic.get("bytes", 0), queue.get("drops", 0), queue.get("overlimits", 0),
                 queue.get("backlog", 0), queue.get("qlen", 0))  # fmt: skip


def leaves_of(qdiscs: list[Qdisc]) -> Iterator[Qdisc]:
    """The qdiscs that stand under a class, not at a root or an ingress hook."""
    return (qdisc for qdisc in qdiscs if qdisc.parent not in (ROOT, INGRESS))
