"""What single programs do: size, sets, limits, effects, refusals. Packets by test runs of the loaded program."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

import pytest

from compiler import frames, ir
from compiler.diagnostics import CompileError
from compiler.tables import changes
from compiler.targets import c_program, xdp
from runtime import objects
from runtime.backends import bpf, kernel_calls
from tests.kernel.xdp import rig, small

F, SECOND = ir.Field, small.SECOND


def pairs(count: int) -> list[ir.Rule]:
    """Rules as people write them: a protocol, a prefix, a port."""
    base = small.address("10.0.0.0")
    return [
        ir.Rule(f"r{i}", "drop" if i % 2 else "pass",
                ir.And((ir.Is("tcp" if i % 3 else "udp"), ir.Within(F.SRC, ((base + i * 256, base + i * 256 + 255),)), ir.Within(F.DPORT, ((i, i),)))))
        for i in range(count)
    ]  # fmt: skip


def test_a_thousand_rules_load_and_the_verifier_walks_each_once() -> None:
    with rig.rig_of(small.program(*pairs(1000), default="pass")) as kernel:
        walked = bpf.prog_info(kernel.program).verified_insns
        assert walked < 20 * len(kernel.code.code) // 8 + 1000 * changes.MOST  # the loop over changes is walked once an entry
        assert kernel.judge(small.tcp("10.0.3.231", "192.0.2.1", 999), SECOND).rule == "wan.in.default"
        assert kernel.judge(small.udp("10.3.231.7", dport=999), SECOND).rule == "wan.in.r999"


def test_a_program_that_is_too_long_is_refused_with_a_way_out() -> None:
    """By the length of the C before clang sees it; by the instructions where that did not tell."""
    with pytest.raises(CompileError, match="N901.*BPF instructions") as caught:
        xdp.lower(rig.placed_of(small.program(*pairs(3000))), "straight")
    assert "sets" in caught.value.diagnostics[0].help


def test_instructions_are_counted_after_compiling_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(c_program, "MAX_INSTRUCTIONS", 1000)
    with pytest.raises(CompileError, match="N901.*1000 are possible"):
        xdp.lower(rig.placed_of(small.program(*pairs(40))), "straight")


def test_too_many_maps_are_refused_with_a_way_out() -> None:
    base = small.address("10.0.0.0")
    rules = [ir.Rule(f"r{i}", "drop", ir.Within(F.SRC, tuple((base + j * 4 + i * 256,) * 2 for j in range(9)))) for i in range(70)]
    with pytest.raises(CompileError, match="N902.*maps"):
        xdp.lower(rig.placed_of(small.program(*rules)), "straight")


def test_sets_that_do_not_fit_into_tables_are_refused_with_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Straight code for them would have too many maps, but that is not what the user has to know alone."""
    monkeypatch.setattr("compiler.classify.tables.MAX_ARENA", 1 << 18)
    base = small.address("10.0.0.0")
    rules = [ir.Rule(f"r{i}", "drop", ir.Within(F.SRC, tuple((base + j * 4 + i * 256,) * 2 for j in range(9)))) for i in range(70)]
    with pytest.raises(CompileError, match="N902.*the rules do not fit into tables: tables of 0 MiB; 0 MiB are possible"):
        xdp.lower(rig.placed_of(small.program(*rules)))


def test_a_limit_beyond_the_clock_is_refused() -> None:
    rule = ir.Rule("slow", "pass", ir.Is("udp"), ir.Limit("wan.in.slow", 64 * SECOND, 1 << 60))
    with pytest.raises(CompileError, match="N904"):
        xdp.lower(rig.placed_of(small.program(rule)))


