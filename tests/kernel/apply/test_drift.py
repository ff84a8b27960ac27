"""Whatever is changed by hand in tc, BPF, the settings or nft is noticed by `netc verify`, and the next apply of the same policy puts it right."""

from __future__ import annotations

import functools
import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from compiler import bundle as bundles
from compiler import pipeline, profile
from compiler.source import Sources
from runtime.backends import bpf
from runtime.lab import netns
from tests.kernel.apply.hosts import ROOT, Host

POLICY = """\
nic wan { device wan0; xdp native }
set office = { 198.51.100.0/24, 2001:db8:1::/48 }
filter wan in {
  pass  tcp dport 22 src in office                      as ssh
  drop  tcp dport 22                                    as ssh-scan
  pass  udp dport 53 limit 20kpps burst 4k per src      as dns
  pass  established
  default drop
}
shape wan out rate 100mbit {
  class voice { match dscp ef; min 5mbit; max 20mbit; urgent }
  class bulk  { default;               min 10mbit; queue fq_codel { target 5ms } or pfifo }
}
shape wan in rate 90mbit { class all { default; queue pfifo } }
tune wan { offload gro off, tso off }
host { sysctl net.ipv4.tcp_sack = 0 }
"""


@functools.cache
def compiled() -> bytes:
    """The policy's bundle; every test uses the same one."""
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "p.netc"
        path.write_text(POLICY)
        return bundles.encode(pipeline.compile_policy(path, profile.load(ROOT / "compiler/profiles/veth.yaml"), Sources()).bundle)


def ifb(host: Host) -> str:
    return next(link["ifname"] for link in json.loads(host.run("ip", "-j", "link")) if link["ifname"].startswith("netc-ifb"))


def tc(text: str) -> Callable[[Host], None]:
    return lambda host: ran(host, "tc", text)


def ran(host: Host, command: str, text: str) -> None:
    host.run(command, *text.replace("IFB", ifb(host)).split())


def pin(host: Host, name: str) -> Path:
    """A pin by the end of its path."""
    (found,) = [path for path in (host.directory / "bpf").rglob("*") if str(path).endswith(name)]
    return found


def swap_map(host: Host) -> None:
    """Another map of the same shape under the pin of the egress classifier's words."""
    path = pin(host, "wan~tcx_egress~config")
    path.unlink()
    made = bpf.create_map("array", 4, 8, 1, bpf.F_MMAPABLE, "other")
    bpf.pin(made, path)
    os.close(made)


def replace_program(host: Host) -> None:
    """The XDP link runs a program that lets everything pass (mov r0, 2; exit)."""
    link = bpf.get_pinned(pin(host, "links/wan-xdp"))
    passing = bpf.load_program("xdp", bytes.fromhex("b700000002000000" + "9500000000000000"), {}, "passing", bpf.XDP, True)
    bpf.link_update(link, passing)
    os.close(passing)
    os.close(link)


def detach(name: str) -> Callable[[Host], None]:
    def act(host: Host) -> None:
        link = bpf.get_pinned(pin(host, name))
        bpf.link_detach(link)
        os.close(link)

    return act


def set_clock(host: Host) -> None:
    clock = bpf.get_pinned(pin(host, "/clock"))
    bpf.map_update(clock, bytes(4), (1).to_bytes(8, "little"))
    os.close(clock)


def sysctl(host: Host) -> None:
    with netns.enter(host.netns):
        Path("/proc/sys/net/ipv4/tcp_sack").write_text("1")


def device_again(host: Host) -> None:
    host.run("ip", "link", "del", ifb(host))


