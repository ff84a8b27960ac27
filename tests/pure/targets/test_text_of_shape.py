"""A program whose rules are in tables has one C text while rules and members of sets change: only so is it compiled once."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from compiler import pipeline, profile
from compiler.source import Sources
from compiler.targets import bcc

SET = "set office = { 198.51.100.0/24, 2001:db8:1::/48 }"
Lines = list[str]


def policy() -> Lines:
    rng = random.Random(3)

    def rule(number: int) -> str:
        src = f"src 10.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(256)}"
        dst = rng.choice(("dst 192.0.2.0/24", "dst 198.18.0.0/15", f"dst 203.0.113.{rng.randrange(256)}"))
        return f"  {rng.choice(('pass', 'drop'))} {rng.choice(('tcp', 'udp'))} {src} {dst} dport {rng.choice((22, 53, 80, 443, rng.randrange(1, 65536)))} as r{number}"

    rules = ["  pass tcp dport 22 src in office as office", *map(rule, range(800)), "  pass udp dport 1024-2047 as some"]
    return ["nic wan { device wan0; xdp native }", SET, "filter wan in {", *rules, "  default drop", "}", ""]


@pytest.fixture
def text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Lines], str]:
    """The C text of a policy's program; clang is not asked."""
    monkeypatch.setattr(bcc, "elsewhere", lambda text, function: bytes(8))

    def made(lines: Lines) -> str:
        path = tmp_path / "p.netc"
        path.write_text("\n".join(lines))
        (found,) = pipeline.compile_policy(path, profile.chosen(None), Sources()).sources.values()
        return found

    return made


def other(lines: Lines, number: int, old: str, new: str) -> Lines:
    assert old in lines[number]
    return [*lines[:number], lines[number].replace(old, new, 1), *lines[number + 1 :]]


def test_it_stays_while_rules_and_sets_change(text: Callable[[Lines], str]) -> None:
    lines = policy()
    before = text(lines)
    assert "FILED(" in before, "the rules are in tables, filed under addresses"
    at = next(number for number, line in enumerate(lines) if "drop tcp" in line)
    port = lines[at].split("dport ")[1].split()[0]
    changed = {
        "a port": other(lines, at, f"dport {port}", "dport 4711"),
        "a range of ports": other(lines, at, f"dport {port}", "dport 4711-4811"),
        "an address": other(lines, at, "src 10.", "src 172."),
        "IPv6": [*lines[:at], "  drop tcp src 2001:db8:7::/64 dport 80 as six", *lines[at:]],
        "a verdict": other(lines, at, "drop", "pass"),
        "a name": other(lines, at, " as r", " as q"),
        "the order": [*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]],
        "one rule more": [*lines[:at], "  pass udp src 10.1.2.3 dport 99 as more", *lines[at:]],
        "one rule less": [*lines[:at], *lines[at + 1 :]],
        "a set's member more": other(lines, 1, SET, "set office = { 198.51.100.0/24, 192.168.7.0/24, 2001:db8:1::/48 }"),
        "a set's member less": other(lines, 1, SET, "set office = { 198.51.100.0/24 }"),
    }
    assert [what for what, changed_lines in changed.items() if text(changed_lines) != before] == []


def test_another_shape_has_another_text(text: Callable[[Lines], str]) -> None:
    lines = policy()
    assert text([*lines[:5], "  drop tcp sport 7 ttl < 3 as odd", *lines[5:]]) != text(lines)
