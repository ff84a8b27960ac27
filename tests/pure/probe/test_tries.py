"""What `--try` does to a NIC with flow rules and RSS contexts, on one that is played: no driver with them can be emulated. All of it is taken back."""

from __future__ import annotations

import errno
import os
import struct
from dataclasses import dataclass
from typing import Any

import pytest

from runtime.backends import bpf, ethtool_ioctl, link, netdev, rss_contexts
from runtime.backends.ethtool_ioctl import DROP, FlowRule, Rss
from runtime.probe import steering, tries, xdp
from tests.pure.runtime.fake_nic import Nic, NoMessages, refuse

MAIN = Rss(tuple(entry % 8 for entry in range(16)), bytes(range(40)), 1)
REFUSED, STUCK = errno.EOPNOTSUPP, errno.EBUSY


@dataclass
class Fussy(Nic):
    """refuses: flow types that it does not take; drops: rules may drop; stuck: a rule, once in, is not given back."""

    refuses: tuple[str, ...] = ()
    drops: bool = True
    stuck: bool = False

    def insert(self, request: bytearray) -> bytes:
        kind, cookie = struct.unpack_from("=I", request, 16)[0] & 0xFF, struct.unpack_from("=Q", request, 16 + 152)[0]
        if kind in [ethtool_ioctl.FLOW_TYPES[name] for name in self.refuses] or (cookie == DROP and not self.drops):
            refuse(REFUSED)
        return super().insert(request)

    def delete(self, request: bytearray) -> bytes:
        if self.stuck:
            refuse(STUCK)
        return super().delete(request)

    def plug(self, monkeypatch: pytest.MonkeyPatch) -> Fussy:
        monkeypatch.setattr(ethtool_ioctl, "_ioctl", self.ioctl)
        monkeypatch.setattr(rss_contexts, "Generic", NoMessages)
        return self


FIELDS = {"tcp4": ("src-ip", "dst-ip")}


def test_all_is_found_and_all_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    nic = Fussy(most=3, refuses=("sctp6",)).plug(monkeypatch)
    found = tries.on("wan0", MAIN, FIELDS, 64)
    assert found.kinds == ("tcp4", "udp4", "sctp4", "tcp6", "udp6") and found.drop and found.rules_name_contexts
    assert (found.fields, found.contexts, nic.fields) == (True, 3, {(1, 0): 0x30})
    assert nic.rules == {} and list(nic.tables) == [0]
    assert found.words["rss-contexts"] == "3 made, then: No space left on device"
    assert found.words["ntuple sctp6"] == "Operation not supported" and found.words["ntuple drop"] == "taken"


def test_contexts_that_are_there_count_and_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    nic = Fussy(most=4).plug(monkeypatch)
    nic.tables[2] = [5] * 16
    assert tries.on("wan0", MAIN, FIELDS, 64).contexts == 4 and nic.tables[2] == [5] * 16 and sorted(nic.tables) == [0, 2]


def test_a_nic_that_makes_contexts_without_end_is_asked_for_some(monkeypatch: pytest.MonkeyPatch) -> None:
    nic = Fussy(most=10_000).plug(monkeypatch)
    assert tries.on("wan0", MAIN, FIELDS, 64).contexts == 32 and list(nic.tables) == [0]


def test_a_nic_that_cannot_drop_is_not_said_to(monkeypatch: pytest.MonkeyPatch) -> None:
    nic = Fussy(drops=False).plug(monkeypatch)
    found = tries.on("wan0", MAIN, FIELDS, 64)
    assert not found.drop and found.kinds and found.words["ntuple drop"] == "Operation not supported" and nic.rules == {}


def test_the_tried_rules_match_documentation_addresses_only(monkeypatch: pytest.MonkeyPatch) -> None:
    nic = Fussy(stuck=True).plug(monkeypatch)
    found = tries.on("wan0", MAIN, FIELDS, 64)
    assert nic.rules
    for spec, _ in nic.rules.values():
        assert bytes([192, 0, 2, 1, 198, 51, 100, 1]) in spec[4:56] or bytes.fromhex("20010db8") in spec[4:56]
        assert spec[76:84] == b"\xff" * 8, "the addresses are matched whole"
    assert found.words["ntuple tcp4"].startswith("taken, and not given back: Device or resource busy; take it off with: ethtool -N wan0 delete ")
    assert found.words["rss-context 1"].startswith("made, and not taken away again: Device or resource busy") and sorted(nic.tables) == [0, 1]


def test_what_a_killed_try_left_is_swept_and_what_is_others_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    nic = Fussy(most=0).plug(monkeypatch)
    left = ("udp4", "src-ip", "192.0.2.1/32", "dst-ip", "198.51.100.1/32", "src-port", 9, "dst-port", 9, "action", 0)
    others = ethtool_ioctl.add_flow_rule("wan0", FlowRule(ethtool_ioctl.flow_spec(("udp4", "dst-port", 53, "action", 1))))
    ethtool_ioctl.add_flow_rule("wan0", FlowRule(ethtool_ioctl.flow_spec(left)))
    found = tries.on("wan0", MAIN, FIELDS, 64)
    assert list(nic.rules) == [others] and found.contexts == 0 and not found.rules_name_contexts


@pytest.mark.parametrize(("feature", "attempt", "rules"), [(True, True, 8), (True, False, 8), (False, True, 0), (False, False, 0)])
def test_a_table_is_promised_only_with_the_feature(monkeypatch: pytest.MonkeyPatch, feature: bool, attempt: bool, rules: int) -> None:
    Fussy().plug(monkeypatch)
    facts: dict[str, object] = {}
    rss, ntuple = steering.ask_steering(facts, "wan0", attempt, feature)
    assert ntuple["rules"] == rules and (rss["contexts"], rss["key_size"], rss["functions"]) == (4 if attempt else 0, 40, ["toeplitz"])


def test_a_nic_that_takes_no_rule_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    Fussy(refuses=tuple(ethtool_ioctl.FLOW_TYPES)).plug(monkeypatch)
    assert steering.ask_steering({}, "wan0", True, True)[1] == {"rules": 0, "kinds": [], "drop": False, "contexts": False}


def test_a_table_that_the_attach_loses_is_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    nic = Fussy().plug(monkeypatch)
    nic.tables[0], nic.configured = [5] * 16, True
    found = link.Link(9, "wan0", 1500, "", "none", 0, 1, 1, 0, -1, up=True, carrier=True)

    def lose(*_: object) -> None:
        nic.tables[0], nic.configured = nic.default(), False

    def attach(*_: object) -> int:
        lose()
        return os.open(os.devnull, os.O_RDONLY)

    monkeypatch.setattr(bpf, "load_program", lambda *_, **__: os.open(os.devnull, os.O_RDONLY))
    monkeypatch.setattr(bpf, "link_create", attach)
    monkeypatch.setattr(bpf, "link_detach", lose)
    monkeypatch.setattr(link, "get", lambda device: found)
    monkeypatch.setattr(netdev, "xdp_features", lambda ifindex: ("basic",))
    facts: dict[str, Any] = {}
    assert xdp.ask_xdp(facts, found, "nobodys", "6.18.0", True)["native"] and facts["xdp"]["tried"] == "attached natively, and taken off again"
    assert (nic.tables[0], nic.configured) == ([5] * 16, True)
