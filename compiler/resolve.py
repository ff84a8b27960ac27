"""Files and names: reads a policy with everything it includes, then declares its nics, constants, sets and rule lists in a Scope."""

from __future__ import annotations

import os
import re
from pathlib import Path

from compiler import ir, syntax, types, units
from compiler.findings import Findings, LiteralError
from compiler.parse import keywords, parse_file
from compiler.ranges import normalize
from compiler.scope import Scope
from compiler.setfile import MAX_POLICY_FILE, MAX_SET_FILE, read_members, read_text
from compiler.source import Sources, Span
from compiler.suggest import hint

MAX_INCLUDES = 64  # files
MAX_NICS = 16  # the reserved byte of skb->mark has four bits for the nic (bundle.MARK_MASK)
XDP_MODES = ("native", "generic", "offload", "none")
DEFAULT_SIZE = 65536  # members of a dynamic set that names no size
_MAX_SIZE = 16 << 20
_DEVICE = re.compile(r"[A-Za-z0-9_.:@-]{1,15}")  # IFNAMSIZ; no `/`, no space


def read_policy(path: Path, sources: Sources, findings: Findings) -> list[syntax.Statement]:
    """The statements of the policy and of its includes, in reading order. Raises LiteralError when the policy itself is not readable."""
    return _Reader(sources, findings).read(path, path.name, ())


def read_lines(path: Path, text: str, sources: Sources, findings: Findings) -> list[syntax.Statement]:
    """As read_policy, of a text that was read before and includes nothing."""
    return list(parse_file(str(path), text, sources, findings).statements)


class _Reader:
    def __init__(self, sources: Sources, findings: Findings) -> None:
        self.sources, self.findings = sources, findings
        self.files = 0

    def read(self, path: Path, name: str, inside: tuple[Path, ...]) -> list[syntax.Statement]:
        """name: as seen from the policy's folder; inside: the files whose includes led here, resolved. Raises LiteralError."""
        kept = self.sources.kept(name)
        text = read_text(path, MAX_POLICY_FILE) if kept is None else kept
        self.files += 1
        self.sources.names[str(path)] = name
        found: list[syntax.Statement] = []
        for statement in parse_file(str(path), text, self.sources, self.findings).statements:
            if isinstance(statement, syntax.Include):
                found += self._include(path, name, statement, (*inside, _real(path)))
            else:
                found.append(statement)
        return found

    def _include(self, path: Path, name: str, node: syntax.Include, inside: tuple[Path, ...]) -> list[syntax.Statement]:
        target = path.parent / node.path.text
        if _real(target) in inside:
            self.findings.add("N010", f"`{node.path.text}` includes itself", node.span, "remove this `include`")
        elif self.files >= MAX_INCLUDES:
            self.findings.add(
                "N010", f"more than {MAX_INCLUDES} files", node.span, "a policy is one file and a few parts"
            )
        else:
            try:
                return self.read(target, str(Path(name).parent / node.path.text), inside)
            except LiteralError as error:
                self.findings.literal(error, node.path.span)
        return []


def declare(statements: list[syntax.Statement], sources: Sources, findings: Findings) -> Scope:
    """The scope that every condition is checked in."""
    scope = Scope(findings, sources)
    names: dict[str, dict[str, Span]] = {"nic": {}, "name": {}, "rules": {}}
    for statement in statements:
        scope.unread |= broken_words(statement)
        if isinstance(statement, syntax.Nic) and scope.declare(statement.name, "a nic", names["nic"]):
            _nic(scope, statement)
        elif isinstance(statement, syntax.Rules) and scope.declare(statement.name, "a rule list", names["rules"]):
            scope.rules[statement.name.text] = statement
    for statement in statements:
        if isinstance(statement, syntax.Const) and scope.declare(statement.name, "a constant", names["name"]):
            _const(scope, statement)
        elif isinstance(statement, syntax.Set) and scope.declare(statement.name, "a set", names["name"]):
            _set(scope, statement)
    for statement in statements:
        if isinstance(statement, syntax.Set):
            _never(scope, statement)
    if not scope.nics and not findings.errors:
        place = statements[0].span if statements else Span(next(iter(findings.files), "<policy>"), 1, 1, 1, 2)
        scope.error("N020", "this policy has no nic", place, "declare one: nic wan { device eth0 }")
    return scope


