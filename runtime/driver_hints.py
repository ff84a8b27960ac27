"""What is known of a device's driver, beside its refusal: many drivers give an errno and keep the reason for the kernel's log.

Of the table (compiler/tables/drivers.json) only what can be the reason: the group of the step that was refused, and, where the device can be asked, its state now.
"""

from __future__ import annotations

import os

from compiler.tables import drivers
from compiler.tables.drivers import Constraint

_MERGING = ("rx-lro", "rx-gro-hw")


def beside(mend: str, device: str, group: str) -> str:
    """The mend of a refusal with what is known of the driver below it, a line each. Never raises: a hint is not worth an error."""
    from runtime import disruption

    driver = disruption.driver_of(device) if device else ""
    known = [item for item in drivers.reasons(driver, os.uname().release, group) if _can_be(item, device)] if driver else []
    lines = [f"known of {driver}: {item.message}; do: {item.mend.replace('DEV', device)}" for item in known]
    return "\n  = ".join(filter(None, [mend, *lines]))


def _can_be(item: Constraint, device: str) -> bool:
    """Whether the device is now as it has to be for this to be the reason."""
    from runtime.backends import ethtool, link

    try:
        if item.mtu:
            return link.get(device).mtu > item.mtu
        if "channels-before-xdp" in item.quirks:
            return link.get(device).xdp_program != 0
        if item.when == "lro":
            features = ethtool.features(device)
            return any(name in features and features[name].active for name in _MERGING)
    except OSError:
        return True
    return True
