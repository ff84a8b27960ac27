"""W005 names a rule that nothing can reach, and never one that something can."""

from __future__ import annotations

from pathlib import Path

import pytest

from compiler.pipeline import check
from compiler.source import Sources

HEAD = """nic wan { device eth0 }
set office = { 198.51.100.0/24 }
set web = { 80, 443 }
set banned : address timeout 10m never office
rules shared { pass tcp dport 22 as shared-ssh }
filter wan in {
"""


def unreachable(rules: str, default: str, folder: Path) -> list[str]:
    policy = folder / "p.netc"
    policy.write_text(f"{HEAD}{rules}\n  default {default}\n}}\n")
    found = check(policy, Sources())[1]
    return [finding.message for finding in found if finding.code == "W005"]


@pytest.mark.parametrize(
    "rules",
    [
        "drop tcp\n pass tcp dport 22 as ssh",
        "pass src in office as a\n drop src 198.51.100.7 as b",
        "pass ip4\n pass ip6\n drop udp dport 53 as b",
        "drop tcp dport in web as a\n pass tcp dport { 80, 443 } src in office limit 10pps as b",
        "pass tcp dport 1-100 as a\n drop tcp dport 101-65535 as b\n drop tcp dport 0 as z\n pass tcp dport 50-200 as c",
        "drop tcp as a\n use shared",
        "drop tcp as a\n pass tcp src in banned as b",
        "drop ip4 as a\n drop ip6 as c\n pass established as b",
    ],
)
def test_a_rule_that_nothing_reaches_is_named(rules: str, tmp_path: Path) -> None:
    assert len(unreachable(rules, "drop", tmp_path)) == 1


@pytest.mark.parametrize(
    "rules",
    [
        "pass tcp dport 22 as ssh\n drop tcp as rest",
        "drop tcp dport 22 limit 10pps as a\n pass tcp dport 22 as b",
        "drop src in banned as a\n pass src 192.0.2.1 as b",
        "pass established as a\n pass tcp as b",
        "drop tcp as a\n drop malformed as b",
        "drop tcp dport 22 syn as a\n pass tcp dport 22 as b",
        "drop tcp dport 0-65535 as a\n pass tcp as later-fragments-have-no-ports",
        "use essentials",
        "pass udp as u\n use essentials",
    ],
)
def test_a_rule_that_something_reaches_is_not(rules: str, tmp_path: Path) -> None:
    assert unreachable(rules, "drop", tmp_path) == []
