"""Whatever a policy sets in a lab, the host outside its namespace stays as it is: refused at the plan, with the reason, never written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runtime.context import Context
from runtime.knobs import host
from runtime.lab import netns as namespaces
from runtime.steps import StepError, settings
from tests.kernel.settings.bundles import bundle, setting

PROC = Path("/proc/sys/net")


def writable() -> dict[str, str]:
    """Every file of this thread's /proc/sys/net that may be written, with its value."""
    found = {}
    for folder, _, names in os.walk(PROC):
        for path in (Path(folder) / name for name in names):
            if path.stat().st_mode & 0o200:
                try:
                    found[str(path.relative_to(PROC))] = path.read_text()
                except OSError:
                    found[str(path.relative_to(PROC))] = ""  # write only, or not readable just now
    return found


@pytest.mark.parametrize(
    ("name", "value"), [("net.core.rmem_max", "8388608"), ("net.netfilter.nf_conntrack_max", "7"), ("net.ipv4.tcp_allowed_congestion_control", "reno")]
)
def test_the_hosts_sysctls_are_refused_at_the_plan(context: Context, name: str, value: str) -> None:
    path = PROC / name.removeprefix("net.").replace(".", "/")
    if not path.exists():
        pytest.skip(f"this kernel shows no {name} in a namespace")
    before = path.read_text()
    with pytest.raises(StepError, match="it belongs to the host"):
        settings.steps(context, bundle(setting("sysctl", name, value, nic="")), None, 1)
    (skipped,) = settings.steps(context, bundle(setting("sysctl", name, value, nic="", prefer=True)), None, 1)
    assert "Permission denied" in settings.skipped([skipped])[0][1]
    assert path.read_text() == before


def test_a_sysctl_that_only_the_host_has(context: Context) -> None:
    with pytest.raises(StepError, match="is not the host's"):
        settings.steps(context, bundle(setting("sysctl", "net.core.dev_weight", "65", nic="")), None, 1)


def test_no_module_comes_into_the_host_by_a_name(context: Context) -> None:
    with pytest.raises(StepError, match="would load a module into the host's kernel"):
        settings.steps(context, bundle(setting("sysctl", "net.ipv4.tcp_congestion_control", "illinois9", nic="")), None, 1)
    assert settings.steps(context, bundle(setting("sysctl", "net.ipv4.tcp_congestion_control", "reno", nic="")), None, 1)


def test_a_switch_of_the_whole_kernel(context: Context) -> None:
    if not (PROC / "netfilter/nf_hooks_lwtunnel").exists():
        pytest.skip("this kernel has no nf_hooks_lwtunnel")
    with pytest.raises(StepError, match="whole kernel"):
        settings.steps(context, bundle(setting("sysctl", "net.netfilter.nf_hooks_lwtunnel", "1", nic="")), None, 1)
    assert host.Sysctl("net.netfilter.nf_hooks_lwtunnel").resolve("1") == "1", "on the host itself it is the user's to set"


def test_interrupts_are_the_hosts(context: Context) -> None:
    with pytest.raises(StepError, match="interrupts are the host's"):
        settings.steps(context, bundle(setting("irq", "cpus", (0,))), None, 1)


def test_every_group_that_there_is_leaves_the_host_as_it_was(context: Context, make_netns: object) -> None:
    """All that a lab may set, set at once; another namespace and this one's files outside of `net` say that nothing moved there."""
    other = make_netns()  # type: ignore[operator]
    with namespaces.enter(other):
        before = writable()
    affinity = {path: path.read_text() for path in Path("/proc/irq").glob("*/smp_affinity_list")}
    wanted = [
        setting("channels", "combined", 2), setting("feature", "tso", 0), setting("feature", "gro", 1), setting("rps", "cpus", (0,)),
        setting("xps", "cpus", (0,)), setting("sysctl", "net.core.somaxconn", "1234", nic=""), setting("sysctl", "net.ipv4.ip_forward", "1", nic=""),
        setting("sysctl", "net.core.rps_default_mask", "1", nic=""), setting("sysctl", "net.ipv4.conf.all.rp_filter", "2", nic=""),
    ]  # fmt: skip
    made = settings.steps(context, bundle(*wanted), None, 1)
    for step in made:
        step.do()
    assert len(made) >= 7
    with namespaces.enter(other):
        after = writable()
    assert {name: value for name, value in after.items() if before.get(name) != value} == {}
    assert {path: path.read_text() for path in affinity} == affinity
    for step in reversed(made):
        step.undo()
