"""`@requires("rss.contexts>=2", "xdp.native")`: what a test needs of a port, asked of the profile that netc's probe wrote.

A need is a path into the profile (`facts.ring.most.rx>=1` too), alone or compared with a number, or `NAME in PATH`. A port that lacks it
skips the test, and the reason quotes the probe's evidence.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any, get_type_hints

import pytest

_NEED = re.compile(r"(?:(?P<member>[\w-]+) in )?(?P<path>[a-z_]+(?:\.[\w-]+)*)(?:(?P<comparison>>=|<=|==|>|<)(?P<number>\d+))?\Z")
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge, "<=": operator.le, "==": operator.eq, ">": operator.gt, "<": operator.lt,
}  # fmt: skip
_EVIDENCE = {"queues": "queues", "channels": "channels", "rings": "ring", "qdiscs": "qdiscs", "classifiers": "classifiers", "rss": "rss", "ntuple": "ntuple",
             "xdp": "xdp", "hw_tc_offload": "features", "mtu": "link", "numa": "link"}  # fmt: skip


class WrongNeed(Exception):
    """A need that cannot be asked of any profile: the test would be skipped everywhere, for ever."""


def requires(*needs: str) -> pytest.MarkDecorator:
    """The marker. Raises WrongNeed at import for a need that no profile could answer."""
    for need in needs:
        _check(need)
    return pytest.mark.requires(*needs)


def lacking(profile: dict[str, Any], needs: tuple[str, ...]) -> str:
    """Why a port does not have the first thing it lacks, with the probe's evidence; "" when it has all."""
    for need in needs:
        found = _check(need)
        value = _value(profile, found["path"])
        if not _holds(value, found):
            shown = "nothing" if value is None else f"{value!r}"
            return f"needs {need}; the probe of {profile.get('driver') or profile.get('name')} says {found['path']} is {shown} ({evidence(profile, found['path'])})"
    return ""


def evidence(profile: dict[str, Any], path: str) -> str:
    """Where the probe has an answer from, in its own words."""
    head, *rest = path.split(".")
    name = rest[0] if head == "facts" and rest else _EVIDENCE.get(head, head)
    fact = profile.get("facts", {}).get(name, {})
    words = [str(fact[key]) for key in ("tried", rest[-1] if rest else "evidence", "evidence") if isinstance(fact, dict) and key in fact]
    return "; ".join(dict.fromkeys(words)) or "not probed"


def _check(need: str) -> dict[str, Any]:
    from compiler.profile import Profile

    match = _NEED.match(need)
    if not match:
        raise WrongNeed(f"{need!r}: write a path of the profile, PATH>=NUMBER, or NAME in PATH")
    head, *rest = match["path"].split(".")
    kinds = get_type_hints(Profile)
    if head not in kinds:
        raise WrongNeed(f"{need!r}: a profile has no {head!r}; it has {', '.join(kinds)}")
    fields = getattr(kinds[head], "__struct_fields__", None)
    if rest and fields is not None and rest[0] not in fields:
        raise WrongNeed(f"{need!r}: a profile's {head} has no {rest[0]!r}; it has {', '.join(fields)}")
    return match.groupdict()


def _value(profile: dict[str, Any], path: str) -> Any:
    value: Any = profile
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _holds(value: Any, need: dict[str, Any]) -> bool:
    if need["member"]:
        return value is not None and need["member"] in value
    if need["comparison"]:
        return isinstance(value, int) and _COMPARISONS[need["comparison"]](value, int(need["number"]))
    return bool(value)
