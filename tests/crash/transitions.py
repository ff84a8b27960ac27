"""What the sweep goes through: from one policy to another by one command. Words in braces are bundles or policies of tests/crash/policies.py."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Transition:
    """before: the commands that make the old state, `!` before one of the host's own, `?` before one that may fail. command: the one that is cut short.

    trial: the old state or the new one waits for a confirmation, so that its journal stays. bare: the nic has no policy before or after, so that what the guard sends may get through.
    """

    name: str
    before: tuple[str, ...]
    command: str
    bare: bool = False
    trial: bool = False


TRANSITIONS = (
    Transition("nothing to a", ("remove",), "apply {a}", bare=True),
    Transition("nothing to all stages", ("remove",), "apply {staged}", bare=True),
    Transition("a to b", ("apply {a}",), "apply {b}"),
    Transition("b back to a", ("apply {a}", "apply {b}"), "rollback"),
    Transition("all stages to others", ("apply {staged}",), "apply {staged2}"),
    Transition("all stages rolled back", ("apply {staged}", "apply {staged2}"), "rollback"),
    Transition("a to nothing", ("apply {a}",), "remove", bare=True),
    Transition("all stages to nothing", ("apply {staged}",), "remove", bare=True),
    Transition("more stages", ("apply {a}",), "apply {staged}"),
    Transition("fewer stages", ("apply {staged}",), "apply {a}"),
    Transition("grown", ("remove", "apply {a}"), "apply {large}"),
    Transition("shrunk", ("apply {large}",), "apply {a}"),
    Transition("settings come", ("apply {a}",), "apply {tuned}"),
    Transition("settings go", ("apply {tuned}",), "apply {a}"),
    Transition("generic", ("remove", "apply {generic}"), "apply {generic2}"),
    Transition("nft alone", ("remove", "apply {nft}"), "apply {nft2}"),
    Transition("nft to xdp", ("remove", "apply {nft}"), "apply {a}"),
    Transition("xdp to nft", ("apply {a}",), "apply {nft}"),
    Transition("two nics", ("apply {two}",), "apply {two2}"),
    Transition("one nic less", ("apply {two}",), "apply {b}"),
    Transition("drifted", ("apply {staged}", "!nft flush table netdev netc"), "apply {staged}"),
    Transition("a set's members", ("apply {set}", "set del banned --all"), "set add banned 198.51.100.7 198.51.100.8"),
    Transition("a fixed set", ("apply {set.netc}",), "set add office 198.51.100.0/24"),
    Transition("put on trial", ("?rollback", "apply {staged}"), "apply {staged2} --confirm 600s", trial=True),
    Transition("confirmed", ("?rollback", "apply {staged}", "apply {staged2} --confirm 600s"), "confirm", trial=True),
    Transition("a trial ended", ("apply {staged}", "apply {staged2} --confirm 600s"), "rollback", trial=True),
    Transition("rules in place", ("apply {large@rules.netc}",), "apply {larger@rules.netc}"),
)
