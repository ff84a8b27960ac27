"""What is installed on a host, in a form that two generations of one policy have alike: read from the kernel, by its own tools and by packets, and by netc.

Names and numbers that differ from one generation to the next are put into words: the generation's, the classes' places, ids, handles, counts.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
from pathlib import Path
from typing import Any

from runtime import cli
from runtime.backends import bpf
from runtime.lab import netns
from runtime.state import Store, installed_here
from tests.crash.world import World

_WATCHDOG = "watchdog.txt"  # what it did last; it may be writing it right now
PROBES = 2  # packets a port
_SETTINGS = "for d in wan0 lan0; do ethtool -k $d; ethtool -l $d; done; sysctl net.ipv4.tcp_sack"
_FORGET = ("handle", "packets", "bytes")
_KERNELS = re.compile(r"\b[89a-f][0-9a-f]{3}:")  # handles that the kernel gives
_BASE = re.compile(r"\b1:([1-7])0([0-9a-f]{2})\b")
_MINOR = re.compile(r"\b([1-7])0([0-9a-f]{2}):")
_GENERATION = re.compile(r"_g\d+\b")


def look(world: World) -> dict[str, Any]:
    """Everything; two looks are equal when the same policy is whole."""
    with world.guard.resting:
        state = world.state()
        record = Store(state).record()
        current = installed_here(record)
        counted = _counts(world, state)
        delivered = world.delivered(PROBES)
        world.leave(PROBES)
        moved = {name: value - counted.get(name, 0) for name, value in _counts(world, state).items()}
        return {
            "installed": (current.bundle[:12], current.policy, current.bindings) if current else None,
            "delivered": delivered, "moved": {name: value for name, value in moved.items() if value},
            "findings": _findings(world, state), "sets": _ask(world, state, "set", "list") if current else "",
            "pins": _pins(world, current.generation if current else -1), "links": _links(world),
            "nft": _nft(world), "tc": _tc(world), "settings": world.host.run("sh", "-c", _SETTINGS), "files": _files(state),
        }  # fmt: skip


def raw(world: World) -> dict[str, Any]:
    """Everything byte for byte: what a second recovery must leave as it is. Packets' counts apart."""
    host = world.host
    plain = re.compile(r"(packets|bytes) \d+|Sent .*|rate .*|backlog .*|lended.*|tokens.*|borrowed.*|expires \S+")
    files = {str(path.relative_to(host.directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in _below(world.state()) if path.name != "lock" and _WATCHDOG not in path.name}
    return {
        "pins": [(str(path), path.lstat().st_ino) for path in _below(host.directory / "bpf")], "links": [link["ids"] for link in _link_ids(world)], "files": files,
        "nft": plain.sub("", host.run("nft", "-a", "list", "ruleset")), "tc": plain.sub("", host.run("sh", "-c", _TC_TEXT)),
        "settings": host.run("sh", "-c", _SETTINGS),
    }  # fmt: skip


_TC_TEXT = "for d in wan0 lan0 $(ip -br link | grep -o '^netc-ifb[0-9]*'); do tc qdisc show dev $d; tc class show dev $d; done"


def _below(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_symlink() or path.is_file())


def _ask(world: World, state: Path, *words: str) -> str:
    """netc's own answer, by the command in this process."""
    out, err = io.StringIO(), io.StringIO()
    where = ["--json", "--state-dir", str(state), "--bpffs", str(world.host.directory / "bpf")]
    with netns.enter(world.host.netns), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        cli.main([*words, *where])
    assert "Traceback" not in err.getvalue() and "bug in netc" not in err.getvalue(), err.getvalue()
    return out.getvalue()


def _findings(world: World, state: Path) -> list[tuple[str, ...]]:
    said = _ask(world, state, "verify")
    found = json.loads(said)["findings"] if said else []
    return sorted((item["kind"], _GENERATION.sub("", item["what"]), item["result"]) for item in found if item["kind"] != "balance" or item["result"] != "held")


def _counts(world: World, state: Path) -> dict[str, int]:
    said = _ask(world, state, "counters")
    return {f"{item['stage']} {item['name']}": item["packets"] for item in json.loads(said)["counters"]} if said else {}


def _pins(world: World, generation: int) -> list[str]:
    place = world.host.directory / "bpf"
    found = (str(path.relative_to(place)) for path in _below(place) if path.suffix != ".debug")
    return sorted(re.sub(r"^gen-(\d+)/", lambda m: "current/" if int(m[1]) == generation else "stray/", name) for name in found)


def _links(world: World) -> list[dict[str, Any]]:
    """Every device's XDP program and every pinned link's, each told by the pin of its program."""
    return [{key: value for key, value in link.items() if key != "ids"} for link in _link_ids(world)]


def _link_ids(world: World) -> list[dict[str, Any]]:
    place = world.host.directory / "bpf"
    names: dict[int, str] = {}
    found: list[dict[str, Any]] = []
    with netns.enter(world.host.netns):
        for path in sorted(place.glob("gen-*/*~program")):
            with bpf.Fd(bpf.get_pinned(path)) as handle:
                names[bpf.prog_info(handle).id] = path.name
        for path in sorted(place.glob("links/*")):
            with bpf.Fd(bpf.get_pinned(path)) as handle:
                info = bpf.link_info(handle)
            found.append({"link": path.name, "program": names.get(info.prog_id, "stray" if info.prog_id else "none"), "ids": info.prog_id})
    for link in json.loads(world.host.run("ip", "-d", "-j", "link")):
        xdp = link.get("xdp", {})
        number = xdp.get("prog", {}).get("id", 0)
        found.append({"device": link["ifname"], "xdp": xdp.get("mode"), "program": names.get(number, "stray" if number else ""), "ids": number})
    return found


def _nft(world: World) -> Any:
    text = world.host.run("nft", "-j", "list", "ruleset")
    listing = [_plain(item) for item in json.loads(_GENERATION.sub("", text))["nftables"] if "metainfo" not in item]
    return sorted(json.dumps(item, sort_keys=True) for item in listing)


def _tc(world: World) -> list[str]:
    """Each qdisc and class a line, at the class's place in its generation."""
    text = world.host.run("sh", "-c", _TC_TEXT)
    return sorted(_KERNELS.sub("N:", _MINOR.sub(r"G0\2:", _BASE.sub(r"1:G0\2", line))) for line in text.splitlines())


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if key not in _FORGET}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _files(state: Path) -> list[str]:
    """What lies in the state directory: no journal. A bundle that came and was not taken goes with the next change, what is half written with a recovery."""
    found = os.listdir(state) if state.exists() else []
    return sorted(name for name in found if name not in ("lock", "bundles", "slots.json", _WATCHDOG) and name[0] != ".")


def half_written(world: World) -> list[str]:
    """What a process that was killed has begun to write."""
    return [str(path) for path in _below(world.state()) if path.name[0] == "." and _WATCHDOG not in path.name]


def differences(one: dict[str, Any], other: dict[str, Any]) -> str:
    """In what two looks differ, in short."""
    lines: list[str] = []
    for key, was in one.items():
        now = other[key]
        if was == now:
            continue
        if isinstance(was, list):
            gone, come = [item for item in was if item not in now], [item for item in now if item not in was]
            lines.append(f"{key}: -{gone!s:.300} +{come!s:.300}")
        else:
            lines.append(f"{key}: {was!s:.300} | {now!s:.300}")
    return "\n".join(lines)
