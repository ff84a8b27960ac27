"""Settings at compile time: the vocabulary, ranges, and hostile sysctl names."""

from __future__ import annotations

import pytest

from compiler import ir, place, profile
from compiler.diagnostics import CompileError
from compiler.targets import ethtool

Value = int | str | tuple[int | str, ...]


def lowered(*settings: ir.Setting) -> list[tuple[str, str, str, Value]]:
    program = ir.Program(nics=(ir.Nic("wan", "wan0"),), settings=settings)
    return [(s.nic, s.group, s.key, s.value) for s in ethtool.lower(place.place(program, profile.default()))]


@pytest.mark.parametrize(
    ("group", "key", "value"),
    [
        ("channels", "combined", 8), ("channels", "combined", "max"), ("ring", "rx", "max"), ("ring", "tx", 1024), ("coalesce", "rx-usecs", 50),
        ("pause", "autoneg", 0), ("irq", "cpus", (0, 1)), ("xps", "cpus", (0,)), ("rps", "cpus", (0, 1)),
        ("rfs", "flows", 32768), ("hash", "key", "6d5a"), ("hash", "symmetric", "symmetric-xor"), ("rss-context", "web", (0, 1)), ("hash", "tcp4", ("src-ip", "dst-ip")), ("hash", "symmetric", 1),
        ("priv-flag", "disable-fw-lldp", 1), ("feature", "tx-udp_tnl-segmentation", 0),
    ],
)  # fmt: skip
def test_known_settings_pass_as_they_are(group: str, key: str, value: Value) -> None:
    assert lowered(ir.Setting("wan", group, key, value)) == [("wan", group, key, value)]


def test_on_and_off_become_numbers() -> None:
    assert lowered(ir.Setting("wan", "feature", "gro", "on"), ir.Setting("wan", "pause", "rx", "off")) == [
        ("wan", "feature", "gro", 1), ("wan", "pause", "rx", 0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("nic", "group", "key", "value", "code"),
    [
        ("wan", "channels", "combined", 0, "N752"),
        ("wan", "channels", "lanes", 2, "N751"),
        ("wan", "coalesce", "rx-usecs", "max", "N752"),
        ("wan", "coalesce", "adaptive-rx", 2, "N752"),
        ("wan", "ring", "rx", 1 << 32, "N752"),
        ("wan", "feature", "gro; reboot", 1, "N751"),
        ("wan", "feature", "gro", "maybe", "N752"),
        ("wan", "hash", "tcp4", ("src-ip", "src-ip"), "N752"),
        ("wan", "hash", "tcp5", ("src-ip",), "N751"),
        ("wan", "irq", "cpus", (), "N752"),
        ("wan", "warp", "factor", 9, "N751"),
        ("wan", "hash", "key", "6d5", "N752"),
        ("wan", "hash", "symmetric", "crc32", "N752"),
        ("wan", "rss-context", "web", (), "N752"),
        ("wan", "rfs", "flows", 0, "N752"),
        ("wan", "sysctl", "net.core.somaxconn", 1, "N751"),
        ("", "channels", "rx", 1, "N751"),
        ("", "sysctl", "kernel.core_pattern", "|/bin/sh", "N751"),
        ("", "sysctl", "net/../kernel/core_pattern", "x", "N751"),
        ("", "sysctl", "net.ipv4/../../kernel/panic", 1, "N751"),
        ("", "sysctl", "net.ipv4.tcp_rmem", "1\n2", "N752"),
    ],
)
def test_wrong_settings_are_refused_with_what_is_right(nic: str, group: str, key: str, value: Value, code: str) -> None:
    with pytest.raises(CompileError) as caught:
        lowered(ir.Setting(nic, group, key, value))
    found = caught.value.diagnostics
    assert [item.code for item in found] == [code] and found[0].help


def test_two_values_for_one_setting_are_refused_and_equal_ones_merged() -> None:
    once = ir.Setting("wan", "ring", "rx", 512)
    assert len(lowered(once, once)) == 1
    with pytest.raises(CompileError, match="wan.ring.rx is set to 512 and to max") as caught:
        lowered(once, ir.Setting("wan", "ring", "rx", "max"))
    assert caught.value.diagnostics[0].code == "N753"
