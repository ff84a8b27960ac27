"""One apply after another: one transaction each, counters kept, nothing foreign touched, what failed leaves all as it was."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import msgspec
import pytest

from compiler import bundle, frames, ir, place
from runtime.backends import nft as backend
from runtime.context import Context
from runtime.steps import PartlyDoneError, StepError
from runtime.steps import nft as steps
from tests.kernel.nft import nft_rig as rig

F = ir.Field
NETDEV = {"family": "netdev", "table": "netc"}


def policy(*ports: int, set_members: ir.Ranges = ((5, 7), (ir.V4_BASE + 1, ir.V4_BASE + 9))) -> bundle.Bundle:
    rules = tuple(ir.Rule(f"p{port}", "drop", ir.Within(F.DPORT, ((port, port),)), text=f"drop dport {port}") for port in ports)
    member = ir.Rule("office", "pass", ir.Member(F.SRC, "office"))
    est = ir.Rule("est", "pass", ir.Connection(("established",)))
    chain = ir.Chain("wan.in", "wan", "in", None, (*rules, member, est), "drop")
    sets = (ir.Set("office", "address", set_members), ir.Set("none", "address"))
    program = ir.Program(nics=(ir.Nic("wan", "wan0", "none"),), chains=(chain,), sets=sets)
    return rig.bundle_of(rig.placed(program, place.ChainPlacement(chain, "ingress", len(rules) + 1, "conntrack")))


def frame(port: int) -> bytes:
    return frames.build(ir.PacketSpec("udp", "203.0.113.9", "192.0.2.1", 1, port))


def state() -> list[str]:
    """Everything in netc's tables but the handles, as sorted texts."""
    items = [item for family, name in sorted(backend.tables()) for item in backend.list_table(family, name)]
    for item in items:
        next(iter(item.values())).pop("handle", None)
    return sorted(json.dumps(item, sort_keys=True) for item in items)


def test_counters_survive_and_leave_with_their_rule(netns: str, tmp_path: Path) -> None:
    first, second = policy(22, 23), policy(21, 22)
    with rig.wire(netns, tmp_path) as wire:
        rig.apply(wire.context, first, None, 1)
        wire.send([frame(22), frame(22), frame(23)])
        wire.settled(first, ("ingress", "wan.in.seen"), 3)
        rig.apply(wire.context, second, first, 2)
        found = wire.counters(second)
        assert found["ingress", "wan.in.p22"][0] == 2 and found["ingress", "wan.in.p21"][0] == 0
        assert "wan.in.p23" not in backend.counters("netdev", "netc")
        assert {name.rpartition("_g")[2] for name in rig.names(second, "netdev") if "_g" in name} == {"2"}
        rig.apply(wire.context, None, second, 3)
        assert backend.tables() == set()


def test_undo_brings_the_old_generation_back(netns: str, tmp_path: Path) -> None:
    first, second = policy(22), policy(80)
    with rig.wire(netns, tmp_path) as wire:
        rig.apply(wire.context, first, None, 1)
        wire.send([frame(22)])
        wire.settled(first, ("ingress", "wan.in.seen"), 1)
        before = state()
        made = steps.steps(wire.context, second, first, 2)
        for step in made[:2]:
            step.do()
        assert state() != before
        again = steps.steps(wire.context, second, first, 2)  # another process takes it back
        for step in reversed(again[:2]):
            step.undo()
        assert state() == before
        fresh = steps.steps(wire.context, None, first, 2)
        fresh[1].do()
        fresh[1].undo()
        assert state() == before


def test_undo_of_the_first_apply_leaves_nothing(netns: str, tmp_path: Path) -> None:
    with rig.wire(netns, tmp_path) as wire:
        made = steps.steps(wire.context, policy(22), None, 1)
        made[1].do()
        made[1].undo()
        assert backend.tables() == set()


