"""Shaping on a NIC: what each class got, by what the far end received in one run. Shares are compared by order, so that a slow machine does not matter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from compiler.targets import tc_queues
from hwtests.rack import wire
from hwtests.rack.installed import Installed
from hwtests.rack.port import Port
from hwtests.rack.rack import Rack

LENGTH = 1000  # bytes of a frame
EACH = 250  # frames a class: what a queue holds, and enough to compare


def outgoing(port: Port, dports: list[int], dscp: str = "") -> list[bytes]:
    words = [f"udp {port.address}:4000 -> {port.far_address}:{dport} length {LENGTH - 14} {dscp}" for dport in dports]
    mac = port.mac
    return [port.frame(text, to=port.wire.mac, source=mac) for text in words]


def test_classes_get_what_they_are_owed(port: Port, installed: Installed, figure: Callable[[str, float], None]) -> None:
    """While all of them have packets waiting: `max` caps one class, the others divide the rest as their shares say; the whole rate is never exceeded."""
    installed.apply("""nic wan { device DEVICE }
shape wan out rate 8mbit {
  class capped { match udp dport 1; min 500kbit; max 1mbit; queue pfifo }
  class one    { match udp dport 2; min 500kbit; queue pfifo }
  class three  { match udp dport 3; min 500kbit; share 3; queue pfifo }
  class rest   { default; min 500kbit }
}""")
    before = installed.counters()
    with port.wire.listening(snap=64) as heard:
        wire.send(port.machine, port.device, outgoing(port, [1, 2, 3]), count=EACH)
        assert heard.wait(3 * EACH, seconds=60) >= 3 * EACH, "all frames come through, however late"
    after = installed.counters()
    assert [after[f"wan.shape.out.{name}"] - before[f"wan.shape.out.{name}"] for name in ("capped", "one", "three")] == [EACH] * 3
    mine = [frame for frame in heard.frames if frame.dport in (1, 2, 3)]
    share = Counter(frame.dport for frame in mine[30:280])  # from when all queues hold frames until the first is empty
    assert 1.8 < share[3] / share[2] < 4.2, share
    assert share[1] / 250 < 0.22, f"an eighth is its cap: {share}"
    seconds = heard.frames[-1].when - heard.frames[0].when
    rate = 8 * LENGTH * len(mine) / seconds
    assert rate < 1.1 * 8e6, f"{rate:.0f} bit/s of 8 Mbit/s"
    figure("shaped_bps", rate)


def kinds(port: Port, rack: Rack) -> list[str]:
    """The kinds of queue that this kernel has. The virtual rack's has all that netc knows: fewer are a failure there."""
    found = [kind for kind in tc_queues.KINDS if kind in port.profile["qdiscs"]]
    assert rack.kind != "virtual" or len(found) == len(tc_queues.KINDS), found
    return found


def classes(kinds: list[str]) -> str:
    return "\n".join(f"  class c-{kind} {{ match udp dport {number}; min 1mbit; queue {kind} }}" for number, kind in enumerate(kinds, 1))


def test_every_kind_of_queue(port: Port, installed: Installed, rack: Rack, figure: Callable[[str, float], None]) -> None:
    """A class of each kind: the qdisc is there under it, packets go through it, are counted, and it goes with the policy."""
    found = kinds(port, rack)
    installed.apply(f"nic wan {{ device DEVICE }}\nshape wan out rate 100mbit {{\n{classes(found)}\n  class rest {{ default; min 1mbit }}\n}}")
    shown = [qdisc["kind"] for qdisc in port.machine.json("tc", "-j", "qdisc", "show", "dev", port.device)]
    assert not {*found, "htb"} - set(shown), shown
    dports = list(range(1, len(found) + 1))
    before = installed.counters()
    with port.wire.listening(snap=64) as heard:
        wire.send(port.machine, port.device, outgoing(port, dports), count=10, rate=1000)
        heard.wait(10 * len(found))
    assert Counter(frame.dport for frame in heard.frames if frame.dport in dports) == dict.fromkeys(dports, 10)
    after = installed.counters()
    assert {kind: after[f"wan.shape.out.c-{kind}"] - before[f"wan.shape.out.c-{kind}"] for kind in found} == dict.fromkeys(found, 10)
    installed.verify()
    figure("queue_kinds", len(found))


def test_inbound(port: Port, installed: Installed, rack: Rack) -> None:
    """`shape in` queues on a device of netc's own, with every kind too: what arrives is classed, and all of it is still delivered."""
    found = kinds(port, rack)
    installed.apply(f"nic wan {{ device DEVICE }}\nshape wan in rate 50mbit {{\n{classes(found)}\n  class ping {{ match icmp; min 1mbit }}\n  class rest {{ default; min 1mbit }}\n}}")
    qdiscs = port.machine.json("tc", "-j", "qdisc", "show")
    (ifb,) = {qdisc["dev"] for qdisc in qdiscs if qdisc["kind"] == "htb"}
    assert ifb.startswith("netc-ifb") and not set(found) - {qdisc["kind"] for qdisc in qdiscs if qdisc["dev"] == ifb}, qdiscs
    before = installed.counters()
    dports = list(range(1, len(found) + 1))
    frames = [f"udp {port.far_address}:{3000 + n} -> {port.address}:{dport}" for dport in dports for n in range(10)]
    pings = [f"icmp {port.far_address} -> {port.address} echo-request id 5 seq {n}" for n in range(40)]
    with port.wire.listening() as heard:
        port.wire.send(port.frames([*frames, *pings]), rate=1000)
        heard.wait(40)
    assert sum(frame.icmp_type == 0 for frame in heard.frames) == 40
    after = installed.counters()
    assert after["wan.shape.in.ping"] - before["wan.shape.in.ping"] == 40
    assert {kind: after[f"wan.shape.in.c-{kind}"] - before[f"wan.shape.in.c-{kind}"] for kind in found} == dict.fromkeys(found, 10)
