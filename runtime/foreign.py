"""What of others is on a policy's devices or beside its rules, and may judge packets before or after netc: named, never touched.

Reads only. What is in netc's way (an XDP program, a root qdisc, a table of netc's name) the steps themselves refuse; here is what can stay.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from compiler.bundle import Bundle
from runtime.backends import bpf, bpf_others, tc_dump
from runtime.backends import nft as nft_backend
from runtime.backends.netlink import NetlinkError
from runtime.backends.nft import Json, NftError
from runtime.context import Context, Device
from runtime.steps import xdp_pins
from runtime.steps.foreign_kept import Keeper

_OWN_TABLE = re.compile(r"netc(?:-fence|-probe|-boot|-closed-\d+)?")
_OBSERVER = "netc_observer"  # backends.observer.NAME, which is not read for every apply
_HOOKS = {"tcx_ingress": bpf.TCX_INGRESS, "tcx_egress": bpf.TCX_EGRESS}


@dataclass(frozen=True, slots=True)
class Found:
    """kind: tcx, clsact, nft, irqbalance. where: a device or a table. words: what it is, whose by the looks of it, and what follows. warn: mend it.

    what: of the words what is the same when its owner starts it again: no ids, no times.
    """

    kind: str
    where: str
    words: str
    warn: bool = False
    what: str = ""

    @property
    def key(self) -> str:
        """By what it is known again."""
        return f"{self.kind} {self.where} {self.what or self.words}"


def survey(context: Context, bundle: Bundle) -> list[Found]:
    """Everything of others beside this bundle on the context's devices; what cannot be read is left out."""
    from runtime import irqbalance

    found = [item for device in context.devices for item in (*_tcx(context, device), *_classic(device.name, device.ifindex))]
    found += [item for device in context.devices for item in _on_ifb(bundle, device)]
    found += _tables()
    found += [Found("irqbalance", device, words, True, "irqbalance") for device, words in irqbalance.conflicts(context, bundle)]
    return found


def kept(context: Context) -> list[tuple[str, str]]:
    """(device, what) that was taken over and goes back with `netc remove`. Raises StepError."""
    all_ = Keeper(context).all()
    programs = [(item.device, f"XDP program {item.program} ({item.name or 'without a name'}), {item.mode}") for item in all_.programs.values()]
    return programs + [(item.device, f"root qdisc {item.words}") for item in all_.qdiscs.values()]


def _tcx(context: Context, device: Device) -> Iterator[Found]:
    for hook, attach_type in _HOOKS.items():
        try:
            running = bpf_others.tcx(device.ifindex, attach_type)
        except bpf.BpfError:
            continue  # a kernel before 6.6
        own = _own(context, device, hook)
        for at, program in enumerate(running):
            if program == own:
                continue
            said = bpf_others.origin_of(program)
            if said and said.name == _OBSERVER and _observes(program):
                continue
            order = "" if own not in running else ": before netc's" if at < running.index(own) else ": after netc's"
            yield Found("tcx", device.name, f"{hook} also runs {said.words if said else f'program {program}'}{order}",
                        what=f"{hook} {said.name if said else program}{order}")  # fmt: skip


def _observes(program: int) -> bool:
    """Is it `verify --steering` of another terminal?"""
    import mmap

    from runtime.backends import observer

    try:
        with observer.Observer(0, mmap.PAGESIZE) as like:
            return like.is_like(program)
    except bpf.BpfError:
        return False


def _own(context: Context, device: Device, hook: str) -> int:
    path = xdp_pins.links(context) / f"{xdp_pins.pin_name(device.nic)}-{xdp_pins.pin_name(hook)}"
    with xdp_pins.opened_if_there(path) as found:
        return bpf.link_info(found).prog_id if found is not None else 0


def _on_ifb(bundle: Bundle, device: Device) -> Iterator[Found]:
    """What netc queues there meets filters, too."""
    if not any(tree.nic == device.nic and tree.direction == "in" for tree in bundle.trees):
        return
    from runtime.steps.tc_place import ifb_name

    name = ifb_name(device.ifindex)
    with suppress(OSError):
        yield from _classic(name, socket.if_nametoindex(name))


def _classic(device: str, ifindex: int) -> Iterator[Found]:
    """Filters at clsact or ingress, which are older than tcx and run after it."""
    try:
        for side, filters in tc_dump.hooked(ifindex).items():
            words = ", ".join(filters)
            yield Found("clsact", device, f"{side} has tc filters of somebody else's ({words}): they run after tcx, before nft's ingress")
    except NetlinkError:
        return


def _tables() -> Iterator[Found]:
    try:
        tables = nft_backend.ruleset()
    except NftError:
        return
    for (family, name), items in sorted(tables.items()):
        if _OWN_TABLE.fullmatch(name):
            continue
        hooks = [f"{body['hook']} {body.get('prio', 0):+d} policy {body.get('policy', 'accept')}" for body in _of(items, "chain") if "hook" in body]
        flows = [body["name"] for body in _of(items, "flowtable")]
        if flows:
            words = f"has flow tables ({', '.join(flows)}): connections in them go past the forward rules"
            yield Found("nft", f"{family} {name}", f"{_whose(name, items)}{words}", True, f"flow tables {', '.join(flows)}")
        if hooks:
            yield Found("nft", f"{family} {name}", f"{_whose(name, items)}also judges: {', '.join(hooks)}", what=", ".join(hooks))


def _of(items: list[Json], kind: str) -> Iterator[Json]:
    return (item[kind] for item in items if kind in item)


def _whose(name: str, items: list[Json]) -> str:
    """By the looks of it: the names that these programs give."""
    chains = {str(body["name"]) for body in _of(items, "chain")}
    if name == "firewalld":
        return "firewalld's; "
    if any(chain.startswith(("DOCKER", "docker")) for chain in chains) or name.startswith("docker"):
        return "docker's; "
    if name.startswith("libvirt"):
        return "libvirt's; "
    if any(chain.startswith(("KUBE-", "cali-", "CILIUM_")) for chain in chains) or name.startswith("kube"):
        return "of Kubernetes; "
    if any(chain.startswith(("ufw-", "ufw6-")) for chain in chains):
        return "ufw's; "
    return ""
