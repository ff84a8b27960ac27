"""A policy against what a probed target has: refused with the number, skipped where preferred, narrowed to the queues of its kernel, and warned of its driver."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from compiler import pipeline, profile
from compiler.diagnostics import CompileError, Diagnostic
from compiler.source import Sources

BASE = msgspec.structs.replace(profile.default(), name="probed")
FILTER = "filter wan in {\n  pass tcp dport 22 as ssh\n  default drop\n}\n"
SHAPE = "shape wan out rate 100mbit {\n  class all { default; %s }\n}\n"


def compiled(tmp_path: Path, text: str, **has: object) -> pipeline.Compilation:
    file = tmp_path / "edge.netc"
    file.write_text(f"nic wan {{ device wan0; xdp native }}\n{text}")
    return pipeline.compile_policy(file, msgspec.structs.replace(BASE, **has), Sources())


def refused(tmp_path: Path, text: str, **has: object) -> Diagnostic:
    with pytest.raises(CompileError) as caught:
        compiled(tmp_path, text, **has)
    return caught.value.diagnostics[0]


def reasons(made: pipeline.Compilation) -> dict[str, tuple[str, str]]:
    return {item.what: (item.stage, item.reason) for item in made.bundle.placements}


def channels(made: pipeline.Compilation) -> list[object]:
    return [setting.value for setting in made.bundle.settings if setting.group == "channels"]


@pytest.mark.parametrize("has", [profile.Channels(combined=4), profile.Channels(rx=8, tx=4)])
def test_more_queues_than_the_nic_makes_are_refused_with_the_number(tmp_path: Path, has: profile.Channels) -> None:
    found = refused(tmp_path, "steer wan {\n  queues 5\n}\n", channels=has)
    assert found.code == "N717" and "5 channels asked for, and the target 'probed' has at most 4" in found.message
    assert found.span.line == 3 and "at most 4" in found.help


def test_as_many_as_there_are_and_an_unknown_number_are_left_to_the_device(tmp_path: Path) -> None:
    assert channels(compiled(tmp_path, "steer wan {\n  queues 4\n}\n", channels=profile.Channels(combined=4))) == [4]
    assert channels(compiled(tmp_path, "steer wan {\n  queues 400\n}\n")) == [400]


def test_preferred_queues_and_rings_are_skipped_and_shown(tmp_path: Path) -> None:
    text = "steer wan {\n  prefer queues 5\n}\ntune wan {\n  prefer ring rx 8192, tx 64\n}\n"
    made = compiled(tmp_path, text, channels=profile.Channels(combined=4), rings=profile.Rings(4096, 4096))
    assert channels(made) == [] and [(s.key, s.value) for s in made.bundle.settings if s.group == "ring"] == [("tx", 64)]
    assert reasons(made)["wan.channels.combined"][0] == "skipped" and "at most 4" in reasons(made)["wan.channels.combined"][1]
    assert "8192 descriptors in rx rings asked for" in reasons(made)["wan.ring.rx"][1]


def test_of_several_queues_those_that_the_kernel_has_are_kept(tmp_path: Path) -> None:
    made = compiled(tmp_path, SHAPE % "queue cake or fq_codel or pfifo", qdiscs=("fq_codel", "htb", "pfifo"))
    assert [choice.kind for choice in made.bundle.trees[0].leaves[-1].choices] == ["fq_codel", "pfifo"]
    assert reasons(made)["wan.shape.out.all"] == ("tc", "fq_codel instead of cake, which the target's kernel lacks")
    same = compiled(tmp_path, SHAPE % "queue cake or pfifo")
    assert [choice.kind for choice in same.bundle.trees[0].leaves[-1].choices] == ["cake", "pfifo"]


def test_no_queue_that_the_kernel_has_is_refused_or_preferred_away(tmp_path: Path) -> None:
    found = refused(tmp_path, SHAPE % "queue cake or fq", qdiscs=("htb", "pfifo"))
    assert found.code == "N718" and "no qdisc cake and no fq" in found.message and "or pfifo" in found.help
    made = compiled(tmp_path, SHAPE % "prefer queue cake", qdiscs=("htb", "pfifo"))
    assert reasons(made)["wan.shape.out.all"][1] == "HTB's own queue instead of cake, which the target's kernel lacks"
    assert refused(tmp_path, SHAPE % "queue pfifo", qdiscs=("pfifo",)).message.startswith("wan.shape.out needs the qdisc htb")


def test_a_nic_that_could_take_tc_rules_is_told_of(tmp_path: Path) -> None:
    told = reasons(compiled(tmp_path, SHAPE % "queue pfifo", hw_tc_offload=True))["wan.shape.out"][1]
    assert "hw-tc-offload" in told and "hw-tc-offload" not in reasons(compiled(tmp_path, SHAPE % "queue pfifo"))["wan.shape.out"][1]


def warned(made: pipeline.Compilation) -> list[str]:
    return [item.message for item in made.warnings if item.code == "W711"]


def test_a_driver_that_refuses_xdp_with_lro_is_warned_of_until_the_policy_turns_it_off(tmp_path: Path) -> None:
    has = {"driver": "ixgbe", "kernel": "6.12.0", "lro": True}
    assert warned(compiled(tmp_path, FILTER, **has)) == ["nic wan: the driver ixgbe: XDP is refused while LRO (RSC) is on"]
    assert not warned(compiled(tmp_path, FILTER + "tune wan {\n  offload lro off\n}\n", **has))
    assert not warned(compiled(tmp_path, FILTER, **{**has, "lro": False}))


def test_half_of_enas_channels_is_warned_of_from_the_half_on(tmp_path: Path) -> None:
    has = {"driver": "ena", "channels": profile.Channels(combined=8)}
    assert ["at most half of the channels" in text for text in warned(compiled(tmp_path, FILTER + "steer wan {\n  queues 5\n}\n", **has))] == [True]
    assert not warned(compiled(tmp_path, FILTER + "steer wan {\n  queues 4\n}\n", **has))


def test_the_mtu_is_warned_of_by_driver_and_by_what_was_measured(tmp_path: Path) -> None:
    frags = msgspec.structs.replace(BASE.xdp, frags=True)
    assert "3498" in warned(compiled(tmp_path, FILTER, driver="ena", mtu=9000))[0]
    assert not warned(compiled(tmp_path, FILTER, driver="ena", mtu=1500))
    assert not warned(compiled(tmp_path, FILTER, driver="ice", mtu=9000, xdp=frags))
    measured = msgspec.structs.replace(BASE.xdp, max_mtu=3000)
    assert ["native XDP takes at most 3000" in text for text in warned(compiled(tmp_path, FILTER, mtu=9000, xdp=measured))] == [True]


def test_nothing_is_warned_of_where_xdp_does_not_run_natively(tmp_path: Path) -> None:
    has = {"driver": "netdevsim", "lro": True}
    assert ["never run" in text for text in warned(compiled(tmp_path, FILTER, **has))] == [True]
    assert not warned(compiled(tmp_path, FILTER.replace("wan in", "wan out"), **has))
