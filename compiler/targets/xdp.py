"""XDP: one program a nic from its `in` chain and the steering that runs in XDP; the tcx carrier where a later stage goes on.

The program: parse → count `seen` → control traffic → rules in order → hand on or default → count → mark → steer. A rule that fits
writes its counter's index to the scratch (the first u32; a steer rule the second), so a test run can be asked which rule it was.
Straight-line code, one condition after the other over fields in map memory; see prelude.h for why. Not failing open: what cannot be
marked for the next stage goes on without a mark and is judged there as pending (counted as CHAIN.unmarked).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from compiler import bundle, ir, place
from compiler.change_index import Changeable
from compiler.classify.shape import NOTHING, TooLarge
from compiler.diagnostics import CompileError
from compiler.tables import changes
from compiler.tables.changes import Layout
from compiler.targets import (
    c_expr,
    c_nest,
    c_order,
    c_sets,
    counter_room,
    tcx,
    xdp_changes,
    xdp_classifier,
    xdp_rules,
    xdp_steer,
    xdp_tables,
)
from compiler.targets.c_program import CProgram, counter

_RESERVED = ("seen", "default", "control", "handed-on", "unmarked", "elsewhere")


@dataclass(frozen=True, slots=True)
class XdpParts:
    """What goes into the bundle; `sources`: C text by program name; `reasons`: how each list is judged, and why so; `changeable`: lists
    whose rules can change without a compilation."""

    maps: tuple[bundle.Map, ...]
    programs: tuple[bundle.Code, ...]
    counters: tuple[bundle.Counter, ...]
    sets: tuple[bundle.DynamicSet, ...]
    sources: dict[str, str]
    reasons: tuple[bundle.Placement, ...] = ()
    changeable: tuple[Changeable, ...] = ()


def lower(placed: place.Placed, classifier: str = "auto") -> XdpParts:
    """Every nic's XDP program and carrier. Raises CompileError (N901-N905) for what does not fit into one.

    classifier: straight, tables, or auto: what costs less a packet (xdp_classifier).
    """
    sets = {item.name: item for item in placed.program.sets}
    steers = {item.nic: item for item in placed.program.steers}
    indices = {nic.nic.name: nic.index for nic in placed.nics}
    made: list[tuple[bundle.Code, CProgram]] = []
    reasons: list[bundle.Placement] = []
    changeable: list[Changeable] = []
    sending = xdp_steer.sends_for_others(placed)
    for nic in placed.nics:
        chain = early_chain(nic)
        if chain or xdp_steer.needed(nic) or nic.nic.name in sending:
            c = CProgram(f"{nic.nic.name}.xdp", nic.nic.name, "xdp", sets, nic.nic.span, counter_room.slots(nic, sets))
            # Not for generic XDP: skb_pp_cow_data loses skb->mac_len there, and tc would read every header 14 octets late. Without
            # the flag the kernel makes large frames linear instead.
            program = _Program(c, nic, chain, steers.get(nic.nic.name), indices, classifier)
            made.append((c.finish(program.body(), frags=nic.mode == "native"), c))
            reasons += program.reasons
            changeable += program.changeable()
        if tcx.carries(nic) and not any(shape.direction == "in" for shape in nic.shapes):
            made.append(tcx.ingress(nic, sets))
    return replace(_parts(made, sets), reasons=tuple(reasons), changeable=tuple(changeable))


def early_chain(nic: place.NicPlacement) -> place.ChainPlacement | None:
    """The chain of what arrives, when XDP judges it."""
    return next((item for item in nic.chains if item.early == "xdp" and item.chain.direction == "in"), None)


def _parts(made: list[tuple[bundle.Code, CProgram]], sets: dict[str, ir.Set]) -> XdpParts:
    maps: dict[int, bundle.Map] = {}
    found: list[bundle.DynamicSet] = []
    for code, c in made:
        for item in c.used_maps(code):
            if maps.setdefault(item.id, item) != item:
                message = f"the maps {item.name} and {maps[item.id].name} have the same number"
                raise CompileError([c.refusal("N905", message, "rename the nic or the set")])
            if item.role == "set":
                known = sets[item.name.removeprefix("set.")]
                found.append(c_sets.described(known, c.nic, item.id))
    programs = tuple(code for code, _ in made)
    counters = tuple(item for _, c in made for item in sorted(c.counters, key=_reading_order))
    return XdpParts(tuple(maps.values()), programs, counters, tuple(found), {code.name: c.source for code, c in made})


def _reading_order(item: bundle.Counter) -> int:
    """Seen, the rules as they stand, then the rest; last what should never be."""
    of_chain = ("seen", "rule", "default", "control", "handed-on")
    if item.stage == "xdp" and item.kind in of_chain:
        return of_chain.index(item.kind)
    return len(of_chain) + item.name.endswith(".unmarked")


class _Program:
    """The C body of one nic's XDP program."""

    def __init__(
        self,
        c: CProgram,
        nic: place.NicPlacement,
        chain: place.ChainPlacement | None,
        steer: ir.Steer | None,
        indices: dict[str, int],
        classifier: str,
    ) -> None:
        self.c, self.nic, self.chain, self.steer, self.indices, self.classifier = c, nic, chain, steer, indices, classifier
        self.reasons: list[bundle.Placement] = []
        self.layout: Layout | None = None
        self.picked: xdp_classifier.Pick | None = None

    def body(self) -> str:
        self._counters()
        judging = self._judging() if self.chain else ""
        steering = self._steering()
        if self.layout:
            xdp_changes.add_map(self.c, self.layout)
        return self._entry() + judging + self._passed() + steering + "    return XDP_PASS;\n" + self._dropped()

    def changeable(self) -> list[Changeable]:
        """What may change without this program: the rules in tables, where no later stage, and no NIC in front, has rules of the same list."""
        if self.nic.nic.xdp == "offload" or self.layout is None or self.picked is None or self.chain is None or self.chain.late:
            return []
        return [xdp_changes.changeable(self.c, self.chain.chain, self.picked, self.layout)]

    def _counters(self) -> None:
        """The chain's own first: their numbers stand in the program's text, which shall not depend on how many rules there are."""
        if self.chain is None:
            return
        self._chain_counter("seen")
        self._chain_counter("default", self.chain.chain.default)
        self._chain_counter("control", "pass")
        if self.chain.late:
            self._chain_counter("handed-on")
            self._chain_counter("unmarked")
        for item in self.chain.chain.rules[: self.chain.split]:
            xdp_rules.add_counter(self.c, self.chain.chain, item)

    def _chain_counter(self, kind: str, verdict: str = "") -> int:
        assert self.chain is not None
        chain = self.chain.chain
        kind_of_counter = kind if kind != "unmarked" else "other"
        span = chain.default_span if kind == "default" else chain.span
        return self.c.add_counter(counter(f"{chain.name}.{kind}", "xdp", kind_of_counter, verdict, span))

    def _entry(self) -> str:
        lines = [
            "    packet_t *p = PACKET;\n",
            f"    u32 bytes = {'netc_length(ctx)' if self.nic.mode == 'native' else 'NETC_LINEAR(ctx)'};\n",  # frames are linear without frags
            "    netc_parse(p, (void *)(long)ctx->data, (void *)(long)ctx->data_end, bytes, 0, 0);\n",
        ]
        if self.chain:
            lines.insert(2, f"    COUNT({self._chain_counter('seen')}, bytes);\n")
        if self._uses_time():
            lines.append(c_sets.clock_lines(self.c))
        return "".join(lines)

    def _uses_time(self) -> bool:
        sets = dict(self.c.sets)
        rules = self.chain.chain.rules if self.chain else ()
        return xdp_rules.uses_time(rules, sets) or any(xdp_rules.asks_clock(s.rule.when, sets) for s in self.nic.steer)

    def _judging(self) -> str:
        assert self.chain is not None
        chain, split, late = self.chain.chain, self.chain.split, self.chain.late
        lines = [self._control(chain)]
        lines.append(self._rules(chain, chain.rules[:split]))
        if late:
            index = self._chain_counter("handed-on")
            lines.append(f"    if (p->kinds & (KIND_ip4 | KIND_ip6)) {{ p->judged = {index}; p->handed = 1; goto passed; }}\n")
            lines += [self._tail_rule(chain, item) for item in chain.rules[split:]]
        index = self._chain_counter("default", chain.default)
        lines.append(f"    p->judged = {index}; goto {'passed' if chain.default == 'pass' else 'dropped'};\n")
        return "".join(lines)

    def _rules(self, chain: ir.Chain, rules: tuple[ir.Rule, ...]) -> str:
        """The rules in order. Those in tables first, as one look-up; each of the others comes before what was found there if it stands before it."""
        rules = tuple(item for item in rules if not item.covered)
        if not rules:
            return ""
        picked = self._pick(chain, rules)
        if picked.tables is None:
            listed = [(item, c_nest.parts(c_expr.true_when(item.when, self.c))) for item in rules]
            listed, moved = c_order.ordered(listed, self.c.sets)
            if moved:
                self.reasons.append(bundle.Placement(chain.name, "xdp", moved, chain.span.file, chain.span.line))
            return c_nest.nested(listed, lambda item, condition: self._rule(chain, item, condition))
        if len(rules) - len(picked.straight) >= changes.LEAST:
            self.layout = Layout(len(self.c.counters), picked.tables.shape.words)
            self.picked = picked
        self.c.definitions = xdp_tables.definitions(picked.tables.shape, self.layout)
        lines = [xdp_tables.lookup(self.c, picked.tables, self.layout)]
        for item in picked.straight:
            condition = c_expr.true_when(item.when, self.c)
            if condition != c_expr.NEVER:
                before = f"found > {self.c.index(f'{chain.name}.{item.name}') << 1}u"
                lines.append(self._rule(chain, item, f"{before} && {condition}"))
        lines.append(f"    if (found != {NOTHING}u) {{ p->judged = record >> 1; if (record & 1) goto passed; goto dropped; }}\n")
        return "".join(lines)

    def _pick(self, chain: ir.Chain, rules: tuple[ir.Rule, ...]) -> xdp_classifier.Pick:
        """A match in tables gives back the counter's index and, in the lowest bit, whether it passes."""
        try:
            picked = xdp_classifier.pick(
                rules, self.c.sets, self.classifier, lambda n: self.c.index(f"{chain.name}.{rules[n].name}") << 1 | (rules[n].verdict == "pass")
            )
        except TooLarge as error:
            help_ = "use sets: one rule for many addresses or ports"
            raise CompileError([self.c.refusal("N901", f"{self.c.name}: {error}", help_, chain.span)]) from None
        self.c.instead = picked.too_large
        self.reasons.append(bundle.Placement(chain.name, "xdp", picked.reason, chain.span.file, chain.span.line))
        return picked

    def _control(self, chain: ir.Chain) -> str:
        """Control packets: only rules that name their kind, over the whole chain; then they pass."""
        lines = ["    if (CONTROL(p)) {\n"]
        for item in chain.rules:
            if mask := c_expr.control_mask(item.when):
                condition = c_expr.true_when(item.when, self.c)
                if condition != c_expr.NEVER:
                    lines.append(self._rule(chain, item, f"(CONTROL(p) & ({mask})) && {condition}"))
        lines.append(f"    p->judged = {self._chain_counter('control', 'pass')}; goto passed;\n    }}\n")
        return "".join(lines)

    def _tail_rule(self, chain: ir.Chain, item: ir.Rule) -> str:
        """A rule of the later stage, for what is not IP and never gets there."""
        condition = c_expr.true_when(xdp_rules.without_ip(item.when), self.c)
        return "" if condition == c_expr.NEVER else self._rule(chain, item, condition)

    def _rule(self, chain: ir.Chain, item: ir.Rule, condition: str) -> str:
        if item.name in _RESERVED:
            message = f"a rule cannot be called {item.name}: the counter {chain.name}.{item.name} is the stage's own"
            raise CompileError([self.c.refusal("N903", message, "call it something else", item.span)])
        return xdp_rules.rule(self.c, chain, item, condition, self.nic.index)

    def _passed(self) -> str:
        if self.chain is None:
            return ""
        count = self._count_judged()
        if not self.chain.late:
            return f"passed:\n{count}"
        unmarked = self._chain_counter("unmarked")
        pending, passed = (base | self.nic.index << 24 for base in (bundle.MARK_PENDING, bundle.MARK_PASSED))
        mark = f"    if (!netc_mark(ctx, p->handed ? {pending}u : {passed}u)) COUNT({unmarked}, bytes);\n"
        return f"passed:\n{count}{mark}"

    def _dropped(self) -> str:
        if self.chain is None:
            return ""
        return f"dropped:\n{self._count_judged()}    return XDP_DROP;\n"

    def _count_judged(self) -> str:
        """Count what was judged, once for all rules; the bound is for the verifier."""
        count = f"    {{ u32 judged = p->judged; if (judged < {bundle.slot_room(len(self.c.counters))}) COUNT(judged, bytes); }}\n"
        return count + (xdp_changes.count(self.c) if self.layout else "")

    def _steering(self) -> str:
        if self.steer is None or not xdp_steer.needed(self.nic):
            return ""
        return xdp_steer.steering(self.c, self.steer, self.nic, self.indices)
