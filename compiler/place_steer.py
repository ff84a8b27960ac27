"""Placement of steering: in the NIC where it can be, else by XDP onto CPUs, devices and sockets, else, of all packets, by the stack (RPS)."""

from __future__ import annotations

from dataclasses import replace

from compiler import ir
from compiler.place_chain import Findings
from compiler.place_flow_rules import FlowTable
from compiler.place_ntuple import Words
from compiler.place_reach import may_be_undecided
from compiler.placed import STEERS_IN_XDP, ChainPlacement, SteerPlacement
from compiler.profile import Profile
from compiler.space import Space


def place_steer(
    program: ir.Program, steer: ir.Steer, nic: ir.Nic, chains: tuple[ChainPlacement, ...], profile: Profile, findings: Findings
) -> list[SteerPlacement]:
    """Decide for every rule of one steer block in order; the default comes last as a rule that matches everything."""
    return [*_Steering(program, steer, nic, chains, profile, findings).place()]


def cpus_of_queues(program: ir.Program, nic: str) -> tuple[int, ...]:
    """The CPUs that serve the nic's queues in order (`queues N on cpus L`); empty: CPU = queue number."""
    for setting in program.settings:
        if setting.nic == nic and (setting.group, setting.key) == ("irq", "cpus") and isinstance(setting.value, tuple):
            return tuple(int(cpu) for cpu in setting.value)
    return ()


