"""Bundles that are whole and lie: the kernel and the steps refuse, and the device stays as it was."""

from __future__ import annotations

import json
from collections.abc import Callable

import msgspec
import pytest

from compiler import bundle as bundles
from compiler.bundle import Bundle
from tests.kernel.apply.hosts import DNS, ESTABLISHED, Host, made, program

GOOD = bundles.decode(made(program(DNS, ESTABLISHED, shape=True)))
replaced = msgspec.structs.replace


def bad_code(bundle: Bundle) -> Bundle:
    """The XDP program's first instruction is a jump out of the program."""
    code = next(code for code in bundle.programs if code.hook == "xdp")
    wild = replaced(code, code=b"\x05\x00\xff\x7f\x00\x00\x00\x00" + code.code[8:])
    return replaced(bundle, programs=tuple(wild if item is code else item for item in bundle.programs))


def foreign_nft(bundle: Bundle) -> Bundle:
    """The nft part reaches for a table that is not netc's."""
    command = msgspec.Raw(json.dumps({"flush": {"ruleset": None}}).encode())
    return replaced(bundle, nft=tuple(replaced(table, objects=(*table.objects, command)) for table in bundle.nft))


def lost_map(bundle: Bundle) -> Bundle:
    return replaced(bundle, maps=bundle.maps[1:])


def unknown_hook(bundle: Bundle) -> Bundle:
    return replaced(bundle, programs=tuple(replaced(code, hook="kprobe") for code in bundle.programs))


def host_sysctl(bundle: Bundle) -> Bundle:
    setting = bundles.Setting("", "sysctl", "kernel.core_pattern", "|/bin/sh", False, "p.netc", 1, "")
    return replaced(bundle, settings=(setting,))


@pytest.mark.parametrize("change", [bad_code, foreign_nft, lost_map, unknown_hook, host_sysctl], ids=lambda f: f.__name__)
def test_a_bundle_that_lies_changes_nothing(host: Host, change: Callable[[Bundle], Bundle]) -> None:
    host.run("nft", "add", "table", "inet", "mine")
    before = host.attached()
    refused = host.netc("apply", host.write(bundles.encode(change(GOOD))), status=1)
    assert refused.stderr.rpartition("error: ")[2].strip() and "bug in netc; run again" not in refused.stderr
    after = host.attached()
    assert {key: after[key] for key in after if key != "pins"} == {key: before[key] for key in before if key != "pins"}
    assert "nothing is installed" in host.netc("status", status=1).stderr


def test_a_bundle_that_was_cut_changes_nothing(host: Host) -> None:
    whole = bundles.encode(GOOD)
    for length in (20, 100, len(whole) // 2, len(whole) - 1):
        refused = host.netc("apply", host.write(whole[:length]), status=1)
        assert "error:" in refused.stderr and "bundle" in refused.stderr
    assert host.attached()["xdp"] is None


def test_two_at_once(host: Host) -> None:
    """While one holds the lock, another is refused at once and by name."""
    from runtime import lock

    state = host.directory / "state"
    state.mkdir(mode=0o700)
    with lock.exclusive(state, "apply"):
        refused = host.netc("apply", host.write(bundles.encode(GOOD)), status=1)
    assert "netc apply (pid" in refused.stderr and "nothing was changed" in refused.stderr
    assert host.json("apply", host.directory / "p.bundle")["changed"]
