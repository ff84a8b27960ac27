"""The part of a bundle that is for a NIC: what the compiler writes is taken, what it never writes is refused before anything is done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from compiler import bundle as bundles
from compiler import pipeline, profile
from compiler.bundle import Bundle, BundleError, Offload
from compiler.source import Sources
from runtime import admission
from runtime.steps import StepError

PROFILE = Path(__file__).parents[1] / "place/profiles/netdevsim.yaml"
POLICY = """nic wan { device eth7; xdp offload }
nic lan { device eth8; xdp none }
filter wan in {
  drop udp dport 53 as dns
  pass icmp as ping
  drop tcp dport 23 as telnet
  default drop
}
filter lan in { drop udp dport 53 as dns; default pass }
"""
_MAP_2 = bytes([0x18, 0x11, 0, 0, 2, 0, 0, 0]) + bytes(8)  # ld_imm64 of map 2
_END = bytes.fromhex("b7000000020000009500000000000000")  # r0 = XDP_PASS; exit


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    path = tmp_path_factory.mktemp("hostile") / "p.netc"
    path.write_text(POLICY)
    return pipeline.compile_policy(path, profile.load(PROFILE), Sources()).bundle


def test_what_the_compiler_writes_is_taken(made: Bundle) -> None:
    again = bundles.decode(bundles.encode(made))
    assert again.offloads == made.offloads and len(made.offloads[0].counters) == 3
    admission.check(again)


_HOSTILE: dict[str, Callable[[Offload], Offload]] = {
    "another name": lambda o: replace(o, name="lan.offload"),
    "no program on the host": lambda o: replace(o, nic="lan", name="lan.offload"),
    "no such nic": lambda o: replace(o, nic="dmz", name="dmz.offload"),
    "no code": lambda o: replace(o, code=b""),
    "code that is cut": lambda o: replace(o, code=o.code[:-3]),
    "a map of the host": lambda o: replace(o, code=_MAP_2 + _END),
    "a counter that is not there": lambda o: replace(o, counters=(*o.counters[:-1], "wan.in.other")),
    "a counter of a rule that passes": lambda o: replace(o, counters=(*o.counters[:-1], "wan.in.ping")),
    "what was seen": lambda o: replace(o, counters=(*o.counters[:-1], "wan.in.seen")),
    "another stage's counter": lambda o: replace(o, counters=(*o.counters[:-1], "lan.in.dns")),
    "one counter twice": lambda o: replace(o, counters=(*o.counters[:-1], o.counters[0])),
    "nothing counted": lambda o: replace(o, counters=()),
    "too few places": lambda o: replace(o, value_size=16, elements=2),
    "places for nobody": lambda o: replace(o, elements=2),
}


@pytest.mark.parametrize("what", _HOSTILE)
def test_what_no_compiler_writes_is_refused(made: Bundle, what: str) -> None:
    hostile = replace(made, offloads=(_HOSTILE[what](made.offloads[0]),))
    with pytest.raises(StepError, match="compile the policy again"):
        admission.check(bundles.decode(bundles.encode(hostile)))


def test_two_programs_for_one_nic(made: Bundle) -> None:
    with pytest.raises(StepError, match="twice"):
        admission.check(replace(made, offloads=made.offloads * 2))


def test_a_nic_of_a_bundle_has_the_hosts_mode(made: Bundle) -> None:
    wrong = replace(made, nics=tuple(replace(nic, xdp="offload") for nic in made.nics))
    with pytest.raises(StepError, match="no mode of XDP"):
        admission.check(wrong)


def test_a_nics_program_among_the_hosts(made: Bundle) -> None:
    wrong = replace(made, programs=(*made.programs, replace(made.programs[0], hook=bundles.NIC_HOOK, name="wan.offload")))
    with pytest.raises(StepError, match="no hook"):
        admission.check(wrong)


@pytest.mark.parametrize("change", [{"elements": 0}, {"elements": 1 << 21}, {"value_size": 8}, {"value_size": 24}, {"value_size": 1 << 21}], ids=str)
def test_sizes_that_are_none(made: Bundle, change: dict[str, int]) -> None:
    with pytest.raises(BundleError):
        bundles.decode(bundles.encode(replace(made, offloads=(replace(made.offloads[0], **change),))))