EDITS: dict[str, tuple[Callable[[Host], None], str, str]] = {  # what is done by hand → the edit, the backend that tells, its words
    "a class's ceiling": (tc("class change dev wan0 parent 1:1 classid 1:2010 htb rate 5mbit ceil 90mbit prio 0"), "tc", "class wan.shape.out.voice"),
    "the whole rate": (tc("class change dev wan0 parent 1: classid 1:1 htb rate 900mbit"), "tc", "class wan.shape.out"),
    "a class deleted": (tc("class del dev wan0 classid 1:2010"), "tc", "is not there"),
    "a class added": (tc("class add dev wan0 parent 1:1 classid 1:99 htb rate 50mbit"), "tc", "class 1:99 is not the policy's"),
    "a class added to the generation": (tc("class add dev wan0 parent 1:1 classid 1:2099 htb rate 50mbit"), "tc", "class 1:2099"),
    "another queue": (tc("qdisc replace dev wan0 parent 1:2011 handle 99: bfifo limit 10000"), "tc", "has a bfifo queue, which nobody asked for"),
    "a queue's option": (tc("qdisc change dev wan0 parent 1:2011 handle 2011: pfifo limit 10"), "tc", "limit is 10, not"),
    "a filter at the root": (tc("filter add dev wan0 parent 1: protocol all prio 5 u32 match u32 0 0 classid 1:2010"), "tc", "a u32 filter"),
    "the root deleted": (tc("qdisc del dev wan0 root"), "tc", "the root qdisc is not netc's htb"),
    "the root replaced": (tc("qdisc replace dev wan0 root pfifo"), "tc", "pfifo"),
    "the ifb's rate": (tc("class change dev IFB parent 1: classid 1:1 htb rate 900mbit"), "tc", "class wan.shape.in"),
    "the ifb down": (lambda host: ran(host, "ip", "link set IFB down"), "tc", "the device is down"),
    "the ifb deleted": (device_again, "tc", "the device is not there"),
    "the egress link unpinned": (lambda host: pin(host, "links/wan-tcx_egress").unlink(), "xdp", "No such file"),
    "the ingress link detached": (detach("links/wan-tcx_ingress"), "xdp", "it is not attached"),
    "the XDP link unpinned": (lambda host: pin(host, "links/wan-xdp").unlink(), "xdp", "No such file"),
    "the XDP link detached": (detach("links/wan-xdp"), "xdp", "it is not attached"),
    "the XDP program replaced": (replace_program, "xdp", "the link runs program"),
    "a map swapped": (swap_map, "xdp", "another one was pinned in its place"),
    "the programs' clock set": (set_clock, "xdp", "the programs' clock was set by hand"),
    "a sysctl": (sysctl, "settings", "is 1, not 0"),
    "an offload": (lambda host: ran(host, "ethtool", "-K wan0 gro on"), "settings", "wan feature gro"),
    "an nft rule": (lambda host: ran(host, "nft", "add rule inet netc wan.in.base_g1 accept"), "nft", "is not the policy's"),
}  # fmt: skip
PUT_RIGHT_BY_HAND = {  # netc overwrites nothing that it did not put there: what it says, and what the user then does
    "the root replaced": ("it has a root qdisc of somebody else's: pfifo", tc("qdisc del dev wan0 root")),
    "the XDP program replaced": ("which netc did not put there", lambda host: pin(host, "links/wan-xdp").unlink()),
}


# What of these is told by steps of its own: one edit of each line can be on a host together, and each is still named.
APART = (
    [edit for edit, (_, backend, words) in EDITS.items() if backend == "tc" and "ifb" not in edit and edit not in PUT_RIGHT_BY_HAND],
    ["the ifb's rate", "the ifb down", "the ifb deleted"], ["the XDP link unpinned", "the XDP link detached"], ["a map swapped", "the programs' clock set"],
    ["the egress link unpinned"], ["the ingress link detached"], ["a sysctl"], ["an offload"], ["an nft rule"],
)  # fmt: skip
ROUNDS = [
    *(tuple(filter(None, edits)) for edits in itertools.zip_longest(*APART)),
    *((edit,) for edit in PUT_RIGHT_BY_HAND),
]


def test_every_edit_is_tried() -> None:
    assert sorted(edit for edits in ROUNDS for edit in edits) == sorted(EDITS)


@pytest.mark.parametrize("edits", ROUNDS, ids=lambda edits: ", ".join(edits))
def test_a_change_by_hand_is_noticed_and_put_right(host: Host, edits: tuple[str, ...]) -> None:
    bundle = host.write(compiled())
    host.netc("apply", bundle)
    for edit in edits:
        EDITS[edit][0](host)
    broken = [found for found in host.json("verify", status=1)["findings"] if found["result"] == "broken"]
    for edit in edits:
        _, backend, words = EDITS[edit]
        assert any(found["where"] == backend and words in f"{found['what']}: {found['detail']}" for found in broken), (edit, broken)
    for edit in edits:
        if edit in PUT_RIGHT_BY_HAND:
            told, mend = PUT_RIGHT_BY_HAND[edit]
            assert told in host.netc("apply", bundle, status=1).stderr
            mend(host)
    assert host.json("apply", bundle)["changed"]
    verified = host.json("verify")
    assert verified["ok"], verified


def test_a_policy_that_nobody_touched_holds(host: Host) -> None:
    host.netc("apply", host.write(compiled()))
    assert host.json("verify")["ok"]


def test_fixed_tables_cannot_be_written_by_hand(host: Host) -> None:
    """The content of a static set and of the slots is frozen: root's bpf(2) is refused, so there is nothing to notice."""
    host.netc("apply", host.write(compiled()))
    frozen = [path for path in (host.directory / "bpf/gen-1").iterdir() if not path.name.endswith(("program", "clock", "scratch"))]
    assert len(frozen) >= 4
    for path in frozen:
        descriptor = bpf.get_pinned(path)
        info = bpf.map_info(descriptor)
        with pytest.raises(bpf.BpfError, match="Operation not permitted"):
            bpf.map_update(descriptor, bytes(info.key_size), bytes(info.value_size))
        os.close(descriptor)
