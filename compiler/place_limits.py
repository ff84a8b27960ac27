"""What the target has too little of, or none: more channels than the NIC makes, longer rings, queueing disciplines that its kernel lacks.

The profile has these numbers from the device itself. Where it has none (0, or an empty list) nothing is decided here: the device is asked at apply.
"""

from __future__ import annotations

from dataclasses import replace

from compiler import ir
from compiler.place_chain import Findings
from compiler.profile import Profile

Obstacle = tuple[str, str, str]  # code, words, help


def obstacle(setting: ir.Setting, profile: Profile) -> Obstacle | None:
    """What keeps the target from granting a wish for channels or, where it is preferred, for a ring."""
    most = _most(setting, profile)
    if not most or not isinstance(setting.value, int) or setting.value <= most:
        return None
    what = "channels" if setting.group == "channels" else f"descriptors in {setting.key} rings"
    words = f"{setting.value} {what} asked for, and the target {profile.name!r} has at most {most}"
    return "N717", words, f"write at most {most}, or write `prefer`: then it is skipped and shown where it cannot be had"


def _most(setting: ir.Setting, profile: Profile) -> int:
    """0: not known, or not decided here (a ring that is required: the value itself is wrong there)."""
    channels = profile.channels
    if setting.group == "channels" and setting.key == "combined":
        return channels.combined or min(channels.rx, channels.tx)  # a NIC without combined ones makes as many of both
    if setting.group == "ring" and setting.prefer:
        return {"rx": profile.rings.rx, "tx": profile.rings.tx}.get(setting.key, 0)
    return 0


def shape(wanted: ir.Shape, profile: Profile, findings: Findings) -> ir.Shape:
    """The shape with the queues that the target's kernel has (`queue a or b`: the first there is)."""
    if not profile.qdiscs:
        return wanted
    if "htb" not in profile.qdiscs:
        findings.error("N718", f"{wanted.name} needs the qdisc htb, which the kernel of the target {profile.name!r} lacks", wanted.span,
                       "use a kernel with CONFIG_NET_SCH_HTB, or leave the shape out")  # fmt: skip
    return replace(wanted, classes=tuple(_class(cls, wanted, profile, findings) for cls in wanted.classes))


def _class(cls: ir.Class, whole: ir.Shape, profile: Profile, findings: Findings) -> ir.Class:
    inner = tuple(_class(item, whole, profile, findings) for item in cls.classes)
    had = tuple(queue for queue in cls.queues if queue.kind in profile.qdiscs)
    lacking = [queue.kind for queue in cls.queues if queue.kind not in profile.qdiscs]
    if lacking and not had and not cls.prefer_queue:
        words = f"class {cls.name}: the kernel of the target {profile.name!r} has no qdisc {' and no '.join(lacking)}"
        findings.error("N718", words, cls.span, "add `or pfifo`, or write `prefer queue`")
    elif lacking:
        instead = had[0].kind if had else "HTB's own queue"
        findings.reason(f"{whole.name}.{cls.name}", "tc", f"{instead} instead of {', '.join(lacking)}, which the target's kernel lacks", cls.span)
    return replace(cls, queues=had, classes=inner)
