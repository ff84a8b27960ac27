"""Tuning at compile time: every name is ethtool's or the kernel's, sizes are computed as documented, and what cannot hold is found."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from compiler import buffers, check_coalesce, pipeline, profile
from compiler.diagnostics import CompileError
from compiler.findings import LiteralError
from compiler.source import Sources
from compiler.tables import offloads
from compiler.targets import ethtool
from runtime.backends import ethtool as kernel

GENERIC = profile.default()


def compiled(text: str, folder: Path, target: profile.Profile = GENERIC) -> pipeline.Compiled:
    path = folder / "p.netc"
    path.write_text("nic wan { device wan0 }\n" + text)
    return pipeline.compile_policy(path, target, Sources())


def settings(text: str, folder: Path) -> dict[str, object]:
    return {f"{s.group} {s.key}": s.value for s in compiled(text, folder).bundle.settings}


def test_every_name_of_the_language_is_the_backends(tmp_path: Path) -> None:
    """What the compiler takes, the kernel's message has a place for, and the other way round."""
    assert set(ethtool.NUMBERS["coalesce"]) == set(kernel.GROUPS["coalesce"].values) == set(check_coalesce.NAMES)
    assert set(ethtool.NUMBERS["ring"]) == set(kernel.GROUPS["ring"].values)
    everything = ", ".join(f"{name} {'on' if 'adaptive' in name or 'cqe' in name else 7}" for name in check_coalesce.NAMES)
    found = settings(f"tune wan {{ coalesce {everything} }}", tmp_path)
    assert found == {f"coalesce {name}": 1 if "adaptive" in name or "cqe" in name else 7 for name in check_coalesce.NAMES}


def test_values_have_the_units_of_the_kernel(tmp_path: Path) -> None:
    text = """tune wan {
      ring rx max, tx 1k, rx-buf-len 2kib, tcp-data-split off, tx-push on, hds-thresh max
      coalesce rx 50us 64 frames, tx-usecs-irq 20, stats-block-usecs 1s, rx-frame-low 3, tx-aggr-max-bytes 8kib
      napi gro-flush-timeout 20us, defer-hard-irqs 2, irq-suspend-timeout 20ms, threaded on
      prefer txqueuelen 2k
    }
    host { napi budget 600, budget-usecs 8ms, weight 128, backlog 30k; prefer conntrack max 1M, buckets 256k }"""
    assert settings(text, tmp_path) == {
        "ring rx": "max", "ring tx": 1000, "ring rx-buf-len": 2048, "ring tcp-data-split": 1, "ring tx-push": 1, "ring hds-thresh": "max",
        "coalesce rx-usecs": 50, "coalesce rx-frames": 64, "coalesce tx-usecs-irq": 20, "coalesce stats-block-usecs": 10**6, "coalesce rx-frames-low": 3,
        "coalesce tx-aggr-max-bytes": 8192, "napi gro-flush-timeout": 20_000, "napi defer-hard-irqs": 2, "napi irq-suspend-timeout": 20_000_000,
        "napi threaded": 1, "link txqueuelen": 2000, "sysctl net.core.netdev_budget": 600, "sysctl net.core.netdev_budget_usecs": 8000,
        "sysctl net.core.dev_weight": 128, "sysctl net.core.netdev_max_backlog": 30_000, "sysctl net.netfilter.nf_conntrack_buckets": 256_000,
        "sysctl net.netfilter.nf_conntrack_max": 1_000_000,
    }  # fmt: skip


def test_conntrack_has_as_many_buckets_as_connections_unless_written(tmp_path: Path) -> None:
    names = ("sysctl net.netfilter.nf_conntrack_buckets", "sysctl net.netfilter.nf_conntrack_max")
    assert settings("host { conntrack max 1M }", tmp_path) == dict.fromkeys(names, 10**6)
    assert settings("host { conntrack buckets 4k }", tmp_path) == {names[0]: 4000}


@pytest.mark.parametrize(("rate", "delay", "bytes_"), [(10**10, 10**8, 125_000_000), (10**9, 10**6, 125_000), (1000, 1, 2304), (3, 8 * 10**9, 2304)])
def test_the_product_is_bandwidth_times_delay(rate: int, delay: int, bytes_: int) -> None:
    assert buffers.product(rate, delay) == bytes_


def test_the_largest_window_is_tcps(tmp_path: Path) -> None:
    most = buffers.MAX_WINDOW
    assert buffers.product(most * 8, 10**9) == most
    with pytest.raises(LiteralError, match="a TCP window is at most"):
        buffers.product(most * 8 + 8, 10**9)
    for key, value in buffers.sizes(most).items():
        assert max(value if isinstance(value, tuple) else (value,)) < 1 << 31, key


