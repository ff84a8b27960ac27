"""What `netc set list` shows: the sets of a bundle, and the members of one of them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from compiler.bundle import Bundle, StaticSet
from compiler.tables import durations
from compiler.tables import members as codec
from runtime import output, set_words, sets
from runtime.context import Context

if TYPE_CHECKING:
    from runtime.set_view import AnyDynamicSet


def overview(context: Context, bundle: Bundle) -> list[dict[str, Any]]:
    """One row a set. members: of a fixed set its ranges. Raises StepError."""
    dynamic = [
        {
            "set": item.name, "kind": "dynamic", "type": "address", "members": sets.size(context, bundle, item), "size": item.size,
            "timeout": item.timeout / 1e9 if item.timeout else None, "full": item.full, "never": list(item.never),
        }
        for item in bundle.sets
    ]  # fmt: skip
    static = [
        {
            "set": item.name, "kind": "fixed", "type": item.type, "members": len(codec.decode(item.ranges)), "file": item.file, "line": item.line,
            "by_hand": item.by_hand,
        }
        for item in bundle.static
    ]  # fmt: skip
    return [*dynamic, *static]


def row(item: dict[str, Any]) -> tuple[str, str, str, str, str]:
    """set, kind, type, members, size as text."""
    kind = "fixed, changed by hand" if item.get("by_hand") else item["kind"]
    return item["set"], kind, item["type"], output.number(item["members"]), output.number(item["size"]) if "size" in item else ""


def members(context: Context, bundle: Bundle, item: AnyDynamicSet | StaticSet) -> list[dict[str, Any]]:
    """{"member", "left": seconds, None: for ever}, in order of address; a fixed set's as prefixes or ports, without `left`."""
    if not isinstance(item, StaticSet):
        now = time.monotonic_ns()
        found = sorted((set_words.ordinal(member.key), member.expiry) for member in sets.members(context, bundle, item))
        return [{"member": codec.written(number), "left": max(0, expiry - now) / 1e9 if expiry else None} for number, expiry in found]
    return [{"member": word} for low, high in codec.decode(item.ranges) for word in set_words.of_range(item.type, low, high)]


def line(item: dict[str, Any]) -> str:
    """A member and the time that it has left."""
    if "left" not in item:
        return str(item["member"])
    left = "for ever" if item["left"] is None else f"{durations.written(int(item['left'] * 1e9))} left"
    return f"{item['member']}  {left}"
