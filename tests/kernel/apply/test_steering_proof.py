"""`netc verify --steering`: which flows came where, seen on live packets; what was not seen is not said to be proved."""

from __future__ import annotations

import os
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest

from compiler import bundle as bundles
from compiler import ir
from runtime.backends import bpf, bpf_others, link, observer, sysfs
from runtime.lab import netns
from tests.kernel.apply.hosts import ROOT, Host, made, program, tcp, udp

pytestmark = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two CPUs")
DNS = ir.And((ir.Is("udp"), ir.Within(ir.Field.DPORT, ((53, 53),))))
SECONDS = "0.5"


def steered(*cpus: int, xdp: str = "native") -> bytes:
    """UDP to port 53 goes to these CPUs; everything passes."""
    policy = program(ir.Rule("all", "pass", ir.Const(True), text="pass"))
    rule = ir.SteerRule("dns", DNS, ir.Target("cpus", cpus), text="udp dport 53 to cpus")
    nic = ir.Nic("wan", "wan0", xdp)
    return made(ir.Program(nics=(nic,), chains=policy.chains, steers=(ir.Steer("wan.steer", "wan", (rule,), None),)))


@contextmanager
def traffic(host: Host, *specs: ir.PacketSpec, device: str = "wan0p") -> Iterator[None]:
    """These packets again and again, until the block ends: out of wan0p, or of another device beside wan0."""
    done = threading.Event()

    def send() -> None:
        while not done.wait(0.02):
            for spec in specs:
                host.send(spec, device=device)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        done.set()
        sender.join()


def steering(host: Host, status: int = 0) -> list[dict[str, str]]:
    findings = host.json("verify", "--steering", SECONDS, status=status)["findings"]
    return [finding for finding in findings if finding["kind"] == "steering"]


def test_flows_that_are_moved_to_their_cpu_are_proved(host: Host) -> None:
    host.netc("apply", host.write(steered(1)))
    with traffic(host, udp(53), tcp(80)):
        (found,) = steering(host)
    assert (found["result"], found["what"]) == ("held", "wan0: udp dport 53 to cpus")
    assert found["detail"] == "1 flow seen, 1 as promised"


def test_no_traffic_is_no_proof(host: Host) -> None:
    host.netc("apply", host.write(steered(1)))
    with traffic(host, tcp(80)):
        (found,) = steering(host)
    assert found["result"] == "no traffic" and "nothing is proved" in found["detail"]


def test_a_flow_on_another_cpu_is_named_and_fails(host: Host) -> None:
    """The bundle says CPU 0, its map says CPU 1: what a driver or somebody else could do."""
    whole = bundles.decode(steered(1))
    lies = tuple(msgspec.structs.replace(item, value=(0,)) if item.group == "require" else item for item in whole.settings)
    host.netc("apply", host.write(bundles.encode(msgspec.structs.replace(whole, settings=lies))))
    with traffic(host, udp(53)):
        (found,) = steering(host, status=1)
    assert found["result"] == "broken"
    assert found["detail"] == "1 flow seen, 0 as promised, 1 elsewhere: udp 203.0.113.9:5353 -> 192.0.2.1:53 on cpu 1 instead of 0"


def test_packets_of_one_flow_may_be_of_several_rules(host: Host) -> None:
    policy = program(ir.Rule("all", "pass", ir.Const(True), text="pass"))
    first = ir.SteerRule("syn", ir.Bits(ir.Field.TCP_FLAGS, 0x17, 0x02), ir.Target("cpus", (1,)), text="tcp syn to cpus 1")
    rest = ir.SteerRule("tcp", ir.Is("tcp"), ir.Target("cpus", (0,)), text="tcp to cpus 0")
    steer = ir.Steer("wan.steer", "wan", (first, rest), None)
    host.netc("apply", host.write(made(ir.Program(nics=(ir.Nic("wan", "wan0", "native"),), chains=policy.chains, steers=(steer,)))))
    with traffic(host, tcp(80), ir.PacketSpec("tcp", "203.0.113.9", "192.0.2.1", 40000, 80, (("ack", 1),))):
        found = steering(host)
    assert [(item["what"], item["result"]) for item in found] == [("wan0: tcp syn to cpus 1", "held"), ("wan0: tcp to cpus 0", "held")], found