def test_a_foreign_table_is_refused_and_left_alone(netns: str, tmp_path: Path) -> None:
    with rig.wire(netns, tmp_path) as wire:
        backend.run([{"add": {"table": {"family": "netdev", "name": "netc"}}}, {"add": {"counter": {**NETDEV, "name": "mine"}}}])
        before = state()
        with pytest.raises(StepError, match="netc did not make it"):
            steps.steps(wire.context, policy(22), None, 1)
        assert state() == before


def test_what_the_kernel_refuses_changes_nothing(netns: str, tmp_path: Path) -> None:
    good = policy(22)
    with rig.wire(netns, tmp_path) as wire:
        rig.apply(wire.context, good, None, 1)
        before = state()
        rule = {"rule": {**NETDEV, "chain": "wan.in.base_g$gen", "expr": [{"goto": {"target": "nowhere"}}]}}
        bad = next(t for t in policy(80).nft if t.family == "netdev")
        bad = msgspec.structs.replace(bad, objects=(*bad.objects, msgspec.Raw(msgspec.json.encode({"add": rule}))))
        dry, swap, _ = steps.steps(wire.context, msgspec.structs.replace(policy(80), nft=(bad,)), good, 2)
        with pytest.raises(StepError, match="No such file or directory"):
            dry.do()
        with pytest.raises(PartlyDoneError, match="old rules are still in force"):
            swap.do()  # what no packet meets is there by then
        swap.undo()
        dry.undo()
        assert state() == before
        gone = Context(tmp_path, tmp_path, (wire.context.devices[0]._replace(name="ntgone"),), netns)
        with pytest.raises(StepError, match="no such device: ntgone"):
            steps.steps(gone, good, good, 2)
        with pytest.raises(StepError, match="--nic wan=DEVICE"):
            steps.steps(Context(tmp_path, tmp_path, (), netns), good, good, 2)


@pytest.mark.parametrize("change", ["rule", "chain", "counter", "table", "flush"])
def test_a_change_by_hand_is_found(netns: str, tmp_path: Path, change: str) -> None:
    made = policy(22)
    rule = {"rule": {**NETDEV, "chain": "wan.in.base_g1", "expr": [{"accept": None}]}}
    commands = {
        "rule": {"insert": rule}, "chain": {"add": {"chain": {**NETDEV, "name": "other"}}},
        "counter": {"delete": {"rule": {**NETDEV, "chain": "wan.in.to-pass_g1", "handle": 0}}},
        "table": {"delete": {"table": {"family": "inet", "name": "netc"}}},
        "flush": {"flush": {"chain": {**NETDEV, "name": "wan.in.sort_g1"}}},
    }  # fmt: skip
    with rig.wire(netns, tmp_path) as wire:
        rig.apply(wire.context, made, None, 1)
        if change == "counter":
            rules = [i["rule"] for i in backend.list_table("netdev", "netc") if "rule" in i]
            commands["counter"]["delete"]["rule"]["handle"] = next(r["handle"] for r in rules if r["chain"] == "wan.in.to-pass_g1")
        backend.run([commands[change]])
        with pytest.raises(StepError, match="apply again"):
            for step in steps.steps(wire.context, made, made, 1):
                step.check()


def test_a_bundle_may_only_add_to_its_own_tables(netns: str, tmp_path: Path) -> None:
    made = policy(22)
    evil = [{"flush": {"ruleset": None}}, {"add": {"rule": {"family": "inet", "table": "other", "chain": "c", "expr": []}}}]
    with rig.wire(netns, tmp_path) as wire:
        for command in evil:
            bad = msgspec.structs.replace(made.nft[0], objects=(*made.nft[0].objects, msgspec.Raw(msgspec.json.encode(command))))
            with pytest.raises(StepError, match="more than add"):
                steps.steps(wire.context, msgspec.structs.replace(made, nft=(bad,)), None, 1)
        assert backend.tables() == set()


