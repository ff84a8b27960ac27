"""libnftables through the distribution's binding (python3-nftables): JSON in, JSON out, one call one transaction. No policy knowledge.

The network namespace is the one that the calling thread is in: every call makes its own libnftables context, whose netlink socket
is opened in it. Nothing here goes through a shell or a text that nft parses: only libnftables-json(5).
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Sequence
from typing import Any

Json = dict[str, Any]


class NftError(Exception):
    """libnftables or the kernel refused; the text is their words. Nothing of the transaction was done."""


def run(commands: Sequence[Json], dry_run: bool = False, terse: bool = False) -> list[Json]:
    """Run commands as one transaction and give what it printed. Raises NftError.

    dry_run: the kernel is asked and nothing is changed (nft --check). terse: listings without the elements of sets, which are many.
    """
    context = _context()
    context.set_json_output(True)
    context.set_dry_run(dry_run)
    context.set_terse_output(terse)
    status, output, error = context.json_cmd({"nftables": [{"metainfo": {"json_schema_version": 1}}, *commands]})
    if status != 0:
        raise NftError(_words(error))
    found = output.get("nftables", []) if isinstance(output, dict) else []
    return [item for item in found if "metainfo" not in item]


def tables() -> set[tuple[str, str]]:
    """(family, name) of every table of this namespace. Raises NftError."""
    return {(item["table"]["family"], item["table"]["name"]) for item in run([{"list": {"tables": None}}], terse=True) if "table" in item}


def list_table(family: str, table: str) -> list[Json]:
    """Everything in a table but the elements of its sets, as `nft -j -t list table` prints it. Raises NftError (no such table)."""
    return run([{"list": {"table": {"family": family, "name": table}}}], terse=True)


def ruleset() -> dict[tuple[str, str], list[Json]]:
    """(family, table) -> its objects without the elements of sets, for every table: one call. Raises NftError."""
    found: dict[tuple[str, str], list[Json]] = {}
    for item in run([{"list": {"ruleset": None}}], terse=True):
        ((kind, body),) = item.items()
        found.setdefault((body["family"], body["name"] if kind == "table" else body.get("table", "")), []).append(item)
    return found


def counters(family: str, table: str) -> dict[str, tuple[int, int]]:
    """Named counters: (packets, bytes as nft counts them). Raises NftError."""
    found = run([{"list": {"counters": {"family": family, "table": table}}}], terse=True)
    mine = (item["counter"] for item in found if "counter" in item)
    return {item["name"]: (item["packets"], item["bytes"]) for item in mine if (item["family"], item["table"]) == (family, table)}


def names(items: Iterable[Json], kind: str) -> set[str]:
    """The names of one kind of object (chain, set, counter, limit) in a listing."""
    return {item[kind]["name"] for item in items if kind in item}


def _context() -> Any:
    """A libnftables context. Signals wait: the binding's __del__ fails on an object that was interrupted half made, and says so on stderr."""
    nftables = _binding()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        return nftables.Nftables()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _binding() -> Any:
    try:
        import nftables  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        raise NftError(
            "the nftables binding is not installed (Debian: apt install python3-nftables; a venv needs --system-site-packages)"
        ) from None
    return nftables


def _words(error: str) -> str:
    """libnftables' message without its place in a command that nobody wrote by hand, at most three lines."""
    lines = [line.removeprefix("internal:0:0-0: ").removeprefix("Error: ") for line in error.strip().splitlines()]
    kept = [line for line in lines if line.strip(" ^\0")]
    return "\n".join(dict.fromkeys(kept[:3])) or "libnftables gave no reason"
