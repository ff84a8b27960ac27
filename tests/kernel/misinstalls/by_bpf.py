"""What can be done to BPF programs, maps, links and pins with bpf(2) and rtnetlink alone."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from random import Random

from runtime import set_words
from runtime.backends import bpf, link, xdp_netlink
from runtime.lab import netns
from tests.kernel.foreign.conftest import loaded
from tests.kernel.misinstalls.site import Kind, Site, Undo

_HOOKS = {"xdp": bpf.XDP, "tcx_ingress": bpf.TCX_INGRESS, "tcx_egress": bpf.TCX_EGRESS}
_TCX = ("tcx_ingress", "tcx_egress")


def detach(site: Site, hook: str) -> None:
    with site.opened(site.pin("links", f"wan-{hook}")) as held:
        bpf.link_detach(held)


def unpin(site: Site, hook: str) -> None:
    site.pin("links", f"wan-{hook}").unlink()


def gone(*hooks: str) -> Callable[[Site, Random], None]:
    """The link of one of these hooks is detached, or its pin taken away."""

    def act(site: Site, rng: Random) -> None:
        rng.choice((detach, unpin))(site, rng.choice(hooks))

    return act


def put_there(mode: str) -> Callable[[Site, Random], Undo | None]:
    """netc's program leaves the device and somebody else's takes its place."""

    def act(site: Site, rng: Random) -> Undo:
        unpin(site, "xdp")
        with netns.enter(site.host.netns):
            program, ifindex = loaded(rng.choice((1, 2)), "theirs", attach_type=0), link.get("wan0").ifindex
            xdp_netlink.attach(ifindex, program, mode)

        def undo() -> None:
            with netns.enter(site.host.netns):
                xdp_netlink.detach(ifindex, program, mode)
            os.close(program)
            assert site.apply()

        return undo

    return act


def made_generic(site: Site, rng: Random) -> Undo:
    """netc's own program by a link of its own, in the generic mode, which no update of the link changes."""
    path = site.pin("links", "wan-xdp")
    path.unlink()
    with site.opened(site.pin("gen", "wan~xdp~program")) as program, netns.enter(site.host.netns):
        held = bpf.link_create(program, link.get("wan0").ifindex, bpf.XDP, bpf.XDP_FLAGS_SKB)
    bpf.pin(held, path)
    os.close(held)

    def undo() -> None:
        path.unlink()
        assert site.apply()

    return undo


def other_program(*hooks: str) -> Callable[[Site, Random], Undo]:
    """The link runs another program, which lets everything pass or drops it; netc replaces none that it did not put there."""

    def act(site: Site, rng: Random) -> Undo:
        hook = rng.choice(hooks)
        kind = "xdp" if hook == "xdp" else "sched_cls"
        with site.opened(site.pin("links", f"wan-{hook}")) as held:
            program = bpf.load_program(kind, passing(rng.choice((1, 2))), {}, "theirs", _HOOKS[hook], hook == "xdp")
            bpf.link_update(held, program)
            os.close(program)

        def undo() -> None:
            unpin(site, hook)
            assert site.apply()

        return undo

    return act


def passing(verdict: int) -> bytes:
    """mov r0, verdict; exit"""
    return bytes([0xB7, 0, 0, 0, verdict, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0])


def moved(site: Site, rng: Random) -> None:
    """The link is one on the other device."""
    hook = rng.choice(tuple(_HOOKS))
    path = site.pin("links", f"wan-{hook}")
    path.unlink()
    with site.opened(site.pin("gen", f"wan~{hook}~program")) as program, netns.enter(site.host.netns):
        held = bpf.link_create(program, link.get("lan0").ifindex, _HOOKS[hook], bpf.XDP_FLAGS_SKB if hook == "xdp" else 0)
    bpf.pin(held, path)
    os.close(held)


def links_off(site: Site) -> None:
    """netc does not know the program that runs, so it does not replace it: the links are taken off first."""
    for hook in _HOOKS:
        unpin(site, hook)
    assert site.apply()


def pin_gone(under: str, what: str) -> Callable[[Site, Random], Undo | None]:
    def act(site: Site, rng: Random) -> Undo | None:
        rng.choice([path for path in site.pins(under) if path.name.endswith("program") == (what == "program")]).unlink()
        return (lambda: links_off(site)) if what == "program" else None

    return act


def map_swapped(under: str) -> Callable[[Site, Random], None]:
    """Another map of the same shape, empty, has the pin."""

    def act(site: Site, rng: Random) -> None:
        path = rng.choice([path for path in site.pins(under) if not path.name.endswith("program") and "owners" not in path.name])
        with site.opened(path) as before:
            seen = bpf.map_info(before)
        path.unlink()
        flags = seen.flags & ~bpf.F_RDONLY_PROG if bpf.MAP_NAMES[seen.type] == "devmap" else seen.flags
        made = bpf.create_map(bpf.MAP_NAMES[seen.type], seen.key_size, seen.value_size, seen.max_entries, flags, "other")
        bpf.pin(made, path)
        os.close(made)

    return act


def program_swapped(site: Site, rng: Random) -> Undo:
    """Another program has the pin; the link still runs netc's."""
    hook = rng.choice(tuple(_HOOKS))
    path = site.pin("gen", f"wan~{hook}~program")
    path.unlink()
    made = bpf.load_program("xdp" if hook == "xdp" else "sched_cls", passing(2), {}, "theirs", _HOOKS[hook])
    bpf.pin(made, path)
    os.close(made)
    return lambda: links_off(site)


