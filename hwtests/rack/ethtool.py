"""What ethtool prints of a port's device, read. netc asks over netlink: here is what people see, so that netc's own reading does not prove itself."""

from __future__ import annotations

import re

from hwtests.rack.port import Port

_FIELDS = {"IP SA": "src-ip", "IP DA": "dst-ip", "bytes 0 & 1": "src-port", "bytes 2 & 3": "dst-port"}


def current(port: Port, letter: str) -> dict[str, str]:
    """What `ethtool -g`, `-l`, `-c` or `-a` says, by name in small letters; of rings and channels the current ones. Without what the driver does not have."""
    done = port.machine.run("ethtool", f"-{letter}", port.device, status=None)
    text = done.out.rpartition("Current hardware settings:")[2].replace("  TX:", "\nAdaptive TX:")
    pairs = (line.partition(":")[::2] for line in text.splitlines() if ":" in line)
    return {name.strip().lower(): value.strip() for name, value in pairs if value.strip() not in ("", "n/a")}


def features_text(port: Port) -> str:
    """What `ethtool -k` prints: `[fixed]` and `[requested on]` too."""
    return port.machine.run("ethtool", "-k", port.device).out


def features(port: Port) -> dict[str, str]:
    """Feature → `on` or `off`."""
    return dict(re.findall(r"^\s*([\w-]+): (\w+)", features_text(port), re.MULTILINE))


def private_flags(port: Port) -> dict[str, str]:
    """Flags that only this driver has → `on` or `off`."""
    lines = port.machine.run("ethtool", "--show-priv-flags", port.device, status=None).out.splitlines()[1:]
    return {name.strip(): value.strip() for name, _, value in (line.rpartition(":") for line in lines) if name}


def table(port: Port) -> list[int]:
    """The RSS indirection table: the queue of each entry."""
    lines = _rss(port).splitlines()
    rows = [line.split(":")[1].split() for line in lines if line.strip() and line.split(":")[0].strip().isdecimal()]
    return [int(queue) for row in rows for queue in row]


def hash_key(port: Port) -> bytes:
    """The key that the device hashes with: the kernel's own where the driver shows none (igb)."""
    lines = _rss(port).splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("RSS hash key"))
    shown = lines[at + 1].strip()
    return bytes.fromhex((shown if ":" in shown else port.machine.run("sysctl", "-n", "net.core.netdev_rss_key").out.strip()).replace(":", ""))


def hash_fields(port: Port, kind: str = "udp4") -> tuple[str, ...]:
    """What of a packet is hashed, in the words of compiler/tables/toeplitz.py."""
    said = port.machine.run("ethtool", "-n", port.device, "rx-flow-hash", kind).out
    return tuple(field for words, field in _FIELDS.items() if words in said)


def _rss(port: Port) -> str:
    return port.machine.run("ethtool", "-x", port.device).out
