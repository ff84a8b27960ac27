"""`protect` and `expect` → IR: what must never be cut, and what the counters must say."""

from __future__ import annotations

from compiler import ir, syntax, units
from compiler.check_steer import contains_connection
from compiler.findings import LiteralError
from compiler.predicates import condition
from compiler.scope import COUNTED, Scope
from compiler.suggest import hint

_WHAT = ("packets", "bytes", "drops")
_MAX_WINDOW = 24 * 3600 * 10**9  # ns


def protects(scope: Scope, blocks: list[syntax.Protect]) -> tuple[ir.Protect, ...]:
    """Each protected flow of each nic."""
    found: list[ir.Protect] = []
    for block in blocks:
        nics = [nic for nic in map(scope.nic, block.nics) if nic]
        for item in block.items:
            if not isinstance(item, syntax.ProtectItem):
                continue
            errors = scope.findings.errors
            when = condition(scope, item.when)
            if errors == scope.findings.errors and contains_connection(when):
                scope.error(
                    "N080",
                    "a promise holds in every state, so it cannot ask for a connection's",
                    item.span,
                    "write addresses, ports or protocols: replies are protected with them",
                )
            found += [ir.Protect(nic.name, when, item.text, item.span) for nic in nics]
    return tuple(found)


def counters(program: ir.Program) -> frozenset[str]:
    """The full name of every counter that the program will have."""
    found: set[str] = set()
    for chain in program.chains:
        found |= {f"{chain.name}.{name}" for name in (*(rule.name for rule in chain.rules), *COUNTED)}
    found |= _set_counters(program)
    for steer in program.steers:
        found |= {f"{steer.name}.{rule.name}" for rule in steer.rules}
    for shape in program.shapes:
        found |= {f"{shape.name}.{item.name}" for item in _all(shape.classes)}
    return frozenset(found)


def _set_counters(program: ir.Program) -> set[str]:
    """`banned.full` and `banned.never`: what rules could not add to a dynamic set."""
    filled = {e.set for c in program.chains for rule in c.rules for e in rule.effects if isinstance(e, ir.Add)}
    protected = {item.name for item in program.sets if item.never}
    return {f"{name}.full" for name in filled} | {f"{name}.never" for name in filled & protected}


def _all(classes: tuple[ir.Class, ...]) -> list[ir.Class]:
    return [found for item in classes for found in (item, *_all(item.classes))]


def expects(scope: Scope, blocks: list[syntax.Expect], program: ir.Program) -> tuple[ir.Expect, ...]:
    """Every expectation, its counters looked up among those the program has."""
    known = counters(program)
    found: list[ir.Expect] = []
    for block in blocks:
        nic = scope.nic(block.nic)
        window = _window(scope, block.window)
        if block.otherwise.text not in ("roll-back", "warn"):
            scope.error(
                "N082",
                f"`{block.otherwise.text}` is not a consequence",
                block.otherwise.span,
                hint(block.otherwise.text, ("roll-back", "warn")),
            )
        if nic is None:
            continue
        lookup = _Counters(scope, nic.name, program, known)
        items = tuple(
            made for item in block.items if isinstance(item, syntax.Assertion) and (made := lookup.assertion(item))
        )
        found.append(ir.Expect(nic.name, window, block.otherwise.text, items, block.span))
    return tuple(found)


def _window(scope: Scope, word: syntax.Word) -> int:
    single = scope.single(word)
    try:
        window = units.duration(single.text)
    except LiteralError as error:
        scope.findings.literal(error, single.span)
        return 1
    if window > _MAX_WINDOW:
        scope.error("N031", f"`{single.text}` is too long a window", single.span, "the longest is 24h")
    return window


