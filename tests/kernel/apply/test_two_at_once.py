"""Two changes at once: one wins, the other is told at once who is at work and since when; what is there then is one of the two, whole.

Real processes: each is forked off a server that has the modules loaded, enters the host's namespace, waits for its rival and runs the command.
A round in which both came through one after the other proves nothing and is run again.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.apply.hosts import DNS, ESTABLISHED, SSH, Host, made, program
from tests.kernel.apply.test_plan import WEB

SOME, ALL = 8, 1000  # contested rounds
BUSY = re.compile(r"netc (apply|rollback|remove|set)(.*) \(pid \d+, since \d\d:\d\d:\d\d\) is at work in ")


class Rival:
    """One netc command in a process of its own, held at the start until everybody's `gate` (a pipe) is closed."""

    def __init__(self, host: Host, arguments: list[str], number: int, gate: tuple[int, int]) -> None:
        self.out = host.directory / f"rival{number}.out"
        read, ready = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            status = 70
            try:
                os.close(gate[1])  # else nobody would ever be let go
                status = _run(host, arguments, self.out, ready, gate[0])
            finally:
                os._exit(status)
        os.close(ready)
        os.read(read, 1)
        os.close(read)

    def ended(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def _run(host: Host, arguments: list[str], out: Path, ready: int, start: int) -> int:
    """In the child: everything imported, in the namespace, output in a file; then the race."""
    from runtime import apply, cli  # noqa: F401
    from runtime.commands import apply as command  # noqa: F401
    from runtime.lab import netns

    with netns.enter(host.netns), out.open("w") as text:
        sys.stdout = sys.stderr = text
        os.write(ready, b"x")
        os.close(ready)
        os.read(start, 1)
        return cli.main([*arguments, "--state-dir", str(host.directory / "state"), "--bpffs", str(host.directory / "bpf")])


def race(host: Host, *commands: list[str]) -> list[tuple[int, str]]:
    """(exit status, what was said) of commands that start at the same instant."""
    gate = os.pipe()
    rivals = [Rival(host, command, number, gate) for number, command in enumerate(commands)]
    for end in gate:
        os.close(end)
    return [(rival.ended(), rival.out.read_text()) for rival in rivals]


def contested(host: Host, commands: list[list[str]], rounds: int) -> Iterator[list[tuple[int, str]]]:
    """Races in which one met the other; those that came through in turn are run again, thrice as many in all at most."""
    met = 0
    for _ in range(3 * rounds):
        if met == rounds:
            return
        ended = race(host, *commands)
        assert {status for status, _ in ended} <= {0, 1}, ended
        if [status for status, _ in ended] != [0] * len(ended):
            met += 1
            yield ended
    assert met == rounds, f"only {met} of {3 * rounds} races were contested"


def one_winner(ended: list[tuple[int, str]]) -> int:
    """The number of the winner; every other one was told, and changed nothing."""
    winners = [number for number, (status, _) in enumerate(ended) if status == 0]
    assert len(winners) == 1, ended
    for number, (_, said) in enumerate(ended):
        assert number in winners or (BUSY.search(said) and "nothing was changed, try again" in said), said
    return winners[0]


def generation(host: Host) -> int:
    return int(json.loads((host.directory / "state/state.json").read_text())["generation"])


@pytest.fixture
def two(host: Host) -> tuple[Host, list[list[str]]]:
    bundles = [host.write(made(program(*rules, ESTABLISHED), f"{name}.netc"), f"{name}.bundle") for name, rules in (("a", (DNS, SSH)), ("b", (DNS, WEB)))]
    host.netc("apply", bundles[0])
    return host, [["apply", str(bundle)] for bundle in bundles]


def double_applies(host: Host, commands: list[list[str]], rounds: int) -> None:
    for number, ended in enumerate(contested(host, commands, rounds)):
        winner = one_winner(ended)
        record = json.loads((host.directory / "state/state.json").read_text())
        said = ended[winner][1]
        assert record["current"]["policy"] == f"{'ab'[winner]}.netc" and (said.count("applied: ") or said.count("nothing to do: ")) == 1
        assert not (host.directory / "state/journal.jsonl").exists()
        if number % 100 == 0:
            assert host.json("verify")["ok"]
    assert host.json("verify")["ok"] and len({pin.split("/")[1] for pin in host.attached()["pins"] if "gen-" in pin}) == 1


def test_of_two_applies_one_wins(two: tuple[Host, list[list[str]]]) -> None:
    double_applies(*two, SOME)


@pytest.mark.long
def test_of_a_thousand_double_applies_one_wins_each_time(two: tuple[Host, list[list[str]]]) -> None:
    double_applies(*two, ALL)


@pytest.mark.parametrize("other", ["rollback", "remove"])
def test_an_apply_beside_another_command(two: tuple[Host, list[list[str]]], other: str) -> None:
    host, (first, second) = two
    host.netc(*second)
    for ended in contested(host, [first, [other]], 3):
        winner = one_winner(ended)
        record = json.loads((host.directory / "state/state.json").read_text())
        removed = other == "remove" and winner == 1
        assert (record["current"] is None) == removed
        if removed:
            assert "inet netc" not in host.attached()["tables"] and host.attached()["xdp"] is None
        else:
            assert host.json("verify")["ok"]
        host.netc(*second)


def test_an_apply_beside_a_change_of_a_fixed_set(host: Host) -> None:
    """A set's change waits for the apply; what it was made for is looked at again under the lock, so that neither is lost half way."""
    policy = host.directory / "p.netc"
    policy.write_text("nic wan { device wan0; xdp native }\nset office = { 198.51.100.0/24 }\nfilter wan in { pass src in office as o\n default drop }\n")
    other = host.write(made(program(DNS, SSH, ESTABLISHED), "other.netc"), "other.bundle")
    host.netc("apply", policy)
    for number in range(2):
        (applied, said), (changed, told) = race(host, ["apply", str(other)], ["set", "add", "office", f"192.0.2.{number}"])
        assert applied == 0 or BUSY.search(said), said
        assert changed == 0 or "office" in told or "set" in told, told
        status = host.json("status")
        assert status["policy"] == ("other.netc" if applied == 0 else "p.netc") and host.json("verify")["ok"]
        host.netc("apply", policy)


def test_who_is_told_since_when(two: tuple[Host, list[list[str]]]) -> None:
    from runtime import lock

    host, (_, second) = two
    with lock.exclusive(host.directory / "state", "apply"):
        refused = host.netc(*second, status=1).stderr
        assert f"netc apply (pid {os.getpid()}, since " in refused
    assert generation(host) == 1
