"""RSS tables, contexts and flow rules on a NIC that has them all: set, read back, undone exactly, refused in order, found again after a crash."""

from __future__ import annotations

import errno
import struct
from pathlib import Path

import pytest

from compiler.bundle import Bundle, Setting
from runtime.backends import ethtool, ethtool_ioctl, rss_contexts
from runtime.backends.netlink import NetlinkError
from runtime.context import Context, Device
from runtime.knobs import steering
from runtime.knobs.contexts import Contexts, Kept
from runtime.steps import Step, StepError, settings
from runtime.steps.saved_settings import SavedSettings
from tests.pure.runtime.fake_nic import Nic, NoMessages

WEB = Setting("wan", "rss-context", "wan.steer.web", (0, 1, 2), False, "p.netc", 3, "tcp dport in web to queues 0-2")
TO_WEB = Setting("wan", "ntuple", "web/0", ("tcp4", "dst-port", 80, "context", "wan.steer.web"), False, "p.netc", 3, "tcp dport in web to queues 0-2")
DNS = Setting("wan", "ntuple", "dns/0", ("udp4", "dst-port", 53, "action", 7), False, "p.netc", 4, "udp dport 53 to queue 7")
NINE = Setting("wan", "ntuple", "nine/0", ("udp4", "dst-port", 9, "action", -1), False, "p.netc", 5, "udp dport 9 to drop")
SPREAD = Setting("wan", "rss", "indirection", (3, 4), False, "p.netc", 6, "default to queues 3-4")
KEY = Setting("wan", "hash", "key", "ab" * 40, False, "p.netc", 7, "hash tcp key ab..")
FIELDS = Setting("wan", "hash", "tcp4", ("src-ip", "dst-ip", "src-port", "dst-port"), False, "p.netc", 7, "hash tcp by addresses, ports")
QUEUES = Setting("wan", "channels", "combined", 2, False, "p.netc", 8, "queues 2")
EVERY = (WEB, TO_WEB, DNS, NINE, SPREAD, KEY, FIELDS)


