"""What `netc set` has to know of the installed bundle, in a small file beside it: `<state>/bundles/<sha256>.sets`, written by apply.

A thousand changes of a set take less time than Python takes to read a large bundle, or to import what reads it strictly. So this is plain
JSON in a directory that only root writes, read with nothing but the standard library. Whatever does not fit gives None, and the caller
reads the bundle.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from runtime import boot

if TYPE_CHECKING:
    from compiler import bundle as bundles

    AnyMap: TypeAlias = "bundles.Map | Map"
    AnyDynamicSet: TypeAlias = "bundles.DynamicSet | DynamicSet"
    AnySets: TypeAlias = "bundles.Bundle | View"

_ROLES = ("set", "ring", "change")


class Map(NamedTuple):
    """A bundle.Map without its entries."""

    id: int
    name: str
    kind: str
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    scope: str
    role: str


class DynamicSet(NamedTuple):
    """A bundle.DynamicSet."""

    name: str
    nic: str
    map: int
    size: int
    timeout: int
    full: str
    never: Sequence[str]


class StaticSet(NamedTuple):
    """Of a bundle.StaticSet what `never` asks for. ranges: empty where no dynamic set names it behind `never`."""

    name: str
    ranges: bytes


class View(NamedTuple):
    """Of a bundle.Bundle what changes of dynamic sets ask for."""

    maps: tuple[Map, ...]
    sets: tuple[DynamicSet, ...]
    static: tuple[StaticSet, ...]


def written(bundle: bundles.Bundle) -> bytes:
    """The file's content."""
    asked = {name for item in bundle.sets for name in item.never}
    content = {
        "maps": [[getattr(item, name) for name in Map._fields] for item in bundle.maps if item.role in _ROLES],
        "sets": [[getattr(item, name) for name in DynamicSet._fields] for item in bundle.sets],
        "static": [[item.name, base64.b64encode(item.ranges).decode() if item.name in asked else ""] for item in bundle.static],
    }
    return json.dumps(content).encode()


def installed(directory: Path) -> View | None:
    """The view of what state.json of this state directory says is installed, and still is since this boot."""
    try:
        current = json.loads((directory / "state.json").read_bytes())["current"]
        if current["boot"] != boot.boot_id():
            return None
        content = json.loads((directory / "bundles" / f"{current['bundle']}.sets").read_bytes())
        maps = tuple(Map(*item) for item in content["maps"])
        sets = tuple(DynamicSet(*item) for item in content["sets"])
        return View(maps, sets, tuple(StaticSet(name, base64.b64decode(ranges)) for name, ranges in content["static"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None
