"""Whose what is installed is: the state directory that netc's pins and nft tables are marked with.

A state directory has an id of its own (`<state>/id`), so that one which was moved still owns what it installed, and one which was made anew
at the same path does not. The mark is the id and the path. Where it stands:

    <bpffs>/owner                       a symbolic link to nowhere; its target is the mark (bpffs holds no files)
    chain netc-made-this-table          of each nft table `netc`: a rule that nothing reaches, whose comment is the mark
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from compiler.bundle import Bundle
from runtime.context import Context
from runtime.state import Installed, write_atomically

_COMMENT_MAX = 127  # octets of a rule's comment (NFTNL_UDATA_COMMENT_MAXLEN without its zero)


class OwnerError(Exception):
    """What is installed belongs to another state directory. The text says to which, and what to do."""


@dataclass(frozen=True, slots=True)
class Mark:
    """id: the state directory's. directory: its path when the mark was made (cut at the front in nft, whose comments are short)."""

    id: str
    directory: str

    def text(self, most: int = 4000) -> str:
        room = most - len(self.id) - 1
        path = "".join(c if c.isascii() and c.isprintable() and c not in '"\\$@' else "?" for c in self.directory)
        return f"{self.id} {path if len(path) <= room else '...' + path[3 - room :]}"


def parse(text: str) -> Mark:
    number, _, directory = text.partition(" ")
    return Mark(number, directory)


def known(state: Path) -> str:
    """The id of a state directory, "" when it has none yet."""
    try:
        return (state / "id").read_text("ascii", "replace").strip()
    except OSError:
        return ""


def own(context: Context) -> Mark:
    """This context's mark; its state directory gets an id when it has none. Raises StateError."""
    if not known(context.state):
        context.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(context.state / "id", (secrets.token_hex(8) + "\n").encode())
    return Mark(known(context.state), str(context.state.resolve()))


def comment(context: Context) -> str:
    """The mark as the comment of a rule. Raises StateError."""
    return own(context).text(_COMMENT_MAX)


def pinned(context: Context) -> Mark | None:
    """The mark on the pins; None where there is none."""
    try:
        return parse(os.readlink(context.bpffs / "owner"))
    except OSError:
        return None


def mark_pins(context: Context) -> Mark | None:
    """Mark the bpf file system as this state directory's; gives the mark that was there. Raises OSError, StateError."""
    before, mine = pinned(context), own(context)
    if before == mine:
        return before
    (context.bpffs / "owner").unlink(missing_ok=True)
    os.symlink(mine.text(), context.bpffs / "owner")
    return before


def unmark_pins(context: Context, before: Mark | None = None) -> None:
    """Nothing of ours is pinned any more: the mark goes, or the one that was there comes back. Raises OSError."""
    now = pinned(context)
    if now is None or now.id != known(context.state):
        return
    (context.bpffs / "owner").unlink(missing_ok=True)
    if before is not None:
        os.symlink(before.text(), context.bpffs / "owner")


def marks(context: Context) -> Iterator[tuple[str, Mark]]:
    """Every mark that is there, and what it is on. Raises StepError."""
    from runtime.steps import nft_content

    found = pinned(context)
    if found is not None:
        yield f"the pins in {context.bpffs}", found
    for family, text in nft_content.owners().items():
        yield f"nft table {family} {nft_content.TABLE}", parse(text)


def others(context: Context) -> list[tuple[str, Mark]]:
    """The marks of other state directories. Raises StepError."""
    mine = known(context.state)
    return [(what, mark) for what, mark in marks(context) if mark.id != mine]


def whose(context: Context, mark: Mark) -> str:
    """Whose a mark of another state directory is, in words."""
    again = " (this path, but the directory was made anew since)" if mark.directory == str(context.state.resolve()) else ""
    return f"the state directory {mark.directory}{again}"


def require(context: Context) -> None:
    """Nothing here is another state directory's. Raises OwnerError, StepError."""
    for what, mark in others(context):
        raise OwnerError(
            f"{what} belong{'s' if what.startswith('nft') else ''} to {whose(context, mark)}; this is {context.state.resolve()}\n"
            f"  = help: work with its owner (--state-dir {mark.directory}), or remove it there first (netc remove); "
            "where that directory is lost: netc apply --take-over"
        )


def require_roots(context: Context, new: Bundle | None, current: Installed | None) -> None:
    """No device to be shaped has a tree of another netc, whose pins are elsewhere: a qdisc holds no mark. Raises OwnerError, StepError."""
    from runtime.backends.tc import Tc
    from runtime.steps import tc_place, tc_tree, xdp_pins

    shaped = {tree.nic for tree in (new.trees if new else ())}
    mine = set(current.bindings.values()) if current else set()
    for device in context.devices:
        if device.nic not in shaped or device.name in mine or any(xdp_pins.links(context).glob(f"{xdp_pins.pin_name(device.nic)}-*")):
            continue
        with tc_tree.refusals(f"look at {device.name}"), Tc() as tc:
            root = tc.root(device.ifindex)
        if tc_place.is_own(root):
            raise OwnerError(
                f"the shaping tree on {device.name} was installed by a netc with another state directory and bpf file system; "
                f"neither {context.state.resolve()} nor {context.bpffs} knows it\n"
                f"  = help: remove it there first (netc remove with its --state-dir and --bpffs); where these are lost: "
                f"tc qdisc del dev {device.name} root, or netc apply --take-over"
            )