def test_rps_is_proved_by_the_cpu(host: Host) -> None:
    setting = ir.Setting("wan", "rps", "cpus", (1,), text="rps on cpus 1")
    host.netc("apply", host.write(made(program(ir.Rule("all", "pass", ir.Const(True), text="pass"), settings=(setting,)))))
    with traffic(host, udp(53), tcp(80)):
        (found,) = steering(host)
    assert (found["result"], found["detail"]) == ("held", "2 flows seen, 2 as promised")


def test_rps_that_was_changed_by_hand_is_the_wrong_cpu(host: Host) -> None:
    setting = ir.Setting("wan", "rps", "cpus", (1,), text="rps on cpus 1")
    host.netc("apply", host.write(made(program(ir.Rule("all", "pass", ir.Const(True), text="pass"), settings=(setting,)))))
    with netns.enter(host.netns), sysfs.Sysfs() as tree:
        for queue in range(4):
            tree.write(f"class/net/wan0/queues/rx-{queue}/rps_cpus", "1")
    with traffic(host, udp(53)):
        broken = [found for found in host.json("verify", "--steering", SECONDS, status=1)["findings"] if found["result"] == "broken"]
    assert [found["where"] for found in broken if found["kind"] == "installed"] == ["settings"], broken
    assert "on cpu 0 instead of 1" in next(found["detail"] for found in broken if found["kind"] == "steering"), broken


def test_what_was_preferred_and_refused_promises_nothing(host: Host) -> None:
    """No machine that runs this has CPU 200."""
    setting = ir.Setting("wan", "rps", "cpus", (200,), True, text="prefer rps on cpus 200")
    host.netc("apply", host.write(made(program(ir.Rule("all", "pass", ir.Const(True), text="pass"), settings=(setting,)))))
    with traffic(host, udp(53)):
        (found,) = steering(host)
    assert found["result"] == "no traffic" and "tells neither the NIC nor XDP nor RPS" in found["detail"]


def test_a_preferred_cpu_that_is_not_there_is_skipped(host: Host) -> None:
    """Its packets stay where they came, and the rest of the policy is in force; a rule that requires the CPU is refused."""
    policy = program(ir.Rule("all", "pass", ir.Const(True), text="pass"))
    for prefer, status in ((True, 0), (False, 1)):
        rule = ir.SteerRule("dns", DNS, ir.Target("cpus", (200,)), prefer, text="udp dport 53 to cpus 200")
        steer = ir.Steer("wan.steer", "wan", (rule,), None)
        wanted = made(ir.Program(nics=(ir.Nic("wan", "wan0", "native"),), chains=policy.chains, steers=(steer,)))
        told = host.netc("apply", host.write(wanted), status=status)
        assert "CPU 200 is not online here" in told.stdout + told.stderr
    with traffic(host, udp(53)):
        (found,) = steering(host)
    assert found["result"] == "no traffic" and "tells neither the NIC nor XDP nor RPS" in found["detail"]
    assert host.counts()["steer", "wan.steer.dns"] > 0


def test_rfs_has_the_last_word_over_rps(host: Host) -> None:
    """A socket that is read on CPU 0 takes its flow there, and `rps on cpus 1` is not broken for that."""
    settings = (ir.Setting("wan", "rps", "cpus", (1,), text="rps on cpus 1"), ir.Setting("wan", "rfs", "flows", 64, True, text="prefer rfs flows 64"))
    host.netc("apply", host.write(made(program(ir.Rule("all", "pass", ir.Const(True), text="pass"), settings=settings))))
    with traffic(host, udp(53)):
        (found,) = steering(host)
    assert found["result"] == "no traffic" and "the CPU on which its socket is read" in found["detail"]


def test_what_is_dropped_is_not_seen(host: Host) -> None:
    policy = program(ir.Rule("no", "drop", DNS, text="drop udp dport 53"))
    host.netc("apply", host.write(made(policy)))
    with traffic(host, udp(53)):
        (found,) = steering(host)
    assert found["result"] == "no traffic" and "tells neither the NIC nor XDP nor RPS" in found["detail"]


