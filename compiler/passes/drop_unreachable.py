"""Rules that no packet at all gets to are not lowered: neither into straight code nor into tables nor into nft.

The proof is over every packet, broken ones and control traffic included (compiler.reach). It runs behind placement, for it holds within a stage only:
what XDP did not match as fragments comes back to nft as one packet. nft moreover judges by less where it cannot read all of a packet, so there a rule
goes only when a single one of the same stage says word for word as much, and does not pass what this one would drop. The counter stays, at zero.
A rule stays when without it a dynamic set, or the ring of samples, would be gone from the bundle.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from msgspec.structs import replace as edited

from compiler import bundle, ir
from compiler.diagnostics import Diagnostic
from compiler.placed import ChainPlacement, Placed
from compiler.reach import implied
from compiler.reach.cover import Cover
from compiler.reach.shapes import every_shape
from compiler.unreachable import MOST_NAMED, covered

Covering = dict[int, tuple[int, ...]]


def run(placed: Placed) -> tuple[Placed, list[Diagnostic]]:
    """The same placement without these rules' conditions; a finding (W005) and a reason for each."""
    changed: dict[str, ir.Chain] = {}
    reasons: dict[str, str] = {}
    found: list[Diagnostic] = []
    for item in (*(each for nic in placed.nics for each in nic.chains), *placed.forwards):
        if gone := _gone(item, placed.program):
            changed[item.chain.name] = _without(item.chain, gone)
            for at, above in gone.items():
                rules = [item.chain.rules[number] for number in above]
                reasons[f"{item.chain.name}.{item.chain.rules[at].name}"] = f"not lowered: {_take(rules)} every packet that it matches"
                found.append(covered(item.chain.rules[at], rules))
    if not changed:
        return placed, []
    return _replaced(placed, changed, reasons), found


def _gone(item: ChainPlacement, program: ir.Program) -> Covering:
    rules, split = item.chain.rules, item.split
    early = Cover(rules[:split], program, every_shape()).unreached()
    if item.early != "xdp":
        early = _word_for_word(rules, early)
    late = Cover(rules[split:], program, every_shape()).unreached()
    shifted = {split + at: tuple(split + number for number in above) for at, above in late.items()}
    return _spared(rules, {**early, **_word_for_word(rules, shifted)})


def _word_for_word(rules: Sequence[ir.Rule], found: Covering) -> Covering:
    """Those that a single rule covers also for a stage that cannot read all of a packet."""
    kept: Covering = {}
    for at, above in found.items():
        for number in above:
            harsher = rules[number].verdict == "drop" or rules[at].verdict == "pass"
            if harsher and len(above) == 1 and implied.follows(rules[number].when, rules[at].when):
                kept[at] = (number,)
    return kept


def _spared(rules: Sequence[ir.Rule], found: Covering) -> Covering:
    """Without the rules that alone keep something in the bundle."""
    needed = {thing for at in found for thing in _keeps(rules[at])}
    if not needed:
        return found
    kept = {thing for at, rule in enumerate(rules) if at not in found for thing in _keeps(rule)}
    spared: Covering = {}
    for at, above in found.items():
        if kept.issuperset(_keeps(rules[at])):
            spared[at] = above
        else:
            kept.update(_keeps(rules[at]))
    return spared


def _keeps(rule: ir.Rule) -> Iterator[str]:
    """What the bundle has because of this rule."""
    yield from (f"set {name}" for name in _sets(rule.when))
    for effect in rule.effects:
        yield f"additions to {effect.set}" if isinstance(effect, ir.Add) else type(effect).__name__


def _sets(when: ir.Expr) -> Iterator[str]:
    if isinstance(when, ir.Member):
        yield when.set
    elif isinstance(when, ir.Not):
        yield from _sets(when.item)
    elif isinstance(when, ir.And | ir.Or):
        for item in when.items:
            yield from _sets(item)


def _without(chain: ir.Chain, gone: Covering) -> ir.Chain:
    rules = list(chain.rules)
    for at, above in gone.items():
        rules[at] = replace(rules[at], when=ir.Const(False), limit=None, effects=(), covered=tuple(chain.rules[number].name for number in above))
    return replace(chain, rules=tuple(rules))


def _take(rules: Sequence[ir.Rule]) -> str:
    names = [f"`{rule.name}`" for rule in rules[:MOST_NAMED]]
    if len(rules) > MOST_NAMED:
        names.append(f"{len(rules) - MOST_NAMED} more")
    return f"{', '.join(names)} {'takes' if len(rules) == 1 else 'together take'}"


def _replaced(placed: Placed, changed: Mapping[str, ir.Chain], reasons: Mapping[str, str]) -> Placed:
    def of(chain: ir.Chain) -> ir.Chain:
        return changed.get(chain.name, chain)

    def all_of(items: Iterable[ChainPlacement]) -> tuple[ChainPlacement, ...]:
        return tuple(replace(item, chain=of(item.chain)) for item in items)

    return replace(
        placed,
        program=replace(placed.program, chains=tuple(map(of, placed.program.chains))),
        nics=tuple(replace(nic, chains=all_of(nic.chains)) for nic in placed.nics),
        forwards=all_of(placed.forwards),
        reasons=tuple(_reason(item, reasons) for item in placed.reasons),
    )


def _reason(item: bundle.Placement, reasons: Mapping[str, str]) -> bundle.Placement:
    return edited(item, reason=reasons[item.what]) if item.what in reasons else item
