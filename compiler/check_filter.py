"""`filter` blocks → ir.Chain: one a nic and direction, rules named, `use` opened, the default there."""

from __future__ import annotations

from collections.abc import Iterator

from compiler import effects, essentials, ir, remembered, rule_names, syntax
from compiler.remembered import condition
from compiler.scope import Scope
from compiler.source import Span
from compiler.suggest import hint


def chains(scope: Scope, blocks: list[syntax.Filter]) -> tuple[ir.Chain, ...]:
    """Every chain of the policy; `filter wan, lan in` makes one for each nic."""
    found: dict[str, ir.Chain] = {}
    for block in blocks:
        for nic, to in _hooks(scope, block.hook):
            chain = _Chain(scope, block, nic, to).lower()
            if chain.name in found:
                where = f"{nic} -> {to}" if to else f"{nic} {block.hook.direction}"
                scope.error(
                    "N042",
                    f"there are two filters for `{where}`",
                    block.span,
                    "put the rules into one: the order decides",
                    ((found[chain.name].span, "the first one"),),
                )
            found.setdefault(chain.name, chain)
    return tuple(found.values())


def _hooks(scope: Scope, hook: syntax.Hook) -> Iterator[tuple[str, str | None]]:
    """The (nic, to) pairs that a block stands for."""
    if hook.to is not None:
        here, there = scope.nic(hook.nics[0]), scope.nic(hook.to)
        if here and there and here is there:
            scope.error("N042", "forwarded traffic goes from one nic to another", hook.span, "name two nics")
        elif here and there:
            yield here.name, there.name
        return
    for word in hook.nics:
        if nic := scope.nic(word):
            yield nic.name, None


class _Chain:
    """One chain while it is made."""

    def __init__(self, scope: Scope, block: syntax.Filter, nic: str, to: str | None) -> None:
        self.scope, self.block, self.nic, self.to = scope, block, nic, to
        self.direction = block.hook.direction
        self.name = f"{nic}->{to}" if to else f"{nic}.{self.direction}"
        self.rules: list[ir.Rule] = []
        self.names: dict[str, tuple[Span, str]] = {}  # place, and the text it was made from ("" when written)
        self.default: syntax.Default | None = None
        self.broken = False

    def lower(self) -> ir.Chain:
        self._items(self.block.items, ())
        if self.default is None and not self.broken:
            self.scope.error(
                "N040",
                "this filter does not say what happens to every other packet",
                self.block.span,
                "end it with `default drop` or `default pass`",
            )
        verdict, place = (self.default.verdict, self.default.span) if self.default else ("drop", self.block.span)
        return ir.Chain(self.name, self.nic, self.direction, self.to, tuple(self.rules), verdict, self.block.span, place)

    def _items(self, items: tuple[object, ...], inside: tuple[str, ...]) -> None:
        """The statements of the block or of a `rules` list that it uses; `inside`: the lists that are open."""
        for item in items:
            if isinstance(item, syntax.Broken):
                self.broken = True
                continue
            span: Span = getattr(item, "span")  # noqa: B009 - the items are a union of nodes
            if self.default is not None:
                self.scope.error(
                    "N041",
                    "nothing gets here: the default above has decided",
                    span,
                    "put `default` last",
                    ((self.default.span, "this takes every packet"),),
                )
            elif isinstance(item, syntax.Default):
                self._default(item, inside)
            elif isinstance(item, syntax.Use):
                self._use(item, inside)
            elif isinstance(item, syntax.Rule):
                self._rule(item)

    def _default(self, item: syntax.Default, inside: tuple[str, ...]) -> None:
        if inside:
            self.scope.error(
                "N041",
                f"the rule list `{inside[-1]}` cannot have a default",
                item.span,
                "write the default in the `filter` that uses it",
            )
        else:
            self.default = item

    def _use(self, item: syntax.Use, inside: tuple[str, ...]) -> None:
        name = item.name.text
        if name == "essentials" and name not in self.scope.rules:
            for rule in essentials.rules(item.span):
                self._append(rule, "")
        elif name in inside:
            self.scope.error(
                "N046", f"`{name}` uses itself", item.span, "a rule list cannot contain itself: remove this `use`"
            )
        elif name not in self.scope.rules:
            self.scope.unknown("rule list", item.name, {*self.scope.rules, "essentials"})
        else:
            self._items(self.scope.rules[name].items, (*inside, name))

    def _rule(self, node: syntax.Rule) -> None:
        if node.when is None and node.limit is None:
            self.scope.error(
                "N043",
                f"this rule has no condition: it would {node.verdict} everything",
                node.span,
                f"write `default {node.verdict}` at the end, or a condition",
            )
            return
        if node.name is not None and not self.scope.good_name(node.name, "a rule"):
            return
        name = node.name.text if node.name else rule_names.from_text(node.match_text)
        when = condition(self.scope, node.when) if node.when else ir.Const(True)
        limit = remembered.limit(self.scope, node.limit, f"{self.name}.{name}") if node.limit else None
        done = tuple(e for e in (effects.lower(self.scope, effect, self.direction) for effect in node.effects) if e)
        rule = ir.Rule(name, node.verdict, when, limit, done, node.text, node.span)
        self._append(rule, "" if node.name else node.match_text, node.name.span if node.name else node.span)

    def _append(self, rule: ir.Rule, made_from: str, place: Span | None = None) -> None:
        if rule.name in self.names:
            self._same_name(rule, made_from, place or rule.span)
            return
        self.names[rule.name] = place or rule.span, made_from
        self.rules.append(rule)

    def _same_name(self, rule: ir.Rule, made_from: str, place: Span) -> None:
        first, first_from = self.names[rule.name]
        notes = ((first, "the first one"),)
        if made_from and made_from == first_from:
            self.scope.error(
                "N023",
                "this rule is there twice, and the second one never matches",
                place,
                "remove one, or name both with `as`",
                notes,
            )
        elif made_from or first_from:
            self.scope.error(
                "N021", f"two rules get the name `{rule.name}`", place, "give one of them a name: `as NAME`", notes
            )
        else:
            what = "`use essentials` has rules with the names " + ", ".join(essentials.NAMES)
            builtin = rule.name in essentials.NAMES
            self.scope.error(
                "N021",
                f"two rules have the name `{rule.name}`",
                place,
                what if builtin else "names are for one rule each",
                notes,
            )


def check_unused(scope: Scope, used: set[str]) -> None:
    """Conditions of rule lists that nobody uses are checked all the same."""
    for name, block in scope.rules.items():
        if name not in used:
            for item in block.items:
                if isinstance(item, syntax.Rule) and item.when:
                    condition(scope, item.when)
                elif isinstance(item, syntax.Use) and item.name.text not in {*scope.rules, "essentials"}:
                    scope.error(
                        "N020",
                        f"there is no rule list `{item.name.text}`",
                        item.name.span,
                        hint(item.name.text, scope.rules),
                    )