def test_nothing_stays_behind(host: Host) -> None:
    host.netc("apply", host.write(steered(1)))
    before = host.attached(), tcx(host)
    with traffic(host, udp(53)):
        steering(host)
        watching = subprocess.Popen(host.command("verify", "--steering", "60"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT)
        while tcx(host) == before[1]:
            assert watching.poll() is None
        watching.kill()
        watching.wait()
    assert (host.attached(), tcx(host)) == before


def test_where_says_what_no_cpu_takes_on(host: Host) -> None:
    policy = program(ir.Rule("no", "drop", DNS, text="drop udp dport 53"), ir.Rule("all", "pass", ir.Const(True), text="pass"))
    capture = ir.SteerRule("capture", ir.Is("sctp"), ir.Target("socket", name="capture"), text="sctp to socket capture")
    steer = ir.Steer("wan.steer", "wan", (capture,), ir.Target("drop"))
    host.netc("apply", host.write(made(ir.Program(nics=(ir.Nic("wan", "wan0", "native"),), chains=policy.chains, steers=(steer,)))))
    words = [f"{proto} 203.0.113.9:4000 -> 192.0.2.1:53" for proto in ("udp", "tcp", "sctp")]
    packets = host.json("where", "wan", *words)["packets"]
    told = [packet["answers"][1]["why"] for packet in packets]
    assert told == ["dropped by XDP: wan.in.no", "dropped by XDP: wan.steer.default", "to the AF_XDP socket"]


def test_only_an_observer_is_taken_for_one(host: Host) -> None:
    """A program of that name that does something else is somebody else's, and told."""
    host.netc("apply", host.write(steered(1)))
    with netns.enter(host.netns), observer.Observer(link.get("wan0").ifindex):
        host.netc("verify")
    drops = bytes.fromhex("b700000002000000 9500000000000000".replace(" ", ""))  # TCX_DROP
    with netns.enter(host.netns):
        program = bpf.load_program("sched_cls", drops, {}, observer.NAME, bpf.TCX_INGRESS)
        attached = bpf.link_create(program, link.get("wan0").ifindex, bpf.TCX_INGRESS)
    try:
        assert "netc_observer" in host.netc("verify", status=1).stdout
    finally:
        os.close(attached)
        os.close(program)


def tcx(host: Host) -> list[int]:
    """The programs on wan0's tcx ingress hook."""
    with netns.enter(host.netns):
        return bpf_others.tcx(link.get("wan0").ifindex, bpf.TCX_INGRESS)


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "soon", "1e9"])
def test_seconds_that_cannot_be(host: Host, seconds: str) -> None:
    told = host.netc("verify", "--steering", seconds, status=2)
    assert "number of seconds from 0.1 to 3600" in told.stderr


def test_packets_that_go_around_the_program_are_told(host: Host) -> None:
    """Redirected into the device's ingress, they meet no native program: as with a driver that shows one and runs it no more."""
    host.netc("apply", host.write(steered(1)))
    host.run("ip", "link", "add", "side0", "type", "veth", "peer", "name", "side1")
    for device in ("side0", "side1"):
        host.run("ip", "link", "set", device, "up")
    with netns.enter(host.netns):
        code = struct.pack("=" + "BBhi" * 4, 0xB7, 1, 0, link.get("wan0").ifindex, 0xB7, 2, 0, 1, 0x85, 0, 0, 23, 0x95, 0, 0, 0)  # bpf_redirect(wan0, BPF_F_INGRESS)
        redirect = bpf.load_program("sched_cls", code, {}, "around", bpf.TCX_INGRESS)
        attached = bpf.link_create(redirect, link.get("side0").ifindex, bpf.TCX_INGRESS)
    try:
        with traffic(host, udp(53), device="side1"):
            found = steering(host, status=1)
    finally:
        os.close(attached)
        os.close(redirect)
    told = next(item for item in found if item["what"] == "wan0: XDP")
    assert told["result"] == "broken" and "counted 0: the others were judged by nothing" in told["detail"]
    with traffic(host, udp(53)):
        assert [item["result"] for item in steering(host)] == ["held"], "and those that come by the wire meet it"
