"""Nics that XDP of another one sends by have a program of their own: their drivers lose every redirected frame without."""

from __future__ import annotations

import msgspec
import pytest

from compiler import ir, place, profile
from compiler.diagnostics import CompileError
from compiler.ir import V4_BASE, Field, Is, Within
from compiler.targets import xdp

IGB = msgspec.structs.replace(profile.default(), name="a card", driver="igb")
VETH = msgspec.structs.replace(IGB, driver="veth")
RULE = ir.SteerRule("v", ir.And((Is("udp"), Within(Field.DST, ((0xC0000201 + V4_BASE,) * 2,)))), ir.Target("nic", (), "lan"))
DROP = ir.Chain("lan.in", "lan", "in", None, (ir.Rule("r", "drop", Is("udp")),), "pass")


def routed(mode: str = "native", lan: str = "native", chains: tuple[ir.Chain, ...] = ()) -> ir.Program:
    nics = (ir.Nic("lan", "lan0", lan), ir.Nic("wan", "wan0", mode), ir.Nic("dmz", "dmz0"))
    return ir.Program(nics=nics, chains=chains, steers=(ir.Steer("wan.steer", "wan", (RULE,), None),))


def programs(policy: ir.Program, target: profile.Profile) -> dict[str, int]:
    """Name → instructions of every program."""
    return {code.name: len(code.code) // 8 for code in xdp.lower(place.place(policy, target)).programs}


def test_the_way_out_gets_a_program_that_passes_everything() -> None:
    made = programs(routed(), IGB)
    assert set(made) == {"wan.xdp", "lan.xdp"} and made["lan.xdp"] == 2, "r0 = XDP_PASS; exit"
    why = {line.what: line.reason for line in place.place(routed(), IGB).reasons}
    assert "only while it runs one" in why["lan.xdp"]


def test_a_filter_of_its_own_is_such_a_program() -> None:
    assert set(programs(routed(chains=(DROP,)), IGB)) == {"wan.xdp", "lan.xdp"}
    assert programs(routed(chains=(DROP,)), IGB)["lan.xdp"] > 2


def test_veth_sends_without() -> None:
    assert set(programs(routed(), VETH)) == {"wan.xdp"}


def test_generic_xdp_sends_by_the_stack() -> None:
    assert set(programs(routed(mode="generic"), IGB)) == {"wan.xdp"}


@pytest.mark.parametrize("lan", ["none", "generic"])
def test_a_way_out_without_native_xdp_is_refused(lan: str) -> None:
    with pytest.raises(CompileError) as caught:
        place.place(routed(lan=lan), IGB)
    (found,) = caught.value.diagnostics
    assert found.code == "N708" and "nic lan" in found.help and f"xdp {lan}" in found.message
    assert set(programs(routed(lan=lan), VETH)) == {"wan.xdp"}
