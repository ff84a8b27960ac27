"""Settings that no policy writes and that what it writes brings along: the host's table for RFS, and merging in the NIC, which generic XDP ends.

They are settings like others: the plan shows them, what was there before is kept, and they are given back with the last thing that needs them.
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.bundle import Bundle, Setting
from compiler.tables import offloads
from runtime.knobs.rfs import HOST_TABLE

MERGING = ("rx-gro-hw", "rx-lro")


def settings(bundle: Bundle) -> list[Setting]:
    """All of them, without what the policy sets itself."""
    return [*_host_table(bundle), *_unmerged(bundle)]


def is_given_back_last(setting: Setting) -> bool:
    """A driver may refuse to merge while a program is on (ixgbe), and a generic one would see packets merged: it goes first."""
    return setting.group == "feature" and any(offloads.overlap(setting.key, name) for name in MERGING)


def _host_table(bundle: Bundle) -> list[Setting]:
    """RFS needs a table of the host beside those of the devices (Documentation/networking/scaling.rst), with as many entries as all of them."""
    flows = [setting for setting in bundle.settings if setting.group == "rfs" and isinstance(setting.value, int)]
    if not flows or any(setting.group == "sysctl" and setting.key == HOST_TABLE for setting in bundle.settings):
        return []
    first, total = flows[0], sum(int(str(setting.value)) for setting in flows)
    prefer = all(setting.prefer for setting in flows)
    return [Setting("", "rfs-host", HOST_TABLE, total, prefer, first.file, first.line, first.text)]


def _unmerged(bundle: Bundle) -> Iterator[Setting]:
    """The kernel turns these off for a generic program and never on again (generic_xdp_install in net/core/dev.c): netc does it, so that it is undone."""
    for nic in bundle.nics:
        if nic.xdp != "generic" or not any(code.nic == nic.name and code.hook == "xdp" for code in bundle.programs):
            continue
        written = [setting.key for setting in bundle.settings if setting.nic == nic.name and setting.group == "feature"]
        for name in MERGING:
            if not any(offloads.overlap(name, key) for key in written):
                yield Setting(nic.name, "feature", name, 0, True, bundle.policy, 1, "generic XDP")
