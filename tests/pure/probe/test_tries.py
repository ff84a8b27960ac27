"""What `--try` does to a NIC with flow rules and RSS contexts, on one that is played: no driver with them can be emulated. All of it is taken back."""

from __future__ import annotations

import errno
import os

import pytest

from runtime.backends import ethtool_ioctl
from runtime.backends.ethtool_ioctl import DROP, NEW_CONTEXT, FlowRule, Rss
from runtime.probe import steering, tries

MAIN = Rss((0, 1) * 64, bytes(40), 1)


class Nic:
    """A table of rules and contexts behind the functions of ethtool_ioctl. refuses: flow types; stuck: a rule, once in, is not given back."""

    def __init__(self, contexts: int = 3, refuses: tuple[str, ...] = (), drops: bool = True, stuck: bool = False) -> None:
        self.most, self.refuses, self.drops, self.stuck = contexts, {ethtool_ioctl.FLOW_TYPES[kind] for kind in refuses}, drops, stuck
        self.rules: dict[int, FlowRule] = {}
        self.contexts: set[int] = set()
        self.said: list[str] = []

    def set_hash_fields(self, device: str, flow: str, fields: tuple[str, ...], context: int = 0) -> None:
        self.said.append(f"{flow} {','.join(fields)}")

    def set_rss(self, device: str, table: tuple[int, ...] | None = None, key: bytes = b"", context: int = 0) -> int:
        assert context == NEW_CONTEXT and table == MAIN.table
        if len(self.contexts) == self.most:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.contexts.add(len(self.contexts) + 1)
        return max(self.contexts)

    def delete_context(self, device: str, context: int) -> None:
        if any(rule.context == context for rule in self.rules.values()):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        self.contexts.remove(context)

    def flow_rules(self, device: str) -> dict[int, FlowRule]:
        return dict(self.rules)

    def add_flow_rule(self, device: str, rule: FlowRule) -> int:
        kind = int.from_bytes(rule.spec[:4], "little") & 0xFF
        cookie = int.from_bytes(rule.spec[152:160], "little")
        if kind in self.refuses or (cookie == DROP and not self.drops):
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        location = max(self.rules, default=0) + 1
        self.rules[location] = rule
        return location

    def delete_flow_rule(self, device: str, location: int) -> None:
        if self.stuck:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        del self.rules[location]

    def rss(self, device: str, context: int = 0) -> Rss:
        return MAIN

    def hash_fields(self, device: str, flow: str, context: int = 0) -> tuple[str, ...]:
        return ("src-ip", "dst-ip")

    def flow_table_size(self, device: str) -> int:
        return 64

    def plug(self, monkeypatch: pytest.MonkeyPatch) -> Nic:
        for name in ("set_hash_fields", "set_rss", "delete_context", "flow_rules", "add_flow_rule", "delete_flow_rule", "rss", "hash_fields", "flow_table_size"):
            monkeypatch.setattr(ethtool_ioctl, name, getattr(self, name))
        return self


FIELDS = {"tcp4": ("src-ip", "dst-ip")}


def test_all_is_found_and_all_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    nic = Nic(refuses=("sctp6",)).plug(monkeypatch)
    found = tries.on("wan0", MAIN, FIELDS, 64)
    assert found.kinds == ("tcp4", "udp4", "sctp4", "tcp6", "udp6") and found.drop and found.rules_name_contexts
    assert (found.fields, found.contexts, nic.said) == (True, 3, ["tcp4 src-ip,dst-ip"])
    assert nic.rules == {} and nic.contexts == set()
    assert found.words["rss-contexts"] == "3 made, then: No space left on device"
    assert found.words["ntuple sctp6"] == "Operation not supported" and found.words["ntuple drop"] == "taken"


def test_a_nic_that_makes_contexts_without_end_is_asked_for_some(monkeypatch: pytest.MonkeyPatch) -> None:
    nic = Nic(contexts=10_000).plug(monkeypatch)
    assert tries.on("wan0", MAIN, FIELDS, 64).contexts == 32 and nic.contexts == set()


def test_the_tried_rules_match_documentation_addresses_only(monkeypatch: pytest.MonkeyPatch) -> None:
    nic = Nic(stuck=True).plug(monkeypatch)
    found = tries.on("wan0", MAIN, FIELDS, 64)
    assert nic.rules
    for rule in nic.rules.values():
        assert bytes([192, 0, 2, 1, 198, 51, 100, 1]) in rule.spec[4:56] or bytes.fromhex("20010db8") in rule.spec[4:56]
        assert rule.spec[76:84] == b"\xff" * 8, "the addresses are matched whole"
    assert found.words["ntuple tcp4"].startswith("taken, and not given back: Device or resource busy; take it off with: ethtool -N wan0 delete ")
    assert found.words["rss-context 1"].startswith("made, and not taken away again: Device or resource busy") and nic.contexts == {1}


def test_what_a_killed_try_left_is_swept_and_what_is_others_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    nic = Nic(contexts=0).plug(monkeypatch)
    others = FlowRule(ethtool_ioctl.flow_spec(("udp4", "dst-port", 53, "action", 1)))
    left = FlowRule(ethtool_ioctl.flow_spec(("udp4", "src-ip", "192.0.2.1/32", "dst-ip", "198.51.100.1/32", "src-port", 9, "dst-port", 9, "action", 0)))
    nic.rules = {1: others, 2: left}
    found = tries.on("wan0", MAIN, FIELDS, 64)
    assert nic.rules == {1: others} and found.contexts == 0 and not found.rules_name_contexts


@pytest.mark.parametrize(("feature", "attempt", "rules"), [(True, True, 64), (True, False, 64), (False, True, 0), (False, False, 0)])
def test_a_table_is_promised_only_with_the_feature(monkeypatch: pytest.MonkeyPatch, feature: bool, attempt: bool, rules: int) -> None:
    Nic().plug(monkeypatch)
    facts: dict[str, object] = {}
    rss, ntuple = steering.ask_steering(facts, "wan0", attempt, feature)
    assert ntuple["rules"] == rules and (rss["contexts"], rss["key_size"], rss["functions"]) == (3 if attempt else 0, 40, ["toeplitz"])


def test_a_nic_that_takes_no_rule_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    Nic(refuses=tuple(ethtool_ioctl.FLOW_TYPES)).plug(monkeypatch)
    assert steering.ask_steering({}, "wan0", True, True)[1] == {"rules": 0, "kinds": [], "drop": False, "contexts": False}
