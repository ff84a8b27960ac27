"""`test` blocks → ir.Scenario: packets in words, the verdict and rule they should meet, time that passes."""

from __future__ import annotations

import re

from compiler import ir, syntax, types, units
from compiler.findings import LiteralError
from compiler.packet_words import packet
from compiler.scope import RESERVED, Scope
from compiler.source import Span
from compiler.suggest import hint

MAX_PACKETS = 10_000_000
_VERDICTS = ("pass", "drop")
_BOUNDS = re.compile(r"([0-9]{1,9})\.\.([0-9]{1,9})|([0-9]{1,9})")


def scenarios(scope: Scope, blocks: list[syntax.Test], program: ir.Program) -> tuple[ir.Scenario, ...]:
    """Every test; names are unique, so that a result can be found again."""
    found: list[ir.Scenario] = []
    names: dict[str, Span] = {}
    for block in blocks:
        name = block.name.text
        if not name.strip() or len(name) > 200 or not name.isprintable():
            scope.error(
                "N022", "a test's name is a line of text, at most 200 characters", block.name.span, "say what must hold"
            )
        if name in names:
            scope.error(
                "N021",
                "there are two tests with this name",
                block.name.span,
                "say what is different",
                ((names[name], "the first one"),),
            )
        names.setdefault(name, block.name.span)
        steps = (_step(scope, program, item) for item in block.items if isinstance(item, syntax.TestStep))
        found.append(ir.Scenario(name, tuple(step for step in steps if step), block.span))
    return tuple(found)


def _step(scope: Scope, program: ir.Program, node: syntax.TestStep) -> ir.Step | None:
    try:
        if node.kind == "wait":
            return ir.Step("wait", over=units.duration(_text(scope, node.words[0])), text=node.text, span=node.span)
        if node.kind == "given":
            return _given(scope, node)
    except LiteralError as error:
        scope.findings.literal(error, node.words[0].span)
        return None
    place = node.place
    assert place is not None  # packet and send have one, by the grammar
    nic = scope.nic(place.nics[0])
    if place.to is not None:
        scope.error(
            "N006",
            "a test of forwarded packets is not supported yet",
            place.span,
            "test what each nic lets in: `packet wan in …`; forwarding can be tried in the lab",
        )
        return None
    spec = packet(node.packet, scope.findings)
    if nic is None or spec is None:
        return None
    expectation = node.words if node.kind == "packet" else node.words[2:]
    verdict, rule = expectation[0], expectation[1] if node.kind == "packet" and len(expectation) > 1 else None
    if verdict.text not in _VERDICTS:
        scope.error("N084", f"`{verdict.text}` is not a verdict", verdict.span, hint(verdict.text, _VERDICTS))
        return None
    chain = next((c for c in program.chains if (c.nic, c.direction) == (nic.name, place.direction)), None)
    if rule is not None and rule.text.removeprefix(f"{nic.name}.").startswith("steer."):
        _check_steer_rule(scope, program, nic.name, place, verdict, rule)
    elif rule is not None:
        _check_rule(scope, nic.name, place, chain, verdict, rule)
    step = ir.Step(
        node.kind,
        nic.name,
        place.direction,
        spec,
        verdict.text,
        rule.text if rule else "",
        text=node.text,
        span=node.span,
    )
    return step if node.kind == "packet" else _send(scope, node, step)


def _text(scope: Scope, word: syntax.Word) -> str:
    return scope.single(word).text


def _given(scope: Scope, node: syntax.TestStep) -> ir.Step | None:
    """`given ADDRESS in SET`: the set starts with this member."""
    member, name = node.words
    low, high = types.address(_text(scope, member))
    if low != high:
        raise LiteralError(
            "N033", f"`{member.text}` is more than one address", "a dynamic set has single addresses as members"
        )
    target = scope.set(name, "address")
    if target is None:
        return None
    if target.size is None:
        scope.error(
            "N035",
            f"`{name.text}` is a fixed set: it has its members already",
            name.span,
            "`given` fills dynamic sets",
            ((target.span, "declared here"),),
        )
        return None
    return ir.Step("given", member=low, set=target.name, text=node.text, span=node.span)


def _send(scope: Scope, node: syntax.TestStep, step: ir.Step) -> ir.Step | None:
    """`send N over T … gives VERDICT low..high`"""
    count_word, over_word, _, bounds_word = node.words
    try:
        count = units.count(_text(scope, count_word), "a number of packets", 1, MAX_PACKETS)
    except LiteralError as error:
        scope.findings.literal(error, count_word.span)
        return None
    try:
        over = units.duration(_text(scope, over_word))
    except LiteralError as error:
        scope.findings.literal(error, over_word.span)
        return None
    match = _BOUNDS.fullmatch(_text(scope, bounds_word))
    if not match:
        scope.error(
            "N033", f"`{bounds_word.text}` is not a number of packets", bounds_word.span, "write 24000 or 23990..24000"
        )
        return None
    low, high = (int(match[3]),) * 2 if match[3] else (int(match[1]), int(match[2]))
    if low > high or high > count:
        what = f"write {high}..{low}" if low > high else f"at most {count} packets are sent"
        scope.error("N036", f"`{bounds_word.text}` can never come out", bounds_word.span, what)
        return None
    return ir.Step(
        "send",
        step.nic,
        step.direction,
        step.packet,
        step.verdict,
        "",
        count,
        over,
        low,
        high,
        text=step.text,
        span=step.span,
    )


def _check_steer_rule(scope: Scope, program: ir.Program, nic: str, place: syntax.Hook, verdict: syntax.Word, rule: syntax.Word) -> None:
    """`is drop by steer.NAME`: a steer rule that drops; the others decide no verdict."""
    steer = next((item for item in program.steers if item.nic == nic and place.direction == "in"), None)
    targets = {r.name: r.target for r in steer.rules} if steer else {}
    if steer and steer.default:
        targets["default"] = steer.default
    dropping = [f"steer.{name}" for name, target in targets.items() if target.kind == "drop"]
    if rule.text.removeprefix(f"{nic}.") not in dropping:
        scope.unknown(f"rule `to drop` in `steer {nic}` with the name", rule, dropping)
    elif verdict.text != "drop":
        scope.error("N084", f"`{rule.text}` can only drop a packet", verdict.span, f"write `is drop by {rule.text}`")


def _check_rule(
    scope: Scope, nic: str, place: syntax.Hook, chain: ir.Chain | None, verdict: syntax.Word, rule: syntax.Word
) -> None:
    """The rule that should decide is there, and decides like that."""
    if chain is None:
        scope.error(
            "N084",
            f"there is no `filter {nic} {place.direction}`: everything passes, by no rule",
            rule.span,
            "leave `by` out, or write the filter",
        )
        return
    verdicts = {r.name: r.verdict for r in chain.rules}
    known = {**verdicts, "default": chain.default, "control": "pass"}
    name = rule.text.removeprefix(f"{chain.name}.")
    if name not in known or name in RESERVED - {"default", "control"}:
        scope.unknown(f"rule in `filter {nic} {place.direction}` with the name", rule, known)
    elif known[name] != verdict.text:
        where = next(((r.span, f"the rule says `{r.verdict}`") for r in chain.rules if r.name == name), None)
        scope.error(
            "N084",
            f"`{name}` can only {known[name]} a packet",
            verdict.span,
            f"write `is {known[name]} by {name}`",
            (where,) if where else (),
        )
