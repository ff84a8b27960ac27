"""A driver that resets its queues forgets its RSS table, or shows one that it does not use: it is written again; and where settings stand for that."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from compiler.bundle import Bundle, Code, Nic, Setting
from runtime import plan
from runtime.backends import ethtool, ethtool_ioctl, link
from runtime.context import Context, Device
from runtime.plan import Planned
from runtime.steps import StepError, port_reset, queue_settings, setting_step, settings_order
from tests.pure.runtime import fake_nic

KEY = bytes(range(100, 140))
FEWER = Setting("wan", "channels", "combined", 2, False, "p.netc", 2, "queues 2")
MORE = Setting("wan", "channels", "combined", 16, False, "p.netc", 2, "queues 16")
SPREAD = Setting("wan", "rss", "indirection", (1,), False, "p.netc", 3, "default to queue 1")
LRO = Setting("wan", "feature", "lro", 0, False, "p.netc", 4, "offload lro off")


@pytest.fixture
def nic(monkeypatch: pytest.MonkeyPatch) -> fake_nic.Nic:
    made = fake_nic.Nic()
    monkeypatch.setattr(ethtool_ioctl, "_ioctl", made.ioctl)
    monkeypatch.setattr("runtime.disruption.driver_of", lambda device: "fake")
    monkeypatch.setattr(port_reset, "carrier", lambda device: False)
    return made


def writes(nic: fake_nic.Nic, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What is written from now on."""
    found: list[bytes] = []
    monkeypatch.setattr(ethtool_ioctl, "_ioctl", lambda device, request: (found.append(request) if request[0] == 0x47 else None, nic.ioctl(device, request))[1])
    return found


def test_a_table_that_is_still_there_is_left_alone(nic: fake_nic.Nic, monkeypatch: pytest.MonkeyPatch) -> None:
    nic.tables[0] = [5] * 16
    written = writes(nic, monkeypatch)
    with port_reset.outlived("fake9") as lost:
        pass
    assert written == [] and lost == []


@pytest.mark.parametrize("table", [[5] * 16, [0] * 8 + [1] * 8])
def test_a_table_that_the_driver_forgot_comes_back(nic: fake_nic.Nic, table: list[int]) -> None:
    nic.tables[0], nic.key, nic.configured = list(table), KEY, True
    with port_reset.outlived("fake9"):
        nic.tables[0], nic.key, nic.configured = nic.default(), bytes(40), False
    assert (nic.tables[0], nic.key, nic.configured) == (table, KEY, True)


@pytest.mark.parametrize(("wanted", "program", "asked"), [(True, "none", [False, True]), (False, "none", []), (True, "native", [])])
def test_lro_that_is_asked_for_comes_back_with_the_program_gone(monkeypatch: pytest.MonkeyPatch, wanted: bool, program: str, asked: list[bool]) -> None:
    monkeypatch.setattr(port_reset, "quirks_of", lambda device: frozenset({"lro-off-after-xdp"}))
    monkeypatch.setattr(port_reset, "_rss", lambda device, context=0: None)
    monkeypatch.setattr(link, "get", lambda device: SimpleNamespace(xdp=program, carrier=False, up=False))
    monkeypatch.setattr(ethtool, "features", lambda device: {"rx-lro": ethtool.Feature(hw=True, wanted=wanted, active=False, fixed=False)})
    found: list[bool] = []
    monkeypatch.setattr(ethtool, "set_features", lambda device, wish: found.append(wish["rx-lro"]))
    with port_reset.outlived("fake9"):
        pass
    assert found == asked


def test_a_default_table_follows_the_queues(nic: fake_nic.Nic) -> None:
    with port_reset.outlived("fake9"):
        nic.queues = 4
        nic.tables[0] = nic.default()
    assert nic.tables[0] == [0, 1, 2, 3] * 4 and not nic.configured


def test_queues_that_come_with_a_program_receive_nothing_and_go_with_it(nic: fake_nic.Nic, monkeypatch: pytest.MonkeyPatch) -> None:
    """virtio_net adds a queue a CPU for XDP, and would spread over them too: not what the policy's `queues` say."""
    monkeypatch.setattr("runtime.disruption.driver_of", lambda device: "virtio_net")
    nic.queues = 2
    nic.tables[0] = nic.default()
    with port_reset.outlived("fake9", same_queues=True):
        nic.queues = 4
        nic.tables[0] = nic.default()
    assert nic.tables[0] == [0, 1] * 8 and nic.configured
    with port_reset.outlived("fake9", same_queues=True):
        nic.queues = 2
    assert nic.tables[0] == [0, 1] * 8 and not nic.configured


def test_a_default_table_in_blocks_follows_the_queues(nic: fake_nic.Nic, monkeypatch: pytest.MonkeyPatch) -> None:
    """igb's: written again over more queues, it would leave the new ones without a packet."""
    monkeypatch.setattr("runtime.disruption.driver_of", lambda device: "igb")
    nic.in_blocks, nic.queues = True, 2
    nic.tables[0] = nic.default()
    written = writes(nic, monkeypatch)
    with port_reset.outlived("fake9"):
        nic.queues = 5
        nic.tables[0] = nic.default()
    assert set(nic.tables[0]) == set(range(5)) and not written
    assert queue_settings.files(Context(Path(), Path(), (Device("wan", "fake9", 9),)), MORE) == []


@pytest.mark.parametrize("table", [[5] * 16, None], ids=["by-hand", "default"])
def test_a_device_that_cannot_be_believed_is_written_again(nic: fake_nic.Nic, monkeypatch: pytest.MonkeyPatch, table: list[int] | None) -> None:
    """virtio_net shows what the device no longer does: reading tells nothing."""
    monkeypatch.setattr("runtime.disruption.driver_of", lambda device: "virtio_net")
    nic.tables[0] = table or nic.default()
    written = writes(nic, monkeypatch)
    with port_reset.outlived("fake9"):
        pass
    assert written and nic.tables[0] == (table or nic.default()) and nic.configured == (table is not None)