class _Counters:
    """Finds the counters that the assertions of one `expect` speak of."""

    def __init__(self, scope: Scope, nic: str, program: ir.Program, known: frozenset[str]) -> None:
        self.scope, self.nic, self.program, self.known = scope, nic, program, known

    def assertion(self, node: syntax.Assertion) -> ir.Assertion | None:
        counter = (
            self._class(node.subject) if node.subject_kind == "class" else self._named(node.subject_kind, node.subject)
        )
        if node.what.text not in _WHAT:
            self.scope.error("N081", f"`{node.what.text}` is not counted", node.what.span, hint(node.what.text, _WHAT))
            return None
        if counter is None:
            return None
        if node.what.text == "drops" and ".shape." not in counter:
            self.scope.error(
                "N081",
                "only classes have drops: a rule's packets are passed or dropped as a whole",
                node.what.span,
                "write `packets`; a dropping rule counts what it drops",
            )
        of = self._of(node, counter)
        bound = self._bound(node)
        return (
            None
            if bound is None or of is None
            else ir.Assertion(counter, node.what.text, node.op, bound, of, node.text, node.span)
        )

    def _named(self, kind: str, word: syntax.Word) -> str | None:
        """`in.ssh`, `steer.dns`, `shape.out.web`, `banned.full`; `-> lan.web` for forwarded traffic."""
        name = f"{self.nic}->{word.text}" if kind else f"{self.nic}.{word.text}"
        if name in self.known:
            return name
        if not kind and word.text in _set_counters(self.program):
            return word.text
        if word.text in self.scope.unread or word.text.split(".")[-1] in self.scope.unread:
            return None
        prefix = f"{self.nic}->" if kind else f"{self.nic}."
        mine = {counter.removeprefix(prefix) for counter in self.known if counter.startswith(prefix)}
        bare = next((n for n in sorted(mine) if n.endswith("." + word.text)), None)
        help = (
            f"write the direction too: `{bare}`"
            if bare
            else hint(word.text, mine, "" if mine else f"nothing of {self.nic} is counted")
        )
        self.scope.error("N020", f"nothing is counted under the name `{word.text[:60]}`", word.span, help)
        return None

    def _class(self, word: syntax.Word) -> str | None:
        found = [
            (shape, item) for shape in self.program.shapes if shape.nic == self.nic for item in _all(shape.classes)
        ]
        names = {item.name: f"{shape.name}.{item.name}" for shape, item in found}
        directed = {f"{shape.direction}.{item.name}": f"{shape.name}.{item.name}" for shape, item in found}
        if word.text in directed:
            return directed[word.text]
        if word.text not in names:
            self.scope.unknown(
                "class",
                word,
                names,
                "" if names else f"declare it: shape {self.nic} out rate … {{ class {word.text} … }}",
            )
            return None
        if sum(item.name == word.text for _, item in found) > 1:
            self.scope.error(
                "N020",
                f"class `{word.text}` is there twice, in and out",
                word.span,
                f"write `class in.{word.text}` or `class out.{word.text}`",
            )
        return names[word.text]

    def _of(self, node: syntax.Assertion, counter: str) -> str | None:
        """The counter that a share is taken of; `seen` is that of the same chain. None with a finding."""
        share = node.bound.text.endswith("%")
        if node.of is None:
            if share:
                self.scope.error(
                    "N081", f"`{node.bound.text}` of what?", node.bound.span, f"write `{node.bound.text} of seen`"
                )
            return None if share else ""
        if not share:
            self.scope.error(
                "N081", "only a share is taken of something", node.bound.span, "write a percentage: 5% of seen"
            )
            return None
        if node.of.text == "seen":
            chain = counter.rpartition(".")[0]
            if f"{chain}.seen" in self.known:
                return f"{chain}.seen"
            self.scope.error(
                "N081",
                f"`seen` is counted by filters, and {counter} is none",
                node.of.span,
                "name the counter: of in.seen",
            )
            return None
        return self._named("", node.of)

    def _bound(self, node: syntax.Assertion) -> float | None:
        word = self.scope.single(node.bound)
        try:
            if word.text.endswith("%"):
                return _percent(word.text)
            return float(
                units.size(word.text)
                if node.what.text == "bytes" and word.text != "0"
                else units.count(word.text, "a bound", 0)
            )
        except LiteralError as error:
            self.scope.findings.literal(error, word.span)
            return None


def _percent(text: str) -> float:
    try:
        value = float(text[:-1])
    except ValueError:
        raise LiteralError("N033", f"`{text}` is not a percentage", "write it like this: 5%") from None
    if not 0 <= value <= 100:
        raise LiteralError("N031", f"{text} is not a share", "a share is 0% to 100%")
    return value / 100
