"""The settings of a policy against the target's profile: what a wish means there, what is skipped, and why (LANGUAGE.md, meaning 14)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from compiler import buffers, bundle, ir, lint_pacing
from compiler.place_chain import Findings
from compiler.placed import NicPlacement
from compiler.profile import Profile

Obstacle = tuple[str, str, str]  # code, words, help
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


def place_settings(program: ir.Program, nics: tuple[NicPlacement, ...], profile: Profile, findings: Findings) -> tuple[ir.Setting, ...]:
    """The settings that are kept, each with its reason; a preferred one that the target cannot have is skipped, another is an error."""
    return tuple(_settled(program, nics, profile, findings))


def _settled(program: ir.Program, nics: tuple[NicPlacement, ...], profile: Profile, findings: Findings) -> Iterator[ir.Setting]:
    for setting in program.settings:
        obstacle = _wrong_key(setting, profile) or _wrong_ring(setting, profile) or _undoes_steering(setting, nics)
        if obstacle and setting.prefer:
            findings.reason(setting_name(setting), "skipped", f"skipped: {obstacle[1]}", setting.span)
        elif obstacle:
            findings.error(*obstacle[:2], setting.span, obstacle[2])
        else:
            kept, why = _meant(program, setting, profile)
            findings.reason(setting_name(setting), "settings", why, setting.span)
            yield kept


def _meant(program: ir.Program, setting: ir.Setting, profile: Profile) -> tuple[ir.Setting, str]:
    """The setting in the target's terms, and why so."""
    device = "preferred: skipped and shown where it cannot be had" if setting.prefer else "required: refused by the device means no apply"
    if (setting.group, setting.key) != ("hash", "symmetric") or not setting.value:
        why = _why(program, setting)
        return setting, f"{why}; {device}" if why else device
    if profile.rss.transforms:
        own = profile.rss.transforms[0]
        return replace(setting, value=own), f"by the NIC's own function {own}, with the key that it has; {device}"
    return setting, f"by the key 6d5a repeated, under which both directions of a flow hash alike; {device}"


def _why(program: ir.Program, setting: ir.Setting) -> str:
    """How it was computed, or what it does, where netc knows more than the name says."""
    if setting.group == "buffers":
        return buffers.reason(setting.key, setting.value)
    return _WHY.get(setting.key, "") or lint_pacing.reason(program, setting) if setting.group == "sysctl" else ""


def _wrong_ring(setting: ir.Setting, profile: Profile) -> Obstacle | None:
    """A ring that the probed NIC cannot have is found here, not first on the host."""
    most = {"rx": profile.rings.rx, "tx": profile.rings.tx}.get(setting.key, 0) if setting.group == "ring" else 0
    if not most or not isinstance(setting.value, int) or setting.value <= most:
        return None
    return "N752", f"{setting_name(setting)} cannot be {setting.value}: the target {profile.name!r} has at most {most}", f"write at most {most}, or max"


def _wrong_key(setting: ir.Setting, profile: Profile) -> Obstacle | None:
    if (setting.group, setting.key) != ("hash", "key") or not profile.rss.key_size:
        return None
    size = len(str(setting.value)) // 2
    if size == profile.rss.key_size:
        return None
    words = f"the key has {size} bytes, and that of the target {profile.name!r} has {profile.rss.key_size}"
    return "N715", words, f"write a key of {profile.rss.key_size} bytes, or write `prefer`"


def _undoes_steering(setting: ir.Setting, nics: tuple[NicPlacement, ...]) -> Obstacle | None:
    """RPS and RFS choose a CPU again for every packet that comes up to the stack, also for those that XDP has handed to one."""
    if setting.group not in ("rps", "rfs"):
        return None
    for nic in nics:
        moved = next((item.rule for item in nic.steer if item.where == "cpumap" and nic.nic.name == setting.nic), None)
        if moved is not None:
            words = f"{setting.group} would choose another CPU for what `{moved.text or moved.name}` has put on one"
            return "N716", words, "keep one of the two, or write `prefer`: then steering by rule goes first"
    return None
