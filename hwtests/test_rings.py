"""Rings, coalescing and pause on a NIC: what is set reads back in ethtool, what the driver rounds is told and no drift, what it refuses is in its words."""

from __future__ import annotations

import re

import pytest

from hwtests.rack.ethtool import current
from hwtests.rack.installed import Installed
from hwtests.rack.port import Port
from hwtests.rack.requires import requires

NIC = "nic wan { device DEVICE; xdp none }\n"


def tune(text: str) -> str:
    return f"{NIC}tune wan {{ {text} }}\n"


def rounded(port: Port) -> list[str]:
    """What status says of rounding, as long as it holds."""
    return [item["words"] for item in port.machine.netc_json("status")["rounded"]]


@requires("rings.rx>=512")
def test_rings_to_the_most(port: Port, installed: Installed) -> None:
    """`max` is what the probe read; then a size of the policy's own, by one apply over the other."""
    installed.apply(tune("ring rx max"))
    assert current(port, "g")["rx"] == str(port.profile["rings"]["rx"])
    port.answers()
    installed.apply(tune("ring rx 512"))
    assert current(port, "g")["rx"] == "512"
    port.answers()


@requires("rings.rx>=1")
def test_rings_are_rounded_as_the_driver_likes(port: Port, installed: Installed) -> None:
    """100 is no size for most: igb and e1000e take 104 (multiples of 8), virtio_net nothing that is no power of two. What was taken is told, and no drift."""
    before = current(port, "g")
    done = installed.try_apply(tune("ring tx 100"))
    if done.code:
        assert "ETHTOOL_MSG_RINGS_SET" in done.err + done.out, done.err
    else:
        took = int(current(port, "g")["tx"])
        assert rounded(port) == ([] if took == 100 else [f"asked 100, the driver took {took}"])
        assert 100 <= took <= 200
        installed.remove()
    assert current(port, "g") == before


@requires("rings.rx>=1")
def test_a_ring_far_from_the_wish_is_refused_and_undone(port: Port, installed: Installed) -> None:
    """Two descriptors are too few for any driver that sends: what it makes of them is another size, or a refusal."""
    before = current(port, "g")
    words = installed.refused(tune("txqueuelen 77; ring tx 3"))
    assert re.search(r"reads back \d+ instead of 3|ETHTOOL_MSG_RINGS_SET", words), words
    assert current(port, "g") == before and port.link()["txqlen"] != 77


def test_coalescing_by_time(port: Port, installed: Installed) -> None:
    """e1000e keeps interrupts a second, and rounds: 6000 us came back as 6097. igb and netdevsim keep microseconds; virtio_net takes none of its own accord."""
    before = current(port, "c")
    done = installed.try_apply(tune("coalesce rx 6000us"))
    if done.code:
        assert "ETHTOOL_MSG_COALESCE_" in done.err + done.out, done.err
    else:
        took = current(port, "c")["rx-usecs"]
        assert rounded(port) == ([] if took == "6000" else [f"asked 6000, the driver took {took}"])
        port.answers()
        installed.remove()
    assert current(port, "c") == before


def test_coalescing_adaptively_one_way(port: Port, installed: Installed) -> None:
    before = current(port, "c")
    if before.get("adaptive rx") is None:
        assert "adaptive-rx" in installed.refused(tune("coalesce adaptive-rx on")) or not before
        return
    turned = "off" if before["adaptive rx"] == "on" else "on"
    done = installed.try_apply(tune(f"coalesce adaptive-rx {turned}"))
    if done.code:  # virtio_net without the device's help takes the wish and forgets it
        assert "reads back" in done.err + done.out or "ETHTOOL_MSG_COALESCE_SET" in done.err + done.out, done.err
        assert current(port, "c") == before
        return
    now = current(port, "c")
    assert now["adaptive rx"] == turned and now.get("adaptive tx") == before.get("adaptive tx")
    installed.remove()
    assert current(port, "c") == before


@requires("facts.pause.now.rx>=0")
def test_pause(port: Port, installed: Installed) -> None:
    now = current(port, "a")
    wanted = "off" if now["rx"] == "on" else "on"
    done = installed.try_apply(tune(f"pause rx {wanted}"))
    if done.code:
        pytest.skip(f"this driver does not take pause rx {wanted}: {(done.out + done.err).strip()[:300]}")
    assert current(port, "a")["rx"] == wanted
