"""The content of netc's nft tables: what a bundle asks for, with devices and generation put in, against what the kernel lists."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Any

import msgspec

from compiler.bundle import Nft
from runtime.backends import link
from runtime.backends import nft as backend
from runtime.backends.netlink import NetlinkError
from runtime.backends.nft import Json, NftError
from runtime.context import Context
from runtime.steps import StepError

TABLE = "netc"
FAMILIES = ("inet", "netdev")
OWNER = "netc-made-this-table"


def fill(table: Nft, context: Context, generation: int) -> list[Json]:
    """The table's commands with devices and generation put in. Raises StepError for a nic that has no device."""
    return [_filled(item, context, generation) for item in decoded(table)]


def _filled(item: Any, context: Context, generation: int) -> Any:
    if isinstance(item, dict):
        return {key: _filled(value, context, generation) for key, value in item.items()}
    if isinstance(item, list):
        return [_filled(value, context, generation) for value in item]
    if isinstance(item, str) and item.startswith("$dev:"):
        return _device(context, item.removeprefix("$dev:"))
    if isinstance(item, str) and item.startswith("$mac:"):
        return _address(context, item.removeprefix("$mac:"))
    if isinstance(item, str) and item.endswith("_g$gen"):
        return item.removesuffix("$gen") + str(generation)
    return item


def _device(context: Context, nic: str) -> str:
    try:
        name = context.device(nic).name
    except KeyError:
        raise StepError(f"nic {nic}", "no device is bound to it", f"bind one: --nic {nic}=DEVICE") from None
    if name.startswith("@") or "*" in name:  # nft would read a set, or every device that begins so
        raise StepError(f"nic {nic}", f"nftables cannot name the device {name!r}", "rename it: ip link set … name …")
    return name


def _address(context: Context, nic: str) -> str:
    """The MAC address of the nic's device; zeros where it has none, which no rule writes then (nft's `ether` needs an Ethernet header)."""
    name = _device(context, nic)
    try:
        address = link.get(name).address
    except NetlinkError as error:
        raise StepError(f"nic {nic}", f"{error.words[:1].lower()}{error.words[1:]}: {name}", f"bind one: --nic {nic}=DEVICE") from None
    return (address if len(address) == 6 else bytes(6)).hex(":")


def require_devices(commands: list[Json], context: Context) -> None:
    """Kernels from 6.16 on take a chain for a device that is not there and judge nothing. Raises StepError."""
    named = {body["chain"].get("dev") for body in map(added, commands) if "chain" in body}
    for device in context.devices:
        if device.name not in named:
            continue
        try:
            socket.if_nametoindex(device.name)
        except OSError:
            raise StepError(f"nic {device.nic}", f"no such device: {device.name}", f"bind one: --nic {device.nic}=DEVICE") from None


def decoded(table: Nft) -> list[Json]:
    """The commands of a bundle: only what adds to netc's own table of that family. Raises StepError."""
    commands = [msgspec.json.decode(item) for item in table.objects]
    if table.family not in FAMILIES or table.table != TABLE or not all(_is_own(item, table.family) for item in commands):
        raise StepError(f"the bundle's nft table {table.family} {table.table}", "it does more than add to netc's own table")
    return commands


_KINDS = ("table", "chain", "rule", "set", "counter", "limit")


def _is_own(command: Any, family: str) -> bool:
    if not isinstance(command, dict) or list(command) != ["add"] or not isinstance(command["add"], dict):
        return False
    ((kind, body),) = command["add"].items() if len(command["add"]) == 1 else ((None, None),)
    if kind not in _KINDS or not isinstance(body, dict) or body.get("family") != family:
        return False
    return bool(body.get("name" if kind == "table" else "table") == TABLE)


def added(command: Json) -> Json:
    body: Json = command["add"]
    return body


