"""W701 says exactly when nft can drop a protected packet that it cannot read; forward filters are not the protected host's."""

from __future__ import annotations

from pathlib import Path

import pytest

from compiler import pipeline, profile
from compiler.source import Sources

PASS = "pass tcp dport 22 src in office as ssh"


def warned(policy: str, folder: Path, office: str = "198.51.100.0/24, 2001:db8:1::/48") -> list[str]:
    path = folder / "p.netc"
    path.write_text(f"set office = {{ {office} }}\nprotect wan {{ tcp dport 22 src in office }}\n{policy}\n")
    found = pipeline.compile_policy(path, profile.chosen(None), Sources()).warnings
    return [f"{w.message}; {w.help}" for w in found if w.code == "W701"]


def nic(mode: str) -> str:
    return f"nic wan {{ device eth0; xdp {mode} }}\n"


@pytest.mark.parametrize(
    ("mode", "rules"),
    [
        ("native", f"{PASS}\n default drop"), ("native", f"{PASS}\n pass established\n default drop"),
        ("none", f"pass src in office as all\n {PASS}\n default drop"), ("none", f"{PASS}\n default pass"),
        ("none", f"drop src 203.0.113.0/24 udp as x\n {PASS}\n default pass"),
        ("native", "pass established\n pass src in office as all\n default drop"),
    ],
)  # fmt: skip
def test_what_nft_need_not_read(mode: str, rules: str, tmp_path: Path) -> None:
    assert warned(nic(mode) + f"filter wan in {{\n {rules}\n}}", tmp_path) == []


@pytest.mark.parametrize(
    ("mode", "rules", "words"),
    [
        ("native", f"pass established\n {PASS}\n default drop", "before the first stateful rule"),
        ("none", f"{PASS}\n default drop", "`xdp native`"),
        ("none", f"drop tcp dport 23 as telnet\n {PASS}\n default pass", "drop tcp dport 23"),
    ],
)
def test_what_nft_may_drop_unread(mode: str, rules: str, words: str, tmp_path: Path) -> None:
    policy = nic(mode) + f"filter wan in {{\n {rules}\n}}"
    (said,) = warned(policy, tmp_path)
    assert words in said and "AH" in said
    assert warned(policy, tmp_path, "198.51.100.0/24") == [], "IPv4 hides nothing"


def test_replies(tmp_path: Path) -> None:
    judged = nic("native") + f"filter wan in {{ {PASS}; default drop }}\nfilter wan out {{ %s; default drop }}"
    (said,) = warned(judged % "pass tcp sport 22 dst in office", tmp_path)
    assert "by addresses alone" in said
    assert warned(judged % "pass dst in office", tmp_path) == []


def test_forwarded_packets_are_the_forward_filters(tmp_path: Path) -> None:
    """Protected is what is left to this host's stack; what it routes on cannot be told apart at compile time."""
    policy = nic("native") + "nic lan { device eth1 }\n" + f"filter wan in {{ {PASS}; default drop }}\nfilter wan -> lan {{ drop tcp as no; default drop }}"
    assert warned(policy, tmp_path) == []
