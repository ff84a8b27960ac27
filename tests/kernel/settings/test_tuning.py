"""Tuning on real devices: what is set is read back, what a driver rounds is told, and everything goes back to what it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from compiler.bundle import Setting
from runtime.backends import ethtool, link, netdev, sysfs
from runtime.backends.netlink import NetlinkError
from runtime.backends.sysfs import Sysfs
from runtime.context import Context, Device
from runtime.lab import netns as namespaces
from runtime.steps import Step, StepError, rounding, settings
from runtime.steps.saved_settings import SavedSettings
from tests.kernel.settings.bundles import bundle, setting
from tests.kernel.settings.conftest import ip

GRO_ON = setting("feature", "gro", 1)  # veth has NAPI instances with it


def turn(context: Context, *wanted: Setting) -> list[Step]:
    made = settings.steps(context, bundle(*wanted), None, 1)
    for step in made:
        step.do()
    for step in made:
        step.check()
    return made


def give_back(context: Context) -> None:
    for step in settings.steps(context, None, None, 2):
        step.do()
        step.check()
    assert SavedSettings(context.state).all() == {}


def file(name: str, device: str = "va0") -> str:
    with Sysfs() as tree:
        return tree.read(f"class/net/{device}/{name}")


@pytest.mark.parametrize(
    ("wanted", "name", "reads"),
    [
        (setting("link", "txqueuelen", 2000), "tx_queue_len", "2000"),
        (setting("napi", "gro-flush-timeout", 20000), "gro_flush_timeout", "20000"),
        (setting("napi", "defer-hard-irqs", 2), "napi_defer_hard_irqs", "2"),
        (setting("napi", "threaded", 1), "threaded", "1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_devices_files_are_set_and_given_back(context: Context, wanted: Setting, name: str, reads: str) -> None:
    before = file(name)
    turn(context, GRO_ON, wanted)
    assert file(name) == reads != before
    assert settings.steps(context, bundle(GRO_ON, wanted), None, 2) == [], "it holds"
    with Sysfs() as tree:
        tree.write(f"class/net/va0/{name}", "0")
    (drifted,) = settings.steps(context, bundle(GRO_ON, wanted), None, 2)
    with pytest.raises(StepError, match=f"is 0.*, not {reads}"):
        drifted.check()
    give_back(context)
    assert file(name) == before


def test_every_napi_instance_gets_its_own_back(context: Context) -> None:
    """What somebody set for one queue by napi-set is there again afterwards."""
    ethtool.set_features("va0", {"rx-gro": True})
    ifindex = link.get("va0").ifindex
    ids = list(netdev.napis(ifindex, "gro-flush-timeout"))
    if not ids:
        pytest.skip("netdev napi-get tells no gro-flush-timeout: Linux 6.13 and later")
    netdev.set_napi(ids[1], "gro-flush-timeout", 7000)
    before = netdev.napis(ifindex, "gro-flush-timeout")
    turn(context, setting("napi", "gro-flush-timeout", 20000))
    assert set(netdev.napis(ifindex, "gro-flush-timeout").values()) == {20000}
    netdev.set_napi(ids[2], "gro-flush-timeout", 1)
    (drifted,) = settings.steps(context, bundle(setting("napi", "gro-flush-timeout", 20000)), None, 2)
    with pytest.raises(StepError, match="20000, 20000, 20000, 1, 20000"):
        drifted.check()
    give_back(context)
    assert netdev.napis(ifindex, "gro-flush-timeout") == before and file("gro_flush_timeout") == "0"


def test_a_setting_of_instances_alone(context: Context) -> None:
    wanted = setting("napi", "irq-suspend-timeout", 20_000_000)
    with pytest.raises(StepError, match="no NAPI instance tells 'irq-suspend-timeout'"):
        turn(context, wanted)
    ethtool.set_features("va0", {"rx-gro": True})
    ifindex = link.get("va0").ifindex
    turn(context, wanted)
    assert set(netdev.napis(ifindex, "irq-suspend-timeout").values()) == {20_000_000}
    give_back(context)
    assert set(netdev.napis(ifindex, "irq-suspend-timeout").values()) == {0}


def test_threaded_needs_an_instance(context: Context) -> None:
    with pytest.raises(StepError, match="the device has no NAPI instance"):
        turn(context, setting("napi", "threaded", 1))
    assert SavedSettings(context.state).all() == {}


def test_what_a_driver_rounds_is_kept_told_and_no_drift(context: Context) -> None:
    """tun takes at most 64 frames (drivers/net/tun.c, tun_set_coalesce)."""
    wanted = setting("coalesce", "rx-frames", 100, nic="tap")
    (step,) = turn(context, wanted)
    assert step.text == "tap coalesce rx-frames (edge.netc:7): asked 100, the driver took 64"
    assert ethtool.get("ta0", "coalesce").now == {"rx-frames": 64}
    assert settings.steps(context, bundle(wanted), None, 2) == [], "64 is what 100 is here"
    assert rounding.kept(context, bundle(wanted)) == [("tap coalesce rx-frames (edge.netc:7)", "asked 100, the driver took 64")]
    assert rounding.kept(context, bundle(setting("coalesce", "rx-frames", 99, nic="tap"))) == []
    ethtool.put("ta0", "coalesce", {"rx-frames": 32})
    (drifted,) = settings.steps(context, bundle(wanted), None, 2)
    with pytest.raises(StepError, match="is 32, not 64"):
        drifted.check()
    give_back(context)
    assert ethtool.get("ta0", "coalesce").now == {"rx-frames": 0}


def test_a_rounding_that_is_undone_is_forgotten(context: Context) -> None:
    turn(context, setting("coalesce", "rx-frames", 100, nic="tap"))
    (step,) = turn(context, setting("coalesce", "rx-frames", 120, nic="tap"))
    step.undo()
    assert ethtool.get("ta0", "coalesce").now == {"rx-frames": 64}
    assert settings.steps(context, bundle(setting("coalesce", "rx-frames", 100, nic="tap")), None, 2) == []


def test_what_is_far_from_the_wish_is_no_rounding(context: Context) -> None:
    with pytest.raises(StepError, match="reads back 64 instead of 1000") as caught:
        turn(context, setting("coalesce", "rx-frames", 1000, nic="tap"))
    assert "write 64" in caught.value.mend
    assert ethtool.get("ta0", "coalesce").now == {"rx-frames": 0} and SavedSettings(context.state).all() == {}


def active() -> set[str]:
    return {name for name, feature in ethtool.features("va0").items() if feature.active}


def wanted_features() -> set[str]:
    return {name for name, feature in ethtool.features("va0").items() if feature.wanted}


def test_an_offload_that_stays_off_names_what_it_lacks(context: Context) -> None:
    ethtool.set_features("va0", {"tx-scatter-gather": False, "tx-tcp-segmentation": False})
    before = active(), wanted_features()
    with pytest.raises(StepError, match="requested and stays off: Dropping TSO features since no SG feature") as caught:
        turn(context, setting("feature", "tso", 1))
    assert "ETHTOOL_MSG_FEATURES_SET" in caught.value.words and caught.value.mend
    assert (active(), wanted_features()) == before and SavedSettings(context.state).all() == {}
    turn(context, setting("feature", "tso", 1), setting("feature", "sg", 1))
    assert {"tx-tcp-segmentation", "tx-scatter-gather"} <= active()
    give_back(context)
    assert (active(), wanted_features()) == before


def test_what_others_need_comes_back_before_them(context: Context) -> None:
    """tso was on: given back while sg is still off, the kernel would leave it off."""
    before = active(), wanted_features()
    for names in (("sg", "tso", "gso"), ("tx", "tso"), ("tso", "tx", "sg", "gso")):
        turn(context, *(setting("feature", name, 0) for name in names))
        assert "tx-tcp-segmentation" not in active()
        give_back(context)
        assert (active(), wanted_features()) == before


def test_the_undo_restores_what_was_only_requested(context: Context) -> None:
    ethtool.set_features("va0", {"tx-scatter-gather": False})
    before = active(), wanted_features()
    assert "tx-tcp-segmentation" in before[1] - before[0]
    made = turn(context, setting("feature", "tso", 0))
    assert "tx-tcp-segmentation" not in wanted_features()
    for step in reversed(made):
        step.undo()
    assert (active(), wanted_features()) == before
    turn(context, setting("feature", "tso", 0))
    give_back(context)
    assert (active(), wanted_features()) == before


def test_a_misspelt_offload_gets_a_hint(context: Context) -> None:
    with pytest.raises(StepError, match="the kernel has no feature 'rx-gro-hv'") as caught:
        turn(context, setting("feature", "rx-gro-hv", 1))
    assert "did you mean rx-gro-hw?" in caught.value.mend


@pytest.fixture
def lone(netns: str, tmp_path: Path) -> Context:
    """The settings of a namespace without devices."""
    return Context(tmp_path, tmp_path / "bpf")


def test_buffers_are_made_no_smaller(lone: Context, netns: str) -> None:
    with namespaces.enter(netns):
        sysfs.write_proc("sys/net/ipv4/tcp_rmem", "4096 200000 3000000")
        wanted = setting("buffers", "net.ipv4.tcp_rmem", (4096, 131072, 2500000), nic="")
        assert settings.steps(lone, bundle(wanted), None, 1) == [], "what is there is more already"
        larger = setting("buffers", "net.ipv4.tcp_rmem", (4096, 131072, 25000000), nic="")
        turn(lone, larger)
        assert sysfs.read_proc("sys/net/ipv4/tcp_rmem").split() == ["4096", "200000", "25000000"]
        sysfs.write_proc("sys/net/ipv4/tcp_rmem", "4096 200000 3000001")
        (drifted,) = settings.steps(lone, bundle(larger), None, 2)
        with pytest.raises(StepError, match="is 4096 200000 3000001, not 4096 200000 25000000"):
            drifted.check()
        give_back(lone)
        assert sysfs.read_proc("sys/net/ipv4/tcp_rmem").split() == ["4096", "200000", "3000000"]


@pytest.mark.parametrize("key", ["net.core.rmem_max", "net.core.wmem_max"])
def test_what_is_the_hosts_is_said_to_be(lone: Context, netns: str, key: str) -> None:
    before = sysfs.read_proc("sys/" + key.replace(".", "/"))
    with namespaces.enter(netns):
        with pytest.raises(StepError, match="Permission denied") as caught:
            turn(lone, setting("buffers", key, int(before) + 1, nic=""))
        assert "it belongs to the host" in caught.value.mend
        assert settings.steps(lone, bundle(setting("buffers", key, int(before) - 1, nic="")), None, 1) == []
    assert sysfs.read_proc("sys/" + key.replace(".", "/")) == before


def test_conntracks_size_is_the_hosts(lone: Context, netns: str) -> None:
    """Read, it loads no module; in a namespace it cannot be written."""
    there = Path("/proc/sys/net/netfilter/nf_conntrack_max").exists()
    with namespaces.enter(netns), pytest.raises(StepError, match=r"Permission denied|No such file"):
        turn(lone, setting("sysctl", "net.netfilter.nf_conntrack_max", 999_999, nic=""))
    assert Path("/proc/sys/net/netfilter/nf_conntrack_max").exists() >= there


def test_a_setting_of_a_device_that_has_gone_is_refused(inside: str, tmp_path: Path) -> None:
    context = Context(tmp_path, tmp_path / "bpf", (Device("wan", "va0", link.get("va0").ifindex),), inside)
    ip("link", "del", "va0")
    with pytest.raises(StepError, match="No such file or directory"):
        turn(context, setting("link", "txqueuelen", 5))
    with pytest.raises(NetlinkError):
        link.get("va0")
