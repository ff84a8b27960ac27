"""The IR as text and back, by reflection over the dataclasses of `ir`: what `--emit ir` shows, and what tests can write by hand.

`(Rule "ssh" pass (And [(Is tcp) (Within @dport [[22 22]])]) :effects [(Log)])`: a node is its class name, its required fields in
order, then `:field value` for every other field that is not its default. `@x` is a packet field, `[…]` a tuple, nil None; words that
are no plain names are JSON strings. Spans are left out unless asked for; a node without one gets NOWHERE. Neither direction recurses.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import re
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from compiler import ir
from compiler.source import Span

WIDTH = 110  # columns that a node may take on one line
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.>/-]*\Z")
_RESERVED = {"true", "false", "nil", "inf", "nan"}
_CLASSES: dict[str, type] = {
    name: item for name, item in vars(ir).items() if dataclasses.is_dataclass(item) and isinstance(item, type)
}
_CLASSES["Span"] = Span


class IrTextError(ValueError):
    """Text that is no IR. The message begins with line:column."""


# Printing


def dump(program: Any, *, spans: bool = False) -> str:
    """The text of a program (or of any node of `ir`), ending in a newline. `spans`: also where every node came from."""
    return _layout(_tree(program, spans)) + "\n"


@dataclass(slots=True)
class _Box:
    """A bracketed group to be laid out: `flat` is its text on one line, "" when that is too long."""

    open: str
    close: str
    parts: list[tuple[str, str | _Box]] = field(default_factory=list)  # label ("" or ":name "), content
    flat: str = ""


def _tree(root: Any, spans: bool) -> _Box:
    """Boxes for `root` and everything in it; children are finished before their parents."""
    top = _Box("", "")
    pending: list[tuple[str, Any, _Box]] = [("", root, top)]
    made: list[_Box] = []
    while pending:
        label, value, parent = pending.pop()
        atom = _atom(value)
        if atom is not None:
            parent.parts.append((label, atom))
            continue
        is_tuple = isinstance(value, tuple)
        box = _Box("[", "]") if is_tuple else _Box("(" + type(value).__name__, ")")
        parent.parts.append((label, box))
        made.append(box)
        children = [("", item) for item in value] if is_tuple else list(_shown_fields(value, spans))
        pending += [(name, item, box) for name, item in reversed(children)]
    for box in reversed(made):
        box.flat = _flat(box)
    root_box = top.parts[0][1]
    if isinstance(root_box, str):
        raise TypeError(f"{root!r} is no IR node")
    return root_box


def _shown_fields(node: Any, spans: bool) -> Iterator[tuple[str, Any]]:
    if isinstance(node, Span):
        yield from (("", getattr(node, name)) for name in Span.__struct_fields__)
        return
    for item in dataclasses.fields(node):
        value = getattr(node, item.name)
        if item.default is dataclasses.MISSING:
            yield "", value
        elif item.name in ("span", "default_span"):
            if spans and value is not item.default:
                yield f":{item.name} ", value
        elif value is not item.default and (value != item.default or type(value) is not type(item.default)):
            yield f":{item.name} ", value


def _atom(value: Any) -> str | None:
    """The text of a value that is not a group."""
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, ir.Field):
        return f"@{value.value}"
    if isinstance(value, str):
        return value if _PLAIN.match(value) and value not in _RESERVED else json.dumps(value)
    return repr(value) if isinstance(value, int | float) else None


def _flat(box: _Box) -> str:
    """The box on one line, "" if that needs more than WIDTH columns."""
    words = [box.open] if box.open != "[" else []
    size = 0
    for label, content in box.parts:
        text = content if isinstance(content, str) else content.flat
        size += len(label) + len(text) + 1
        if not text or size > WIDTH:
            return ""
        words.append(label + text)
    return ("[" if box.open == "[" else "") + " ".join(words) + box.close


def _layout(root: _Box) -> str:
    """Boxes that fit stand on one line; of others every group goes on a line of its own, indented by its depth (to a bound)."""
    out: list[str] = []
    pending: list[tuple[str | _Box, int, str]] = [(root, 0, "")]
    while pending:
        item, depth, before = pending.pop()
        out.append(before)
        if isinstance(item, str) or item.flat:
            out.append(item if isinstance(item, str) else item.flat)
            continue
        out.append(item.open)
        pending.append((item.close, depth, ""))
        indent = "\n" + "  " * min(depth + 1, 40)
        for index, (label, content) in reversed(list(enumerate(item.parts))):
            inline = isinstance(content, str) and not label and item.open != "["
            space = " " if inline else indent if index or item.open != "[" else ""
            pending.append((content, depth + 1, space + label))
    return "".join(out)


# Reading


_TOKEN = re.compile(
    r"""\s*(?:(?P<mark>[\[\]()])|(?P<text>"(?:[^"\\\n]|\\.)*")|:(?P<label>[a-z0-9_]+)|@(?P<field>[a-z0-9.]+)"""
    r"""|(?P<number>-?(?:inf|[0-9][0-9.e+-]*)(?![A-Za-z0-9_])|nan\b)|(?P<word>[A-Za-z_][A-Za-z0-9_.>/-]*))"""
)


