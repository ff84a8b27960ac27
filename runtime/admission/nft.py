"""nft objects of a bundle: additions to netc's own table on the policy's own devices, whose rules match, count and judge, and do nothing else.

libnftables' JSON parser is not made for liars (it stops the process on some inputs): what reaches it has the words that netc's compiler
uses, from the lists below, in JSON of bounded depth. Words: libnftables-json(5).
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from compiler.bundle import Nft
from runtime.admission.refusal import refuse

FAMILIES = ("inet", "netdev")
TABLE = "netc"
_NAME = re.compile(r"[A-Za-z0-9_./$-]{1,255}\Z")
_BODIES = {  # kind of object: the keys that it has to have, those that it may have
    "table": ({"family", "name"}, set()),
    "chain": ({"family", "table", "name"}, {"type", "hook", "prio", "policy", "dev"}),
    "rule": ({"family", "table", "chain", "expr"}, {"comment"}),
    "set": ({"family", "table", "name", "type", "flags"}, {"elem"}),
    "counter": ({"family", "table", "name"}, set()),
    "limit": ({"family", "table", "name", "rate", "per", "burst", "inv"}, set()),
}  # fmt: skip
_HOOKS = {"inet": ("prerouting", "input", "forward", "output", "postrouting"), "netdev": ("ingress", "egress")}
_STATEMENTS = ("match", "counter", "goto", "jump", "accept", "drop", "return", "mangle", "limit", "log")
_WORDS = {
    "match": {"op", "left", "right"}, "goto": {"target"}, "jump": {"target"}, "mangle": {"key", "value"}, "log": {"prefix", "level"},
    "payload": {"base", "offset", "len", "protocol", "field"}, "meta": {"key"}, "ct": {"key"}, "exthdr": {"name", "field"},
    "prefix": {"addr", "len"},
}  # fmt: skip
_LISTS = ("&", "|", "^", "range", "set")
_UNITS = ("second", "minute", "hour", "day", "week")
_PLAIN = ("counter", "limit", "accept", "drop", "return")  # a name, or nothing
_DEPTH = 12
_TEXT = 300  # characters
_U32, _U128 = (1 << 32) - 1, (1 << 128) - 1
_PLACES, _MOST_BITS = ("offset", "len"), 0x7FFF  # in a packet's headers


def check_nft(table: Nft, nics: set[str]) -> None:
    """Raises StepError with the first object that is more than that."""
    what = f"nft table {table.family} {table.table}"
    if table.family not in FAMILIES or table.table != TABLE:
        refuse(what, f"netc's tables are {' and '.join(f'{family} {TABLE}' for family in FAMILIES)}")
    for part, objects in (("", table.objects), ("fence, ", table.fence)):
        names: dict[str, set[str]] = {kind: set() for kind in _BODIES}
        for number, raw in enumerate(objects):
            try:
                _check_object(table.family, msgspec.json.decode(raw), nics, names)
            except (_WrongError, RecursionError) as error:
                refuse(f"{what}, {part}object {number + 1}", str(error) if isinstance(error, _WrongError) else "it is nested too deep")


class _WrongError(Exception):
    """What is wrong with one object."""


def _check_object(family: str, command: Any, nics: set[str], names: dict[str, set[str]]) -> None:
    kind, body = _only(_only(command, "a command", ("add",))[1], "an object", tuple(_BODIES))
    needed, allowed = _BODIES[kind]
    if not isinstance(body, dict) or not needed <= set(body) <= needed | allowed:
        raise _WrongError(f"a {kind} with {', '.join(map(str, body)) if isinstance(body, dict) else body!r}")
    if body["family"] != family or body["name" if kind == "table" else "table"] != TABLE:
        raise _WrongError(f"a {kind} of table {body['family']} {body.get('table', body.get('name'))}, which is not its own")
    if kind == "rule":
        _check_rule(body, names)
        return
    if not isinstance(body["name"], str) or not _NAME.match(body["name"]) or body["name"] in names[kind]:
        raise _WrongError(f"a {kind} called {body['name']!r}, which is no name, or is there twice")
    names[kind].add(body["name"])
    if kind == "chain" and set(body) & _BODIES["chain"][1]:
        _check_base(family, body, nics)
    elif kind == "set":
        _check_set(body)
    elif kind == "limit" and (not all(_number(body[key]) for key in ("rate", "burst")) or body["per"] not in _UNITS or not isinstance(body["inv"], bool)):
        raise _WrongError(f"limit {body['name']} of {body['rate']!r} per {body['per']!r}")


def _check_base(family: str, body: dict[str, Any], nics: set[str]) -> None:
    """A chain that packets enter by themselves."""
    device = body.get("dev")
    if (family == "netdev") != ("dev" in body) or (device is not None and not _among(device, {f"$dev:{nic}" for nic in nics})):
        raise _WrongError(f"chain {body['name']} on device {device!r}, which is none of the policy's")
    priority = body.get("prio")
    right = body.get("type") == "filter" and body.get("hook") in _HOOKS[family] and body.get("policy", "accept") in ("accept", "drop")
    if not right or isinstance(priority, bool) or not isinstance(priority, int) or abs(priority) > 1 << 30:
        raise _WrongError(f"chain {body['name']} with type, hook, priority or policy that netc does not use")


def _check_set(body: dict[str, Any]) -> None:
    if body["type"] not in ("ipv4_addr", "ipv6_addr", "inet_service") or body["flags"] != ["interval"] or not isinstance(body.get("elem", []), list):
        raise _WrongError(f"set {body['name']} of type {body['type']!r}")
    for item in body.get("elem", []):
        _check_expression(item, 1)


def _check_rule(body: dict[str, Any], names: dict[str, set[str]]) -> None:
    if not _among(body["chain"], names["chain"]):
        raise _WrongError(f"a rule of chain {body['chain']!r}, which is not there")
    if not isinstance(body["expr"], list) or not isinstance(body.get("comment", ""), str) or len(body.get("comment", "")) > _TEXT:
        raise _WrongError(f"a rule of chain {body['chain']} that is no list of statements")
    for item in body["expr"]:
        word, value = _only(item, "a statement", _STATEMENTS)
        if word in ("goto", "jump") and (not isinstance(value, dict) or not _among(value.get("target"), names["chain"])):
            raise _WrongError(f"{word} to a chain that is not there")
        if word in ("counter", "limit") and not _among(value, names[word]):
            raise _WrongError(f"{word} {value!r}, which is not there")
        if word in ("match", "mangle", "log") and not isinstance(value, dict):
            raise _WrongError(f"{word} of {value!r}")
        if word in ("accept", "drop", "return") and value is not None:
            raise _WrongError(f"{word} of {value!r}")
        _check_value(word, value, 1)


def _check_value(word: str, value: Any, depth: int) -> None:
    """What stands behind a word."""
    if word in _WORDS:
        if not isinstance(value, dict) or not set(value) <= _WORDS[word]:
            raise _WrongError(f"{word} of {', '.join(map(str, value)) if isinstance(value, dict) else repr(value)}")
        for key, item in value.items():
            if key in _PLACES and not (isinstance(item, int) and 0 <= item <= _MOST_BITS):
                raise _WrongError(f"{word} at {key} {item!r:.80}")  # libnftables 1.0.6 dies of a payload of gigabytes
            _check_expression(item, depth + 1)
    elif word in _LISTS:
        if not isinstance(value, list) or not value or (word != "set" and len(value) != 2):
            raise _WrongError(f"{word} of {value!r:.80}")
        for item in value:
            _check_expression(item, depth + 1)
    elif word not in _PLAIN:
        raise _WrongError(f"the word {word!r:.80}, which netc does not use")


def _check_expression(value: Any, depth: int) -> None:
    if depth > _DEPTH:
        raise _WrongError("it is nested too deep")
    if isinstance(value, dict):
        _check_value(*_only(value, "an expression", (*_WORDS, *_LISTS)), depth)
    elif isinstance(value, list):
        for item in value:
            _check_expression(item, depth + 1)
    elif isinstance(value, str):
        if not value.isascii() or not value.isprintable() or len(value) > _TEXT:
            raise _WrongError(f"the text {value!r:.80}")
    elif isinstance(value, bool):
        return
    elif not isinstance(value, int) or not 0 <= value <= _U128:
        raise _WrongError(f"the value {value!r:.80}")


def _only(value: Any, what: str, known: tuple[str, ...]) -> tuple[str, Any]:
    """The one key of an object, and what it holds."""
    if not isinstance(value, dict) or len(value) != 1 or next(iter(value)) not in known:
        raise _WrongError(f"{what} is {', '.join(map(str, value)) if isinstance(value, dict) else repr(value):.80}, not one of {', '.join(known)}")
    return next(iter(value.items()))


def _among(name: Any, names: set[str]) -> bool:
    return isinstance(name, str) and name in names


def _number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _U32
