"""While an apply, a rollback or an undo goes on, a packet that the old and the new policy both drop never gets through."""

from __future__ import annotations

import pytest

from compiler import bundle as bundles
from compiler import profile
from compiler.pipeline import compile_policy
from compiler.source import Sources
from runtime import apply, state
from runtime.context import Context
from runtime.lab import netns
from runtime.steps import Step
from runtime.transaction import TransactionFailed
from tests.kernel.apply.hosts import ROOT, Host
from tests.kernel.apply.test_devices_above import addressed, inside, listen, send_to, taken

NIC = "nic wan {{ device wan0; xdp {mode} }}\nfilter wan in {{\n  {rules}\n}}\n"
STATELESS = "pass udp dport 53 as dns\n  default drop"
STATEFUL = "pass udp dport 53 as dns\n  pass established as est\n  default drop"
EARLY = "drop udp dport 1000 as telnet\n  drop invalid as bad\n  default pass"
LATE = "drop invalid as bad\n  drop udp dport 1000 as telnet\n  default pass"
CHANGES = {
    "a later stage comes": (STATELESS, STATEFUL), "a later stage goes": (STATEFUL, STATELESS),
    "a rule moves to the later stage": (EARLY, LATE), "a rule moves to the early stage": (LATE, EARLY),
}  # fmt: skip


class Failure(Exception):
    """What ends an apply that was all done."""


class Changing:
    """A host whose policy is changed step by step, in this process; before each step ten packets that nobody lets through are sent."""

    def __init__(self, host: Host, mode: str) -> None:
        inside(host.netns, addressed("wan0"))
        self.host, self.mode = host, mode
        self.store = state.Store(host.directory / "state")
        self.context = Context(host.directory / "state", host.directory / "bpf")
        self.mac = inside(host.netns, "ip -br link show wan0").split()[2]
        self.heard = listen(host.netns, 1000)
        self.passed = listen(host.netns, 53)
        self.through: list[str] = []
        self.lost: list[str] = []

    def apply(self, rules: str, watch: bool = True, fail: bool = False) -> None:
        path = self.host.write(NIC.format(mode=self.mode, rules=rules).encode(), "p.netc")
        made = compile_policy(path, profile.load(ROOT / "compiler/profiles/veth.yaml"), Sources())
        change = apply.Change("apply", bundles.encode(made.bundle), {"wan": "wan0"})

        def report(what: str, step: Step) -> None:
            if watch and what in ("do", "undo", "check", "clean"):
                self._try(f"before {what}: {step.text}")
            if fail and what == "check":
                raise Failure

        with netns.enter(self.host.netns):
            apply.apply(self.store, self.context, change, report)
        self._try("at the end")

    def close(self) -> None:
        self.heard.close()
        self.passed.close()

    def _try(self, where: str) -> None:
        send_to(self.host, self.mac, 1000)
        send_to(self.host, self.mac, 53)
        if taken(self.heard):
            self.through.append(where)
        if taken(self.passed) < 10:
            self.lost.append(where)


@pytest.fixture(params=["native", "generic", "none"])
def changing(request: pytest.FixtureRequest, host: Host):  # type: ignore[no-untyped-def]
    made = Changing(host, request.param)
    yield made
    made.close()


@pytest.mark.parametrize("change", CHANGES)
def test_nothing_gets_through_between_the_flips(changing: Changing, change: str) -> None:
    old, new = CHANGES[change]
    changing.apply(old, watch=False)
    changing.apply(new)
    assert changing.through == []
    assert changing.lost == [] or change.startswith("a later stage")  # for a moment everything is pending then: closed, not open


@pytest.mark.parametrize("rules", [STATELESS, STATEFUL, EARLY])
@pytest.mark.parametrize("modes", ["native none", "none native", "generic none"])
def test_nothing_gets_through_while_xdp_comes_or_goes(host: Host, modes: str, rules: str) -> None:
    old, new = modes.split()
    changing = Changing(host, old)
    changing.apply(rules, watch=False)
    changing.mode = new
    changing.apply(rules)
    changing.close()
    assert changing.through == []


@pytest.mark.parametrize("change", CHANGES)
def test_nothing_gets_through_while_an_apply_is_taken_back(changing: Changing, change: str) -> None:
    old, new = CHANGES[change]
    changing.apply(old, watch=False)
    with pytest.raises(TransactionFailed):
        changing.apply(new, fail=True)
    changing._try("taken back")
    assert changing.through == []