@dataclass(slots=True)
class _Group:
    """An open bracket while its content is read. name: the class, None for a tuple."""

    name: str | None
    place: int
    items: list[Any] = field(default_factory=list)
    named: dict[str, Any] = field(default_factory=dict)
    label: str | None = None


def parse(text: str) -> ir.Program:
    """The program that `dump` printed. Raises IrTextError with line:column."""
    node = parse_node(text)
    if not isinstance(node, ir.Program):
        raise IrTextError(f"1:1: a (Program …) is wanted, not a {type(node).__name__}")
    return node


def parse_node(text: str) -> Any:
    """Any node of `ir`. Raises IrTextError."""
    top = _Group(None, 0)
    stack = [top]
    for token, place in _tokens(text):
        kind, value = token.lastgroup or "", token.group(token.lastgroup or 0)
        if kind == "mark" and value in "([":
            stack.append(_Group("" if value == "(" else None, place))
        elif kind == "mark":
            group = stack.pop()
            if not stack or (group.name is None) != (value == "]"):
                raise _error(text, place, f"`{value}` closes nothing")
            _put(text, stack[-1], _finished(text, group), place)
        elif kind == "label":
            stack[-1].label = value
        elif stack[-1].name == "" and kind == "word":
            stack[-1].name = value
        else:
            _put(text, stack[-1], _value(text, kind, value, place), place)
    if len(stack) > 1:
        raise _error(text, stack[-1].place, "this bracket is never closed")
    if len(top.items) != 1 or top.named:
        raise IrTextError(f"1:1: one node is wanted, there are {len(top.items)}")
    return top.items[0]


def _tokens(text: str) -> Iterator[tuple[re.Match[str], int]]:
    place, end = 0, len(text.rstrip())
    while place < end:
        token = _TOKEN.match(text, place)
        if token is None:
            start = place + len(text[place:end]) - len(text[place:end].lstrip())
            raise _error(text, start, f"{text[start : start + 12]!r} is no word of the IR")
        yield token, token.start(token.lastgroup or 0)
        place = token.end()


def _value(text: str, kind: str, value: str, place: int) -> Any:
    try:
        if kind == "text":
            return json.loads(value)
        if kind == "field":
            return ir.Field(value)
        if kind == "number":
            return int(value) if re.fullmatch(r"-?[0-9]+", value) else float(value)
    except ValueError as error:
        raise _error(text, place, str(error)) from None
    return {"true": True, "false": False, "nil": None}.get(value, value)


def _put(text: str, group: _Group, value: Any, place: int) -> None:
    if group.label is None:
        group.items.append(value)
    elif group.label in group.named or group.name is None:
        raise _error(text, place, f"`:{group.label}` does not belong here")
    else:
        group.named[group.label] = value
    group.label = None


def _finished(text: str, group: _Group) -> Any:
    if group.name is None:
        return tuple(group.items)
    made = _CLASSES.get(group.name)
    if made is None:
        raise _error(text, group.place, f"`{group.name}` is no IR node")
    fields, hints = _shape(made)
    values = dict(zip(fields, group.items, strict=False))
    if len(group.items) > len(fields) or values.keys() & group.named.keys() or group.named.keys() - set(fields):
        raise _error(text, group.place, f"{group.name} has the fields {', '.join(fields)}")
    values |= group.named
    for name, value in values.items():
        if not _fits(value, hints[name]):
            raise _error(text, group.place, f"{group.name}: {_shown(value)} cannot be its {name}")
    try:
        return made(**values)
    except TypeError as error:
        raise _error(text, group.place, str(error).replace("__init__() ", "")) from None


_SHAPES: dict[type, tuple[list[str], dict[str, Any]]] = {}


def _shape(made: type) -> tuple[list[str], dict[str, Any]]:
    """The field names of a class in order, and their types."""
    if made not in _SHAPES:
        names = list(Span.__struct_fields__) if made is Span else [item.name for item in dataclasses.fields(made)]
        _SHAPES[made] = names, typing.get_type_hints(made)
    return _SHAPES[made]


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value has a field's declared type; nodes were checked when they were made, so this goes no deeper than tuples."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return any(_fits(value, option) for option in inside)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if len(inside) == 2 and inside[1] is Ellipsis:
            return all(_fits(item, inside[0]) for item in value)
        return len(value) == len(inside) and all(map(_fits, value, inside))
    if hint is float:
        return type(value) in (int, float)
    if hint is str and isinstance(value, enum.Enum):
        return False
    return type(value) is hint


def _error(text: str, place: int, message: str) -> IrTextError:
    line = text.count("\n", 0, place) + 1
    return IrTextError(f"{line}:{place - text.rfind(chr(10), 0, place)}: {message}")


def _shown(value: Any) -> str:
    """A wrong value for a message; nodes by their class only, they may be deep."""
    return f"`{value}`" if isinstance(value, str | int | float) else f"a {type(value).__name__}"
