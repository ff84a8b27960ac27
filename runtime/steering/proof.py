"""Watches live traffic for some seconds and compares where each flow came with where the policy says that it comes."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, field

from compiler.bundle import Bundle
from runtime.backends import bpf
from runtime.backends.observer import Observer, Seen
from runtime.context import Context, Device
from runtime.knobs import Refusal
from runtime.steering import flows
from runtime.steering.cpu_promises import CpuPromises
from runtime.steering.flows import Flow
from runtime.steering.nic_promises import NicPromises, Promise
from runtime.steering.passage import Passage
from runtime.steps import StepError, port_reset
from runtime.verify import Finding

_POLL = 0.02  # seconds
_EXAMPLES = 3
_MOST_FLOWS = 50_000


@dataclass(slots=True)
class _Told:
    """What was seen of one promise. flows: whether each was where it should be; elsewhere: examples."""

    place: str
    flows: dict[Flow, bool] = field(default_factory=dict)
    unrecorded: int = 0
    why: set[str] = field(default_factory=set)
    elsewhere: list[str] = field(default_factory=list)


def watch(context: Context, bundle: Bundle, seconds: float) -> list[Finding]:
    """One finding for each promise of each nic. Raises StepError where nothing can be watched."""
    try:
        with ExitStack() as opened:
            watches = [_Watch(context, bundle, device, opened) for device in context.devices]
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                time.sleep(min(_POLL, seconds))
                for each in watches:
                    each.look()
            for each in watches:
                each.look()
            return [finding for each in watches for finding in each.findings()]
    except (bpf.BpfError, Refusal, OSError) as error:
        mend = "it needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, and a kernel from 6.6 on"
        raise StepError("watch what arrives", getattr(error, "words", str(error)), mend) from None


class _Watch:
    """One nic: its observer and its promises."""

    def __init__(self, context: Context, bundle: Bundle, device: Device, opened: ExitStack) -> None:
        self._device, self._told = device, dict[str, _Told]()
        self._passage = Passage(context, bundle, device)  # before the observer: what that one sees was counted by then
        self._nic = NicPromises(context, bundle, device)
        self._cpus = opened.enter_context(CpuPromises(context, bundle, device))
        self._observer = opened.enter_context(Observer(device.ifindex))
        for what, place in (*self._nic.every(), *self._cpus.every()):
            self._told.setdefault(what, _Told(place))
        self._of_nic: dict[Flow, Promise | None] = {}

    def look(self) -> None:
        """Judge what came since."""
        for packet in self._observer.packets():
            flow = flows.parse(packet.head)
            if flow is not None and self._told:
                self._judge(flow, packet)

    def findings(self) -> list[Finding]:
        lost = self._observer.counts()[1]
        beside = f"; {lost:,} packets more found no room and were not looked at" if lost else ""
        found = [self._finding(what, told, beside) for what, told in self._told.items()]
        found += [self._line(name, "", "no traffic", why) for name, why in self._cpus.unseen()]
        if gap := self._passage.gap(self._observer.counts()[0]):
            found.append(self._line("XDP", "", "broken", gap))
        return found or [self._line(f"nic {self._device.nic}", "", "no traffic", "the policy tells neither the NIC nor XDP nor RPS where its packets go")]

    def _judge(self, flow: Flow, packet: Seen) -> None:
        if flow not in self._of_nic:
            if len(self._of_nic) >= _MOST_FLOWS:
                return
            self._of_nic[flow] = self._nic.of(flow)
        cpu = self._cpus.of(packet.head, packet.vlan)  # of each packet: rules may ask for what differs within a flow (syn, dscp)
        nic = self._of_nic[flow] if cpu is None or packet.queue >= 0 else None
        for promise in filter(None, (cpu, nic)):
            self._hold(self._told.setdefault(promise.what, _Told(promise.place)), promise, flow, packet)

    def _hold(self, told: _Told, promise: Promise, flow: Flow, packet: Seen) -> None:
        at = packet.cpu if promise.kind == "cpu" else packet.queue
        if at < 0 and promise.allowed:
            told.unrecorded += 1
            return
        if promise.why:
            told.why.add(promise.why)
        right = at in promise.allowed
        if not right and told.flows.get(flow, True) and len(told.elsewhere) < _EXAMPLES:
            told.elsewhere.append(_words(flow, promise, at))
        told.flows[flow] = told.flows.get(flow, True) and right

    def _finding(self, what: str, told: _Told, beside: str) -> Finding:
        number, right = len(told.flows), sum(told.flows.values())
        if not number:
            why = f"{told.unrecorded:,} packets seen, of which the driver recorded no queue" if told.unrecorded else "no packet of it was seen"
            return self._line(what, told.place, "no traffic", f"{why}: nothing is proved{beside}")
        detail = f"{number:,} flow{'s' * (number > 1)} seen, {right:,} as promised"
        if right < number:
            return self._line(what, told.place, "broken", f"{detail}, {number - right:,} elsewhere: {'; '.join(told.elsewhere)}{self._known_of()}{beside}")
        held = f" (one of several: {'; '.join(sorted(told.why))})" if told.why else ""
        return self._line(what, told.place, "held", detail + held + beside)

    def _known_of(self) -> str:
        if "rss-readback-lies" not in port_reset.quirks_of(self._device.name):
            return ""
        return "; the device shows the table and does not use it, which is known of its driver: take the policy off and apply it again, or set the table by hand (ethtool -X)"

    def _line(self, what: str, place: str, result: str, detail: str) -> Finding:
        return Finding("steering", f"{self._device.name}: {what}", place or self._device.name, result, detail)


def _words(flow: Flow, promise: Promise, at: int) -> str:
    if not promise.allowed:
        return f"{flow} arrived, though the NIC was to drop it"
    wanted = " or ".join(map(str, sorted(promise.allowed)))
    return f"{flow} on {promise.kind} {at} instead of {wanted}"
