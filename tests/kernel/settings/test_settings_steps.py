"""Settings on a real device: set, read back, undone, given back, refused in the device's words, skipped where preferred."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.backends import ethtool, sysfs
from runtime.backends.sysfs import Sysfs
from runtime.context import Context
from runtime.lab import netns as namespaces
from runtime.steps import Step, StepError, settings
from tests.kernel.settings.bundles import bundle, setting
from tests.kernel.settings.conftest import ip

XPS = "class/net/va0/queues/tx-0/xps_cpus"
needs_two_cpus = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two CPUs")


def apply(context: Context, *wanted: object) -> list[Step]:
    made = settings.steps(context, bundle(*wanted), None, 1)  # type: ignore[arg-type]
    for step in made:
        step.do()
    for step in made:
        step.check()
    return made


def channels() -> dict[str, int]:
    return ethtool.get("va0", "channels").now


def test_channels_set_read_back_undone(context: Context) -> None:
    (step,) = apply(context, setting("channels", "combined", 2))
    assert channels() == {"rx": 2, "tx": 2}, "veth has no combined channels: both kinds"
    assert step.resets
    step.undo()
    assert channels() == {"rx": 4, "tx": 4}
    assert settings.steps(context, None, None, 2) == [], "undone: nothing is left to give back"


def test_max_is_the_devices_own(context: Context) -> None:
    apply(context, setting("channels", "rx", 1))
    assert settings.steps(context, bundle(setting("channels", "tx", "max"), setting("channels", "rx", 1)), None, 2) == []
    apply(context, setting("channels", "rx", "max"))
    assert channels()["rx"] == 4


def test_what_holds_already_has_no_step(context: Context) -> None:
    wanted = (setting("channels", "combined", 2), setting("feature", "tso", 0), setting("feature", "lro", 0), setting("rps", "cpus", (0,)))
    assert len(apply(context, *wanted)) == 3, "lro is off and fixed: that holds"
    assert settings.steps(context, bundle(*wanted), None, 2) == []


def test_features_by_short_name_and_their_undo(context: Context) -> None:
    before = {name: feature.active for name, feature in ethtool.features("va0").items()}
    made = apply(context, setting("feature", "gro", 1), setting("feature", "tso", 0), setting("feature", "tx", 0))
    now = ethtool.features("va0")
    assert now["rx-gro"].active and not now["tx-tcp-segmentation"].active and not now["tx-tcp6-segmentation"].active
    assert not now["tx-checksum-ip-generic"].active
    for step in reversed(made):
        step.undo()
    assert {name: feature.active for name, feature in ethtool.features("va0").items()} == before


def test_a_policy_without_the_setting_gives_it_back(context: Context) -> None:
    apply(context, setting("channels", "combined", 2), setting("rps", "cpus", (0,)), setting("feature", "gro", 1))
    apply(context, setting("feature", "gro", 1))
    assert channels() == {"rx": 4, "tx": 4} and ethtool.features("va0")["rx-gro"].active
    for step in settings.steps(context, None, None, 3):
        step.do()
        step.check()
    assert not ethtool.features("va0")["rx-gro"].active
    assert settings.steps(context, None, None, 4) == []


def test_undoing_a_give_back_is_remembered(context: Context) -> None:
    apply(context, setting("feature", "gro", 1))
    (back,) = settings.steps(context, None, None, 2)
    back.do()
    back.undo()
    assert ethtool.features("va0")["rx-gro"].active
    assert len(settings.steps(context, None, None, 3)) == 1


@needs_two_cpus
def test_queue_files_of_this_namespace_only(context: Context, unique: str) -> None:
    """The host has devices of other names, or of the same: only the namespace's own may change."""
    host = _host_queues()
    apply(context, setting("xps", "cpus", (1,)), setting("rps", "cpus", (0, 1)))
    with Sysfs() as tree:
        assert tree.names("class/net") == ["lo", "ta0", "va0", "vb0"]
        assert int(tree.read(XPS).replace(",", ""), 16) == 2
        assert int(tree.read("class/net/va0/queues/rx-3/rps_cpus").replace(",", ""), 16) == 3
    assert _host_queues() == host
    assert not os.path.exists("/sys/class/net/va0"), "the mounted /sys shows another namespace"


def _host_queues() -> dict[str, str]:
    """What the mounted /sys, the host's, says of every queue."""
    return {str(path): path.read_text() for path in Path("/sys/class/net").glob("*/queues/rx-*/rps_cpus")}


