"""What can be done to qdiscs, classes, filters and the ifb with tc(8) and ip(8)."""

from __future__ import annotations

import json
from random import Random

from tests.kernel.misinstalls.site import Kind, Site, Undo


def _leaves(site: Site, device: str) -> list[tuple[str, str]]:
    """The policy's classes: class id and handle of its queue."""
    found = (line.split() for line in site.run(f"tc class show dev {device}").splitlines())
    return [(words[2], words[words.index("leaf") + 1].rstrip(":")) for words in found if "leaf" in words and words[2] != "1:2"]


def _somewhere(site: Site, rng: Random) -> tuple[str, str, str]:
    device = rng.choice(("wan0", site.ifb))
    return device, *rng.choice(_leaves(site, device))


def rate(site: Site, rng: Random) -> None:
    device, number, _ = _somewhere(site, rng)
    site.run(f"tc class change dev {device} parent 1:1 classid {number} htb rate {rng.randrange(1, 9)}mbit ceil {rng.randrange(40, 70)}mbit")


def whole_rate(site: Site, rng: Random) -> None:
    site.run(f"tc class change dev {rng.choice(('wan0', site.ifb))} parent 1: classid 1:1 htb rate {rng.randrange(200, 900)}mbit")


def class_gone(site: Site, rng: Random) -> None:
    device, number, _ = _somewhere(site, rng)
    site.run(f"tc class del dev {device} classid {number}")


def class_added(site: Site, rng: Random) -> None:
    device, number, _ = _somewhere(site, rng)
    more = f"{number[:-2]}{rng.randrange(50, 99)}"
    site.run(f"tc class add dev {device} parent 1:1 classid {more} htb rate 50mbit")


def other_queue(site: Site, rng: Random) -> None:
    device, number, _ = _somewhere(site, rng)
    site.run(f"tc qdisc replace dev {device} parent {number} handle 99: bfifo limit {rng.randrange(1000, 90_000)}")


def queue_option(site: Site, rng: Random) -> None:
    device, number, handle = next(one for one in (_somewhere(site, rng) for _ in range(99)) if "pfifo" in site.run(f"tc qdisc show dev {one[0]} parent {one[1]}"))
    site.run(f"tc qdisc change dev {device} parent {number} handle {handle}: pfifo limit {rng.randrange(1, 20)}")


def filter_added(site: Site, rng: Random) -> None:
    device, number, _ = _somewhere(site, rng)
    site.run(f"tc filter add dev {device} parent 1: protocol all prio {rng.randrange(1, 99)} u32 match u32 0 0 classid {number}")


def root_gone(site: Site, rng: Random) -> None:
    site.run(f"tc qdisc del dev {rng.choice(('wan0', site.ifb))} root")


def root_replaced(site: Site, rng: Random) -> Undo:
    """netc overwrites no root that it did not put there."""
    device = rng.choice(("wan0", site.ifb))
    site.run(f"tc qdisc replace dev {device} root {rng.choice(('pfifo', 'bfifo'))}")

    def undo() -> None:
        site.run(f"tc qdisc del dev {device} root")
        assert site.apply()

    return undo


def ifb_down(site: Site, rng: Random) -> None:
    site.run(f"ip link set {site.ifb} down")


def ifb_gone(site: Site, rng: Random) -> None:
    site.run(f"ip link del {site.ifb}")


def ifb_anew(site: Site, rng: Random) -> None:
    """It is there again with the same name, and the classifier's words name the one before."""
    name = site.ifb
    alias = json.loads(site.run(f"ip -j link show {name}"))[0]["ifalias"]
    site.run(f"ip link del {name}")
    site.run(f"ip link add {name} index {rng.randrange(1000, 100_000)} type ifb")
    site.host.run("ip", "link", "set", name, "alias", alias)
    site.run(f"ip link set {name} up")


def others_filter(site: Site, rng: Random) -> Undo:
    """Somebody else's filter at clsact; on the ifb it meets what netc queues."""
    device, side = rng.choice(("wan0", site.ifb)), rng.choice(("ingress", "egress"))
    site.run(f"tc qdisc add dev {device} clsact")
    site.run(f"tc filter add dev {device} {side} prio {rng.randrange(1, 99)} u32 match u32 0 0 flowid 1:1")
    return lambda: site.run(f"tc qdisc del dev {device} clsact")


KINDS = (
    Kind("a class's rate", "tc", "class wan.shape.", rate),
    Kind("a shape's whole rate", "tc", "class wan.shape.", whole_rate),
    Kind("a class gone", "tc", "is not there", class_gone),
    Kind("a class added", "tc", "is not the policy's", class_added),
    Kind("another queue", "tc", "which nobody asked for", other_queue),
    Kind("a queue's option", "tc", "limit is", queue_option),
    Kind("a filter at the root", "tc", "a u32 filter", filter_added),
    Kind("the root gone", "tc", "the root qdisc is not netc's htb", root_gone),
    Kind("the root replaced", "tc", "root qdisc", root_replaced),
    Kind("the ifb down", "tc", "the device is down", ifb_down),
    Kind("the ifb gone", "tc", "the device is not there", ifb_gone),
    Kind("the ifb made anew", "tc", "the root qdisc is not netc's htb", ifb_anew),
    Kind("somebody's tc filter", "foreign", "tc filters of somebody else's", others_filter),
)