def test_what_is_installed_reads_back_as_nft_text(netns: str, tmp_path: Path) -> None:
    """A person can save what `nft list ruleset` prints and load it again: no name or comment breaks the grammar."""
    hostile = 'drop "; flush ruleset; # `$(id)` \\" \x1b[31m $dev:wan @set'
    rule = ir.Rule("a-b_c", "drop", ir.Is("udp"), None, (ir.Log(),), hostile)
    chain = ir.Chain("wan->lan", "wan", "forward", "lan", (rule,), "drop")
    program = ir.Program(nics=(ir.Nic("wan", "wan0"), ir.Nic("lan", "lan0")), chains=(chain,))
    made = rig.bundle_of(rig.placed(program, forwards=(place.ChainPlacement(chain, "", 0, "conntrack"),)))
    with rig.wire(netns, tmp_path) as wire:
        rig.apply(wire.context, made, None, 1)
        listed = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
        again = subprocess.run(["nft", "-c", "-f", "-"], input=listed, capture_output=True, text=True, check=False)
        assert again.returncode == 0, again.stderr
        assert ("conntrack", "wan->lan.a-b_c") in wire.counters(made)
    assert "\x1b" not in listed


def test_a_set_that_did_not_change_is_not_loaded_again(netns: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []
    run = backend.run

    def watched(commands: list[backend.Json], dry_run: bool = False, terse: bool = False) -> list[backend.Json]:
        sent.extend(json.dumps(command) for command in commands if "set" in command.get("add", {}))
        return run(commands, dry_run, terse)

    with rig.wire(netns, tmp_path) as wire:
        rig.apply(wire.context, policy(22), None, 1)
        monkeypatch.setattr(backend, "run", watched)
        rig.apply(wire.context, policy(80), policy(22), 2)
        assert sent == []
        changed = policy(80, set_members=((5, 7), (ir.V4_BASE + 1, ir.V4_BASE + 10)))
        rig.apply(wire.context, changed, policy(80), 3)
        assert len([text for text in sent if "0.0.0.10" in text]) == 2, "a dry run and the swap"
        assert len({text for text in sent}) == 1, "the IPv6 part did not change"
        names = {name for family in ("inet", "netdev") for name in backend.names(backend.list_table(family, "netc"), "set")}
        assert len(names) == 2


def test_a_limit_that_was_spent_is_not_filled_again_by_an_apply(netns: str, tmp_path: Path) -> None:
    def limited(*ports: int) -> bundle.Bundle:
        """One token a second, 100 deep, for port 53; the other ports only make another policy of it."""
        limit = ir.Limit("wan.in.dns", 10**9 * ir.TICKS_PER_NS, 100)
        dns = ir.Rule("dns", "pass", ir.Within(F.DPORT, ((53, 53),)), limit, text="pass dport 53 limit")
        others = tuple(ir.Rule(f"p{port}", "drop", ir.Within(F.DPORT, ((port, port),))) for port in ports)
        chain = ir.Chain("wan.in", "wan", "in", None, (dns, *others), "drop")
        program = ir.Program(nics=(ir.Nic("wan", "wan0", "none"),), chains=(chain,), settings=(rig.GRO_OFF,))
        return rig.bundle_of(rig.placed(program, place.ChainPlacement(chain, "ingress", len(others) + 1, "")))

    first, second = limited(22), limited(80)
    with rig.wire(netns, tmp_path) as wire:
        rig.apply(wire.context, first, None, 1)
        wire.send([frame(53)] * 150)
        spent = wire.settled(first, ("ingress", "wan.in.seen"), 150)["ingress", "wan.in.dns"][0]
        assert spent >= 100
        rig.apply(wire.context, second, first, 2)
        wire.send([frame(53)] * 150)
        again = wire.settled(second, ("ingress", "wan.in.seen"), 300)["ingress", "wan.in.dns"][0] - spent
        assert again < 50, "what came back in the seconds between, not the whole burst"
