"""`netc samples`: what rules with `sample` and `log` copied, each packet once, as lines, JSON and a capture."""

from __future__ import annotations

import json
import subprocess

import pytest

from compiler import frames, ir
from compiler.tables import capture
from tests.kernel.apply.hosts import ROOT, Host, made, program, tcp, udp

SCAN = ir.Rule("scan", "drop", ir.And((ir.Is("tcp"), ir.Within(ir.Field.DPORT, ((22, 22),)))), None, (ir.Sample(1),), "drop tcp dport 22")
LOGGED = ir.Rule("dns", "pass", ir.And((ir.Is("udp"), ir.Within(ir.Field.DPORT, ((53, 53),)))), None, (ir.Log(),), "pass udp dport 53")


def test_each_sample_is_shown_once_with_its_rule(host: Host) -> None:
    host.netc("apply", host.write(made(program(SCAN, LOGGED))))
    host.send(tcp(22), 2)
    host.send(udp(53), 1)
    host.send(tcp(80), 3)
    lines = host.netc("samples", "--count", "2").stdout.splitlines()
    assert len(lines) == 2
    assert all(" wan wan.in.scan drop " in line and line.endswith("bytes: tcp 203.0.113.9:40000 -> 192.0.2.1:22 syn") for line in lines)
    (logged,) = host.netc("samples").stdout.splitlines()
    assert " wan wan.in.dns pass log " in logged and logged.endswith("udp 203.0.113.9:5353 -> 192.0.2.1:53")
    assert host.netc("samples").stdout == ""


def test_a_capture_and_json_hold_the_frame(host: Host) -> None:
    host.netc("apply", host.write(made(program(SCAN))))
    host.send(tcp(22), 2)
    (shown, *_) = host.netc("samples", "--json", "--count", "1").stdout.splitlines()
    sample = json.loads(shown)
    assert (sample["rule"], sample["verdict"], sample["nic"], sample["log"]) == ("wan.in.scan", "drop", "wan", False)
    path = host.directory / "out.pcap"
    assert host.netc("samples", "-o", path).stdout == ""
    ((when, frame),) = capture.read(path)
    assert frame.hex() == sample["frame"] and 0 < when - sample["time"] < 60 * 10**9
    assert frame[14:] == frames.build(tcp(22))[14:] and sample["bytes"] == len(frame)


def test_a_full_ring_goes_on_when_it_is_read(host: Host) -> None:
    """More than 1 MiB of samples: the ring wraps, the oldest are kept, and reading makes room again."""
    host.netc("apply", host.write(made(program(SCAN))))
    host.send(tcp(22), 5000)
    first = host.netc("samples").stdout.count("\n")
    assert 3500 < first < 5000
    host.send(tcp(22), 3000)
    assert host.netc("samples").stdout.count("\n") == 3000


def test_follow_waits_and_refuses_a_second_reader(host: Host) -> None:
    host.netc("apply", host.write(made(program(SCAN))))
    command = host.command("samples", "--follow", "--count", "2")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as following:
        assert following.stdout is not None
        host.send(tcp(22), 1)
        assert "wan.in.scan" in following.stdout.readline()
        assert "another `netc samples` is reading" in host.netc("samples", status=1).stderr
        host.send(tcp(22), 1)
        assert "wan.in.scan" in following.stdout.readline()
        assert following.wait() == 0


@pytest.mark.parametrize("installed", [True, False])
def test_nothing_to_read_is_told_with_the_mend(host: Host, installed: bool) -> None:
    if installed:
        host.netc("apply", host.write(made(program(ir.Rule("dns", "pass", ir.Is("udp"))))))
    told = host.netc("samples", status=1).stderr
    assert ("then sample 1/100" if installed else "netc apply POLICY") in told
    assert "write a number" in host.netc("samples", "--count", "0", status=2).stderr
