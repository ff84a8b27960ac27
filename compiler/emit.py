"""Every stage of a compilation as text for a reader: `netc compile --emit ir|c|tc|nft|ethtool|plan`."""

from __future__ import annotations

import msgspec

from compiler import ir_text
from compiler.pipeline import Compilation


def stage(made: Compilation, name: str) -> str:
    """The text of one stage, ending in a newline."""
    return {"ir": _ir, "c": _c, "tc": _tc, "nft": _nft, "ethtool": _ethtool, "plan": _plan}[name](made)


def _ir(made: Compilation) -> str:
    return ir_text.dump(made.program)


def _c(made: Compilation) -> str:
    return "\n".join(f"/* program {name} */\n{text.rstrip()}\n" for name, text in sorted(made.sources.items()))


def _tc(made: Compilation) -> str:
    return _json(made.bundle.trees)


def _nft(made: Compilation) -> str:
    """The commands as `nft -j -f` takes them, a table after the other; $gen and $dev:NIC are filled at apply."""
    return _json([{"nftables": [msgspec.json.decode(item) for item in table.objects]} for table in made.bundle.nft])


def _ethtool(made: Compilation) -> str:
    return _json(made.bundle.settings)


def _plan(made: Compilation) -> str:
    """What goes where and why, one line each, in the columns of the widest."""
    rows = [(item.what, item.stage or "-", item.reason) for item in made.bundle.placements]
    widths = [max((len(row[column]) for row in rows), default=0) for column in (0, 1)]
    return "".join(f"{what:<{widths[0]}}  {where:<{widths[1]}}  {reason}\n" for what, where, reason in rows)


def _json(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value, order="deterministic"), indent=2).decode() + "\n"