@pytest.fixture(params=[{}, {"chooses": False}, {"own_keys": False}, {"own_fields": True}], ids=["plain", "places", "one-key", "own-fields"])
def nic(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Nic:
    made = Nic(**request.param)
    monkeypatch.setattr(ethtool_ioctl, "_ioctl", made.ioctl)
    monkeypatch.setattr(rss_contexts, "Generic", NoMessages)
    monkeypatch.setattr(steering.ethtool, "features", lambda device: {})
    monkeypatch.setattr("runtime.disruption.driver_of", lambda device: "fake")
    return made


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(tmp_path, tmp_path / "bpf", (Device("wan", "fake9", 999),))


def bundle(*wanted: Setting) -> Bundle:
    return Bundle("p.netc", "0" * 64, "0", (), (), (), (), (), (), wanted, (), (), ())


def turn(context: Context, *wanted: Setting) -> list[Step]:
    made = settings.steps(context, bundle(*wanted), None, 1)
    for step in made:
        step.do()
    for step in made:
        step.check()
    return made


def whole(nic: Nic) -> tuple[object, ...]:
    return dict(nic.tables), dict(nic.rules), nic.key, nic.configured, nic.transform


def said(nic: Nic) -> list[tuple[int, int]]:
    """Of every rule its action and context."""
    return sorted((struct.unpack_from("=Q", spec, 152)[0], context) for spec, context in nic.rules.values())


def test_everything_at_once_and_back(nic: Nic, context: Context) -> None:
    before = whole(nic)
    turn(context, *EVERY)
    assert nic.tables[0] == [3, 4] * 8 and nic.tables[1] == [entry % 3 for entry in range(16)]
    assert said(nic) == [(0, 1), (7, 0), (0xFFFFFFFFFFFFFFFF, 0)]
    assert nic.key == bytes.fromhex("ab" * 40) and (not nic.own_keys or nic.keys[1] == nic.key), "a context hashes as the device does"
    assert nic.fields[1, 0] == 0xF0 and (not nic.own_fields or nic.fields[1, 1] == 0xF0)
    assert settings.steps(context, bundle(*EVERY), None, 2) == [], "it holds"
    for step in settings.steps(context, None, bundle(*EVERY), 3):
        step.do()
    assert whole(nic) == before, "the table is the driver's own again, not one that looks like it"
    assert SavedSettings(context.state).all() == {} and Contexts(context.state, context.devices[0]).number("wan.steer.web") == 0


def test_undone_in_reverse(nic: Nic, context: Context) -> None:
    before = whole(nic)
    for step in reversed(turn(context, *EVERY)):
        step.undo()
    assert whole(nic) == before and SavedSettings(context.state).all() == {}


def test_a_context_changes_in_place(nic: Nic, context: Context) -> None:
    turn(context, WEB, TO_WEB)
    rules = dict(nic.rules)
    turn(context, _with(WEB, (4, 5)), TO_WEB)
    assert nic.tables[1] == [4, 5] * 8 and nic.rules == rules


def channels(nic: Nic, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the kernel lets them be changed (ethtool_check_max_channel): no table that was written may name a queue that goes."""

    def put(_device: str, _group: str, values: dict[str, int]) -> None:
        written = [table for context, table in nic.tables.items() if context or nic.configured]
        if values["combined"] <= max(map(max, written), default=0):
            raise NetlinkError(errno.EINVAL, "requested channel counts are too low for existing indirection table settings")
        nic.queues = values["combined"]
        nic.tables[0] = nic.tables[0] if nic.configured else nic.default()

    monkeypatch.setattr(ethtool, "get", lambda device, group: ethtool.Values({"combined": nic.queues}, {"combined": 8}))
    monkeypatch.setattr(ethtool, "put", put)


def test_a_context_gets_narrower_with_the_channels(nic: Nic, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    channels(nic, monkeypatch)
    turn(context, WEB, TO_WEB, SPREAD)
    made = turn(context, QUEUES, _with(WEB, (0, 1)), TO_WEB, _with(SPREAD, (1,)))
    assert (nic.queues, nic.tables[1], nic.tables[0]) == (2, [0, 1] * 8, [1] * 16)
    for step in reversed(made):
        step.undo()
    assert (nic.queues, nic.tables[1], nic.tables[0]) == (8, [entry % 3 for entry in range(16)], [3, 4] * 8)
    nic.tables[4] = [5] * 16  # somebody else's
    with pytest.raises(StepError, match="too low"):
        turn(context, QUEUES, _with(WEB, (0, 1)), TO_WEB)
    assert (nic.queues, nic.tables[1], nic.tables[4]) == (8, [entry % 3 for entry in range(16)], [5] * 16)


def test_a_table_of_another_size_waits_for_its_channels(nic: Nic, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """bnxt_en and mlx5 make the table as large as their channels need: one that was written before fits again with the channels of then."""
    channels(nic, monkeypatch)
    nic.queues, nic.tables[0], nic.configured = 4, [1] * 16, True
    more = Setting("wan", "channels", "combined", 8, False, "p.netc", 8, "queues 8")
    turn(context, more)
    nic.entries, nic.tables[0], nic.configured = 32, [0, 1] * 16, False
    for step in settings.steps(context, bundle(more), None, 2):
        step.check()
    turn(context, more)
    assert nic.tables[0] == [0, 1] * 16
    nic.entries, nic.queues, nic.tables[0] = 16, 4, [0, 1] * 8
    for step in settings.steps(context, None, bundle(more), 3):
        step.do()
    assert nic.tables[0] == [1] * 16 and SavedSettings(context.state).all() == {}


@pytest.mark.parametrize("most", [8, 100], ids=["told", "refused-when-written"])
def test_a_wish_that_is_skipped_leaves_nothing_of_the_policy_before(nic: Nic, context: Context, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """By the device's own limit, or only when it is written: then the channels are the device's again, not the earlier policy's."""

    def put(_device: str, _group: str, values: dict[str, int]) -> None:
        if values["combined"] > 8:
            raise NetlinkError(errno.EINVAL, "no more than 8")
        nic.queues = values["combined"]

    monkeypatch.setattr(ethtool, "get", lambda device, group: ethtool.Values({"combined": nic.queues}, {"combined": most}))
    monkeypatch.setattr(ethtool, "put", put)
    turn(context, QUEUES)
    wish = Setting("wan", "channels", "combined", 16, True, "p.netc", 8, "prefer queues 16")
    made = turn(context, wish)
    assert nic.queues == 8 and SavedSettings(context.state).all() == {} and settings.skipped(made)
    for step in reversed(made):
        step.undo()
    assert nic.queues == 2 and SavedSettings(context.state).keeps("fake9", "channels")


def test_a_knob_that_has_gone_with_its_device_is_skipped(nic: Nic, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    channels(nic, monkeypatch)
    wish = Setting("wan", "channels", "combined", 2, True, "p.netc", 8, "prefer queues 2")
    turn(context, wish)

    def gone(_device: str, _group: str) -> ethtool.Values:
        raise NetlinkError(errno.EOPNOTSUPP)

    monkeypatch.setattr(ethtool, "get", gone)
    assert settings.skipped(turn(context, wish))


def test_a_port_that_negotiates_anew_keeps_its_table(nic: Nic, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """igb resets its port for pause frames as for rings."""
    nic.tables[0], nic.configured = [5] * 16, True
    now = {"rx": 0}

    def put(_device: str, _group: str, values: dict[str, int]) -> None:
        now.update(values)
        nic.tables[0], nic.configured = nic.default(), False

    monkeypatch.setattr(ethtool, "get", lambda device, group: ethtool.Values(dict(now), {}))
    monkeypatch.setattr(ethtool, "put", put)
    turn(context, Setting("wan", "pause", "rx", 1, False, "p.netc", 9, "pause rx on"))
    assert now == {"rx": 1} and nic.tables[0] == [5] * 16


def _with(setting: Setting, value: tuple[int | str, ...]) -> Setting:
    return Setting(setting.nic, setting.group, setting.key, value, setting.prefer, setting.file, setting.line, setting.text)


def test_a_key_of_its_own_is_drift(nic: Nic, context: Context) -> None:
    made = turn(context, WEB)
    nic.keys[1] = b"x" * 40
    if not nic.own_keys:
        made[0].check()  # the device shows no key of a context: all share its own
        return
    with pytest.raises(StepError, match="another hash key"):
        made[0].check()
    turn(context, WEB)
    assert nic.keys[1] == nic.key


def test_others_contexts_and_rules_are_left_alone(nic: Nic, context: Context) -> None:
    rss_contexts.create("fake9", tuple([5] * 16), b"")
    ethtool_ioctl.add_flow_rule("fake9", ethtool_ioctl.FlowRule(ethtool_ioctl.flow_spec(("tcp4", "dst-port", 80, "context", 1)), 1))
    before = whole(nic)
    turn(context, *EVERY)
    assert 2 in nic.tables and len(nic.rules) == 4, "the same words in another context are another rule"
    for step in settings.steps(context, None, bundle(*EVERY), 2):
        step.do()
    assert whole(nic) == before


def test_no_room_for_a_context_is_told_and_preferred_rules_go_with_it(nic: Nic, context: Context) -> None:
    nic.most = 0
    with pytest.raises(StepError, match="make an RSS context.*No space left on device"):
        turn(context, WEB, TO_WEB)
    assert nic.tables.keys() == {0} and not nic.rules
    preferred = [Setting(s.nic, s.group, s.key, s.value, True, s.file, s.line, s.text) for s in (WEB, TO_WEB)]
    made = turn(context, *preferred)
    words = [text for _, text in settings.skipped(made)]
    assert "No space left" in words[0] and "the RSS context of wan.steer.web is not there" in words[1]
    assert settings.steps(context, None, None, 2) == []


def test_the_same_rule_twice_is_somebody_elses(nic: Nic, context: Context) -> None:
    spec = ethtool_ioctl.flow_spec(tuple(DNS.value) if isinstance(DNS.value, tuple) else ())
    nic.rules = {1: (spec, 0), 2: (spec, 0)}
    turn(context, DNS)
    for step in settings.steps(context, None, bundle(DNS), 2):
        step.do()
    assert set(nic.rules) == {1, 2}


def test_a_rule_that_the_driver_bends_is_taken_off_again(nic: Nic, context: Context) -> None:
    nic.bends = True
    with pytest.raises(StepError, match="the driver made another rule of it"):
        turn(context, DNS)
    assert nic.rules == {}


def test_a_queue_that_is_not_there(nic: Nic, context: Context) -> None:
    nic.queues = 4
    with pytest.raises(StepError, match="ETHTOOL_SRXCLSRLINS udp4 dst-port 53 action 7: Invalid argument"):
        turn(context, DNS)


def test_a_context_whose_maker_died_is_found_again(nic: Nic, context: Context) -> None:
    """Killed between the kernel's making of it and the note of its number."""
    mine = Contexts(context.state, context.devices[0])
    rss_contexts.create("fake9", tuple([5] * 16), b"")
    mine._put("wan.steer.web", 0, (1,))
    assert mine.number("wan.steer.web") == 0, "killed before it was made"
    rss_contexts.create("fake9", tuple([1] * 16), b"")
    assert mine.number("wan.steer.web") == 2
    turn(context, WEB)
    assert nic.tables.keys() == {0, 1, 2} and nic.tables[2] == [0, 1, 2] * 5 + [0]


def test_another_boot_or_device_has_none_of_them(nic: Nic, context: Context) -> None:
    mine = Contexts(context.state, context.devices[0])
    turn(context, WEB)
    again = Contexts(context.state, Device("wan", "fake9", 1000))
    assert mine.number("wan.steer.web") == 1 and again.number("wan.steer.web") == 0
    mine._write({"fake9/wan.steer.web": Kept(999, "another boot", 1)})
    assert mine.number("wan.steer.web") == 0


def test_a_transform_is_kept(nic: Nic, context: Context) -> None:
    """0 in its place would switch a symmetric hash off (kernel 6.8)."""
    nic.transform = 2
    turn(context, SPREAD, KEY)
    assert nic.transform == 2


def test_a_key_takes_the_place_of_a_symmetric_one_and_back(context: Context, nic: Nic) -> None:
    """One knob: what the policy before had set is not put back under the new key."""
    before, symmetric = nic.key, Setting("wan", "hash", "key", "symmetric", False, "p.netc", 7, "hash tcp by addresses symmetric")
    for old, new, key in ((None, KEY, "ab" * 40), (KEY, symmetric, "6d5a" * 20), (symmetric, KEY, "ab" * 40), (KEY, None, before.hex())):
        wanted, had = (bundle(*([item] if item else [])) for item in (new, old))
        made = settings.steps(context, wanted, had, 1)
        for step in made:
            step.do()
        for step in made:
            step.check()
        assert nic.key.hex() == key
