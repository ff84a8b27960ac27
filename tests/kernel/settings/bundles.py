"""Bundles of settings alone."""

from __future__ import annotations

from compiler.bundle import Bundle, Setting

Value = int | str | tuple[int | str, ...]


def setting(group: str, key: str, value: Value, nic: str = "wan", prefer: bool = False) -> Setting:
    return Setting(nic, group, key, value, prefer, "edge.netc", 7, f"{group} {key}")


def bundle(*settings: Setting) -> Bundle:
    return Bundle("edge.netc", "0" * 64, "0", (), (), (), (), (), (), settings, (), (), ())
