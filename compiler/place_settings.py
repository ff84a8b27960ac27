"""Settings against the target's profile, and why each is there: what the plan says of it."""

from __future__ import annotations

from compiler import buffers, bundle, ir, lint_pacing
from compiler.place_chain import Findings
from compiler.profile import Profile

_WHY = {  # sysctls that netc's own statements turn
    "net.core.netdev_budget": "packets that one round of the receive softirq takes before others get the CPU",
    "net.core.netdev_budget_usecs": "the longest that such a round lasts",
    "net.core.dev_weight": "packets that one device's backlog gives in a round",
    "net.core.netdev_max_backlog": "packets that may wait for each CPU before they are dropped (RPS, loopback, veth)",
    "net.netfilter.nf_conntrack_max": "connections that are tracked at once; one more is dropped (nf_conntrack: table full)",
    "net.netfilter.nf_conntrack_buckets": "8 bytes each; two entries a connection: with as many buckets as connections a full table has two in a bucket",
    "net.core.default_qdisc": "of devices and queues that come later: those that are there keep theirs",
}


def setting_name(setting: ir.Setting | bundle.Setting) -> str:
    """What a setting is called in plans: wan.channels.combined, host.sysctl.net.core.somaxconn."""
    return f"{setting.nic or 'host'}.{setting.group}.{setting.key}"


def check(setting: ir.Setting, profile: Profile, findings: Findings) -> None:
    """A required ring that the probed NIC cannot have is an error (N752) here, not first on the host."""
    if setting.group != "ring" or setting.prefer or not isinstance(setting.value, int):
        return
    most = {"rx": profile.rings.rx, "tx": profile.rings.tx}.get(setting.key, 0)
    if most and setting.value > most:
        message = f"{setting_name(setting)} cannot be {setting.value}: the target {profile.name!r} has at most {most}"
        findings.error("N752", message, setting.span, f"write at most {most}, or max")


def reason(program: ir.Program, setting: ir.Setting) -> str:
    """One line of the plan."""
    held = "preferred: skipped and shown where it cannot be had" if setting.prefer else "required: refused by the device means no apply"
    if setting.group == "buffers":
        return f"{buffers.reason(setting.key, setting.value)}; {held}"
    why = _WHY.get(setting.key, "") or lint_pacing.reason(program, setting) if setting.group == "sysctl" else ""
    return f"{why}; {held}" if why else held
