"""The kernel's netdev family: a device's XDP features, its queues and NAPI instances with their interrupts.

Source: Documentation/netlink/specs/netdev.yaml. From kernel 6.3 on (queues and NAPI 6.8, counters of queues 6.10); before, every call is a NetlinkError.
"""

from __future__ import annotations

from dataclasses import dataclass

from runtime.backends.netlink import NLM_F_DUMP, Generic, attr, attributes, number

_DEV_GET, _QUEUE_GET, _NAPI_GET, _QSTATS_GET, _NAPI_SET = 1, 10, 11, 12, 14
_SCOPE, _OF_EACH_QUEUE = 4, 1  # NETDEV_A_QSTATS_SCOPE, NETDEV_QSTATS_SCOPE_QUEUE
_NAPI = {"defer-hard-irqs": (5, 4), "gro-flush-timeout": (6, 8), "irq-suspend-timeout": (7, 8), "threaded": (8, 4)}  # (number, size in bytes)
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


def napis(ifindex: int, key: str) -> dict[int, int]:
    """NAPI id -> its value of `key`, of the instances that tell it (kernel 6.13 and later; threaded 6.17). Raises NetlinkError."""
    kind, _ = _NAPI[key]
    with Generic("netdev") as netdev:
        answers = [attributes(answer) for answer in netdev.request(_NAPI_GET, attr(1, ifindex), NLM_F_DUMP)]
    return {number(a[2]): number(a[kind]) for a in sorted(answers, key=lambda a: number(a[2])) if kind in a}


def set_napi(napi: int, key: str, value: int) -> None:
    """One setting of one NAPI instance, by its id. Raises NetlinkError (EOPNOTSUPP before kernel 6.13)."""
    kind, size = _NAPI[key]
    with Generic("netdev") as netdev:
        netdev.request(_NAPI_SET, attr(2, napi) + attr(kind, value, size))


def counted_queues(ifindex: int) -> int:
    """How many queues the driver counts packets of by the kernel's common statistics. Raises NetlinkError."""
    with Generic("netdev") as netdev:
        return len(netdev.request(_QSTATS_GET, attr(1, ifindex) + attr(_SCOPE, _OF_EACH_QUEUE), NLM_F_DUMP))
