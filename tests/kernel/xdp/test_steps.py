"""Programs on a real device: attached native, replaced without losing a count, undone, never over somebody else's."""

from __future__ import annotations

import json
import os
import socket

import pytest

from compiler import bundle, ir
from compiler.targets import xdp as lowering
from runtime.backends import bpf
from runtime.lab import netns
from runtime.state import Store
from runtime.steps import StepError, xdp_pins
from tests.kernel.xdp import rig, small, wire
from tests.kernel.xdp.wire import FAR, NEAR, ip

DNS = ir.Rule("dns", "pass", small.port(53))
WEB = ir.Rule("web", "pass", small.port(80, "tcp"))


def compiled(*rules: ir.Rule, **more: object) -> bundle.Bundle:
    return rig.bundle_of(rig.placed_of(small.program(*rules, **more)))  # type: ignore[arg-type]


def running(link: wire.Wire) -> dict[str, object]:
    """What iproute2 says of the device's XDP: {} or mode, prog.id."""
    said = json.loads(wire.ip(link.near, "-j", "-d", "link", "show", wire.NEAR))[0]
    found = said.get("xdp", {})
    assert isinstance(found, dict)
    return found


def test_attached_native_and_counted_exactly(wire: wire.Wire) -> None:
    made = compiled(DNS, WEB)
    wire.apply(made)
    assert running(wire)["mode"] == 1  # XDP_ATTACHED_DRV
    wire.send(small.udp(), 1000)
    wire.send(small.udp(dport=54), 300)
    counted = wire.counters(made)
    size = len(small.udp())
    assert counted["wan.in.seen"] == (1300, 1300 * size)
    assert counted["wan.in.dns"] == (1000, 1000 * size)
    assert counted["wan.in.default"] == (300, 300 * size)


def test_the_bpf_file_system_is_closed_to_others(wire: wire.Wire) -> None:
    wire.apply(compiled(DNS))
    with netns.enter(wire.near):
        assert bpf.is_bpffs(wire.context.bpffs)
        assert os.stat(wire.context.bpffs).st_mode & 0o777 == 0o700


def test_a_replacement_keeps_counters_by_name_not_by_place(wire: wire.Wire) -> None:
    first, second = compiled(DNS), compiled(WEB, DNS)
    wire.apply(first)
    wire.send(small.udp(), 10)
    before = running(wire)["prog"]
    wire.apply(second, first, 2)
    assert running(wire)["prog"] != before
    wire.send(small.udp(), 5)
    counted = wire.counters(second)
    assert counted["wan.in.dns"][0] == 15
    assert counted["wan.in.web"][0] == 0
    assert xdp_pins.generations(wire.context) == [2]


def test_undo_brings_the_old_program_back(wire: wire.Wire) -> None:
    first, second = compiled(DNS), compiled(WEB)
    wire.apply(first)
    before = running(wire)["prog"]
    with netns.enter(wire.near):
        made = [step for step in wire.build(second, first, 2) if step.phase != "clean"]
        for step in made:
            step.do()
        assert running(wire)["prog"] != before
        for step in reversed(wire.build(second, first, 2)[: len(made)]):  # made anew, as after a crash
            step.undo()
    assert running(wire)["prog"] == before
    assert xdp_pins.generations(wire.context) == [1]
    wire.send(small.udp(), 7)
    assert wire.counters(first)["wan.in.dns"][0] == 7


def test_undo_of_the_first_leaves_the_device_bare(wire: wire.Wire) -> None:
    with netns.enter(wire.near):
        made = [step for step in wire.build(compiled(DNS), None, 1) if step.phase != "clean"]
        for step in made:
            step.do()
        for step in reversed(made):
            step.undo()
    assert not running(wire)
    assert xdp_pins.generations(wire.context) == []
    assert not xdp_pins.maps(wire.context).exists()


def test_removal_leaves_nothing(wire: wire.Wire) -> None:
    made = compiled(DNS, ir.Rule("est", "pass", ir.Connection(("established",))))
    wire.apply(made)
    assert {path.name for path in xdp_pins.links(wire.context).iterdir()} == {"wan-xdp", "wan-tcx_ingress"}
    wire.apply(None, made, 2)
    assert not running(wire)
    assert not [path for path in wire.context.bpffs.iterdir() if path.suffix != ".debug"]  # the kernel's own, BPF_PRELOAD


def test_a_hook_that_is_no_longer_used_is_taken_off_and_can_come_back(wire: wire.Wire) -> None:
    first = compiled(DNS, ir.Rule("est", "pass", ir.Connection(("established",))))
    second = compiled(DNS)
    wire.apply(first)
    carrier = xdp_pins.links(wire.context) / "wan-tcx_ingress"
    assert carrier.exists()
    with netns.enter(wire.near):
        detach = next(step for step in wire.build(second, first, 2) if "take wan.tcx_ingress off" in step.text)
        detach.do()
        detach.check()
        assert not carrier.exists()
        detach.undo()
        with xdp_pins.opened(carrier) as found:
            assert bpf.link_info(found).attach_type == bpf.TCX_INGRESS


