"""What of an installed policy's rules its file changes: asked of the compiler's child, which reads what differs and nothing else (compiler.change)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from compiler.bundle import BundleError
from compiler.tables import changes
from compiler.tables.changes import Delta
from runtime import compiler_child, state


@dataclass(frozen=True, slots=True)
class RuleChange:
    """What would change. data: of the wanted change; `wanted` and `before` count from the bundle `base`, which `now` was installed with."""

    now: state.Installed
    data: bytes
    wanted: Delta
    before: Delta

    @property
    def is_none(self) -> bool:
        """The text says what is installed, line by line."""
        return self.wanted == self.before


def wanted(
    store: state.Store, policy: Path, target: str | None, bound: Callable[[Iterable[str]], Mapping[str, str]], also: Callable[[Mapping[str, str]], str]
) -> RuleChange | str:
    """What of the installed policy's rules `policy` changes; or in words why it has to be compiled whole.

    bound: of the policy's nics those that are bound otherwise than it says. also: the connection that such a change may not cut, for the compiler.
    """
    record = store.record()
    now = state.installed_here(record)
    if now is None:
        return "nothing is installed"
    base = store.base_of(now.bundle)
    index = store.index(base)
    if index is None:
        return "the rules of the installed policy cannot change one by one"
    arguments = ["change", str(index), str(policy.absolute()), base, also(now.bindings), *compiler_child.target_option(target)[1:]]
    with compiler_child.running(arguments) as asked:
        from runtime import rule_change  # noqa: F401  imported in the child's time: it is what comes next

        answer = asked()
    if answer.status != 0 or not answer.output.startswith(changes.MAGIC):
        return _why(answer.output)
    try:
        found, before = changes.decode(answer.output), store.change(now.bundle)
    except BundleError as error:
        return str(error)
    if {**found.nics, **bound(found.nics)} != now.bindings or found.base != base:
        return "the policy is bound to other devices"
    return RuleChange(now, answer.output, found, before or empty(found))


def _why(output: bytes) -> str:
    try:
        return str(json.loads(output)["whole"])
    except (ValueError, KeyError, TypeError):
        return "the compiler could not tell the change by itself"


def empty(delta: Delta) -> Delta:
    """No change of the same bundle."""
    return msgspec.structs.replace(delta, half=bytes(len(delta.half)), added=(), gone=(), lines=())
