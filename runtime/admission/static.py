"""Static sets of a bundle: types that the language has, members that are ascending, disjoint ranges."""

from __future__ import annotations

from itertools import pairwise

from compiler.bundle import StaticSet
from compiler.tables import members
from runtime.admission.refusal import refuse


def check_static(item: StaticSet) -> None:
    """Raises StepError for what no compiler of netc writes."""
    if item.type not in ("address", "port"):
        refuse(f"set {item.name}", f"no set holds a {item.type!r}")
    try:
        ranges = members.decode(item.ranges)
    except ValueError as error:
        refuse(f"set {item.name}", str(error))
    if any(low > high for low, high in ranges) or any(before[1] >= after[0] for before, after in pairwise(ranges)):
        refuse(f"set {item.name}", "its members are out of order")
