"""What a NIC, its driver and the kernel can do: a capability profile for `netc compile --target`, with the evidence for every answer.

Reads only; with `attempt` a program that passes every packet is attached and taken off again, to see native XDP work. What is not
supported is stated in the device's own words. The keys outside `facts` are those that compiler/profile.py reads.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, TypeVar

from runtime.backends import ethtool, ethtool_ioctl, link, netdev
from runtime.backends.netlink import NetlinkError
from runtime.context import Context, Device
from runtime.steps import StepError

FORMAT = "netc-profile 1"
_LEAF_KINDS = ("pfifo", "fq_codel", "fq", "cake", "sfq")
_CPUMAP_METADATA = (6, 16)  # the first kernel on which a cpumap redirect surely keeps XDP metadata
_PASS = bytes.fromhex("b700000002000000 9500000000000000".replace(" ", ""))  # r0 = XDP_PASS; exit
T = TypeVar("T")
Facts = dict[str, Any]


def probe(context: Context, device: str, attempt: bool = False) -> dict[str, Any]:
    """Ask everything. Raises StepError when there is no such device in this network namespace."""
    try:
        found = link.get(device)
    except NetlinkError as error:
        mend = "`ip link` lists the devices of this network namespace"
        raise StepError(f"probing {device}", error.words, mend) from None
    facts: Facts = {"link": {**asdict(found), "address": found.address.hex(":"), "evidence": "RTM_GETLINK"}}
    driver = _ask(facts, "driver", "ETHTOOL_GDRVINFO", lambda: ethtool_ioctl.driver(device), asdict)
    for group in ethtool.GROUPS:
        _ask(facts, group, ethtool.message(group), lambda group=group: ethtool.get(device, group), asdict)  # type: ignore[misc]
    features = _ask(facts, "features", "ETHTOOL_MSG_FEATURES_GET", lambda: ethtool.features(device), _feature_words)
    _ask(facts, "private-flags", "ETHTOOL_MSG_PRIVFLAGS_GET", lambda: ethtool.private_flags(device), dict)
    native = _probe_xdp(facts, found, attempt)
    rss, ntuple = _probe_steering(facts, device)
    _probe_queues(facts, Device("", device, found.ifindex))
    facts["vlan"] = _vlan_words(found, features or {})
    facts["qdiscs"] = _qdiscs()
    return {
        "format": FORMAT,
        "name": re.sub(r"[^A-Za-z0-9_.-]", "-", driver.name if driver else found.kind or device),
        "driver": driver.name if driver else found.kind,
        "kernel": os.uname().release,
        "cpus": os.cpu_count() or 0,
        "queues": found.rx_queues,
        "xdp": native,
        "ntuple": ntuple,
        "rss": rss,
        "facts": facts,
    }


def _ask(facts: Facts, name: str, evidence: str, ask: Callable[[], T], words: Callable[[T], Facts]) -> T | None:
    """Put an answer, or the refusal in its own words, into the facts."""
    try:
        answer = ask()
    except OSError as error:
        facts[name] = {"supported": False, "evidence": f"{evidence}: {getattr(error, 'words', None) or error.strerror}"}
        return None
    facts[name] = {**words(answer), "evidence": evidence}
    return answer


def _feature_words(features: dict[str, ethtool.Feature]) -> Facts:
    """As ethtool -k says it."""
    return {name: ("on" if f.active else "off") + (" [fixed]" if f.fixed else " [requested on]" if f.wanted and not f.active else "")
            for name, f in features.items()}  # fmt: skip


def _probe_xdp(facts: Facts, found: link.Link, attempt: bool) -> Facts:
    evidence = "NETDEV_CMD_DEV_GET"
    declared = _ask(facts, "xdp", evidence, lambda: netdev.xdp_features(found.ifindex), lambda f: {"features": list(f)})
    facts["xdp"]["attached"] = found.xdp
    if declared and "ndo-xmit" not in declared:
        facts["xdp"]["note"] = "ndo-xmit comes and goes with what runs at the device (veth: XDP or GRO at the peer)"
    native = "basic" in (declared or ())
    if attempt:
        tried = _try_native(found)
        facts["xdp"]["tried"] = tried or "attached natively, and taken off again"
        native = not tried or found.xdp == "native"  # what is attached natively shows it, too
    release = tuple(map(int, re.findall(r"\d+", os.uname().release)[:2]))
    facts["xdp"]["metadata"] = "not declared by drivers: taken for granted where native XDP is; `netc verify` shows a lost carrier as a gap"
    return {
        "native": native,
        "generic": True,
        "offload": "hw-offload" in (declared or ()),
        "metadata": native,
        "cpumap_metadata": native and release >= _CPUMAP_METADATA,
        "redirect": "redirect" in (declared or ()),
    }


def _try_native(found: link.Link) -> str:
    """Attach a program that passes everything and take it off; "" when that worked, else the driver's words."""
    from runtime.backends import bpf

    if found.xdp_program:
        return f"not tried: program {found.xdp_program} is attached"
    try:
        program = bpf.load_program("xdp", _PASS, {}, "netc_probe", bpf.XDP, frags=True)
    except OSError as error:
        return str(error)
    try:
        os.close(bpf.link_create(program, found.ifindex, bpf.XDP, bpf.XDP_FLAGS_DRV))  # the link ends with its last descriptor
    except OSError as error:
        return str(error)
    finally:
        os.close(program)
    return ""