class _Steering:
    def __init__(
        self, program: ir.Program, steer: ir.Steer, nic: ir.Nic, chains: tuple[ChainPlacement, ...], profile: Profile, findings: Findings
    ) -> None:
        self.program, self.steer, self.nic, self.profile, self.findings = program, steer, nic, profile, findings
        self.space = Space(program)
        self.incoming = next((chain for chain in chains if chain.chain.direction == "in"), None)
        self.queue_cpus = cpus_of_queues(program, nic.name)
        self.table = FlowTable(program, nic.name, profile, self.space)

    def place(self) -> list[SteerPlacement]:
        placed = [self._place_rule(rule, self.steer.rules[:index]) for index, rule in enumerate(self.steer.rules)]
        if self.steer.default is not None:
            rule = ir.SteerRule("default", ir.Const(True), self.steer.default, self.steer.prefer, "default", self.steer.span)
            placed.append(self._place_default(rule, [item for item in placed if item.where]))
        if not any(item.where in STEERS_IN_XDP for item in placed):
            self._check_uncounted()
        return placed

    def _check_uncounted(self) -> None:
        """Neither the NIC nor the stack counts what it steers: an expectation of such a counter could only break (LANGUAGE.md, meaning 13)."""
        for expect in self.program.expects:
            for asked in expect.assertions:
                if f"{self.steer.name}." in (asked.counter[: len(self.steer.name) + 1], asked.of[: len(self.steer.name) + 1]):
                    helps = "ask for a counter of the filter; a target that XDP reaches (`to cpus`) is counted"
                    words = f"`{asked.text or asked.counter}` cannot be measured: nothing of {self.steer.name} runs in XDP, and the NIC counts no flow rules"
                    self.findings.error("N719", words, asked.span, helps, ((self.steer.span, "steered here"),))

    def _place_rule(self, rule: ir.SteerRule, earlier: tuple[ir.SteerRule, ...]) -> SteerPlacement:
        if rule.target.kind == "queues":
            return self._place_queues(rule, earlier)
        if rule.target.kind == "drop":
            return self._place_drop(rule, earlier)
        return self._place_elsewhere(rule)

    def _place_default(self, rule: ir.SteerRule, others: list[SteerPlacement]) -> SteerPlacement:
        """others: the rules that are placed somewhere, which RPS would not leave alone."""
        table = self.profile.rss.indirection
        if rule.target.kind == "drop":
            return self._place_drop(rule, self.steer.rules)
        if rule.target.kind == "queues" and table:
            self._need(rule, "rss", "indirection", rule.target.numbers)
            return self._done(rule, "rss", f"the NIC's RSS indirection table ({table} entries) spreads over these queues")
        queues = rule.target.kind == "queues"
        cpus = self._serving(rule.target.numbers) if queues else rule.target.numbers
        if cpus and not others and (why := self._no_redirect()):
            return self._by_stack(rule, cpus, f"{why}; the stack (RPS) spreads over these CPUs: it can for all packets alike, not for some of them")
        return self._on_cpus(rule, f"the target {self.profile.name!r} has no RSS indirection table") if queues else self._place_elsewhere(rule)

    def _place_queues(self, rule: ir.SteerRule, earlier: tuple[ir.SteerRule, ...]) -> SteerPlacement:
        why_not, specs = self.table.queues(rule, earlier)
        if why_not:
            return self._on_cpus(rule, why_not)
        numbers = rule.target.numbers
        named = self.table.contexts.get(numbers, "")
        if named == rule.name:
            self._need(rule, "rss-context", rule.name, numbers)
        self._flow_rules(rule, specs)
        how = f"that name the RSS context `{named}`, which spreads over {len(numbers)} queues" if named else "in the NIC"
        return self._done(rule, "rss-context" if named else "ntuple", f"{len(specs)} flow rule(s) {how}; later fragments carry no ports and follow RSS")

    def _place_drop(self, rule: ir.SteerRule, earlier: tuple[ir.SteerRule, ...]) -> SteerPlacement:
        """In XDP, behind the filter, counted. In the NIC as well where it can: it never sees all of them (fragments, tags)."""
        self._check_leaves_stack(rule)
        if self.nic.xdp == "none":
            helps = "allow XDP on the nic, or drop them in the filter"
            return self._cannot(rule, "N708", f"it needs XDP to drop what passed the filter, and nic {self.nic.name} says `xdp none`", helps)
        why_not, specs = self.table.drops(rule, earlier, self.incoming.chain if self.incoming else None)
        if why_not:
            return self._done(rule, "drop", f"XDP drops it behind the filter and counts it; not in the NIC: {why_not}")
        self._flow_rules(replace(rule, prefer=True), specs)  # where the NIC refuses them XDP still drops
        why = f"{len(specs)} flow rule(s) drop in the NIC, before the filter and not counted; what it does not recognise XDP drops and counts"
        return self._done(rule, "drop", why)

    def _flow_rules(self, rule: ir.SteerRule, specs: list[Words]) -> None:
        for number, spec in enumerate(specs):
            self._need(rule, "ntuple", f"{rule.name}/{number}", spec)

    def _on_cpus(self, rule: ir.SteerRule, why: str) -> SteerPlacement:
        """A queue's flow goes to the CPU that serves the queue."""
        target = ir.Target("cpus", self._serving(rule.target.numbers))
        return self._by_xdp(replace(rule, target=target), rule, "cpumap", f"{why}; XDP moves it to the CPUs that serve these queues")

    def _serving(self, queues: tuple[int, ...]) -> tuple[int, ...]:
        serving = self.queue_cpus
        return tuple(dict.fromkeys(serving[q % len(serving)] if serving else q for q in queues))

    def _place_elsewhere(self, rule: ir.SteerRule) -> SteerPlacement:
        match rule.target.kind:
            case "cpus":
                return self._by_xdp(rule, rule, "cpumap", "XDP hands the packet to that CPU's queue")
            case "nic":
                self._check_leaves_stack(rule)
                self._check_way_out(rule)
                return self._by_nic(rule)
            case "socket":
                self._check_leaves_stack(rule)
                return self._by_xdp(rule, rule, "xskmap", "XDP hands the frame to the AF_XDP socket")
        raise ValueError(f"steer target {rule.target.kind!r}")

    def _by_xdp(self, aimed: ir.SteerRule, rule: ir.SteerRule, where: str, why: str) -> SteerPlacement:
        if obstacle := self._xdp_obstacle(aimed, where):
            return self._cannot(rule, *obstacle)
        cpus = aimed.target.numbers if where == "cpumap" else ()
        if cpus:
            self._need(rule, "require", "cpus", cpus)
        return self._done(rule, where, why, cpus)

    def _by_nic(self, rule: ir.SteerRule) -> SteerPlacement:
        """The other nic must be able to send what XDP redirects to it: what it cannot send is lost without a word."""
        placed = self._by_xdp(rule, rule, "devmap", "XDP redirects by the kernel's routes; what has no route goes to the stack")
        if placed.where and self.nic.xdp == "native":
            key = f"{self.steer.name}.{rule.name}.ndo-xmit"
            self.findings.settings.append(ir.Setting(rule.target.name, "require", key, (1,), False, rule.text or rule.name, rule.span))
        return placed

    def _by_stack(self, rule: ir.SteerRule, cpus: tuple[int, ...], why: str) -> SteerPlacement:
        if obstacle := self._beyond(cpus):
            return self._cannot(rule, *obstacle)
        self._need(rule, "rps", "cpus", cpus)
        return self._done(rule, "rps", why)

    def _no_redirect(self) -> str:
        """Why XDP cannot hand a packet to a CPU, a device or a socket here; "" where it can."""
        if self.nic.xdp == "none":
            return f"nic {self.nic.name} says `xdp none`"
        return "" if self.profile.xdp.redirect else f"the target {self.profile.name!r} has no XDP redirect"

    def _xdp_obstacle(self, rule: ir.SteerRule, where: str) -> tuple[str, str, str] | None:
        """Code, words and help of what keeps XDP from doing it."""
        if whose := self._no_redirect():
            return "N708", f"it needs XDP to redirect, and {whose}", "allow XDP on the nic, steer to queues, or write `prefer`"
        if where != "cpumap":
            return None
        if self.incoming is not None and self.incoming.late and not self.profile.xdp.cpumap_metadata:
            helps = "put no stateful rule in the filter, or use a kernel from 6.16 on (of the 6.12 series: from 6.12.117 on)"
            return "N710", "a redirect to a CPU loses the XDP metadata here, which carries verdicts to the stateful rules", helps
        return self._beyond(rule.target.numbers)

    def _beyond(self, cpus: tuple[int, ...]) -> tuple[str, str, str] | None:
        beyond = [cpu for cpu in cpus if self.profile.cpus and cpu >= self.profile.cpus]
        if beyond:
            helps = f"name CPUs from 0 to {self.profile.cpus - 1}, or write `prefer`"
            return "N709", f"CPU {', '.join(map(str, beyond))} is not in the target {self.profile.name!r}, which has {self.profile.cpus}", helps
        return None

    def _check_leaves_stack(self, rule: ir.SteerRule) -> None:
        """Such packets must be wholly judged before they leave (LANGUAGE.md, meaning 8)."""
        if self.incoming is None or not self.incoming.late:
            return
        if not (example := may_be_undecided(rule.when, self.incoming, self.space)):
            return
        stateful = self.incoming.chain.rules[min(self.incoming.split, len(self.incoming.chain.rules) - 1)]
        words = f"`{rule.text or rule.name}` takes packets from the stack that {self.incoming.chain.name} has not judged yet ({example})"
        helps = "judge all of them before the first stateful rule: a `pass` or `drop` without `limit` that covers what is steered"
        self.findings.error("N706", words, rule.span, helps, ((stateful.span, "they would be judged from here on"),))

    def _check_way_out(self, rule: ir.SteerRule) -> None:
        """A redirect goes around everything that the target does with what it sends."""
        out, steered = rule.target.name, rule.text or rule.name
        for chain in self.program.chains:
            if (chain.direction, chain.nic) == ("out", out) or (chain.direction, chain.nic, chain.to) == ("forward", self.nic.name, out):
                helps = f"take the rule out, or move what {chain.name} judges to `filter {self.nic.name} in`"
                self.findings.error("N707", f"`{steered}` would go around the filter {chain.name}", rule.span, helps, ((chain.span, "skipped"),))
        for shape in self.program.shapes:
            if shape.nic == out and shape.direction == "out":
                helps = "let the stack route these packets, or take the shape out"
                self.findings.error("N707", f"`{steered}` would go around {shape.name}", rule.span, helps, ((shape.span, "skipped"),))

    def _cannot(self, rule: ir.SteerRule, code: str, words: str, helps: str) -> SteerPlacement:
        if rule.prefer:
            return self._done(rule, "", f"skipped: {words}")
        self.findings.error(code, f"`{rule.text or rule.name}`: {words}", rule.span, helps)
        return SteerPlacement(rule, "")

    def _need(self, rule: ir.SteerRule, group: str, key: str, value: tuple[int | str, ...]) -> None:
        name = key if group in ("rss", "rss-context", "rps") else f"{self.steer.name}.{key}" if group == "ntuple" else f"{self.steer.name}.{rule.name}.{key}"
        self.findings.settings.append(ir.Setting(self.nic.name, group, name, value, rule.prefer, rule.text or rule.name, rule.span))

    def _done(self, rule: ir.SteerRule, where: str, why: str, cpus: tuple[int, ...] = ()) -> SteerPlacement:
        self.findings.reason(f"{self.steer.name}.{rule.name}", where or "skipped", why, rule.span)
        return SteerPlacement(rule, where, cpus)
