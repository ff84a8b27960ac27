"""set: list, add, del, replace: the members of a live policy's sets."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from runtime.commands import target as targets

if TYPE_CHECKING:
    from compiler.bundle import Bundle
    from runtime.context import Context
    from runtime.set_change import Done, Wish
    from runtime.set_view import AnyDynamicSet, AnySets

_DESCRIPTION = """\
Members of the sets of the installed policy. A change holds as a whole: no packet is judged by half of it, and when anything is wrong
nothing is changed.

A dynamic set (set banned : address timeout 10m) is filled by rules and by hand. Its members are single IPv4 and IPv6 addresses. A change
survives an apply, not a reboot.

A fixed set (set office = ...) has addresses, prefixes and ranges, or ports, as members. To change one, the policy that is installed is
compiled again with them and applied as by netc apply: every protect and never is proved again, and netc rollback takes it back. It holds
until the policy's file is applied again: that takes the members as they are written there; netc plan says how they differ.

A file has one member a line, with # comments; - is standard input.
"""
_EPILOG = """\
EXAMPLES
    netc set list                                     every set and how many members it has
    netc set list banned                              who is banned, and for how long
    netc set del banned 203.0.113.9                   let somebody in again
    netc set add banned --file feed.txt --timeout 1d  ban a list for a day
    netc set replace banned --file feed.txt           exactly this list from now on
    netc set add office 198.51.100.0/24               a fixed set: compiled, proved and applied