def test_buffers_say_in_the_plan_how_they_were_computed(tmp_path: Path) -> None:
    made = compiled("host { sysctl buffers for 10gbit 100ms }", tmp_path).bundle
    assert {s.key: s.value for s in made.settings} == {
        "net.core.rmem_max": 125_000_000, "net.core.wmem_max": 125_000_000, "net.ipv4.tcp_rmem": (4096, 131072, 250_000_000),
        "net.ipv4.tcp_wmem": (4096, 16384, 250_000_000),
    }  # fmt: skip
    reasons = {item.what: item.reason for item in made.placements}
    assert "bandwidth × delay = 125,000,000 bytes" in reasons["host.buffers.net.core.rmem_max"]
    assert "twice bandwidth × delay = 250,000,000 bytes" in reasons["host.buffers.net.ipv4.tcp_rmem"]
    assert "tcp_adv_win_scale" in reasons["host.buffers.net.ipv4.tcp_rmem"]
    small = dict(buffers.sizes(2304))
    assert small["net.ipv4.tcp_rmem"] == (4096, 131072, 131072), "never less than TCP's own first size"


def lints(text: str, folder: Path) -> list[str]:
    return [found.code for found in compiled(text, folder).warnings]


def test_bbr_is_warned_of_only_without_fq(tmp_path: Path) -> None:
    bbr, fq = "sysctl net.ipv4.tcp_congestion_control = bbr", "sysctl net.core.default_qdisc ="
    assert lints(f"host {{ {bbr} }}", tmp_path) == ["W006"]
    assert lints(f"host {{ {bbr}; {fq} fq_codel }}", tmp_path) == ["W006"]
    assert lints(f"host {{ {bbr}; {fq} fq }}", tmp_path) == []
    assert lints(f"host {{ {fq} fq_codel }}", tmp_path) == [] == lints("host { sysctl net.ipv4.tcp_congestion_control = cubic }", tmp_path)
    shape = "shape wan out rate 1gbit { class fast { match tcp; queue fq }; class rest { default } }"
    made = compiled(f"host {{ {bbr} }}\n{shape}", tmp_path)
    assert not made.warnings
    (reason,) = [item.reason for item in made.bundle.placements if item.what.endswith("tcp_congestion_control")]
    assert "in rest (fq_codel) TCP paces itself" in reason and "fast" not in reason


def test_a_ring_that_the_probed_nic_cannot_have_is_found_here(tmp_path: Path) -> None:
    target = msgspec.structs.replace(GENERIC, name="igb0", rings=profile.Rings(4096, 4096))
    with pytest.raises(CompileError, match="the target 'igb0' has at most 4096") as caught:
        compiled("tune wan { ring rx 8192 }", tmp_path, target)
    assert caught.value.diagnostics[0].code == "N752"
    assert len(compiled("tune wan { ring rx 4096, tx max }", tmp_path, target).bundle.settings) == 2
    skipped = compiled("tune wan { prefer ring rx 8192 }", tmp_path, target).bundle
    assert skipped.settings == () and "has at most 4096" in skipped.placements[0].reason
    assert compiled("tune wan { ring rx 8192 }", tmp_path).bundle.settings, "nothing is known of the target"


def test_what_an_offload_needs_is_told_in_the_kernels_words() -> None:
    assert "no SG" in offloads.lacking("tx-tcp-segmentation", ["tx-checksum-ipv4"])
    assert "no CSUM" in offloads.lacking("tx-tcp-segmentation", ["tx-scatter-gather"])
    assert offloads.lacking("tx-tcp-segmentation", ["tx-scatter-gather", "tx-checksum-ip-generic"]) == ""
    assert "rx-fcs" in offloads.lacking("rx-lro", ["rx-fcs"])
    assert offloads.contradiction("tso", "sg") and offloads.contradiction("tx-tcp6-segmentation", "tx")
    assert offloads.contradiction("tso", "tx-checksum-ipv4") == "", "another kind of checksum will do"
    assert offloads.overlap("tso", "tx-tcp6-segmentation") and offloads.overlap("tx", "tx-checksum-sctp") and not offloads.overlap("gro", "gso")


def test_a_name_is_no_pattern() -> None:
    names = ["tx-checksum-ipv4", "rx-gro", "tx-tcp-accecn-segmentation"]
    assert offloads.members("*", names) == [] == offloads.members("tx-[a-z]*", names)
    assert offloads.members("tso", names) == ["tx-tcp-accecn-segmentation"] and offloads.members("rx-gro", names) == ["rx-gro"]


def test_the_plan_tells_what_a_host_setting_does(tmp_path: Path) -> None:
    made = compiled("host { sysctl net.core.default_qdisc = fq; napi backlog 5000 }", tmp_path).bundle
    reasons = {item.what: item.reason for item in made.placements}
    assert "come later" in reasons["host.sysctl.net.core.default_qdisc"] and "for each CPU" in reasons["host.sysctl.net.core.netdev_max_backlog"]
