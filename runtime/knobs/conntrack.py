"""Connection tracking's sysctls are there only once its module is: who loads it before the policy's own `ct` rules do.

The kernel loads it for whoever asks ctnetlink anything (request_module("nfnetlink-subsys-1") in nfnetlink_rcv_msg, net/netfilter/nfnetlink.c;
nf_conntrack_netlink needs nf_conntrack), with CAP_NET_ADMIN and no right to load modules. It tracks nothing until a rule asks for it, and nobody unloads it.
"""

from __future__ import annotations

import os
import socket
import struct

from runtime.backends import netlink

PREFIX = "sys/net/netfilter/nf_conntrack_"
_NETFILTER = 12  # NETLINK_NETFILTER
_GET_STATS = 1 << 8 | 5  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET_STATS
_WAIT = 5.0  # seconds: a module's loading is waited for in the kernel


def is_loaded() -> bool:
    return os.path.exists(f"/proc/{PREFIX}max")


def load() -> None:
    """Ask for the number of connections: that loads the module, and changes nothing else. Where it cannot be loaded, nothing happens."""
    header = struct.pack("=IHHII", 20, _GET_STATS, netlink.NLM_F_REQUEST | netlink.NLM_F_ACK, 1, 0)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETFILTER) as asking:
            asking.settimeout(_WAIT)
            asking.send(header + struct.pack("=BBH", socket.AF_UNSPEC, 0, 0))
            asking.recv(1 << 16)
    except OSError:
        return  # no netfilter in this kernel, or no CAP_NET_ADMIN: the sysctl's absence tells
