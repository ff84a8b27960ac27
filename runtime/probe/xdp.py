"""What XDP can do on a device: what the driver declares, what is known of it, and, tried, what it does.

A try attaches a program that passes every packet by a bpf_link that nothing pins: it goes with its descriptor, also when netc is killed. Many
drivers set their queues or the port up anew for it: an RSS table that got lost is written again, and the carrier is waited for. bpf(2) hands on no words of the driver's; where it refused, the same is asked once by rtnetlink,
which does, and what would stay attached is taken off at once.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from compiler.tables import drivers
from runtime.backends import bpf, link, netdev, xdp_netlink
from runtime.backends.link import Link
from runtime.probe import offload_maps
from runtime.probe.asking import Facts, ask, refusal
from runtime.steps import port_reset

# Kernels on which a cpumap redirect surely keeps XDP metadata (net/core/xdp.c, __xdp_build_skb_from_frame): from the first on, and of the long-term
# series from this release on (measured on Debian's 6.12.117: igb, veth).
_CPUMAP_METADATA, _CPUMAP_METADATA_OF_SERIES = (6, 16), {(6, 12): 117}
_PASS = bytes.fromhex("b700000002000000 9500000000000000".replace(" ", ""))  # r0 = XDP_PASS; exit
_NAME = "netc_probe"
_TAKEN = "attached natively, and taken off again"
_UNRUN = "xdp-driver-mode-not-executed"


class _Tried(NamedTuple):
    """words: why not, "" where it was attached. max_mtu: in bytes, what the device allowed meanwhile."""

    words: str
    max_mtu: int = 0


def ask_xdp(facts: Facts, found: Link, driver: str, release: str, attempt: bool) -> Facts:
    """The `xdp` part of the profile."""
    declared = ask(facts, "xdp", "NETDEV_CMD_DEV_GET", lambda: netdev.xdp_features(found.ifindex), lambda f: {"features": list(f)}) or ()
    told = facts["xdp"]
    told["attached"] = found.xdp
    if declared and "ndo-xmit" not in declared:
        told["note"] = "ndo-xmit comes and goes with what runs at the device (veth: XDP or GRO at the peer)"
    native, offload = "basic" in declared, "hw-offload" in declared
    tried = _Tried("not tried")
    if attempt:
        tried = _try(found)
        told["tried"] = tried.words or _TAKEN
        native = not tried.words or "native" in found.xdp_programs  # what is attached natively shows it, too
        if offload:
            told["offload-tried"] = _try_offload(found) or "attached on the NIC, and taken off again"
            offload = told["offload-tried"].startswith("attached") or "offload" in found.xdp_programs
    if native and _UNRUN in drivers.quirks(driver, release):
        native, told["not-executed"] = False, "known of this driver: native programs are attached and never run"
    told["metadata"] = "not declared by drivers: taken for granted where native XDP is; `netc verify` shows a lost carrier as a gap"
    frags = "rx-sg" in declared
    return {
        "native": native,
        "generic": True,
        "offload": offload,
        "offload_maps": offload_maps.largest(found.ifindex, told) if attempt and offload else {"elements": 0, "value_size": 0},
        "metadata": native,
        "cpumap_metadata": native and keeps_metadata(release),
        "redirect": "redirect" in declared,
        "frags": frags,
        "max_mtu": _max_mtu(facts, found, tried, drivers.max_xdp_mtu(driver, release, frags) if "basic" in declared else 0),
    }


def keeps_metadata(release: str) -> bool:
    """Does a redirect to a CPU keep XDP metadata on this kernel (`uname -r`)?"""
    major, minor, patch = [*map(int, re.findall(r"\d+", release)[:3]), 0, 0, 0][:3]
    return (major, minor) >= _CPUMAP_METADATA or patch >= _CPUMAP_METADATA_OF_SERIES.get((major, minor), 1 << 31)


def _max_mtu(facts: Facts, found: Link, tried: _Tried, known: int) -> int:
    """The largest MTU with native XDP, 0 where it is not known: as the device itself lowered it while the program was on, else as the table has it."""
    lowered = 0 if tried.words or tried.max_mtu == found.max_mtu else tried.max_mtu
    largest = lowered or (min(known, found.max_mtu) if known and found.max_mtu else known)
    if not largest:
        evidence = "no limit is known, and the device named none while a program was on" if not tried.words else "no limit is known; not tried"
    else:
        evidence = "IFLA_MAX_MTU while the program was on" if lowered else "netc's table of drivers"
    facts["mtu"] = {"now": found.mtu, "least": found.min_mtu, "most": found.max_mtu, "with-native-xdp": largest, "evidence": f"RTM_GETLINK; with XDP: {evidence}"}
    return largest


def _try(found: Link) -> _Tried:
    if found.xdp_program:
        return _Tried(f"not tried: program {found.xdp_program} is attached")
    try:
        program = bpf.load_program("xdp", _PASS, {}, _NAME, bpf.XDP, frags=True)
    except OSError as error:
        return _Tried(str(error))
    try:
        with port_reset.outlived(found.name):
            attached = bpf.link_create(program, found.ifindex, bpf.XDP, bpf.XDP_FLAGS_DRV)
            try:
                meanwhile = link.get(found.name)
                bpf.link_detach(attached)  # off now: the kernel may end a link some time after its last descriptor
            finally:
                os.close(attached)
        return _Tried("", meanwhile.max_mtu)
    except OSError as error:
        return _Tried(f"{error}{_driver_words(found, program)}")
    finally:
        os.close(program)


def _driver_words(found: Link, program: int) -> str:
    """The driver's own sentence about what it refused."""
    try:
        xdp_netlink.attach(found.ifindex, program, "native")
    except OSError as error:
        words = getattr(error, "extack", "")
        return f" (the driver: {words})" if words else ""
    xdp_netlink.detach(found.ifindex, program, "native")  # refused before, taken now: the device has changed meanwhile
    return ""


def _try_offload(found: Link) -> str:
    """"" where a program was loaded into the NIC and attached there, else its words."""
    if found.xdp_program:
        return f"not tried: program {found.xdp_program} is attached"
    try:
        program = bpf.load_program("xdp", _PASS, {}, _NAME, 0, offload=found.ifindex)
    except OSError as error:
        return refusal(error)
    try:
        os.close(bpf.link_create(program, found.ifindex, bpf.XDP, bpf.XDP_FLAGS_HW))
    except OSError as error:
        return refusal(error)
    finally:
        os.close(program)
    return ""