def test_sysctl_of_this_namespace_only(netns: str, tmp_path: Path) -> None:
    host = sysfs.read_proc("sys/net/core/somaxconn")
    with namespaces.enter(netns):
        wanted = (setting("sysctl", "net.core.somaxconn", 777, nic=""), setting("sysctl", "net.ipv4.tcp_rmem", "4096 131072 99999", nic=""))
        apply(Context(tmp_path, tmp_path / "bpf"), *wanted)
        assert sysfs.read_proc("sys/net/core/somaxconn") == "777"
        assert sysfs.read_proc("sys/net/ipv4/tcp_rmem").split() == ["4096", "131072", "99999"]
    assert sysfs.read_proc("sys/net/core/somaxconn") == host != "777"


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (setting("ring", "rx", "max"), "ETHTOOL_MSG_RINGS_GET: Operation not supported"),
        (setting("coalesce", "rx-usecs", 50), "ETHTOOL_MSG_COALESCE_GET: Operation not supported"),
        (setting("coalesce", "rx-usecs", 50, nic="tap"), "answers without 'rx-usecs' (it has: rx-frames)"),
        (setting("pause", "rx", 1), "ETHTOOL_MSG_PAUSE_GET: Operation not supported"),
        (setting("channels", "combined", 64), "the device has at most 4"),
        (setting("feature", "lro", 1), "rx-lro is off [fixed]"),
        (setting("feature", "warp", 1), "the kernel has no feature 'warp'"),
        (setting("hash", "tcp4", ("src-ip", "dst-ip")), "ETHTOOL_GRXFH tcp4: Operation not supported"),
        (setting("hash", "symmetric", 1), "ETHTOOL_GRSSH: Operation not supported"),
        (setting("hash", "symmetric", "symmetric-xor"), "ETHTOOL_GRSSH: Operation not supported"),
        (setting("rss", "indirection", (0, 1)), "ETHTOOL_GRSSH: Operation not supported"),
        (setting("ntuple", "x/0", ("udp4", "dst-port", 53, "action", 1)), "ETHTOOL_GRXCLSRLALL: Operation not supported"),
        (setting("irq", "cpus", (0,)), "interrupts are the host's"),
        (setting("xps", "cpus", (0,), nic="tap"), "(the device has one transmit queue)"),
        (setting("require", "wan.steer.x.cpus", (0, 4095)), "CPU 4095 is not online here"),
        (setting("priv-flag", "x", 1), "ETHTOOL_MSG_PRIVFLAGS_GET: Operation not supported"),
        (setting("sysctl", "net.core.netdev_max_backlog", 5000, nic=""), "/proc/sys/net/core/netdev_max_backlog: No such file or directory"),
        (setting("sysctl", "net.core.rmem_max", 1, nic=""), "/proc/sys/net/core/rmem_max: Permission denied"),
        (setting("sysctl", "net.core.somaxconn", "many", nic=""), "/proc/sys/net/core/somaxconn: Invalid argument"),
        (setting("sysctl", "kernel.core_pattern", "x", nic=""), "not a setting that netc may change"),
    ],
)
def test_a_refusal_has_the_devices_words_and_prefer_skips_it(context: Context, wanted: settings.Setting, words: str) -> None:
    with pytest.raises(StepError) as caught:
        apply(context, wanted)
    assert words in caught.value.words and "edge.netc:7" in caught.value.what and caught.value.mend
    preferred = setting(wanted.group, wanted.key, wanted.value, wanted.nic, prefer=True)
    made = apply(context, preferred)
    assert [(item.key, words in said) for item, said in settings.skipped(made)] == [(wanted.key, True)]
    assert "skipped, " in made[0].text and words in made[0].text
    assert settings.steps(context, None, None, 2) == [], "nothing was changed"


def test_drift_is_found_and_named(context: Context) -> None:
    made = apply(context, setting("channels", "combined", 2))
    ethtool.put("va0", "channels", {"rx": 3})
    with pytest.raises(StepError, match=r"is 3, 2, not 2, 2"):
        made[0].check()


def test_an_unbound_nic_is_named(context: Context) -> None:
    with pytest.raises(StepError, match="nic dmz is bound to no device"):
        settings.steps(context, bundle(setting("feature", "gro", 1, nic="dmz")), None, 1)


def test_a_broken_memory_of_settings_is_an_error(context: Context) -> None:
    (context.state / "settings.json").write_text('{"va0/feature/gro": {"device": 3}}')
    with pytest.raises(StepError, match="not as netc wrote it"):
        settings.steps(context, bundle(), None, 1)


def test_tags_beside_the_frame_are_the_peers_doing(context: Context) -> None:
    wanted = setting("vlan", "tags-in-frame", 1)
    with pytest.raises(StepError, match="tx-vlan-hw-insert"):
        apply(context, wanted)
    ethtool.set_features("vb0", {"tx-vlan-hw-insert": False, "tx-vlan-stag-hw-insert": False})
    assert settings.steps(context, bundle(wanted), None, 1) == []


def test_the_peer_is_found_in_another_namespace(context: Context, make_netns: Callable[[], str]) -> None:
    other = make_netns()
    ip("link", "set", "vb0", "netns", other)
    with pytest.raises(StepError, match="tx-vlan-hw-insert"):
        apply(context, setting("vlan", "tags-in-frame", 1))
    with namespaces.enter(other):
        ethtool.set_features("vb0", {"tx-vlan-hw-insert": False, "tx-vlan-stag-hw-insert": False})
    assert settings.steps(context, bundle(setting("vlan", "tags-in-frame", 1)), None, 1) == []