def _probe_steering(facts: Facts, device: str) -> tuple[Facts, Facts]:
    """The `rss` and `ntuple` parts of the profile."""
    rss = _ask(facts, "rss", "ETHTOOL_GRSSH", lambda: ethtool_ioctl.rss(device),
               lambda r: {"indirection": list(r.table), "key": r.key.hex(), "function": r.function})  # fmt: skip
    had = [_ask(facts, f"hash-{flow}", f"ETHTOOL_GRXFH {flow}", lambda flow=flow: ethtool_ioctl.hash_fields(device, flow),  # type: ignore[misc]
                lambda fields: {"fields": list(fields)}) for flow in ethtool_ioctl.FLOW_TYPES]  # fmt: skip
    table = _ask(facts, "ntuple", "ETHTOOL_GRXCLSRLALL", lambda: ethtool_ioctl.flow_table_size(device), lambda size: {"table": size})
    key = bool(rss and rss.key)
    shown = {"indirection": len(rss.table) if rss else 0, "fields": any(fields is not None for fields in had), "key": key, "symmetric": key and rss is not None and rss.function == 1}
    return shown, {"rules": table or 0}


def _probe_queues(facts: Facts, device: Device) -> None:
    from runtime.knobs.affinity import device_irqs, online_cpus, shown

    _ask(facts, "queues", "NETDEV_CMD_QUEUE_GET", lambda: netdev.queues(device.ifindex),
         lambda queues: {kind: sum(queue.kind == kind for queue in queues) for kind in ("rx", "tx")})  # fmt: skip
    facts["interrupts"] = {"irqs": device_irqs(device), "evidence": "NETDEV_CMD_NAPI_GET, sysfs device/msi_irqs"}
    facts["cpus-online"] = {"cpus": shown(sorted(online_cpus())), "evidence": "/sys/devices/system/cpu/online"}


def _vlan_words(found: link.Link, features: dict[str, ethtool.Feature]) -> Facts:
    stripping = features.get("rx-vlan-hw-parse")
    if found.kind == "veth":
        return {"evidence": "veth strips nothing; whether XDP sees tags is up to the peer's tx-vlan-hw-insert"}
    if stripping is None:
        return {"evidence": "ETHTOOL_MSG_FEATURES_GET gave no answer"}
    state = ("on" if stripping.active else "off") + (" [fixed]" if stripping.fixed else "")
    return {"stripping": state, "evidence": "rx-vlan-hw-parse of ETHTOOL_MSG_FEATURES_GET; netc turns it off where XDP is used"}


def _qdiscs() -> Facts:
    """Which leaf qdiscs the kernel has, or its words."""
    try:
        from runtime.backends import tc

        said = tc.available(_LEAF_KINDS)
    except (OSError, ImportError) as error:
        return {"evidence": f"not tried: {error}"}
    return {**{kind: words or "yes" for kind, words in said.items()}, "evidence": "tried on a throw-away ifb in a namespace of its own"}
