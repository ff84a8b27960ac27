"""Seeded changes of policies (by the grammar's own tokens) and of bundles (by the places of their JSON), and nothing about what they meet."""

from __future__ import annotations

import copy
import functools
import hashlib
import random
import re
import zlib
from pathlib import Path
from typing import Any

import msgspec

from compiler import bundle as bundles
from compiler import profile
from compiler.parse import keywords
from compiler.pipeline import compile_policy
from compiler.source import Sources

ROOT = Path(__file__).parents[2]
POLICIES = sorted((ROOT / "policies").glob("*.netc"))
SMALL = ("dns", "edge", "forward", "router")  # web's 100,000 prefixes are for the tests of size

_TOKEN = re.compile(r'\s+|#[^\n]*|"[^"\n]*"|->|\.\.|[<>=]+|[\w.:/%-]+|.', re.DOTALL)
NAMES = ("a;reboot", "$(id)", "`id`", "x*/", "*/int y;/*", "a\\", "${IFS}", "../../etc/passwd", "x'", 'x"', "x\0y", "include", "int", "table", "-x", "@set",
         "$dev:wan", "ǆ", "x" * 200, "", "{", "}", "%s%n", "a\nflush ruleset")  # fmt: skip
WORDS = (*sorted(keywords()), *NAMES, "0", "-1", "65536", "99999999999999999999", "1e9", "1.5", "0x10", "22-80", "80-22", "10.0.0.1/8", "10.0.0.0/33",
         "::/0", "fe80::%eth0/10", "20kpps", "1gbit", "1mbps", "5m", "10M", "1/0", "0/1", "200%", "100..200", "1/100")  # fmt: skip
NUMBERS = (-1, 0, 1, 15, 16, 255, 65535, 65536, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 40, (1 << 63) - 1, 1 << 64, -(1 << 63), 1.5, 1e308)
TEXTS = (*NAMES, "..", "/", "eth0", "lo", "*", "any", "root", "1:", "1:10", "ffff:ffff", "1:1:1", "native", "generic", "persistent", "generation", "hash",
         "array", "ringbuf", "slots", "config", "cpus", "net.ipv4.ip_forward", "net.ipv4.conf.lo.forwarding", "kernel.core_pattern", "net/../kernel/x",
         "sysctl", "channels", "ring", "feature", "rss", "ntuple", "rps", "irq", "hash", "vlan", "priv-flag", "coalesce", "combined", "accept",
         "inet", "netdev", "netc", "wan.in.seen", "__class__", "AAAA")  # fmt: skip


def policy_texts() -> list[str]:
    return [path.read_text(encoding="utf-8") for path in POLICIES]


def mutated_policy(text: str, rng: random.Random) -> str:
    """1 to 8 changes among the tokens: removed, doubled, swapped, replaced by any word of the language or a hostile one, a block moved."""
    tokens = _TOKEN.findall(text)
    for _ in range(rng.randint(1, 8)):
        at, other = rng.randrange(len(tokens)), rng.randrange(len(tokens))
        match rng.randrange(8):
            case 0:
                del tokens[at]
            case 1:
                tokens.insert(at, tokens[at])
            case 2:
                tokens[at], tokens[other] = tokens[other], tokens[at]
            case 3 | 4:
                tokens[at] = rng.choice(WORDS)
            case 5:
                tokens[at] = tokens[other]
            case 6:
                tokens[at:at] = [rng.choice(("(", ")", "not ", "{", "}", ",", " or ", ";", "\n", "\0", "\r\n", "\ufeff"))] * rng.choice((1, 1, 1, 40))
            case _:
                low, high = sorted((at, other))
                piece = tokens[low : min(high, low + 30)]
                where = rng.randrange(len(tokens))
                tokens[where:where] = piece
        if not tokens:
            return ""
    return "".join(tokens)


@functools.cache
def bundle_bytes(name: str) -> bytes:
    """The bundle of policies/NAME.netc."""
    return bundles.encode(compile_policy(ROOT / f"policies/{name}.netc", profile.chosen(None), Sources()).bundle)


def content(data: bytes) -> Any:
    """A bundle file's JSON."""
    return msgspec.json.decode(zlib.decompress(data.partition(b"\n")[2]))


def sealed(value: Any) -> bytes:
    """A bundle file of any JSON, with the right hash: what a liar would write."""
    return sealed_text(msgspec.json.encode(value))


def sealed_text(text: bytes) -> bytes:
    payload = zlib.compress(text, 1)
    return bundles.MAGIC + hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload


def mutated_bundle(value: Any, rng: random.Random) -> Any:
    """1 to 3 changes at random places of a copy."""
    changed = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        _change(changed, rng)
    return changed


def _change(value: Any, rng: random.Random) -> None:
    """Walk down to a random place, every level equally likely to be left, and put something else there."""
    holder, key = value, rng.choice(list(value))
    while isinstance(holder[key], dict | list) and holder[key] and rng.random() < 0.9:
        holder = holder[key]
        key = rng.choice(list(holder)) if isinstance(holder, dict) else rng.randrange(len(holder))
    match rng.randrange(6):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, list):
            holder.insert(rng.randrange(len(holder) + 1), copy.deepcopy(rng.choice(holder)))
        case 2 if isinstance(holder, list):
            rng.shuffle(holder)
        case _:
            holder[key] = _other(holder[key], rng)


def _other(old: Any, rng: random.Random) -> Any:
    """Mostly of the same type, so that the schema lets it pass."""
    if rng.random() < 0.15:
        return rng.choice((None, True, [], {}, [[]], {"a": 1}, 7, "x", [old]))
    if isinstance(old, bool):
        return not old
    if isinstance(old, int | float):
        return rng.choice(NUMBERS)
    if isinstance(old, str):
        return rng.choice(TEXTS) if rng.random() < 0.8 else old[: rng.randrange(len(old) + 1)]
    return rng.choice(([], {}, [7], ["x"], {"add": {}}))