def compare(family: str, wanted: list[Json], found: list[Json]) -> None:
    """Raises StepError with the first difference between what a bundle adds and what the kernel lists."""
    asked_for = [added(command) for command in wanted]
    for kind in ("chain", "set", "counter", "limit"):
        asked, there = backend.names(asked_for, kind), backend.names(found, kind)
        if missing := asked - there:
            raise StepError(f"table {family} {TABLE}", f"{kind} {', '.join(sorted(missing))} is not there", "apply again")
        if kind == "chain" and (more := there - asked):
            raise StepError(f"table {family} {TABLE}", f"chain {', '.join(sorted(more))} is not the policy's", "apply again")
    if base := _first_difference({n: b for n, b in _bases(asked_for).items() if b}, {n: b for n, b in _bases(found).items() if b}):
        raise StepError(f"table {family} {TABLE}, chain {base}", "its hook, priority or policy is not what was applied", "apply again")
    asked_rules, rules_there = _rules(asked_for), _rules(found)
    if chain := _first_difference(asked_rules, rules_there):
        words = _which_rule(asked_rules.get(chain, []), rules_there.get(chain, []))
        raise StepError(f"table {family} {TABLE}, chain {chain}", f"{words}: it was changed by hand", "apply again")


def _bases(items: Iterable[Json]) -> dict[str, tuple[object, ...]]:
    """Hooks of chains. The device is left out: libnftables 1.0.6 does not list it, and the kernel removes the chain with its device."""
    chains = (item["chain"] for item in items if "chain" in item)
    return {c["name"]: tuple(c[key] for key in ("type", "hook", "prio", "policy") if key in c) for c in chains}


def _rules(items: Iterable[Json]) -> dict[str, list[str]]:
    """Chain -> the comments of its rules, in order."""
    found: dict[str, list[str]] = {}
    for item in items:
        if (rule := item.get("rule")) and rule["chain"] != OWNER:
            found.setdefault(rule["chain"], []).append(rule.get("comment", ""))
    return found


def _which_rule(wanted: list[str], found: list[str]) -> str:
    """The first difference between the texts of a chain's rules, which is there, in words."""
    pairs = zip([*wanted, None], [*found, None], strict=False)
    asked, there = next(pair for pair in pairs if pair[0] != pair[1])
    if there is None or (asked is not None and found.count(asked) < wanted.count(asked)):
        return f"the rule `{asked}` is not there"
    if asked is None or wanted.count(there) < found.count(there):
        return f"the rule `{there}` is not the policy's" if there else "a rule without a name is not the policy's"
    return f"the rule `{asked}` stands at another place"


def _first_difference(wanted: dict[str, Any], found: dict[str, Any]) -> str:
    return next((name for name in sorted({*wanted, *found}) if wanted.get(name) != found.get(name)), "")


def owners() -> dict[str, str]:
    """family → the owner's mark on netc's table (runtime.owner), where it has one. Raises StepError."""
    found: dict[str, str] = {}
    try:
        there = backend.tables()
        for family in FAMILIES:
            if (family, TABLE) in there:
                if OWNER not in backend.names(backend.run([{"list": {"chains": {"family": family}}}], terse=True), "chain"):
                    continue  # somebody else's table, which the steps refuse
                rules = backend.run([{"list": {"chain": {"family": family, "table": TABLE, "name": OWNER}}}], terse=True)
                texts = [item["rule"].get("comment", "") for item in rules if "rule" in item]
                if texts and texts[0]:
                    found[family] = texts[0]
    except NftError as error:
        raise StepError("nftables", str(error), "netc needs CAP_NET_ADMIN and a kernel with nf_tables") from None
    return found


def marking(family: str, mark: str) -> list[Json]:
    """Commands that put an owner's mark on a table that is there, in the place of any other."""
    place = {"family": family, "table": TABLE}
    rule = {**place, "chain": OWNER, "expr": [{"return": None}], "comment": mark}
    return [{"flush": {"chain": {**place, "name": OWNER}}}, {"add": {"rule": rule}}]


def installed() -> dict[str, list[Json]]:
    """What the kernel has in the tables of netc's name, by family; one listing. Raises StepError."""
    try:
        found = backend.ruleset()
    except NftError as error:
        raise StepError("nftables", str(error), "netc needs CAP_NET_ADMIN and a kernel with nf_tables") from None
    return {family: found[family, TABLE] for family in FAMILIES if (family, TABLE) in found}
