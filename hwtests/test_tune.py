"""Tuning of the device beyond rings and offloads: NAPI, the queue's length, and a long wish of which each driver lacks another part."""

from __future__ import annotations

import pytest

from hwtests.rack import ethtool
from hwtests.rack.ethtool import current
from hwtests.rack.installed import Installed
from hwtests.rack.port import Port
from hwtests.rack.requires import requires

NIC = "nic wan { device DEVICE; xdp none }\n"


def tune(text: str) -> str:
    return f"{NIC}tune wan {{ {text} }}\n"


def test_what_the_driver_lacks_is_skipped_in_its_words_where_preferred(port: Port, installed: Installed) -> None:
    """No NIC has everything: what there is of a long wish is set, the rest is told."""
    wish = ("coalesce rx 50us 64 frames", "coalesce adaptive off", "coalesce rx-frames-irq 8, tx-usecs-irq 9, cqe-mode-rx on, tx-aggr-max-frames 4", "ring rx-mini 64, cqe-size 128", "pause autoneg off, rx off, tx off",
            "priv-flag netc-has-no-such-flag on", "offload rx-fcs on")  # fmt: skip
    before = [current(port, letter) for letter in "gca"]
    installed.apply(tune("; ".join(f"prefer {text}" for text in wish)))
    skipped = {item["text"]: item["words"] for item in installed.plan["skipped"]}
    assert "ETHTOOL_MSG_PRIVFLAGS_GET" in skipped["prefer priv-flag netc-has-no-such-flag on"]
    pause = current(port, "a")
    assert "prefer pause autoneg off, rx off, tx off" in skipped or {pause["rx"], pause["tx"], pause["autonegotiate"]} == {"off"}
    installed.remove()
    port.up()
    assert [current(port, letter) for letter in "gca"] == before


@requires("facts.private-flags")
def test_a_private_flag(port: Port, installed: Installed) -> None:
    """One that only this driver knows, to what it is not: set, read back by ethtool, and given back."""
    before = ethtool.private_flags(port)
    if not before:
        pytest.skip(f"{port.identity['driver']} has no private flags: ethtool --show-priv-flags")
    name, now = next(iter(before.items()))
    installed.apply(tune(f"priv-flag {name} {'off' if now == 'on' else 'on'}"))
    assert ethtool.private_flags(port)[name] != now
    port.answers()
    installed.remove()
    assert ethtool.private_flags(port) == before


def test_napi_and_queue_length(port: Port, installed: Installed) -> None:
    directory = f"/sys/class/net/{port.device}"
    names = ("tx_queue_len", "gro_flush_timeout", "napi_defer_hard_irqs", "threaded")

    def read() -> list[str]:
        inside = ("ip", "netns", "exec", port.machine.netns) if port.machine.netns else ()
        return port.machine.run(*inside, "cat", *(f"{directory}/{name}" for name in names)).out.split()

    before = read()
    installed.apply(tune("offload gro on; napi gro-flush-timeout 20us, defer-hard-irqs 2, threaded on; txqueuelen 2000"))
    assert read() == ["2000", "20000", "2", "1"]
    installed.remove()
    assert read() == before
