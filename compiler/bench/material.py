"""From a policy to what a measurement needs: its programs, those around them, flows, and what each flow must meet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from msgspec.structs import replace

from compiler import bundle, ir, place
from compiler.bench import peers, programs
from compiler.bench.flows import Drawing, Flow
from compiler.bench.oracle import Oracle
from compiler.diagnostics import CompileError, Diagnostic
from compiler.interp import Interpreter
from compiler.packet import parse
from compiler.passes import drop_unreachable
from compiler.pipeline import compile_policy
from compiler.profile import Profile
from compiler.source import NOWHERE, Sources
from compiler.tables.flows import CHECK_TIME, Material, Outcome, PeerFilter, Scenario
from compiler.targets import bcc, nft

HITS, MISSES, WORST = "hits", "misses", "worst"
SAMPLED = 256  # flows that the interpreter judges too where it is too slow for all
_ALL_BY_INTERPRETER = 400_000  # rules × flows
_WORST_TRIES = 64


@dataclass(frozen=True, slots=True)
class Wanted:
    """flows: the largest number of flows, a power of two; by_hand: C of the same policy, or None.

    pieces: netc's parser alone too; nft: the filter for nftables too; peers: and for these tools (compiler.bench.peers).
    """

    flows: int
    seed: int = 1
    nic: str = ""
    by_hand: Path | None = None
    pieces: bool = False
    nft: bool = False
    peers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Judged:
    flow: Flow
    rule: int  # index; the number of rules: none of them


def make(path: Path, profile: Profile, sources: Sources, wanted: Wanted) -> Material:
    """Raises CompileError for a policy that is refused, or whose nic has no filter that XDP judges."""
    made = compile_policy(path, profile, sources)
    nic, chain = _chain(made.placed, wanted.nic)
    code = next(item for item in made.bundle.programs if item.nic == nic.nic.name and item.hook == "xdp")
    judging = _Judging(made.program, chain, Random(wanted.seed))
    chosen, notes = judging.scenarios(wanted.flows)
    if not chosen:
        raise CompileError([Diagnostic("N908", "no plain TCP, UDP, SCTP or ICMP packet can be drawn for this filter", chain.chain.span,
                                       "only rules on addresses, protocols and ports can be measured")])  # fmt: skip
    length = programs.frame_length(max(len(item.flow.frame) for flows in chosen.values() for item in flows))
    table = programs.Table(1 << (len(chosen) * wanted.flows - 1).bit_length(), length)
    around = [programs.around(table, code.nic, code.frags)]
    around += [programs.pieces(code.nic, code.frags, made.sources[code.name])] if wanted.pieces else []
    around += [_by_hand(wanted.by_hand, code, chain)] if wanted.by_hand else []
    scenarios, checked_by = judging.finish(chosen, length)
    filters, refused = _peers(wanted.peers, made.program, chain)
    return Material(
        bundle=_with(_without_nft(made.bundle), around), program=code.name, rules=len(chain.chain.rules), stateful=judging.stateful,
        length=length, slots=table.slots, outcomes=judging.outcomes, scenarios=scenarios, checked_by=checked_by, notes=tuple(notes),
        nft=_as_nft(made.program, profile, nic.nic.name) if wanted.nft else (), peers=filters, refused=refused,
    )  # fmt: skip


def _chain(placed: place.Placed, wanted: str) -> tuple[place.NicPlacement, place.ChainPlacement]:
    for nic in placed.nics:
        for chain in nic.chains:
            if chain.early == "xdp" and chain.chain.direction == "in" and wanted in ("", nic.nic.name):
                return nic, chain
    message = f"no filter that XDP judges on {f'nic {wanted}' if wanted else 'any nic'}: there is nothing to measure"
    raise CompileError([Diagnostic("N908", message, NOWHERE, "write `filter NIC in { … }`, with `xdp native` on the nic")])


def _with(whole: bundle.Bundle, parts: Sequence[programs.Programs]) -> bundle.Bundle:
    maps = {item.id: item for item in (*whole.maps, *(m for part in parts for m in part.maps))}
    codes = (*whole.programs, *(code for part in parts for code in part.codes))
    counters = (*whole.counters, *(c for part in parts for c in part.counters))
    return replace(whole, maps=tuple(maps.values()), programs=codes, counters=counters)


def _without_nft(whole: bundle.Bundle) -> bundle.Bundle:
    return replace(whole, nft=(), trees=(), settings=(), placements=(), expects=())


def _by_hand(path: Path, code: bundle.Code, chain: place.ChainPlacement) -> programs.Programs:
    try:
        return programs.by_hand(path.read_text(encoding="utf-8"), code.nic, len(chain.chain.rules), code.frags)
    except bcc.CError as error:
        raise CompileError([Diagnostic("N908", f"{path} does not compile: {error}", NOWHERE, "see compiler/bench/programs.py, by_hand")]) from None


def _as_nft(program: ir.Program, profile: Profile, name: str) -> tuple[bundle.Nft, ...]:
    """The filter as netc lowers it for nftables alone, on netdev ingress; nothing where nftables cannot say it there."""
    nics = tuple(ir.Nic(nic.name, nic.device, "none", nic.span) for nic in program.nics if nic.name == name)
    chains = tuple(chain for chain in program.chains if chain.nic == name and chain.direction == "in")
    try:
        placed, _ = drop_unreachable.run(place.place(ir.Program(nics=nics, sets=program.sets, chains=chains), profile))
        lowered = nft.lower(placed).nft
    except CompileError:
        return ()
    return lowered if [item.family for item in lowered] == ["netdev"] else ()


def _peers(wanted: Sequence[str], program: ir.Program, placed: place.ChainPlacement) -> tuple[tuple[PeerFilter, ...], dict[str, str]]:
    """The filter in the words of these tools, and why some cannot say it."""
    chain = next(item for item in program.chains if item.name == placed.chain.name)
    sets, refused = {item.name: item for item in program.sets}, {}
    found: list[PeerFilter] = []
    for peer in wanted:
        try:
            if placed.late:
                raise peers.CannotSay("what is handed on to connection tracking is judged later")
            found += peers.iptables(chain.rules, sets) if peer == peers.IPTABLES else [peers.xdp_filter(chain.rules, chain.default, sets)]
        except peers.CannotSay as error:
            refused[peer] = f"not comparable: {error}"
    return tuple(found), refused


class _Judging:
    """Chooses flows of one chain and says what each must meet."""

    def __init__(self, program: ir.Program, placed: place.ChainPlacement, rng: Random) -> None:
        self._program, self._placed, self._rng = program, placed, rng
        chain = next(item for item in program.chains if item.name == placed.chain.name)
        self._rules = chain.rules[: placed.split]
        self._sets = {item.name: item for item in program.sets}
        self._drawing = Drawing(rng, self._rules, self._sets)
        dynamic = any(item.size is not None for item in program.sets)
        self.stateful = dynamic or any(rule.limit for rule in self._rules)
        last = Outcome(f"{chain.name}.handed-on", "handed-on", -1) if placed.late else Outcome(f"{chain.name}.default", chain.default, -1)
        self.outcomes = (*(Outcome(f"{chain.name}.{r.name}", r.verdict, i) for i, r in enumerate(self._rules)), last)

    def scenarios(self, count: int) -> tuple[dict[str, list[_Judged]], list[str]]:
        """`count` flows of each kind that there is, and notes on those that there are not."""
        pool = self._judged(self._pool(count))
        found = {
            HITS: [item for item in pool if item.rule < len(self._rules)],
            MISSES: [item for item in pool if item.rule == len(self._rules)],
            WORST: self._worst(count),
        }
        why = {HITS: "no flow meets a rule", MISSES: "every flow meets a rule", WORST: "no rule is met by a flow"}
        notes = [f"no {name}: {why[name]}" for name, flows in found.items() if not flows]
        return {name: self._filled(flows, count) for name, flows in found.items() if flows}, notes

    def _pool(self, count: int) -> list[Flow]:
        many, draw = range(len(self._rules)), self._drawing
        if not many:
            return _drawn(draw.anything, 2 * count)
        return [
            *_drawn(lambda: draw.of_rule(self._rng.choice(many)), count + count // 2),
            *_drawn(lambda: draw.of_two(self._rng.choice(many), self._rng.choice(many)), count),
            *_drawn(draw.anything, count),
        ]

    def _worst(self, count: int) -> list[_Judged]:
        """Flows of the last rule that any header reaches."""
        for index in range(len(self._rules) - 1, -1, -1):
            first = self._judged(_drawn(lambda: self._drawing.of_rule(index), _WORST_TRIES))  # noqa: B023
            if any(item.rule == index for item in first):
                more = self._judged(_drawn(lambda: self._drawing.of_rule(index), count * 2))  # noqa: B023
                return [item for item in (*first, *more) if item.rule == index]
        return []

    def _filled(self, flows: list[_Judged], count: int) -> list[_Judged]:
        """Exactly `count`, in random order: those that are missing come again."""
        self._rng.shuffle(flows)
        return [flows[i % len(flows)] for i in range(count)]

    def _judged(self, flows: list[Flow]) -> list[_Judged]:
        oracle = Oracle([(flow.fields, flow.kinds) for flow in flows], self._sets)
        return [_Judged(flow, rule) for flow, rule in zip(flows, oracle.first_matches(self._rules), strict=True)]

    def finish(self, chosen: dict[str, list[_Judged]], length: int) -> tuple[tuple[Scenario, ...], str]:
        """The scenarios with their outcomes, checked against the reference parser and interpreter.

        Raises RuntimeError where oracle and interpreter differ: a bug of netc's, nothing may be measured then.
        """
        flows = [item for items in chosen.values() for item in items]
        frames = [item.flow.frame.ljust(length, b"\0") for item in flows]
        for at in self._rng.sample(range(len(flows)), min(SAMPLED, len(flows))):
            packet = parse(frames[at])
            if (packet.fields, packet.kinds) != (flows[at].flow.fields, flows[at].flow.kinds):
                raise RuntimeError(f"the reference parser reads {packet.fields} where {flows[at].flow.fields} was built")
        rules = [item.rule for item in flows]
        whole = self.stateful or len(flows) * max(1, len(self._rules)) <= _ALL_BY_INTERPRETER
        places = range(len(flows)) if whole else self._rng.sample(range(len(flows)), min(SAMPLED, len(flows)))
        for at, index in zip(places, self._interpreted([frames[at] for at in places]), strict=True):
            if index != rules[at] and not self.stateful:
                raise RuntimeError(f"flow {at}: the interpreter says rule {index}, the linear oracle {rules[at]}")
            rules[at] = index
        size = len(flows) // len(chosen)
        parts = {name: slice(i * size, (i + 1) * size) for i, name in enumerate(chosen)}
        said = "the interpreter" if whole else f"a linear oracle, {len(places)} flows by the interpreter too"
        return tuple(Scenario(name, b"".join(frames[part]), tuple(rules[part]), len(set(frames[part]))) for name, part in parts.items()), said

    def _interpreted(self, frames: list[bytes]) -> list[int]:
        chain = self._placed.chain
        interpreter = Interpreter(self._program, {chain.name: self._placed.split})
        index = {outcome.counter: i for i, outcome in enumerate(self.outcomes)}
        return [index[interpreter.judge(frame, chain.nic, "in", CHECK_TIME).rule] for frame in frames]


def _drawn(draw: Callable[[], Flow | None], count: int) -> list[Flow]:
    """Up to `count` flows: a rule that no plain header meets gives none."""
    return [flow for _ in range(count) if (flow := draw()) is not None]
