"""The settings of a policy against the target's profile: what a wish means there, what is skipped, and why (LANGUAGE.md, meaning 14)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from compiler import bundle, ir, place_limits
from compiler.place_chain import Findings
from compiler.placed import NicPlacement
from compiler.profile import Profile

Obstacle = tuple[str, str, str]  # code, words, help


def setting_name(setting: ir.Setting | bundle.Setting) -> str:
    """What a setting is called in plans: wan.channels.combined, host.sysctl.net.core.somaxconn."""
    return f"{setting.nic or 'host'}.{setting.group}.{setting.key}"


def place_settings(program: ir.Program, nics: tuple[NicPlacement, ...], profile: Profile, findings: Findings) -> tuple[ir.Setting, ...]:
    """The settings that are kept, each with its reason; a preferred one that the target cannot have is skipped, another is an error."""
    return tuple(_settled(program, nics, profile, findings))


def _settled(program: ir.Program, nics: tuple[NicPlacement, ...], profile: Profile, findings: Findings) -> Iterator[ir.Setting]:
    for setting in program.settings:
        obstacle = place_limits.obstacle(setting, profile) or _wrong_key(setting, profile) or _undoes_steering(setting, nics)
        if obstacle and setting.prefer:
            findings.reason(setting_name(setting), "skipped", f"skipped: {obstacle[1]}", setting.span)
        elif obstacle:
            findings.error(*obstacle[:2], setting.span, obstacle[2])
        else:
            kept, why = _meant(setting, profile)
            findings.reason(setting_name(setting), "settings", why, setting.span)
            yield kept


def _meant(setting: ir.Setting, profile: Profile) -> tuple[ir.Setting, str]:
    """The setting in the target's terms, and why so."""
    device = "preferred: skipped and shown where it cannot be had" if setting.prefer else "required: refused by the device means no apply"
    if (setting.group, setting.key, setting.value) != ("hash", "symmetric", 1):
        return setting, device
    if profile.rss.transforms:
        own = profile.rss.transforms[0]
        return replace(setting, value=own), f"by the NIC's own function {own}, with the key that it has; {device}"
    return replace(setting, key="key", value="symmetric"), f"by the key 6d5a repeated, under which both directions of a flow hash alike; {device}"


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
