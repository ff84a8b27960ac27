"""The fence: the later stage's rules alone, which also judge while an apply changes XDP and nft one after the other.

Two flips cannot be one. Between them XDP would hand packets on to rules that are not there yet, or no longer: so the new later rules stand
in a table of their own, in front of the old ones, from before XDP's flip until nft's is done. They only drop: nothing is counted, logged or
changed in the packet, and only packets that XDP marked as pending are judged.
"""

from __future__ import annotations

from dataclasses import replace

from compiler.targets import nft_json as nft
from compiler.targets.nft_chain import Stage
from compiler.targets.nft_json import Json

_SIDE_EFFECTS = ("counter", "mangle", "log")


def fence(stage: Stage, pending: int, hook: dict[str, object]) -> Stage:
    """A stage's judging chains without side effects, entered at `hook` by what bears the mark `pending`."""
    base = stage.name("base")
    kept = [_silent(command) for command in stage.commands if not _of_chain(command, base)]
    made = replace(stage, commands=kept, counters={})
    made.add_chain("base", policy="accept", **hook)
    made.add("base", [nft.match(nft.NETC_MARK, pending), nft.goto(stage.name("sort"))], f"{stage.chain.name}: fence")
    return made


def _of_chain(command: Json, name: str) -> bool:
    body = command["add"]
    return name in (body.get("chain", {}).get("name"), body.get("rule", {}).get("chain"))


def _silent(command: Json) -> Json:
    rule = command["add"].get("rule")
    if rule is None:
        return command
    kept = [part for part in rule["expr"] if not part.keys() & set(_SIDE_EFFECTS)]
    return {"add": {"rule": {**rule, "expr": kept}}}
