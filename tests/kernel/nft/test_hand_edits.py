"""Whatever somebody changes by hand in netc's nft tables is noticed, named in the policy's words, and put right by the next apply."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from compiler import bundle, ir, pipeline, place, profile
from compiler.source import Sources
from runtime.backends import nft as backend
from runtime.backends import nft_netlink
from runtime.context import Context, Device
from runtime.steps import StepError
from runtime.steps import nft as steps
from tests.kernel.nft import nft_rig as rig

ROOT = Path(__file__).parents[3]
CHAIN, BASE = "netdev netc wan.in.ip4-udp_g1", "netdev netc wan.in.base_g1"


def policy(ports: int = 22) -> bundle.Bundle:
    discard = ir.Rule("discard", "drop", ir.Within(ir.Field.DPORT, ((ports, ports),)), text=f"drop dport {ports}")
    member = ir.Rule("office", "pass", ir.Member(ir.Field.SRC, "office"), text="pass src in office")
    limit = ir.Limit("wan.in.dns", 10**9 * ir.TICKS_PER_NS // 100, 50)
    dns = ir.Rule("dns", "pass", ir.Within(ir.Field.DPORT, ((53, 53),)), limit, text="pass dport 53 limit 100pps burst 50")
    est = ir.Rule("est", "pass", ir.Connection(("established",)), text="pass established")
    chain = ir.Chain("wan.in", "wan", "in", None, (discard, member, dns, est), "drop")
    office = ir.Set("office", "address", ((ir.V4_BASE + 0x0A000000, ir.V4_BASE + 0x0A0000FF), (ir.V4_BASE + 0x0B000000, ir.V4_BASE + 0x0B000000)))
    program = ir.Program(nics=(ir.Nic("wan", "wan0", "none"),), chains=(chain,), sets=(office,), settings=(rig.GRO_OFF,))
    return rig.bundle_of(rig.placed(program, place.ChainPlacement(chain, "ingress", 3, "conntrack")))


def nft(text: str) -> None:
    done = subprocess.run(["nft", "-f", "-"], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{text}\n{done.stderr}"


def listed() -> list[str]:
    """Everything but handles, counters' values and the generation's number; sets and chains sorted, rules in their order."""
    done = subprocess.run(["nft", "-s", "list", "ruleset"], capture_output=True, text=True, check=True)
    return sorted(re.split(r"\n\t(?=\w)", re.sub(r"_g\d+\b", "_gN", done.stdout)))


def handle(chain: str, comment: str) -> int:
    family, table, name = chain.split()
    rules = [item["rule"] for item in backend.list_table(family, table) if "rule" in item]
    return next(int(rule["handle"]) for rule in rules if rule["chain"] == name and rule.get("comment") == comment)


def reload(old: str, new: str) -> str:
    """The table saved as text, edited and loaded again, as an administrator does it."""
    text = subprocess.run(["nft", "list", "table", "netdev", "netc"], capture_output=True, text=True, check=True).stdout
    assert old in text
    return f"delete table netdev netc\n{text.replace(old, new)}"


def office() -> str:
    return next(name for name in backend.names(backend.list_table("netdev", "netc"), "set") if name.startswith("office.4"))


DISCARD, DNS = "drop dport 22", "pass dport 53 limit 100pps burst 50"
EDITS = {  # what is done by hand → the edit, and what the finding has to say
    "a port in a rule": (lambda: f'replace rule {CHAIN} handle {handle(CHAIN, DISCARD)} th dport 23 counter name "wan.in.discard" drop '
                                 f'comment "{DISCARD}"', f"the rule `{DISCARD}` was changed by hand"),
    "a verdict": (lambda: f'replace rule {CHAIN} handle {handle(CHAIN, DISCARD)} th dport 22 counter name "wan.in.discard" accept '
                          f'comment "{DISCARD}"', f"the rule `{DISCARD}` was changed by hand"),
    "a rule deleted": (lambda: f"delete rule {CHAIN} handle {handle(CHAIN, DISCARD)}", f"the rule `{DISCARD}` is not there"),
    "a rule inserted": (lambda: f"insert rule {CHAIN} accept", "a rule without a name is not the policy's"),
    "a rule appended": (lambda: f'add rule {CHAIN} accept comment "mine"', "the rule `mine` is not the policy's"),
    "a rule moved": (lambda: f"delete rule {CHAIN} handle {handle(CHAIN, DISCARD)}\n"
                             f'add rule {CHAIN} th dport 22 counter name "wan.in.discard" drop comment "{DISCARD}"', "stands at another place"),
    "a chain flushed": (lambda: f"flush chain {CHAIN}", f"the rule `{DISCARD}` is not there"),
    "a chain's policy": (lambda: f"chain {BASE} {{ type filter hook ingress device \"{rig.NEAR}\" priority 0; policy drop; }}"
                         .replace(f"chain {BASE}", f"add chain {BASE}"), "hook, priority or policy"),
    "a chain's device": (lambda: f"add chain {BASE} {{ type filter hook ingress devices = {{ {rig.FAR} }} priority 0; policy accept; }}", "its hook, device, priority or policy"),
    "a chain added": (lambda: "add chain netdev netc mine", "chain mine is not the policy's"),
    "an element deleted": (lambda: f"delete element netdev netc {office()} {{ 11.0.0.0 }}", "set office.4: its members are not the policy's"),
    "an element added": (lambda: f"add element netdev netc {office()} {{ 12.0.0.0 }}", "set office.4: its members are not the policy's"),
    "a set flushed": (lambda: f"flush set netdev netc {office()}", "set office.4: its members are not the policy's"),
    "a limit's rate": (lambda: reload("rate 100/second", "rate 100000/second"), "the table was changed by hand"),
    "a table deleted": (lambda: "delete table netdev netc", "it is not there"),
    "everything flushed": (lambda: "flush ruleset", "it is not there"),
}  # fmt: skip


def check(context: Context, made: bundle.Bundle, generation: int) -> None:
    for step in steps.steps(context, made, None, generation):
        step.check()


@pytest.mark.parametrize("edit", EDITS)
def test_a_change_by_hand_is_named_and_put_right(netns: str, tmp_path: Path, edit: str) -> None:
    made = policy()
    command, words = EDITS[edit]
    with rig.wire(netns, tmp_path) as wire:
        rig.apply(wire.context, made, None, 1)
        check(wire.context, made, 1)
        before = listed()
        nft(command())
        with pytest.raises(StepError, match="help: apply again") as found:
            check(wire.context, made, 1)
        assert words in str(found.value)
        rig.apply(wire.context, made, made, 2)
        check(wire.context, made, 2)
        assert listed() == before


def test_without_a_record_nothing_is_taken_for_true(netns: str, tmp_path: Path) -> None:
    with rig.wire(netns, tmp_path) as wire:
        rig.apply(wire.context, policy(), None, 1)
        (tmp_path / "nft.json").unlink()
        with pytest.raises(StepError, match="no record"):
            check(wire.context, policy(), 1)
        rig.apply(wire.context, policy(), policy(), 2)
        check(wire.context, policy(), 2)
        rig.apply(wire.context, None, policy(), 3)
        assert not (tmp_path / "nft.json").exists()


def test_traffic_and_an_apply_taken_back_are_no_change(netns: str, tmp_path: Path) -> None:
    made = policy()
    with rig.wire(netns, tmp_path) as wire:
        rig.apply(wire.context, made, None, 1)
        from tests.kernel.nft.test_swap import frame

        wire.send([frame(22), frame(53), frame(80)])
        wire.settled(made, ("ingress", "wan.in.seen"), 3)
        check(wire.context, made, 1)
        other = steps.steps(wire.context, policy(80), made, 2)
        other[1].do()
        other[1].undo()
        check(wire.context, made, 1)


@pytest.mark.parametrize("path", sorted((ROOT / "policies").glob("*.netc")), ids=lambda path: path.stem)
def test_no_false_alarm(netns: str, tmp_path: Path, path: Path) -> None:
    made = pipeline.compile_policy(path, profile.load(ROOT / "compiler/profiles/veth.yaml"), Sources()).bundle
    with rig.wire(netns, tmp_path) as wire:
        near, far = (device.ifindex for device in wire.context.devices)
        context = Context(tmp_path, tmp_path, (Device("wan", rig.NEAR, near), Device("lan", rig.FAR, far)), netns)
        for generation in (1, 2):
            rig.apply(context, made, made if generation == 2 else None, generation)
            check(context, made, generation)


def test_a_large_set_is_read_once(netns: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second for 100,000 elements is paid when they were loaded, and again only when somebody has changed something in nft."""
    read: list[str] = []
    whole = nft_netlink.elements

    def watched(family: str, table: str, name: str) -> str:
        read.append(name)
        return whole(family, table, name)

    monkeypatch.setattr(nft_netlink, "elements", watched)
    made, other = policy(), policy(80)
    with rig.wire(netns, tmp_path) as wire:
        rig.apply(wire.context, made, None, 1)
        assert len(read) == 2, "office.4 and office.6 when they are loaded"
        rig.apply(wire.context, other, made, 2)
        check(wire.context, other, 2)
        assert len(read) == 2
        nft("add table inet foreign")
        check(wire.context, other, 2)
        assert len(read) == 4
