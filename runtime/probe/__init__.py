"""What a NIC, its driver and the kernel can do: a capability profile for `netc compile --target`, with the evidence for every answer.

Reads only; with `attempt` also what has no query is tried, and taken back: XDP (xdp.py), flow rules and RSS contexts (tries.py). What is not
supported is stated in the device's own words. The keys outside `facts` are those that compiler/profile.py reads.
"""

from __future__ import annotations

import os
import re
from dataclasses import asdict
from typing import Any

from compiler.tables import drivers
from runtime.backends import ethtool_ioctl, link
from runtime.backends.netlink import NetlinkError
from runtime.context import Context, Device
from runtime.probe import kernel_kinds, machine, steering, tuning, xdp
from runtime.probe.asking import Facts, ask
from runtime.steps import StepError

FORMAT = "netc-profile 1"


def probe(context: Context, device: str, attempt: bool = False) -> dict[str, Any]:
    """Ask everything. Raises StepError when there is no such device in this network namespace."""
    try:
        found = link.get(device)
    except NetlinkError as error:
        mend = "`ip link` lists the devices of this network namespace"
        raise StepError(f"probing {device}", error.words, mend) from None
    facts: Facts = {"link": {**asdict(found), "address": found.address.hex(":"), "evidence": "RTM_GETLINK"}}
    told = ask(facts, "driver", "ETHTOOL_GDRVINFO", lambda: ethtool_ioctl.driver(device), asdict)
    driver = told.name if told else found.kind
    release = os.uname().release
    numa = machine.ask_machine(facts, Device("", device, found.ifindex), told.bus if told else "")
    tuned = tuning.ask_tuning(facts, found)
    native = xdp.ask_xdp(facts, found, driver, release, attempt)
    rss, ntuple = steering.ask_steering(facts, device, attempt, tuned.flow_rules)
    qdiscs, classifiers = kernel_kinds.ask_kinds(facts)
    facts["known"] = {"hints": [_hint(item) for item in drivers.of(driver, release)], "evidence": "netc's table of drivers: hints, which the kernel's answers overrule"}
    return {
        "format": FORMAT,
        "name": re.sub(r"[^A-Za-z0-9_.-]", "-", driver or device),
        "driver": driver,
        "kernel": release,
        "cpus": os.cpu_count() or 0,
        "queues": found.rx_queues,
        "mtu": found.mtu,
        "numa": numa,
        "xdp": native,
        "ntuple": ntuple,
        "rss": rss,
        "channels": tuned.channels,
        "rings": tuned.rings,
        "qdiscs": qdiscs,
        "classifiers": classifiers,
        "hw_tc_offload": tuned.tc_offload,
        "lro": tuned.lro,
        "facts": facts,
    }


def _hint(item: drivers.Constraint) -> Facts:
    return {"name": item.name, "message": item.message, "mend": item.mend, "source": item.source}
