"""One generation of nft rules takes another's place in three transactions, of which packets see the second.

A set that comes in a transaction is found empty for some microseconds after the rules that ask it are in force (the kernel publishes what a set is looked up
in behind the generation; run here on 6.18: 5 packets at each swap under load fell through to the default). So everything but the base chains comes first, is
committed, and is asked by nobody; then the base chains alone take each other's place; then the old chains go, whose last packets still find their sets.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from runtime.backends import nft as backend
from runtime.backends.nft import Json
from runtime.steps.nft_content import OWNER, TABLE, added

Family = tuple[str, list[Json], list[Json], list[Json]]  # its name, what comes, what is there, the owner's mark


def transactions(families: Sequence[Family]) -> list[list[Json]]:
    """What comes; the flip; what goes. Empty ones are left out."""
    parts = [[command for family in families for command in part(*family)] for part in (_come, _flip, _go)]
    return [commands for commands in parts if commands]


def base_chains(items: Iterable[Json]) -> set[str]:
    """Names of the chains that hang on a hook."""
    return {item["chain"]["name"] for item in items if item.get("chain", {}).get("hook")}


def is_in(command: Json, chains: set[str]) -> bool:
    """Does it add one of these chains, or a rule to one?"""
    body = added(command)
    return body.get("chain", {}).get("name") in chains or body.get("rule", {}).get("chain") in chains


def deletion(family: str, chains: set[str], table: str = TABLE) -> list[Json]:
    """Flushed before the first one goes: they jump to each other."""
    places = [{"chain": {"family": family, "table": table, "name": name}} for name in sorted(chains)]
    return [*({"flush": place} for place in places), *({"delete": place} for place in places)]


def _come(family: str, coming: list[Json], found: list[Json], marks: list[Json]) -> list[Json]:
    """The table, its owner's mark, and all that no packet meets yet. What an apply that died left under these names goes first."""
    base, sets = base_chains(map(added, coming)), backend.names(found, "set")
    stale = (backend.names(map(added, coming), "chain") - base - {OWNER}) & backend.names(found, "chain")
    kept = [command for command in coming if not is_in(command, base) and added(command).get("set", {}).get("name") not in sets]
    return [*kept[:2], *marks, *deletion(family, stale), *kept[2:]]


def _flip(family: str, coming: list[Json], found: list[Json], _marks: list[Json]) -> list[Json]:
    base = base_chains(map(added, coming))
    return [*deletion(family, base_chains(found)), *(command for command in coming if is_in(command, base))]


def _go(family: str, coming: list[Json], found: list[Json], _marks: list[Json]) -> list[Json]:
    """The old generation's other chains, and the sets that only they asked."""
    wanted = [added(command) for command in coming]
    chains = backend.names(found, "chain") - base_chains(found) - backend.names(wanted, "chain") - {OWNER}
    sets = sorted(backend.names(found, "set") - backend.names(wanted, "set"))
    return [*deletion(family, chains), *({"delete": {"set": {"family": family, "table": TABLE, "name": name}}} for name in sets)]
