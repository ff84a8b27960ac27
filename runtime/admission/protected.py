"""Protected flows of a bundle: addresses of one family in their order, and no more of them than a moment's probing."""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import ip_address

from compiler.bundle import MAX_PROTECTED, Bundle, Protected
from runtime.admission.refusal import refuse

_MAX_VLAN = 4094
_MAX_TEXT = 4096  # characters of a condition: it is only shown


def check_protected(bundle: Bundle, nics: Collection[str]) -> None:
    """Raises StepError."""
    if len(bundle.protected) > MAX_PROTECTED:
        refuse("protect", f"{len(bundle.protected)} flows are to be probed; a policy has at most {MAX_PROTECTED}")
    for flow in bundle.protected:
        where = f"protect {flow.text[:80]}"
        if flow.nic not in nics:
            refuse(where, f"there is no nic {flow.nic}")
        if flow.vlan > _MAX_VLAN or len(flow.text) > _MAX_TEXT:
            refuse(where, f"no flow has the tag {flow.vlan}, or so long a text")
        for ends in (flow.src, flow.dst):
            _check_ends(where, flow, ends)


def _check_ends(where: str, flow: Protected, ends: tuple[str, str]) -> None:
    if ends == ("", ""):
        return
    try:
        first, last = map(ip_address, ends)
    except ValueError as error:
        refuse(where, str(error))
    if first.version != flow.family or last.version != flow.family or int(first) > int(last) or "%" in "".join(ends):
        refuse(where, f"{ends[0]} to {ends[1]} is no range of IPv{flow.family} addresses")