"""
_PATIENCE = 10.0  # seconds that one change waits for another


class SetsError(Exception):
    """A set that is not there, or cannot be changed by hand. The text says what to do."""


def add_parser(subparsers: Any) -> None:
    style = argparse.RawDescriptionHelpFormatter
    command = subparsers.add_parser(
        "set", help="members of sets: list, add, del, replace", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=style
    )
    actions = command.add_subparsers(title="ACTIONS", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="the sets, or one set's members with the time they have left")
    listing.add_argument("name", nargs="?", default="", metavar="NAME")
    listing.set_defaults(run=run_list)
    adding = actions.add_parser(
        "add", help="put members in",
        description="Put members in. In a dynamic set one that is a member already keeps its time, unless --renew; members of the sets behind "
                    "`never` are refused; when there is no room, `full keep` refuses them all and `full evict` lets the oldest go.",
    )  # fmt: skip
    deleting = actions.add_parser("del", help="take members out", description="Take members out; those that were none are named.")
    deleting.add_argument("--all", action="store_true", help="every member that is in it now")
    replacing = actions.add_parser(
        "replace", help="put in what a file has, take out what it has not",
        description="Put in what a file has and take out what it has not, at once. In a dynamic set what is in both keeps its time, unless --renew.",
    )  # fmt: skip
    for each, many, run in ((adding, True, run_add), (deleting, True, run_del), (replacing, False, run_replace)):
        each.add_argument("name", metavar="NAME")
        if many:
            each.add_argument("members", nargs="*", metavar="MEMBER", help="an address; of a fixed set also a prefix, a range, a port")
        each.add_argument("--file", default="", required=not many, metavar="FILE", help="one member a line; - is standard input")
        each.set_defaults(run=run)
    for each in (adding, replacing):
        each.add_argument("--timeout", metavar="TIME", help="of a dynamic set: 30s, 10m, 1d, or never; without it the set's own")
        each.add_argument("--renew", action="store_true", help="of a dynamic set: start the time of live members anew")
    for each in (listing, adding, deleting, replacing):
        targets.add_options(each)
    for each in (adding, deleting, replacing):
        targets.add_lockout(each)


def run_list(options: argparse.Namespace) -> int:
    from runtime import output, set_listing

    with targets.opened(options) as target:
        bundle, context = _installed(target), target.context
        if not options.name:
            rows = set_listing.overview(context, bundle)
            if options.json:
                output.show_json(rows)
            else:
                print(output.table(("set", "kind", "type", "members", "size"), [set_listing.row(each) for each in rows], (3, 4)))
            return 0
        found = _dynamic(bundle, options.name) or next(item for item in bundle.static if item.name == options.name)
        items = set_listing.members(context, bundle, found)
        if options.json:
            output.show_json({"set": options.name, "members": items})
        else:
            for item in items:
                print(set_listing.line(item))
    return 0


def run_add(options: argparse.Namespace) -> int:
    return _run(options, "add", _add)


def run_del(options: argparse.Namespace) -> int:
    if options.all and (options.members or options.file):
        raise SetsError("--all stands for every member: name none beside it")
    return _run(options, "clear" if options.all else "del", _del)


def run_replace(options: argparse.Namespace) -> int:
    return _run(options, "replace", _replace)


def _add(options: argparse.Namespace, context: Context, bundle: AnySets, item: AnyDynamicSet) -> Wish:
    from runtime import set_words
    from runtime.set_change import Wish

    keys = _given(options)
    set_words.refuse_protected(bundle, item, keys)
    return Wish(dict.fromkeys(keys, _expiry(options.timeout, item)), renew=options.renew)


def _del(options: argparse.Namespace, context: Context, bundle: AnySets, item: AnyDynamicSet) -> Wish:
    from runtime import sets
    from runtime.set_change import Wish

    return Wish(leave=[member.key for member in sets.members(context, bundle, item)] if options.all else _given(options))


def _replace(options: argparse.Namespace, context: Context, bundle: AnySets, item: AnyDynamicSet) -> Wish:
    from runtime import set_words, sets
    from runtime.set_change import Wish

    keys = set_words.keys((), options.file)
    set_words.refuse_protected(bundle, item, keys)
    come = dict.fromkeys(keys, _expiry(options.timeout, item))
    leave = [member.key for member in sets.members(context, bundle, item) if member.key not in come]
    return Wish(come, leave, options.renew)


def _run(options: argparse.Namespace, action: str, wish: Callable[[argparse.Namespace, Context, AnySets, AnyDynamicSet], Wish]) -> int:
    """One change of a set: in its map where rules fill it, else by another bundle."""
    with targets.opened(options) as target:
        if _dynamic(_sets(target), options.name) is None:  # asked before the lock: where netc never was there is no directory to lock
            from runtime.commands import fixed_sets

            _refuse_time(options)
            if action not in ("replace", "clear"):
                _refuse_nothing(options)
            return fixed_sets.change(options, target, action)
        with _locked(target) as bundle:
            found = _dynamic(bundle, options.name)
            if found is None:
                raise SetsError(f"{options.name} became a fixed set while this waited; nothing was changed, try again")
            return _change(options, target.context, bundle, found, wish(options, target.context, bundle, found))


def _sets(target: targets.Target) -> AnySets:
    """The sets of what is installed. Raises SetsError."""
    from runtime import set_view

    return set_view.installed(target.context.state) or _installed(target)


def _dynamic(bundle: AnySets, name: str) -> AnyDynamicSet | None:
    """The dynamic set of that name; None for a fixed one. Raises SetsError."""
    found = next((item for item in bundle.sets if item.name == name), None)
    if found is None and not any(item.name == name for item in bundle.static):
        names = ", ".join(sorted({item.name for item in (*bundle.sets, *bundle.static)})) or "none"
        raise SetsError(f"no rule of the installed policy asks a set `{name}`\n  = help: the sets are: {names}")
    return found


def _refuse_time(options: argparse.Namespace) -> None:
    for name in ("timeout", "renew"):
        if getattr(options, name, None):
            raise SetsError(f"--{name} is for dynamic sets: the members of {options.name} stay until they are taken out")


def _refuse_nothing(options: argparse.Namespace) -> None:
    if not options.members and not options.file:
        raise SetsError("no member is named\n  = help: write members behind the set's name, or --file FILE")


def _given(options: argparse.Namespace) -> list[bytes]:
    from runtime import set_words

    _refuse_nothing(options)
    return set_words.keys(options.members, options.file)


def _expiry(text: str | None, item: AnyDynamicSet) -> int:
    """ns of CLOCK_MONOTONIC, 0: never."""
    from compiler.tables import durations

    if text == "never":
        return 0
    try:
        timeout = item.timeout if text is None else durations.nanoseconds(text)
    except ValueError as error:
        raise SetsError(f"--timeout: {error}, or never") from None
    return time.monotonic_ns() + timeout if timeout else 0


def _change(options: argparse.Namespace, context: Context, bundle: AnySets, item: AnyDynamicSet, wish: Wish) -> int:
    from runtime import output, set_change, set_words

    done = set_change.change(context, bundle, item, wish)
    if options.json:
        absent = [set_words.written(key) for key in done.absent]
        output.show_json({"set": item.name, "added": done.added, "kept": done.kept, "removed": done.removed, "absent": absent, "evicted": done.evicted})
        return 0
    print(f"{item.name}: {_words(done, wish.renew)}")
    set_words.show_absent([set_words.written(key) for key in done.absent])
    return 0


def _words(done: Done, renew: bool) -> str:
    parts = [
        (done.added, "added"),
        (done.removed, "removed"),
        (done.kept, "members already, their time starts anew" if renew else "members already, their time goes on"),
        (done.evicted, "others evicted to make room"),
    ]
    return "; ".join(f"{number:,} {what}" for number, what in parts if number) or "nothing to change"


@contextmanager
def _locked(target: targets.Target) -> Iterator[AnySets]:
    """The installed sets, with the lock held. Raises SetsError, LockedError."""
    from runtime import lock

    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            with lock.exclusive(target.context.state, "set"):
                if (target.context.state / "journal.jsonl").exists():
                    raise SetsError("a policy is on trial, or a change was cut short; nothing was changed\n"
                                    "  = help: netc status says which; netc confirm, netc rollback or netc recover ends it")  # fmt: skip
                yield _sets(target)
                return
        except lock.LockedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _installed(target: targets.Target) -> Bundle:
    """The installed bundle. The devices are not asked: a set's members need none. Raises SetsError."""
    from runtime import boot

    current = target.store.record().current
    if current is None or current.boot != boot.boot_id():
        raise SetsError("no policy is installed\n  = help: install one with: netc apply POLICY")
    return target.store.bundle(current.bundle)
