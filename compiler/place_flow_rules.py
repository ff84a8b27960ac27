"""The NIC's table of flow rules while steering is placed: what may go into it, what room is left, and the RSS contexts that rules name.

A NIC has an order of its own among flow rules and counts none of them (ethtool has no counter of a flow rule): a rule is put there only where
no rule before it can match the same packet, and where what it takes away from later counters is said in the plan.
"""

from __future__ import annotations

from compiler import ir
from compiler.place_ntuple import Words, flow_specs, overlaps
from compiler.profile import Profile
from compiler.space import Space


class FlowTable:
    """One nic's flow rules and RSS contexts, by the target's profile."""

    def __init__(self, program: ir.Program, nic: str, profile: Profile, space: Space) -> None:
        self.program, self.nic, self.profile, self.space = program, nic, profile, space
        self.taken = 0  # flow rules
        self.contexts: dict[tuple[int, ...], str] = {}  # queues -> the rule that the context is named after

    def queues(self, rule: ir.SteerRule, earlier: tuple[ir.SteerRule, ...]) -> tuple[str, list[Words]]:
        """Why the NIC cannot send the rule's flows to its queues, or the flow rules, complete."""
        numbers = rule.target.numbers
        why_not, specs = self._specs(rule, earlier)
        if not why_not and len(numbers) > 1:
            why_not = self._no_context(numbers)
        if why_not:
            return why_not, []
        self.taken += len(specs)
        action: Words = ("action", numbers[0]) if len(numbers) == 1 else ("context", self.contexts.setdefault(numbers, rule.name))
        return "", [(*spec, *action) for spec in specs]

    def drops(self, rule: ir.SteerRule, earlier: tuple[ir.SteerRule, ...], filter: ir.Chain | None) -> tuple[str, list[Words]]:
        """Why the NIC does not drop for the rule, or the flow rules, complete. filter: what judges before it, where the NIC does not drop."""
        if not self.profile.ntuple.drop:
            return f"the target {self.profile.name!r} has no flow rules that drop", []
        why_not, specs = self._specs(rule, earlier)
        if why_not := why_not or self._missed(rule, filter):
            return why_not, []
        self.taken += len(specs)
        return "", [(*spec, "action", -1) for spec in specs]

    def _specs(self, rule: ir.SteerRule, earlier: tuple[ir.SteerRule, ...]) -> tuple[str, list[Words]]:
        known = self.profile.ntuple
        if not known.rules:
            return f"the target {self.profile.name!r} has no ntuple table", []
        if other := next((item for item in earlier if overlaps(rule.when, item.when, self.space)), None):
            return f"it overlaps `{other.text or other.name}` before it, and the NIC has an order of its own", []
        specs = flow_specs(rule.when, self.program)
        if specs is None:
            return "the NIC's flow rules cannot say it exactly", []
        if unknown := sorted({str(spec[0]) for spec in specs} - set(known.kinds) if known.kinds else set()):
            return f"the NIC takes no flow rules of {', '.join(unknown)}", []
        if len(specs) > (room := known.rules - self.taken):
            return f"it takes {len(specs)} flow rules and the NIC has room for {room}", []
        return "", specs

    def _no_context(self, queues: tuple[int, ...]) -> str:
        most = self.profile.rss.contexts if self.profile.ntuple.contexts else 0
        if not most:
            return "a flow rule in the NIC names one queue, and the target has no RSS contexts"
        if queues not in self.contexts and len(self.contexts) >= most:
            return f"the NIC has {most} RSS context(s), and rules before it have them"
        return ""

    def _missed(self, rule: ir.SteerRule, filter: ir.Chain | None) -> str:
        """What would be missed if the packets never came as far as the filter: limits and sets that they change, counters that are judged."""
        for item in filter.rules if filter else ():
            if (item.limit or item.effects) and overlaps(rule.when, item.when, self.space):
                return f"`{item.text or item.name}` counts or remembers these packets first, in the filter"
        ours = (f"{self.nic}.in.", f"{self.nic}.steer.")
        for expect in self.program.expects:
            for asked in expect.assertions:
                if asked.counter.startswith(ours) or asked.of.startswith(ours):
                    return f"`expect` asks for {asked.counter}, and the NIC counts no flow rules"
        return ""
