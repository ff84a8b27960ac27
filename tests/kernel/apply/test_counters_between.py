"""A policy without connection tracking comes between: what it counts before and behind still fits what XDP handed on."""

from __future__ import annotations

from tests.kernel.apply.hosts import DNS, ESTABLISHED, SSH, Host, made, program, tcp


def test_counters_of_a_stage_that_was_away(host: Host) -> None:
    late, early = host.write(made(program(DNS, ESTABLISHED)), "late.bundle"), host.write(made(program(SSH)), "early.bundle")
    for bundle, count in ((late, 5), (early, 2), (early, 1), (late, 3), (early, 1), (late, 4)):
        host.netc("apply", bundle)
        host.send(tcp(23), count)
    counts = host.counts()
    assert counts["xdp", "wan.in.handed-on"] == counts["conntrack", "wan.in.seen"] == counts["conntrack", "wan.in.default"] == 12
    assert counts["xdp", "wan.in.seen"] == 16
    (between,) = host.json("status")["between"]
    assert between["handed"] == between["judged"] == 12
    assert host.json("verify")["ok"]
    host.netc("apply", host.write(made(program(ESTABLISHED)), "third.bundle"))
    assert host.counts()["conntrack", "wan.in.default"] == 12 and host.json("verify")["ok"]
    host.netc("remove")
    host.netc("apply", late)
    assert host.counts()["conntrack", "wan.in.seen"] == host.counts()["xdp", "wan.in.seen"] == 0