def test_a_hundred_thousand_prefixes() -> None:
    rng = random.Random(1)
    base = small.address("0.0.0.0")
    firsts = sorted({rng.randrange(1 << 24) << 8 for _ in range(100_000)})
    ranges = tuple((base + first, base + first + 127) for first in firsts)  # /25: no two adjacent
    banned = ir.Set("bogons", "address", (*((small.network("2001:db8::/33")),), *ranges))
    with rig.rig_of(small.program(ir.Rule("bogon", "drop", ir.Member(F.SRC, "bogons")), default="pass", sets=(banned,))) as kernel:
        for first in rng.sample(firsts, 50):
            for offset, rule in ((0, "bogon"), (127, "bogon"), (128, "default")):
                source = ".".join(str(byte) for byte in (first + offset).to_bytes(4, "big"))
                assert kernel.judge(small.udp(source), SECOND).rule == f"wan.in.{rule}"
        assert kernel.judge(small.udp("2001:db8:7fff::1", "2001:db8::2"), SECOND).rule == "wan.in.bogon"
        assert kernel.judge(small.udp("2001:db8:8000::1", "2001:db8::2"), SECOND).rule == "wan.in.default"


def test_equal_sets_share_one_map() -> None:
    ranges = tuple((small.address(f"10.0.{i}.0"), small.address(f"10.0.{i}.9")) for i in range(20))
    sets = (ir.Set("a", "address", ranges), ir.Set("b", "address", ranges))
    made = xdp.lower(rig.placed_of(small.program(
        ir.Rule("a", "drop", ir.Member(F.SRC, "a")), ir.Rule("b", "drop", ir.Member(F.DST, "b")), sets=sets)), "straight")  # fmt: skip
    assert [item.kind for item in made.maps].count("lpm_trie") == 1


def test_the_same_policy_gives_the_same_bytes() -> None:
    program = small.program(*pairs(5))
    first, second = (xdp.lower(rig.placed_of(program)) for _ in range(2))
    assert first == second


