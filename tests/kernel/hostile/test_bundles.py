"""Bundles that were cut, changed, or written by a liar, from the command line, on a host that has a policy in force."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.fuzz.mutations import content, sealed, sealed_text
from tests.kernel.hostile.terminal import Terminal

SHAPED = b"""nic wan { device wan0; xdp native }
set banned : address timeout 10m size 100 full keep
filter wan in { drop src in banned as banned; drop udp dport 53 limit 10pps as dns; pass established as est; default pass }
shape wan out rate 10mbit {
  class voice { match dscp ef; min 2mbit; max 4mbit; urgent }
  class bulk { default; min 1mbit; queue pfifo }
}
tune wan { offload gro on }
host { sysctl net.ipv4.ip_forward = 1 }
expect wan over 1s else warn { in.dns packets >= 0 }
"""


@pytest.fixture
def whole(installed: Terminal) -> bytes:
    done = installed.run("compile", installed.write("shaped.netc", SHAPED), "-o", installed.cwd / "shaped.bundle", where=False)
    assert done.returncode == 0, done.stderr
    return (installed.cwd / "shaped.bundle").read_bytes()


@pytest.mark.needs("compiler")
def test_cut_and_changed_files(installed: Terminal, whole: bytes) -> None:
    """Every class of damage: nothing, part of the first line, the first line alone, part of the content, a byte short, a byte more."""
    first = whole.index(b"\n") + 1
    for length in (5, 14, 30, first - 1, first, first + 1, len(whole) // 2, len(whole) - 1):
        said = installed.refused("apply", installed.write("cut.bundle", whole[:length]))
        assert "bundle" in said
    for at in (0, 12, 20, first - 1, first, first + 30, len(whole) - 1):
        installed.refused("apply", installed.write("flipped.bundle", whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :]))
    assert "hash" in installed.refused("plan", installed.write("long.bundle", whole + b"\n"))
    installed.refused("replay", installed.write("cut.bundle", whole[:-9]), "shaped.netc", "--engine", "xdp", where=False)


Change = Callable[[Any], None]


def part(value: Any, name: str, **wanted: object) -> Any:
    """The first item of a list of the bundle that has these values."""
    return next(item for item in value[name] if all(item.get(key) == given for key, given in wanted.items()))


def objects(value: Any, kind: str) -> list[Any]:
    return [item["add"][kind] for table in value["nft"] for item in table["objects"] if kind in item["add"]]


def add_nft(value: Any, *commands: Any) -> None:
    part(value, "nft", family="inet")["objects"].extend(commands)


def own(**more: object) -> dict[str, object]:
    return {"family": "inet", "table": "netc", **more}


def rule(*expr: Any, chain: str | None = None) -> Change:
    def change(value: Any) -> None:
        add_nft(value, {"add": {"rule": own(chain=chain or objects(value, "rule")[0]["chain"], expr=list(expr))}})
    return change


def setting(group: str, key: str, value: Any, nic: str = "wan", **more: Any) -> Change:
    def change(bundle: Any) -> None:
        bundle["settings"].append({"nic": nic, "group": group, "key": key, "value": value, "prefer": False, "file": "p.netc", "line": 1, "text": "", **more})
    return change


def field(name: str, key: str, value: Any, **wanted: object) -> Change:
    return lambda bundle: part(bundle, name, **wanted).__setitem__(key, value)


def deep(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"&": [value, 1]}
    return value


PROGRAMS: dict[str, Change] = {
    "a map of four billion entries": field("maps", "max_entries", (1 << 32) - 1, kind="hash"),
    "a map of 4 GiB values": field("maps", "value_size", (1 << 32) - 1, kind="array"),
    "keys of no bytes": field("maps", "key_size", 0, kind="hash"),
    "counters in another size": field("maps", "value_size", 32, role="counters"),
    "an unknown kind of map": field("maps", "kind", "stack_trace"),
    "flags of the future": field("maps", "flags", (1 << 32) - 1, kind="hash"),
    "entries that do not fit": field("maps", "entries", "AAAA", kind="hash"),
    "a map that is not there": lambda b: b["maps"].pop(0),
    "a map twice": lambda b: b["maps"].append(b["maps"][0]),
    "a negative size": field("maps", "max_entries", -1, kind="hash"),
    "a program of a map that is not there": lambda b: part(b, "programs", hook="xdp")["maps"].append(77_777),
    "a program that hides its maps": field("programs", "maps", [], hook="xdp"),
    "a program of half an instruction": field("programs", "code", "AAAA"),
    "a program of zeros": field("programs", "code", "A" * 1024, hook="xdp"),
    "a program of noise": field("programs", "code", "/w" * 1024, hook="xdp"),
    "a program for kprobes": field("programs", "hook", "kprobe"),
    "a program of no nic": field("programs", "nic", "lan"),
    "a program's name with a path": field("programs", "name", "../../x\nflush", hook="xdp"),
    "a map's name with a quote": field("maps", "name", "a'; reboot #"),
}
NAMES: dict[str, Change] = {
    "a device with a path": field("nics", "device", "../wan0"),
    "a device with a command": field("nics", "device", "wan0;reboot"),
    "a device that is not there": field("nics", "device", "nope0"),
    "a device of all": field("nics", "device", "*"),
    "the loopback with native XDP": field("nics", "device", "lo"),
    "a nic's index past the mark": field("nics", "index", 16),
    "a nic twice": lambda b: b["nics"].append(dict(b["nics"][0], index=3)),
    "a counter of no program": field("counters", "program", "nope"),
    "a counter of no stage": field("counters", "stage", "nowhere"),
    "two counters in one place": lambda b: b["counters"].append(dict(part(b, "counters", stage="xdp", kind="rule"), name="wan.in.more")),
    "a set of no map": field("sets", "map", 77_777),
    "an expectation by an attribute": lambda b: b["expects"][0]["assertions"][0].update(what="__class__"),
    "an expectation by an unknown operator": lambda b: b["expects"][0]["assertions"][0].update(op="!="),
    "an expectation of nothing": lambda b: b["expects"][0]["assertions"][0].update(counter="wan.in.nope"),
    "a window of a year": field("expects", "window", 10**30),
}
NFT: dict[str, Change] = {
    "flush ruleset": lambda b: add_nft(b, {"flush": {"ruleset": None}}),
    "delete a foreign table": lambda b: add_nft(b, {"delete": {"table": {"family": "inet", "name": "mine"}}}),
    "a foreign table": lambda b: add_nft(b, {"add": {"table": {"family": "inet", "name": "mine"}}}),
    "a chain in a foreign table": lambda b: add_nft(b, {"add": {"chain": {"family": "inet", "table": "mine", "name": "c"}}}),
    "a rule in a foreign chain": lambda b: add_nft(b, {"add": {"rule": {"family": "inet", "table": "mine", "chain": "c", "expr": [{"drop": None}]}}}),
    "an included file": lambda b: add_nft(b, {"include": "/etc/shadow"}),
    "two commands in one": lambda b: add_nft(b, {"add": {"counter": own(name="x")}, "flush": {"ruleset": None}}),
    "a list where a name belongs": lambda b: add_nft(b, {"add": {"chain": own(name=["a", "b"])}}),
    "a chain's name that ends the statement": lambda b: add_nft(b, {"add": {"chain": own(name="a { }; flush ruleset; #")}}),
    "a chain's name for a shell": lambda b: add_nft(b, {"add": {"chain": own(name="$(reboot)")}}),
    "a chain on a foreign device": lambda b: part(b, "nft")["objects"].append({"add": {"chain": {
        "family": "netdev", "table": "netc", "name": "x_g$gen", "type": "filter", "hook": "ingress", "dev": "lo", "prio": 0, "policy": "drop"}}}),
    "a chain on all devices": lambda b: next(c for c in objects(b, "chain") if "hook" in c).update(dev="*"),
    "a chain of NAT": lambda b: add_nft(b, {"add": {"chain": own(name="n_g$gen", type="nat", hook="prerouting", prio=0, policy="accept")}}),
    "a dormant table": lambda b: objects(b, "table")[0].update(flags="dormant"),
    "a rule without statements": lambda b: objects(b, "rule")[0].pop("expr"),
    "a rule that is a text": lambda b: objects(b, "rule")[0].update(expr="drop"),
    "a packet for a program": rule({"queue": {"num": 0}}),
    "a packet for somewhere else": rule({"dup": {"addr": "192.0.2.66"}}),
    "a jump to a list": rule({"jump": {"target": ["a"]}}),
    "a jump to nowhere": rule({"jump": {"target": "nope"}}),
    "a counter that is a list": rule({"counter": ["a"]}),
    "a statement of everything": rule({"xt": {"type": "target", "name": "TEE"}}),
    "an expression without end": rule({"match": {"op": "==", "left": deep(40), "right": 1}}),
    "an expression past every stack": rule({"match": {"op": "==", "left": deep(200), "right": 1}}),
    "a number of 400 digits": rule({"match": {"op": "==", "left": {"meta": {"key": "mark"}}, "right": 10**400}}),
    "a negative number": rule({"match": {"op": "==", "left": {"payload": {"base": "nh", "offset": -8, "len": 8}}, "right": 1}}),
    "a payload of gigabytes": rule({"match": {"op": "==", "left": {"payload": {"base": "nh", "offset": 0, "len": 1 << 31}}, "right": 1}}),
    "a comment of a mebibyte": lambda b: objects(b, "rule")[0].update(comment="x" * (1 << 20)),
    "the same table twice": lambda b: b["nft"].append(b["nft"][0]),
}
SHAPES: dict[str, Change] = {
    "a tree without classes": field("trees", "classes", []),
    "a class without a place": lambda b: b["trees"][0]["classes"][2].update(parent="1:99"),
    "a class of the next generation": lambda b: b["trees"][0]["classes"][2].update(classid="1:1010"),
    "a class number that is none": lambda b: b["trees"][0]["classes"][2].update(classid="1:x; reboot"),
    "a class of no rate": lambda b: b["trees"][0]["classes"][2].update(rate=0),
    "a class of a huge quantum": lambda b: b["trees"][0]["classes"][2].update(quantum=1 << 40, prio=1 << 31),
    "a negative overhead": lambda b: b["trees"][0]["classes"][2].update(overhead=-1),
    "a queue of no kind": lambda b: b["trees"][0]["leaves"][1]["choices"][0].update(kind="netem"),
    "a queue without choices": lambda b: b["trees"][0]["leaves"][1].update(choices=[]),
    "an option that is a word": lambda b: b["trees"][0]["leaves"][1]["choices"][0].update(options={"limit": "many"}),
    "an option of 65 bits": lambda b: b["trees"][0]["leaves"][1]["choices"][0].update(options={"limit": 1 << 65}),
    "a shape to the side": field("trees", "direction", "sideways"),
    "another root": lambda b: b["trees"][0]["root"].update(handle="ffff:", parent="ingress", kind="clsact"),
}
SETTINGS: dict[str, Change] = {
    "a sysctl outside net": setting("sysctl", "kernel.core_pattern", "|/bin/sh", nic=""),
    "a sysctl with a path": setting("sysctl", "net/../kernel/core_pattern", "x", nic=""),
    "a sysctl with dots": setting("sysctl", "net.ipv4...kernel.core_pattern", "x", nic=""),
    "a sysctl by an absolute path": setting("sysctl", "net./etc/passwd", "x", nic=""),
    "a sysctl that goes up": setting("sysctl", "net.ipv4.//////kernel.core_pattern", "x", nic=""),
    "a sysctl of two lines": setting("sysctl", "net.ipv4.ip_forward", "1\n0", nic=""),
    "a sysctl with a zero byte": setting("sysctl", "net.ipv4.ip_forward\0x", "1", nic=""),
    "a sysctl of a nic": setting("sysctl", "net.ipv4.ip_forward", 1, nic="wan"),
    "a setting of no nic": setting("feature", "gro", 1, nic="lan"),
    "a setting of the host's": setting("feature", "gro", 1, nic=""),
    "a device as a key": setting("feature", "../../lo/flags", 1),
    "a ring of minus one": setting("ring", "rx", -1),
    "a ring of words": setting("ring", "rx", "much"),
    "channels past 64 bits": setting("channels", "combined", 1 << 70),
    "a list where a number belongs": setting("ring", "rx", [1, 2]),
    "no queues": setting("rss", "indirection", []),
    "CPUs that are words": setting("xps", "cpus", ["zero"]),
    "a CPU of 2^40": setting("rps", "cpus", [1 << 40]),
    "a flow rule that is none": setting("ntuple", "x", ["udp4", "dst-port", "99999", "action", "-1"]),
    "a flow rule of one word": setting("ntuple", "x", ["udp4"]),
    "a hash of nothing known": setting("hash", "tcp9", ["src-ip"]),
    "a setting in a group of its own": setting("firmware", "flash", "x"),
    "a preferred sysctl outside net": setting("sysctl", "kernel.sysrq", 1, nic="", prefer=True),
}
WHOLE: dict[str, Change] = {
    "a field more": lambda b: b.update(run="reboot"),
    "no programs at all": lambda b: b.pop("programs"),
    "numbers as words": lambda b: b["counters"][0].update(line="1"),
}  # fmt: skip


LIES = {"programs": PROGRAMS, "names": NAMES, "nft": NFT, "shapes": SHAPES, "settings": SETTINGS, "whole": WHOLE}


@pytest.mark.parametrize("kind", LIES)
def test_a_right_hash_over_a_lie(installed: Terminal, whole: bytes, kind: str) -> None:
    installed.host.run("nft", "add", "table", "inet", "mine")
    believed = []
    for lie, change in LIES[kind].items():
        value = content(whole)
        change(value)
        try:
            said = installed.refused("apply", installed.write("lie.bundle", sealed(value)))
            print(lie, said, sep=": ")
        except AssertionError as error:
            believed.append(f"{lie}: {error}")
            installed.done("apply", "good.netc")
    assert not believed, "\n".join(believed)


def test_a_right_hash_over_no_bundle(installed: Terminal) -> None:
    for text in (b"", b"null", b"[" * 200_000, b"\xff\xfe\x00", b'{"policy": NaN}', b'{"nics": 1e999}'):
        assert "bundle" in installed.refused("apply", installed.write("no.bundle", sealed_text(text)))


def test_the_honest_bundle_is_taken(installed: Terminal, whole: bytes) -> None:
    """Sealed by the test as the lies are: what refuses them is what they say."""
    installed.done("apply", installed.write("honest.bundle", sealed(content(whole))))
    assert json.loads(installed.done("status", "--json"))["policy"] == "shaped.netc"
