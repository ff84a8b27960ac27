"""Names of rules are stable, unique and legal; names that would break out of anything are refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compiler import ir, rule_names
from compiler.diagnostics import CompileError
from compiler.frontend import load
from compiler.source import Sources


def rules(tmp_path: Path, body: str) -> list[str]:
    path = tmp_path / "policy.netc"
    path.write_text("nic wan { device eth0 }\nfilter wan in {\n" + body + "\ndefault drop\n}\n", encoding="utf-8")
    return [rule.name for rule in load(path, Sources()).program.chains[0].rules]


def test_a_name_is_made_of_the_text(tmp_path: Path) -> None:
    assert rules(tmp_path, "drop udp dport 53\npass tcp  dport   22 # ssh") == [
        "drop-udp-dport-53",
        "pass-tcp-dport-22",
    ]


def test_names_do_not_change_when_lines_are_inserted_above(tmp_path: Path) -> None:
    before = rules(tmp_path, "drop udp dport 53\npass tcp dport { 22, 23 } src 192.0.2.0/24")
    after = rules(tmp_path, "\n# more\npass icmp\ndrop  udp dport 53\npass tcp dport { 22, 23 }  src 192.0.2.0/24")
    assert after[1:] == before


def test_effects_do_not_change_a_name(tmp_path: Path) -> None:
    assert rules(tmp_path, "drop udp dport 53") == rules(tmp_path, "drop udp dport 53 then log")


def test_texts_that_give_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="two rules get the name `drop-dport-80-90`"):
        rules(tmp_path, "drop dport 80-90\ndrop dport { 80, 90 }")


@given(st.text(min_size=1, max_size=300))
def test_a_made_name_is_legal(text: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,40}", rule_names.from_text(text))


@given(
    st.text(alphabet="abcd 0123456789/.,-", min_size=60, max_size=90),
    st.text(alphabet="abcd 0123456789", min_size=60, max_size=90),
)
def test_long_texts_keep_apart(one: str, two: str) -> None:
    if one != two:
        assert rule_names.from_text(one) != rule_names.from_text(two)


@pytest.mark.parametrize(
    "name",
    [
        'x"; system("id"); "',
        "x;flush ruleset",
        "a/b",
        "a.b",
        "$(id)",
        "x\\",
        "*/",
        "x" * 41,
        "ssh'",
        "default",
        "seen",
        "ünï",
        "a:b",
        "carried",
    ],
)
def test_hostile_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(CompileError):
        rules(tmp_path, f"pass tcp as {name}")


def test_every_nic_of_a_block_gets_rules_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "policy.netc"
    path.write_text(
        "nic a { device x }\nnic b { device y }\nfilter a, b in {\npass tcp limit 5pps\ndefault drop\n}\n",
        encoding="utf-8",
    )
    chains = load(path, Sources()).program.chains
    limits = [rule.limit for chain in chains for rule in chain.rules if isinstance(rule.limit, ir.Limit)]
    assert [limit.name for limit in limits] == ["a.in.pass-tcp-limit-5pps", "b.in.pass-tcp-limit-5pps"]