def broken_words(statement: object) -> set[str]:
    """The words of every statement in it that could not be parsed."""
    if isinstance(statement, syntax.Broken):
        return set(statement.words)
    items = getattr(statement, "items", ())
    inner = (item for item in items if not isinstance(item, syntax.Rule)) if isinstance(items, tuple) else ()
    return set().union(*map(broken_words, inner))


def _nic(scope: Scope, node: syntax.Nic) -> None:
    items: dict[str, syntax.Word] = {}
    for key, word in node.items:
        if key in items:
            scope.error(
                "N021", f"`{key}` is written twice", word.span, "write it once", ((items[key].span, "the first one"),)
            )
        items.setdefault(key, word)
    device, xdp = items.get("device"), items.get("xdp")
    if device is None:
        scope.error(
            "N090", f"nic `{node.name.text}` has no device", node.span, f"write nic {node.name.text} {{ device eth0 }}"
        )
        device = node.name
    elif not _DEVICE.fullmatch(device.text) or device.text in (".", ".."):
        scope.error(
            "N090",
            f"`{device.text[:60]}` cannot be the name of a device",
            device.span,
            "at most 15 characters, no `/`, no space",
        )
    if xdp is not None and xdp.text not in XDP_MODES:
        scope.error("N090", f"`{xdp.text}` is not a mode of XDP", xdp.span, hint(xdp.text, XDP_MODES))
    for other in scope.nics.values():
        if other.device == device.text:
            scope.error(
                "N021",
                f"device `{device.text}` belongs to nic `{other.name}` already",
                device.span,
                "one nic has one device",
                ((other.span, "that nic"),),
            )
    if len(scope.nics) == MAX_NICS:
        scope.error(
            "N090", f"a policy has at most {MAX_NICS} nics", node.span, "write a policy of its own for the others"
        )
    scope.nics[node.name.text] = ir.Nic(node.name.text, device.text, xdp.text if xdp else "native", node.span)


def _const(scope: Scope, node: syntax.Const) -> None:
    if node.name.text in keywords():
        scope.error(
            "N022",
            f"`{node.name.text}` is a word of the language and cannot name a constant",
            node.name.span,
            "choose another name",
        )
        return
    items = node.value.items if isinstance(node.value, syntax.Literal) else (node.value,)
    if not items:
        scope.error("N034", "these braces are empty", node.value.span, "write the values")
    expanded = tuple(value for item in items for value in scope.expand(item))
    value = (
        expanded[0]
        if isinstance(node.value, syntax.Word) and len(expanded) == 1
        else syntax.Literal(expanded, node.value.span)
    )
    scope.consts[node.name.text] = syntax.Const(node.name, value, node.span)


def _set(scope: Scope, node: syntax.Set) -> None:
    kind = node.type.text if node.type else ""
    if node.type and kind not in ("address", "port"):
        scope.error("N035", f"`{kind}` is not a type of set", node.type.span, hint(kind, ("address", "port")))
        kind = "address"
    if node.value is None:
        made = _dynamic(scope, node, kind)
    else:
        kind, ranges = _members(scope, node, kind)
        made = ir.Set(node.name.text, kind, ranges, span=node.span)
    scope.sets[made.name] = made


