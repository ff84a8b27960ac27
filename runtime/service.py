"""The systemd unit that runs `netc boot`: text with this installation's own paths, and where it belongs.

Order as of nftables.service: before network-pre.target, which what brings devices up waits for. Hardened: uid 0 (the files of IRQ affinity and
of sysctl ask for it) with the three capabilities that a bundle needs. Stopping it does nothing: a policy is taken off by `netc remove`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from runtime.state import write_atomically

_UNIT = """\
# written by: netc service
[Unit]
Description=netc: the confirmed network policy, before the network comes up
Documentation=man:systemd.special(7)
DefaultDependencies=no
Wants=network-pre.target
Before=network-pre.target shutdown.target
Conflicts=shutdown.target
After=local-fs.target systemd-modules-load.service systemd-sysctl.service
RequiresMountsFor={state} /sys/fs/bpf

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={netc} boot{options}
ExecReload={netc} boot{options}
TimeoutStartSec=180
User=root
UMask=0077
CapabilityBoundingSet=CAP_BPF CAP_NET_ADMIN CAP_PERFMON
NoNewPrivileges=yes
ProtectSystem=strict
ReadWritePaths=-{state} -{bpffs}
{directory}ProtectHome=read-only
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictAddressFamilies=AF_NETLINK AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
IPAddressDeny=any
KeyringMode=private
SystemCallArchitectures=native
SystemCallFilter=@system-service bpf membarrier
SystemCallErrorNumber=EPERM

[Install]
WantedBy=sysinit.target
"""
_SAFE = re.compile(r"[A-Za-z0-9_./@:+-]+\Z")
NAME = "netc.service"


class ServiceError(Exception):
    """The unit cannot be written. The text says why and what to do."""


def unit(netc: Path, state: Path, bpffs: Path) -> str:
    """The unit's text. bpffs: netc's own directory in it, whose file system has to be mounted. Raises ServiceError."""
    for path in (netc, state, bpffs):
        if not path.is_absolute() or not _SAFE.match(str(path)):
            raise ServiceError(f"{path}: a unit takes absolute paths of letters, digits and _./@:+- only")
    options = f" --state-dir {state} --bpffs {bpffs}" if (str(state), str(bpffs)) != ("/var/lib/netc", "/sys/fs/bpf/netc") else ""
    directory = f"StateDirectory={state.name}\nStateDirectoryMode=0700\n" if state.parent == Path("/var/lib") else ""
    return _UNIT.format(netc=netc, state=state, bpffs=bpffs.parent, options=options, directory=directory)


def install(text: str, root: Path) -> Path:
    """Write the unit below `root`. Raises ServiceError, StateError."""
    directory = root / "etc/systemd/system"
    if not directory.is_dir():
        raise ServiceError(f"there is no {directory}: no systemd here\n  = help: let what starts this machine run `netc boot` before the network")
    path = directory / NAME
    write_atomically(path, text.encode(), mode=0o644)
    if os.geteuid() == 0:
        os.chown(path, 0, 0)
    return path
