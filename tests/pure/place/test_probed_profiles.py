"""Profiles that `netc probe --try` wrote of real drivers (the virtual rack: QEMU's devices, Linux 6.12): read, and placed by."""

from __future__ import annotations

from pathlib import Path

import pytest

from compiler import pipeline, profile
from compiler.diagnostics import CompileError
from compiler.source import Sources

PROBED = Path(__file__).parent / "profiles"
NATIVE = ("igb", "virtio_net", "vmxnet3")
POLICY = """nic wan { device wan0; xdp native }
filter wan in {
  pass tcp dport 22 as ssh
  default drop
}
steer wan {
  prefer queues 8
  udp dport 53 to queue 1
  default to queues 0-3
}
shape wan out rate 100mbit { class all { default; queue cake or pfifo } }
"""


def probed(name: str) -> profile.Profile:
    return profile.load(PROBED / f"{name}.yaml")


def compiled(tmp_path: Path, name: str, policy: str = POLICY) -> pipeline.Compilation:
    file = tmp_path / "edge.netc"
    file.write_text(policy)
    return pipeline.compile_policy(file, probed(name), Sources())


def placed(made: pipeline.Compilation) -> dict[str, str]:
    return {item.what: item.stage for item in made.bundle.placements}


def test_every_native_driver_has_its_profile() -> None:
    assert sorted(path.stem for path in PROBED.glob("*.yaml")) == ["e1000e", "igb", "netdevsim", "virtio_net", "vmxnet3"]


@pytest.mark.parametrize(
    ("name", "native", "frags", "max_mtu", "channels", "indirection", "key", "fields"),
    [
        ("igb", True, False, 3046, 8, 128, 0, True),
        ("virtio_net", True, True, 0, 4, 128, 40, True),
        ("vmxnet3", True, False, 3494, 4, 128, 0, False),
        ("e1000e", False, False, 0, 0, 0, 0, False),
        ("netdevsim", False, False, 0, 4, 0, 0, False),
    ],
)
def test_what_was_probed(name: str, native: bool, frags: bool, max_mtu: int, channels: int, indirection: int, key: int, fields: bool) -> None:
    found = probed(name)
    assert (found.driver, found.kernel.split(".")[:2]) == (name, ["6", "12"])
    assert (found.xdp.native, found.xdp.frags, found.xdp.max_mtu) == (native, frags, max_mtu)
    assert (found.channels.combined, found.rss.indirection, found.rss.key_size, found.rss.fields) == (channels, indirection, key, fields)
    assert found.ntuple == profile.Ntuple() and found.rss.contexts == 0
    assert {"htb", "fq_codel", "cake", "mqprio", "etf", "taprio"} <= set(found.qdiscs) and {"bpf", "flower", "u32"} <= set(found.classifiers)
    assert found.xdp.offload == (name == "netdevsim") and not found.xdp.cpumap_metadata


@pytest.mark.parametrize("name", NATIVE)
def test_placing_by_a_probed_nic(tmp_path: Path, name: str) -> None:
    made = compiled(tmp_path, name)
    stages = placed(made)
    assert stages["wan.in.ssh"] == "xdp" and stages["wan.steer.default"] == "rss"
    assert ("skipped" in stages["wan.channels.combined"]) == (name != "igb")
    warned = [item.message for item in made.warnings if item.code == "W711"]
    assert [text for text in warned if "after the link goes down and up" not in text] == [] and bool(warned) == (name == "vmxnet3"), warned


@pytest.mark.parametrize("name", ["e1000e", "netdevsim"])
def test_native_xdp_is_refused_where_the_driver_does_not_run_it(tmp_path: Path, name: str) -> None:
    with pytest.raises(CompileError) as caught:
        compiled(tmp_path, name)
    assert caught.value.diagnostics[0].code == "N702"


@pytest.mark.parametrize("name", NATIVE)
def test_the_evidence_is_in_the_file(name: str) -> None:
    facts = probed(name).facts
    assert facts["xdp"]["tried"] == "attached natively, and taken off again"
    assert facts["interrupts"]["irqs"] and facts["known"]["hints"]
