"""Tuning where drivers differ: what they round is told and no drift, what they lack is refused in their words, and NAPI, offloads and the host in full."""

from __future__ import annotations

import re

import pytest

from hwtests.rack.installed import Installed
from hwtests.rack.port import Port
from hwtests.rack.requires import requires

NIC = "nic wan { device DEVICE; xdp none }\n"


def tune(text: str) -> str:
    return f"{NIC}tune wan {{ {text} }}\n"


def shown(port: Port, letter: str) -> dict[str, str]:
    """What `ethtool -g`, `-c` or `-a` says, by name in small letters; of rings the current ones. Without what the driver does not have."""
    done = port.machine.run("ethtool", f"-{letter}", port.device, status=None)
    text = done.out.rpartition("Current hardware settings:")[2].replace("  TX:", "\nAdaptive TX:")
    pairs = (line.partition(":")[::2] for line in text.splitlines() if ":" in line)
    return {name.strip().lower(): value.strip() for name, value in pairs if value.strip() not in ("", "n/a")}


def features(port: Port) -> dict[str, str]:
    return dict(re.findall(r"^\s*([\w-]+): (\w+)", port.machine.run("ethtool", "-k", port.device).out, re.MULTILINE))


def rounded(port: Port) -> list[str]:
    """What status says of rounding, as long as it holds."""
    return [item["words"] for item in port.machine.netc_json("status")["rounded"]]


@requires("rings.rx>=1")
def test_rings_are_rounded_as_the_driver_likes(port: Port, installed: Installed) -> None:
    """100 is no size for most: igb and e1000e take 104 (multiples of 8), virtio_net nothing that is no power of two. What was taken is told, and no drift."""
    before = shown(port, "g")
    done = installed.try_apply(tune("ring tx 100"))
    if done.code:
        assert "ETHTOOL_MSG_RINGS_SET" in done.err + done.out, done.err
    else:
        took = int(shown(port, "g")["tx"])
        assert rounded(port) == ([] if took == 100 else [f"asked 100, the driver took {took}"])
        assert 100 <= took <= 200
        installed.remove()
    assert shown(port, "g") == before


@requires("rings.rx>=1")
def test_a_ring_far_from_the_wish_is_refused_and_undone(port: Port, installed: Installed) -> None:
    """Two descriptors are too few for any driver that sends: what it makes of them is another size, or a refusal."""
    before = shown(port, "g")
    words = installed.refused(tune("txqueuelen 77; ring tx 3"))
    assert re.search(r"reads back \d+ instead of 3|ETHTOOL_MSG_RINGS_SET", words), words
    assert shown(port, "g") == before and port.link()["txqlen"] != 77


def test_coalescing_by_time(port: Port, installed: Installed) -> None:
    """e1000e keeps interrupts a second, and rounds: 6000 us came back as 6097. igb and netdevsim keep microseconds; virtio_net takes none of its own accord."""
    before = shown(port, "c")
    done = installed.try_apply(tune("coalesce rx 6000us"))
    if done.code:
        assert "ETHTOOL_MSG_COALESCE_" in done.err + done.out, done.err
    else:
        took = shown(port, "c")["rx-usecs"]
        assert rounded(port) == ([] if took == "6000" else [f"asked 6000, the driver took {took}"])
        installed.remove()
    assert shown(port, "c") == before


def test_a_coupled_offload_is_set_or_refused_whole(port: Port, installed: Installed) -> None:
    """e1000e and igb have one switch for both directions of VLAN acceleration: the wish for one is refused, and no trace of it stays."""
    before = _raw(port)
    done = installed.try_apply(tune("offload txvlan off"))
    if done.code:
        assert "stays on" in done.err + done.out or "[fixed]" in done.err + done.out, done.err
    else:
        assert features(port)["tx-vlan-offload"] == "off"
        installed.remove()
    assert _raw(port) == before


def test_coalescing_adaptively_one_way(port: Port, installed: Installed) -> None:
    before = shown(port, "c")
    if before.get("adaptive rx") is None:
        assert "adaptive-rx" in installed.refused(tune("coalesce adaptive-rx on")) or not before
        return
    turned = "off" if before["adaptive rx"] == "on" else "on"
    done = installed.try_apply(tune(f"coalesce adaptive-rx {turned}"))
    if done.code:  # virtio_net without the device's help takes the wish and forgets it
        assert "reads back" in done.err + done.out or "ETHTOOL_MSG_COALESCE_SET" in done.err + done.out, done.err
        assert shown(port, "c") == before
        return
    now = shown(port, "c")
    assert now["adaptive rx"] == turned and now.get("adaptive tx") == before.get("adaptive tx")
    installed.remove()
    assert shown(port, "c") == before