def test_a_rate_of_a_thousand_with_burst_three() -> None:
    rule = ir.Rule("dns", "pass", small.port(53), ir.Limit("wan.in.dns", 64 * SECOND // 1000, 3))
    with rig.rig_of(small.program(rule)) as kernel:
        burst = [kernel.judge(small.udp(), SECOND).rule for _ in range(5)]
        assert burst == ["wan.in.dns"] * 3 + ["wan.in.default"] * 2
        assert kernel.judge(small.udp(), SECOND + 999_999).rule == "wan.in.default"
        assert kernel.judge(small.udp(), SECOND + 1_000_000).rule == "wan.in.dns"


def test_set_dscp_keeps_ecn_and_the_checksum() -> None:
    rule = ir.Rule("mark", "pass", ir.Is("udp"), None, (ir.SetDscp(46),))
    with rig.rig_of(small.program(rule)) as kernel:
        for ecn in (0, 1, 2, 3):
            frame = bytearray(small.udp(dscp=10))
            frame[15] |= ecn
            frame[24:26] = bytes(2)
            frame[24:26] = _checksum(frame[14:34])
            out = kernel.judge(bytes(frame), SECOND).data
            assert out[15] == 46 << 2 | ecn
            assert _checksum(out[14:34]) == bytes(2)
            assert out[:15] + out[16:24] + out[26:] == bytes(frame[:15] + frame[16:24] + frame[26:])
        six = small.udp("2001:db8::1", "2001:db8::2", dscp=0)
        out = kernel.judge(six, SECOND).data
        assert out[14:16] == bytes((0x60 | 46 >> 2, (46 & 3) << 6)) and out[16:] == six[16:]


def _checksum(header: bytes | bytearray) -> bytes:
    total = sum(struct.unpack("!10H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)


def test_samples_carry_the_frame_and_its_rule() -> None:
    rule = ir.Rule("scan", "drop", ir.Is("tcp"), None, (ir.Sample(1), ir.Log()))
    with rig.rig_of(small.program(rule)) as kernel:
        frame = small.tcp()
        kernel.judge(frame, SECOND)
        kernel.judge(small.udp(), SECOND)
        samples = next(m for m in kernel.bundle.maps if m.role == "samples")
        records = _ring_records(kernel.objects.maps[samples.id], samples.max_entries)
    assert len(records) == 2
    for record, log in zip(records, (0, 1), strict=True):
        _, nic, slot, size, captured, logged, _ = struct.unpack_from("=Q6I", record)
        assert (nic, slot, size, captured, logged) == (0, kernel.slots["wan.in.scan"], len(frame), len(frame), log)
        assert record[32 : 32 + len(frame)] == frame


def _ring_records(fd: int, size: int) -> list[bytes]:
    """What a BPF ring buffer holds: producer position in the second page, data from the third on (kernel/bpf/ringbuf.c)."""
    import mmap

    with mmap.mmap(fd, mmap.PAGESIZE + 2 * size, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ, offset=mmap.PAGESIZE) as memory:
        end, at, found = struct.unpack_from("=Q", memory)[0], 0, []
        while at < end:
            length = struct.unpack_from("=I", memory, mmap.PAGESIZE + at)[0] & 0x3FFFFFFF
            found.append(bytes(memory[mmap.PAGESIZE + at + 8 : mmap.PAGESIZE + at + 8 + length]))
            at += (8 + length + 7) & ~7
    return found


def test_the_mark_is_in_front_of_the_packet() -> None:
    program = small.program(ir.Rule("dns", "pass", small.port(53)), ir.Rule("est", "pass", ir.Connection(("established",))))
    with rig.rig_of(program) as kernel:
        for frame, rule, mark in (
            (small.udp(), "dns", 0x60000000), (small.udp(dport=54), "handed-on", 0x50000000),
            (frames.build(ir.PacketSpec("arp", "192.0.2.2", "192.0.2.1")), "control", 0x60000000),
        ):  # fmt: skip
            seen = kernel.judge(frame, SECOND)
            assert seen.rule == f"wan.in.{rule}"
            assert seen.data == struct.pack("=I", mark) + frame
        other = b"\2" * 12 + b"\x12\x34" + bytes(50)
        assert kernel.judge(other, SECOND).rule == "wan.in.default"


def _no_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_calls, "of_this_kernel", lambda: None)


def _wrong_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_calls, "of_this_kernel", lambda: kernel_calls.Flags(1, 4))


@pytest.mark.parametrize("change", [lambda monkeypatch: None, _no_flags, _wrong_flags], ids=["as it is", "no type information", "the kernel refuses"])
def test_a_frame_beyond_the_linear_part_is_counted_whole(
    change: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's own test run makes a multi-buffer frame of more than a page."""
    change(monkeypatch)
    with rig.rig_of(small.program(ir.Rule("dns", "pass", small.port(53)))) as kernel:
        frame = small.udp(payload=8000)
        ctx = struct.pack("=6I", 0, 3000, 0, 0, 0, 0)
        run = bpf.test_run(kernel.program, frame, ctx)
        assert run.retval == rig.XDP_PASS
        assert kernel.counters()["wan.in.dns"] == (1, len(frame))
        assert bpf.test_run(kernel.program, small.udp()).retval == rig.XDP_PASS
        assert kernel.counters()["wan.in.dns"] == (2, len(frame) + len(small.udp()))


def test_a_kernel_that_can_is_asked_without_a_helper_call() -> None:
    if kernel_calls.of_this_kernel() is None:
        pytest.skip("this kernel does not tell its types, or has no bpf_cast_to_kern_ctx")
    made = rig.bundle_of(rig.placed_of(small.program(ir.Rule("dns", "pass", small.port(53)))))
    code = next(item for item in made.programs if item.hook == "xdp").code
    assert kernel_calls.asks(code)
    def refuse(code: bytes) -> bytes:
        raise AssertionError("the kernel refused the program with its own flags in it")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel_calls, "without", refuse)
        objects.load_fresh(made).close()


def test_a_cpu_that_is_not_there_is_named() -> None:
    from compiler import place
    from runtime.steps import StepError

    rule = ir.SteerRule("dns", small.port(53), ir.Target("cpus", (200,)))
    program = ir.Program(nics=(ir.Nic("wan", "w0"),), steers=(ir.Steer("wan.steer", "wan", (rule,)),))
    made = rig.bundle_of(rig.placed_of(program, (place.SteerPlacement(rule, "cpumap", (200,)),)))
    with pytest.raises(StepError, match="steering to CPU 200"):
        objects.load_fresh(made)
