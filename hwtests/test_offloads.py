"""Offloads of a NIC, by ethtool's own words: each that can be changed, those that hang together, and those that need another."""

from __future__ import annotations

import pytest

from hwtests.rack.ethtool import features, features_text
from hwtests.rack.installed import Installed
from hwtests.rack.port import Port

NIC = "nic wan { device DEVICE; xdp none }\n"
NAMES = {"gro": "generic-receive-offload", "tso": "tcp-segmentation-offload", "gso": "generic-segmentation-offload", "sg": "scatter-gather",
         "tx": "tx-checksumming", "rx": "rx-checksumming", "rxhash": "receive-hashing", "lro": "large-receive-offload"}  # fmt: skip


def tune(text: str) -> str:
    return f"{NIC}tune wan {{ {text} }}\n"


def test_each_that_can_be_changed(port: Port, installed: Installed) -> None:
    """GRO to what it is not, all others to off, which none of them forbids: what is not skipped in the driver's words is so, and traffic passes."""
    before, text = features(port), features_text(port)
    wanted = {short: "off" for short, name in NAMES.items() if before.get(name) == "on" and f"{name}: on [fixed]" not in text}
    wanted["gro"] = "off" if before[NAMES["gro"]] == "on" else "on"  # the kernel's own, so every driver has it; veth begins without
    asked = {short: f"prefer offload {short} {state}" for short, state in wanted.items()}
    installed.apply(tune("; ".join(asked.values())))
    skipped = {item["text"]: item["words"] for item in installed.plan["skipped"]}
    now = features(port)
    not_so = [short for short, state in wanted.items() if now[NAMES[short]] != state]
    assert sorted(skipped) == sorted(asked[short] for short in not_so), (skipped, not_so)
    assert "gro" not in not_so and all(skipped.values())
    port.answers()
    installed.remove()
    assert features(port) == before


def test_a_coupled_offload_is_set_or_refused_whole(port: Port, installed: Installed) -> None:
    """e1000e and igb have one switch for both directions of VLAN acceleration: the wish for one is refused, and no trace of it stays."""
    before = features_text(port)
    done = installed.try_apply(tune("offload txvlan off"))
    if done.code:
        assert "stays on" in done.err + done.out or "[fixed]" in done.err + done.out, done.err
    else:
        assert features(port)["tx-vlan-offload"] == "off"
        installed.remove()
    assert features_text(port) == before


def test_an_offload_without_what_it_needs_is_refused(port: Port, installed: Installed) -> None:
    """tso without sg: the kernel takes the wish, and leaves it off."""
    before = features(port)
    if "scatter-gather: on [fixed]" in features_text(port) or before["tcp-segmentation-offload"] != "on":
        pytest.skip(f"{port.identity['driver']} cannot switch scatter-gather, or has no TSO: ethtool -k")
    each = [word for name in before if name.startswith("tx-tcp") for word in (name, before[name])]  # `tso on` would switch on more than there was
    port.machine.change("ethtool", "-K", port.device, "sg", "off", "tso", "off", undo=["ethtool", "-K", port.device, "sg", "on", *each])
    words = installed.refused(tune("offload tso on"))
    assert "requested and stays off: Dropping TSO features since no SG feature" in words
    assert features(port)["tcp-segmentation-offload"] == "off"