def test_what_the_driver_lacks_is_skipped_in_its_words_where_preferred(port: Port, installed: Installed) -> None:
    """No NIC has everything: what there is of a long wish is set, the rest is told."""
    wish = ("coalesce rx-frames-irq 8, tx-usecs-irq 9, cqe-mode-rx on, tx-aggr-max-frames 4", "ring rx-mini 64, cqe-size 128", "pause autoneg off, rx off, tx off",
            "priv-flag netc-has-no-such-flag on", "offload rx-fcs on")  # fmt: skip
    before = [shown(port, letter) for letter in "gca"]
    installed.apply(tune("; ".join(f"prefer {text}" for text in wish)))
    skipped = {item["text"]: item["words"] for item in installed.plan["skipped"]}
    assert "ETHTOOL_MSG_PRIVFLAGS_GET" in skipped["prefer priv-flag netc-has-no-such-flag on"]
    pause = shown(port, "a")
    assert "prefer pause autoneg off, rx off, tx off" in skipped or {pause["rx"], pause["tx"], pause["autonegotiate"]} == {"off"}
    installed.remove()
    port.up()
    assert [shown(port, letter) for letter in "gca"] == before


def _raw(port: Port) -> str:
    return port.machine.run("ethtool", "-k", port.device).out


def test_an_offload_without_what_it_needs_is_refused(port: Port, installed: Installed) -> None:
    """tso without sg: the kernel takes the wish, and leaves it off."""
    before = features(port)
    if "scatter-gather: on [fixed]" in _raw(port) or before["tcp-segmentation-offload"] != "on":
        pytest.skip(f"{port.identity['driver']} cannot switch scatter-gather, or has no TSO: ethtool -k")
    mangled = f"tx-tcp-mangleid-segmentation {before.get('tx-tcp-mangleid-segmentation', 'off')}"  # `tso on` alone switches it on
    back = f"ethtool -K {port.device} sg on tso on && ethtool -K {port.device} {mangled}"
    port.machine.change("ethtool", "-K", port.device, "sg", "off", "tso", "off", undo=["sh", "-c", back])
    words = installed.refused(tune("offload tso on"))
    assert "requested and stays off: Dropping TSO features since no SG feature" in words
    assert features(port)["tcp-segmentation-offload"] == "off"


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


HOST = """host {
  sysctl buffers for 10gbit 100ms
  napi budget 600, budget-usecs 8ms, weight 128, backlog 30k
  conntrack max 100k
  sysctl net.core.default_qdisc = fq
  sysctl net.ipv4.tcp_congestion_control = bbr
}
"""
WANTED = {
    "net.core.rmem_max": "125000000", "net.core.wmem_max": "125000000", "net.core.netdev_budget": "600", "net.core.netdev_budget_usecs": "8000",
    "net.core.dev_weight": "128", "net.core.netdev_max_backlog": "30000", "net.netfilter.nf_conntrack_max": "100000", "net.core.default_qdisc": "fq",
    "net.ipv4.tcp_congestion_control": "bbr",
}  # fmt: skip
UNLOAD = "modprobe -r nf_conntrack_netlink nf_conntrack nf_defrag_ipv6 nf_defrag_ipv4 tcp_bbr sch_fq; true"


def test_the_host(port: Port, installed: Installed) -> None:
    """What is the whole host's is set only where the machine under test is a host of its own. Conntrack's module comes with the apply."""
    if port.machine.netns:
        words = installed.refused(NIC + HOST)
        assert "it belongs to the host" in words or "is not the host's" in words
        return
    machine = port.machine
    loaded = machine.run("sh", "-c", "test -e /proc/sys/net/netfilter/nf_conntrack_max", status=None).code == 0
    if not loaded:
        machine.change("true", undo=["sh", "-c", UNLOAD])
    before = _sysctls(port, list(WANTED))
    installed.apply(NIC + HOST)
    assert _sysctls(port, list(WANTED)) == WANTED
    assert _sysctls(port, ["net.ipv4.tcp_rmem"])["net.ipv4.tcp_rmem"].split()[2] == "250000000"
    buckets = int(_sysctls(port, ["net.netfilter.nf_conntrack_buckets"])["net.netfilter.nf_conntrack_buckets"])
    assert 100_000 <= buckets < 101_000 and f"asked 100000, the driver took {buckets}" in rounded(port)
    installed.remove()
    after = _sysctls(port, list(WANTED))
    assert {name: value for name, value in after.items() if before[name]} == {name: value for name, value in before.items() if value}


def _sysctls(port: Port, names: list[str]) -> dict[str, str]:
    """Their values; "" for what there is not."""
    return {name: port.machine.run("sysctl", "-n", name, status=None).out.strip() for name in names}