def test_a_refused_change_gives_the_table_back_too(nic: fake_nic.Nic) -> None:
    nic.tables[0] = [5] * 16
    with pytest.raises(StepError), port_reset.outlived("fake9"):
        nic.tables[0] = nic.default()
        raise StepError("attach", "refused")
    assert nic.tables[0] == [5] * 16


def test_a_table_of_queues_that_have_gone_stays_the_drivers(nic: fake_nic.Nic) -> None:
    nic.tables[0] = [5] * 16
    with port_reset.outlived("fake9"):
        nic.queues = 4
        nic.tables[0] = nic.default()
    assert nic.tables[0] == nic.default()


def test_room_is_made_for_fewer_channels(nic: fake_nic.Nic) -> None:
    nic.tables[0], nic.configured = [5] * 16, True
    nic.tables[1], nic.tables[2] = [4, 5] * 8, [1] * 16
    room: dict[int, tuple[int, ...]] = {}
    port_reset.make_room("fake9", 6, (0, 1, 2), room)
    assert not room and nic.configured
    port_reset.make_room("fake9", 4, (0, 1, 2), room)
    assert not nic.configured and max(nic.tables[1]) < 4 and nic.tables[2] == [1] * 16
    port_reset.take_room("fake9", room)
    assert nic.tables == {0: [5] * 16, 1: [4, 5] * 8, 2: [1] * 16} and nic.configured


def test_carrier_is_waited_for_and_a_lost_one_is_told(nic: fake_nic.Nic, monkeypatch: pytest.MonkeyPatch) -> None:
    states = iter([True, False, False, True])
    monkeypatch.setattr(port_reset, "carrier", lambda device: True)
    monkeypatch.setattr(link, "get", lambda device: link.Link(9, device, 1500, "", "none", 0, 1, 1, 0, -1, up=True, carrier=next(states, True)))
    with port_reset.outlived("fake9") as lost:
        assert next(states)
    assert lost == [] and next(states, None) is None
    monkeypatch.setattr(link, "get", lambda device: link.Link(9, device, 1500, "", "none", 0, 1, 1, 0, -1, up=True, carrier=False))
    assert not port_reset.await_carrier("fake9", 0.05)


class Turn:
    """A knob that reads 8 channels, or anything."""

    resets, after = False, ()

    def __init__(self, now: object, wanted: object) -> None:
        self._now, self._wanted = now, wanted

    def read(self) -> object:
        return self._now

    def resolve(self, _: object) -> object:
        return self._wanted

    def write(self, _: object) -> None: ...


def bundle(xdp: str = "native") -> Bundle:
    code = Code("wan.xdp", "wan", "xdp", bytes(16), ())
    return Bundle("p.netc", "0" * 64, "0", (Nic("wan", "fake9", 0, xdp),), (), (code,), (), (), (), (), (), (), ())


def placed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, driver: str, new: Bundle | None, there: bool, *wanted: Setting, restored: bool = False) -> list[str]:
    """The groups of the steps, with `xdp` among them, in the order of the whole plan."""
    monkeypatch.setattr("runtime.disruption.driver_of", lambda device: driver)
    monkeypatch.setattr(settings_order, "_is_there", lambda context, device: there)
    context = Context(tmp_path, tmp_path / "bpf", (Device("wan", "fake9", 999),))
    steps = [setting_step.SettingStep(context, item, Turn(8, item.value), item.value if restored else None) for item in wanted]  # type: ignore[arg-type]
    settings_order.place(context, new, steps)

    class Xdp:
        phase, text, flips = "flip", "xdp", "xdp" if new else "xdp off"

    ordered = plan.order([Planned("xdp", Xdp()), *(Planned("settings", step) for step in steps)], removing=new is None)  # type: ignore[arg-type]
    return [getattr(getattr(item.step, "setting", None), "group", "xdp") for item in ordered]


@pytest.mark.parametrize(
    ("driver", "channels", "order"),
    [
        ("igb", FEWER, ["channels", "feature", "xdp", "rss"]),
        ("igb", MORE, ["feature", "xdp", "channels", "rss"]),
        ("virtio_net", MORE, ["channels", "feature", "xdp", "rss"]),
        ("veth", MORE, ["channels", "feature", "xdp", "rss"]),
        ("unheard-of", MORE, ["feature", "xdp", "channels", "rss"]),
    ],
)
def test_coming(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, driver: str, channels: Setting, order: list[str]) -> None:
    assert placed(tmp_path, monkeypatch, driver, bundle(), False, channels, SPREAD, LRO) == order


@pytest.mark.parametrize(
    ("driver", "channels", "order"),
    [("igb", FEWER, ["rss", "channels", "xdp"]), ("igb", MORE, ["rss", "xdp", "channels"]), ("virtio_net", FEWER, ["rss", "xdp", "channels"])],
)
def test_going(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, driver: str, channels: Setting, order: list[str]) -> None:
    """The other way round: what was fewer under the program becomes more without it."""
    assert placed(tmp_path, monkeypatch, driver, None, True, SPREAD, channels, restored=True) == order


def test_where_no_program_comes_everything_is_staged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal then costs nothing that packets see."""
    for new, there in ((bundle(), True), (bundle("generic"), False)):
        assert placed(tmp_path, monkeypatch, "igb", new, there, MORE, SPREAD, LRO) == ["channels", "rss", "feature", "xdp"]