def test_a_foreign_program_is_named_and_left_alone(wire: wire.Wire) -> None:
    code = bytes.fromhex("b700000002000000" "9500000000000000")  # return XDP_PASS
    with netns.enter(wire.near):
        program = bpf.load_program("xdp", code, {}, "foreign", bpf.XDP, True)
        held = bpf.link_create(program, wire.context.device("wan").ifindex, bpf.XDP, bpf.XDP_FLAGS_DRV)
        try:
            number = bpf.prog_info(program).id
            with pytest.raises(StepError, match=f"program {number} .*not netc's"):
                wire.build(compiled(DNS), None, 1)
            assert bpf.link_info(held).prog_id == number
        finally:
            os.close(held)
            os.close(program)


def test_a_program_swapped_behind_netc_is_drift_and_not_overwritten(wire: wire.Wire) -> None:
    first = compiled(DNS)
    steps = wire.apply(first)
    code = bytes.fromhex("b700000002000000" "9500000000000000")
    with netns.enter(wire.near):
        program = bpf.load_program("xdp", code, {}, "foreign", bpf.XDP, True)
        with xdp_pins.opened(xdp_pins.links(wire.context) / "wan-xdp") as found:
            bpf.link_update(found, program)
        attach = next(step for step in steps if step.phase == "flip")
        with pytest.raises(StepError, match="runs program"):
            attach.check()
        again = [step for step in wire.build(first, first, 2) if step.phase != "clean"]
        again[0].do()
        with pytest.raises(StepError, match="netc did not put there"):
            again[1].do()
        again[0].undo()
        os.close(program)


def test_generic_only_when_the_policy_says_so(wire: wire.Wire) -> None:
    wire.apply(compiled(DNS, xdp="generic"))
    assert running(wire)["mode"] == 2  # XDP_ATTACHED_SKB


def test_a_failed_load_leaves_nothing(wire: wire.Wire) -> None:
    made = compiled(DNS)
    parts = lowering.lower(rig.placed_of(small.program(DNS)))
    broken = bundle.Code("wan.xdp", "wan", "xdp", made.programs[0].code[8:], made.programs[0].maps)
    bad = rig.bundle_of(rig.placed_of(small.program(DNS)), lowering.XdpParts(parts.maps, (broken,), parts.counters, (), {}))
    with netns.enter(wire.near):
        load = wire.build(bad, None, 1)[0]
        with pytest.raises(StepError, match="!read_ok|invalid|Permission denied"):
            load.do()
    assert xdp_pins.generations(wire.context) == []
    assert not xdp_pins.maps(wire.context).exists()


def test_a_dynamic_set_of_another_size_is_another_map(wire: wire.Wire) -> None:
    def with_size(size: int) -> bundle.Bundle:
        banned = ir.Set("banned", "address", (), size, None)
        add = ir.Rule("scan", "drop", small.port(23, "tcp"), None, (ir.Add("banned", ir.Field.SRC, None),))
        return compiled(ir.Rule("banned", "drop", ir.Member(ir.Field.SRC, "banned")), add, default="pass", sets=(banned,))

    first, second = with_size(10), with_size(20)
    wire.apply(first)
    wire.send(small.tcp("192.0.2.9", "192.0.2.1", 23))
    wire.send(small.udp("192.0.2.9"))
    assert wire.counters(first)["wan.in.banned"][0] == 1
    wire.apply(first, first, 2)  # same size: members stay
    wire.send(small.udp("192.0.2.9"))
    assert wire.counters(first)["wan.in.banned"][0] == 2
    wire.apply(second, first, 3)
    wire.send(small.udp("192.0.2.9"))
    assert wire.counters(second)["wan.in.banned"][0] == 2
    assert len([p for p in xdp_pins.maps(wire.context).iterdir() if p.name.startswith("set~banned~hash")]) == 1


def test_a_slot_with_a_new_owner_starts_at_zero(wire: wire.Wire) -> None:
    """The state directory was lost: names get other slots, and inherit nobody's numbers."""
    first = compiled(DNS, WEB)
    wire.apply(first)
    wire.send(small.udp(), 9)
    (wire.context.state / "slots.json").unlink()
    second = compiled(WEB, DNS)
    wire.apply(second, first, 2)
    counted = wire.counters(second)
    assert counted["wan.in.seen"][0] == 9  # first in both: same slot, same owner
    assert counted["wan.in.web"][0] == 0
    assert Store(wire.context.state).slots()["wan"]["wan.in.seen"] == 1


def test_jumbo_frames_on_native_xdp(wire: wire.Wire) -> None:
    """Frames beyond a page: only a program that takes fragments may be attached, and every byte is counted."""
    for namespace, device in ((wire.near, NEAR), (wire.far, FAR)):
        ip(namespace, "link", "set", device, "mtu", "9000")
    made = compiled(DNS)
    wire.apply(made)
    frame = small.udp(payload=8000)
    with netns.enter(wire.far), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        sender.bind((FAR, 0))
        for _ in range(20):
            sender.send(frame)
    for _ in range(1000):  # veth hands over in softirq, maybe on the other CPU
        if wire.counters(made)["wan.in.seen"][0] == 20:
            break
    assert wire.counters(made)["wan.in.dns"] == (20, 20 * len(frame))