def _members(scope: Scope, node: syntax.Set, kind: str) -> tuple[str, ir.Ranges]:
    """Type and members of a fixed set: written in place or in a file, or as `netc set` left them."""
    if (kept := scope.sources.members(node.name.text, isinstance(node.value, syntax.Path))) is not None:
        return kept
    if isinstance(node.value, syntax.Path):
        path = Path(node.span.file).parent / node.value.word.text
        try:
            return read_members(str(path), read_text(path, MAX_SET_FILE), kind, scope.sources, scope.findings)
        except LiteralError as error:
            scope.findings.literal(error, node.value.word.span)
            return kind or "address", ()
    assert isinstance(node.value, syntax.Literal)
    words = tuple(value for item in node.value.items for value in scope.expand(item))
    if not words:
        scope.error(
            "N034",
            "these braces are empty, and an empty set matches nothing",
            node.value.span,
            "write its members; for one that fills itself: set NAME : address timeout 10m",
        )
    types_found = (scope.sets[w.text].type if w.text in scope.sets else types.type_of(w.text) for w in words)
    kind = kind or next((t for t in types_found if t), "address")
    other = next((w for w in words if w.text not in scope.sets and types.type_of(w.text) not in ("", kind)), None)
    if other is not None:
        scope.error(
            "N035",
            f"`{other.text}` is {_article(types.type_of(other.text))}, and the others are {kind}s"
            if kind == "port"
            else f"`{other.text}` is a port, and the others are addresses",
            other.span,
            "the members of a set have one type: make two sets",
        )
        return kind, ()
    parsed = scope.ranges(words, types.TYPES["src" if kind == "address" else "dport"], sets=True)
    return kind, normalize(parsed or ())


def _article(kind: str) -> str:
    return {"address": "an address"}.get(kind, f"a {kind}")


def _dynamic(scope: Scope, node: syntax.Set, kind: str) -> ir.Set:
    """`set banned : address timeout 10m size 100k never office full keep`"""
    if kind == "port":
        scope.error(
            "N006",
            "a dynamic set of ports is not supported yet",
            node.span,
            "write its members: set NAME = { 80, 443 }",
        )
    options: dict[str, tuple[syntax.Word, ...]] = {}
    for key, words, span in node.options:
        if key in options:
            scope.error("N021", f"`{key}` is written twice", span, "write it once")
        options.setdefault(key, words)
    timeout, size, full = None, DEFAULT_SIZE, "keep"
    if "timeout" in options:
        timeout = _option(scope, options["timeout"][0], lambda text: units.duration(text))
    if "size" in options:
        size = _option(scope, options["size"][0], lambda text: units.count(text, "a size of a set", 1, _MAX_SIZE)) or 1
    if "full" in options:
        full = options["full"][0].text
        if full not in ("keep", "evict"):
            scope.error(
                "N047",
                f"`{full}` is not what a full set can do",
                options["full"][0].span,
                "write `full keep` (refuse new members) or `full evict` (the oldest goes)",
            )
    never = tuple(dict.fromkeys(word.text for word in options.get("never", ())))
    return ir.Set(node.name.text, "address", (), size, timeout, never, full, node.span)


def _option(scope: Scope, word: syntax.Word, parse: object) -> int | None:
    single = scope.single(word)
    try:
        return int(parse(single.text))  # type: ignore[operator]  # one of the lambdas above
    except LiteralError as error:
        scope.findings.literal(error, single.span)
        return None


def _never(scope: Scope, node: syntax.Set) -> None:
    """The sets behind `never` may be declared anywhere; they are fixed sets of addresses."""
    for key, words, _ in node.options:
        for word in words if key == "never" else ():
            found = scope.set(word, "address")
            if found and found.size is not None:
                scope.error(
                    "N035",
                    f"`{word.text}` changes while netc runs, so it cannot protect anybody",
                    word.span,
                    "name a fixed set",
                    ((found.span, "declared here"),),
                )


def _real(path: Path) -> Path:
    """The path without links; where links go in a circle or a name has a NUL, as it is: reading tells that better."""
    try:
        return Path(os.path.realpath(path))
    except ValueError:
        return path
