"""The kernel's netdev family: a device's XDP features, its queues and NAPI instances with their interrupts.

Source: Documentation/netlink/specs/netdev.yaml. From kernel 6.3 on (queues and NAPI 6.8, counters of queues 6.10); before, every call is a NetlinkError.
"""

from __future__ import annotations

from dataclasses import dataclass

from runtime.backends.netlink import NLM_F_DUMP, Generic, attr, attributes, number

_DEV_GET, _QUEUE_GET, _NAPI_GET, _QSTATS_GET = 1, 10, 11, 12
_SCOPE, _OF_EACH_QUEUE = 4, 1  # NETDEV_A_QSTATS_SCOPE, NETDEV_QSTATS_SCOPE_QUEUE
XDP_FEATURES = ("basic", "redirect", "ndo-xmit", "xsk-zerocopy", "hw-offload", "rx-sg", "ndo-xmit-sg")


@dataclass(frozen=True, slots=True)
class Queue:
    kind: str  # rx, tx
    id: int
    napi: int


def xdp_features(ifindex: int) -> tuple[str, ...]:
    """What the driver declares. Note: ndo-xmit comes and goes (veth has it while its peer runs XDP or GRO). Raises NetlinkError."""
    with Generic("netdev") as netdev:
        mask = number(attributes(netdev.request(_DEV_GET, attr(1, ifindex))[0])[3])
    return tuple(name for bit, name in enumerate(XDP_FEATURES) if mask >> bit & 1)


def queues(ifindex: int) -> list[Queue]:
    """The queues in use. Raises NetlinkError."""
    with Generic("netdev") as netdev:
        answers = [attributes(answer) for answer in netdev.request(_QUEUE_GET, attr(2, ifindex), NLM_F_DUMP)]
    return [Queue("tx" if number(a[3]) else "rx", number(a[1]), number(a[4]) if 4 in a else 0) for a in answers]


def napi_irqs(ifindex: int) -> dict[int, int]:
    """NAPI id -> interrupt, of the instances that have one. Raises NetlinkError."""
    with Generic("netdev") as netdev:
        answers = [attributes(answer) for answer in netdev.request(_NAPI_GET, attr(1, ifindex), NLM_F_DUMP)]
    return {number(a[2]): number(a[3]) for a in answers if 3 in a}


def counted_queues(ifindex: int) -> int:
    """How many queues the driver counts packets of by the kernel's common statistics. Raises NetlinkError."""
    with Generic("netdev") as netdev:
        return len(netdev.request(_QSTATS_GET, attr(1, ifindex) + attr(_SCOPE, _OF_EACH_QUEUE), NLM_F_DUMP))