def clock_set(site: Site, rng: Random) -> None:
    with site.opened(site.pin("gen", "clock")) as clock:
        bpf.map_update(clock, bytes(4), rng.randrange(1, 1 << 40).to_bytes(8, "little"))


def owner_changed(site: Site, rng: Random) -> None:
    """A counter's slot, or a bucket's, belongs to another name."""
    path = site.pin("maps", rng.choice(("wan~owners", "wan~bucket-owners")))
    with site.opened(path) as owners:
        memory = bpf.map_array(owners, bpf.map_info(owners).value_size)
    taken = [at for at in range(0, len(memory), 8) if any(memory[at : at + 8])]
    at = rng.choice(taken)
    memory[at : at + 8] = hashlib.sha256(rng.randbytes(4)).digest()[:8]
    memory.close()


def slots_exchanged(site: Site, rng: Random) -> Undo:
    """What is on disk of whose counters are where, is not what the programs were told."""
    import json

    path = site.host.directory / "state/slots.json"
    before = path.read_bytes()
    tables = json.loads(before)
    holder = tables.get("slots", tables)
    one, other = rng.sample([name for name in holder["wan"] if name.startswith("wan.in.")], 2)
    holder["wan"][one], holder["wan"][other] = holder["wan"][other], holder["wan"][one]
    path.write_text(json.dumps(tables))
    return lambda: path.write_bytes(before)


def device_made_anew(site: Site, rng: Random) -> None:
    """The other nic's device has gone and come again: the map of devices still has the index of the one before."""
    site.run("ip link del lan0")
    site.run(f"ip link add lan0 index {rng.randrange(1000, 100_000)} type veth peer name lan0p")
    for device in ("lan0", "lan0p"):
        site.run(f"ip link set {device} up")
    site.run("ethtool -K lan0p gro on")
    site.write_queue("lan0", "rx-0/rps_cpus", "3")  # as it was tuned


def another_address(site: Site, rng: Random) -> None:
    """The device got another MAC address: XDP forwards what is to the one before."""
    site.run(f"ip link set wan0 address 02:00:00:00:{rng.randrange(256):02x}:{rng.randrange(256):02x}")


def never_member(site: Site, rng: Random) -> Undo:
    """A member that the set never takes is put into its map by hand."""
    path = site.pin("maps", "set~banned~hash")
    key = set_words.key(rng.choice((f"198.51.100.{rng.randrange(256)}", f"2001:db8:1::{rng.randrange(1 << 16):x}")))
    with site.opened(path) as members:
        bpf.map_update(members, key, bytes(24))

    def undo() -> None:
        with site.opened(path) as members:
            bpf.map_delete(members, key)

    return undo


def owner_gone(site: Site, rng: Random) -> None:
    """The mark that says whose the pins are."""
    (site.host.directory / "bpf/owner").unlink()


def another_tcx(site: Site, rng: Random) -> Undo:
    """Somebody else's program on the hook, before netc's or after it."""
    hook = rng.choice(_TCX)
    with netns.enter(site.host.netns):
        program = loaded(0, "theirs", "sched_cls", _HOOKS[hook])
        held = bpf.link_create(program, link.get("wan0").ifindex, _HOOKS[hook], rng.choice((1 << 3, 1 << 4)))  # BPF_F_BEFORE, BPF_F_AFTER
    os.close(program)
    return lambda: os.close(held)


KINDS = (
    Kind("the XDP program is off", "xdp", "attach wan.xdp on wan0", gone("xdp")),
    Kind("a tcx program is off", "xdp", "attach wan.tcx_", gone(*_TCX)),
    Kind("somebody's generic program in the place of netc's", "xdp", "theirs", put_there("generic")),
    Kind("somebody's native program in the place of netc's", "xdp", "theirs", put_there("native")),
    Kind("generic instead of native", "xdp", "the device runs XDP as generic", made_generic),
    Kind("another program on the XDP link", "xdp", "the link runs program", other_program("xdp")),
    Kind("another program on a tcx link", "xdp", "the link runs program", other_program(*_TCX)),
    Kind("a link on another device", "xdp", "wan0", moved),
    Kind("a generation's map unpinned", "xdp", "open the pin", pin_gone("gen", "map")),
    Kind("a persistent map unpinned", "xdp", "open the pin", pin_gone("maps", "map")),
    Kind("a program unpinned", "xdp", "open the pin", pin_gone("gen", "program")),
    Kind("a generation's map swapped", "xdp", "pinned", map_swapped("gen")),
    Kind("a persistent map swapped", "xdp", "swapped by hand", map_swapped("maps")),
    Kind("a program swapped", "xdp", "program", program_swapped),
    Kind("the clock set", "xdp", "the programs' clock was set by hand", clock_set),
    Kind("another owner of a slot", "xdp", "owners", owner_changed),
    Kind("counters' places exchanged", "xdp", "slots", slots_exchanged),
    Kind("a device made anew", "xdp", "map devices", device_made_anew),
    Kind("another MAC address", "xdp", "map wan.mac", another_address),
    Kind("a member that never is one", "xdp", "banned", never_member),
    Kind("the owner's mark gone", "owner", "pins", owner_gone),
    Kind("somebody's tcx program", "foreign", "(theirs)", another_tcx),
)
