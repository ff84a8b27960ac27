"""What can be done to settings with ethtool(8), sysfs and procfs."""

from __future__ import annotations

from pathlib import Path
from random import Random

from runtime.lab import netns
from tests.kernel.misinstalls.site import Kind, Site, Undo


def sysctl(site: Site, rng: Random) -> None:
    with netns.enter(site.host.netns):
        Path("/proc/sys/net/ipv4/tcp_sack").write_text("1")


def feature(site: Site, rng: Random) -> None:
    site.run(f"ethtool -K wan0 {rng.choice(('gro', 'tso', 'tx-tcp6-segmentation'))} on")


def channels(site: Site, rng: Random) -> None:
    number = rng.choice((3, 4))
    site.run(f"ethtool -L wan0 rx {number} tx {number}")


def rps(site: Site, rng: Random) -> None:
    site.write_queue("lan0", "rx-0/rps_cpus", rng.choice(("0", "1", "2")))


def xps(site: Site, rng: Random) -> None:
    site.write_queue("wan0", f"tx-{rng.choice((0, 1))}/xps_cpus", rng.choice(("0", "3")))


def tags(site: Site, rng: Random) -> Undo:
    """The peer keeps VLAN tags beside the frame again; netc does not reach into its namespace."""
    site.peer(f"ethtool -K wan0p {rng.choice(('tx-vlan-hw-insert', 'tx-vlan-stag-hw-insert'))} on")
    return lambda: site.peer("ethtool -K wan0p tx-vlan-hw-insert off tx-vlan-stag-hw-insert off")


KINDS = (
    Kind("a sysctl", "settings", "tcp_sack", sysctl),
    Kind("an offload", "settings", "wan feature", feature),
    Kind("the number of queues", "settings", "wan channels combined", channels),
    Kind("RPS", "settings", "lan rps cpus", rps),
    Kind("XPS", "settings", "wan xps cpus", xps),
    Kind("the peer's VLAN tags", "settings", "tags-in-frame", tags),
)
