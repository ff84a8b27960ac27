"""What a machine's network settings are: taken before and after each test. A difference is a leak, and fails the test that made it.

After NIPA's env_check (contest/scripts/env_check.py of linux-netdev/nipa): counters, carrier and numbers that the kernel hands out are left
out. RSS keys are kept, unlike there: netc sets them, so it has to give them back.
"""

from __future__ import annotations

import json
import re
from typing import Any

from hwtests.rack.machine import Machine

_SCRIPT = r"""
d=$1
t() { echo "@@ $1"; shift; "$@" 2>&1; }
t link ip -d -j link show dev $d
t addr ip -j addr
t route ip -j route
t neigh ip -j neigh show dev $d nud permanent
echo "@@ tc"
printf "%s dev $d\n" "qdisc show" "class show" | tc -force -d -batch - 2>&1
printf "filter show dev $d %s\n" ingress egress | tc -force -batch - 2>&1
t nft nft -s list ruleset
t bpf find "$2" -mindepth 2 -printf "%P\n"
for f in -l -g -c -k -a -n --show-priv-flags; do t ethtool$f ethtool $f $d; done
t ethtool-x ethtool -x $d
for f in tcp4 udp4 tcp6 udp6; do t hash-$f ethtool -n $d rx-flow-hash $f; done
t sysctl sh -c "cd /proc/sys && grep -Hs -d skip . net/*/* net/ipv[46]/conf/all/* net/ipv[46]/conf/default/* net/ipv[46]/conf/$d/* net/ipv[46]/neigh/default/* net/ipv[46]/neigh/$d/*"
t queues sh -c "cd /sys/class/net/$d/queues 2>/dev/null && grep -s . */xps_cpus */xps_rxqs */rps_cpus */rps_flow_cnt"
t napi sh -c "cd /sys/class/net/$d 2>/dev/null && grep -s . threaded gro_flush_timeout napi_defer_hard_irqs tx_queue_len mtu"
t irq sh -c "for i in /sys/class/net/$d/device/msi_irqs/*; do [ -e \$i ] && set -- \"\$@\" /proc/irq/\${i##*/}/smp_affinity_list; done; grep -s . \"\$@\" /dev/null" sh
"""
"""All of it in one command, so that it costs one round trip, and in few processes: an emulated machine starts a few dozen a second. $1: the device; $2: netc's directory of BPF objects."""

_VOLATILE_SYSCTLS = re.compile(
    r"net\.(netfilter\.nf_conntrack_count|core\.netdev_rss_key|ipv4\.(tcp_fastopen_key|tcp_mem|udp_mem|tcp_available_congestion_control"
    r"|tcp_allowed_congestion_control)|ipv6\.conf\.[^.]+\.stable_secret|ipv4\.route\.|netfilter\.nf_log|fan)|\.random|permission denied")
_VOLATILE_LINK = {"operstate", "stats64", "stats", "promiscuity", "allmulti", "carrier", "carrier_changes", "state", "ifindex", "link_index",
                  "link_netnsid", "flags", "xdp", "valid_life_time", "preferred_life_time", "protodown_reason", "qdisc"}  # fmt: skip
Snapshot = dict[str, Any]


def take(machine: Machine, device: str) -> Snapshot:
    """What the settings are now, by section, without what changes by itself. Raises RackError."""
    inside = ("ip", "netns", "exec", machine.netns) if machine.netns else ()  # which mounts the namespace's own /sys
    out = machine.run(*inside, "sh", "-c", _SCRIPT, "sh", device, f"{machine.work}/bpf", status=None).out
    sections = dict(part.partition("\n")[::2] for part in out.split("@@ ")[1:])
    return {name: _normal(name, text, device) for name, text in sections.items()}


def differences(before: Snapshot, after: Snapshot) -> list[str]:
    """What leaked, in words; empty when nothing did."""
    found = []
    for name in sorted(before.keys() | after.keys()):
        old, new = _lines(before.get(name)), _lines(after.get(name))
        if old != new:
            gone = [f"- {line}" for line in old if line not in new]
            come = [f"+ {line}" for line in new if line not in old]
            found.append(f"{name}: {'; '.join((gone + come)[:12]) or 'another order'}")
    return found


def _lines(content: Any) -> list[str]:
    return content if isinstance(content, list) else [str(content)]


def _normal(name: str, text: str, device: str) -> list[str]:
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    if name == "sysctl":
        return sorted(line for line in map(_sysctl_line, lines) if not _VOLATILE_SYSCTLS.search(line))
    if name == "link":
        return [line for link in _json(text) for line in _link_lines(link)]
    if name == "addr":
        links = {link.get("ifname", "?"): link.get("addr_info", [link]) for link in _json(text)}
        return sorted(links) + sorted(json.dumps(_stripped(info), sort_keys=True) for info in links.get(device, []))
    if name in ("route", "neigh"):
        return sorted(json.dumps(_stripped(entry), sort_keys=True) for entry in _json(text))
    if name == "tc":  # handles that the kernel chooses (8001: and up), and reference counts
        return [re.sub(r"\b[89a-f][0-9a-f]{3}:|refcnt \d+ ?", "", line) for line in lines]
    return lines


def _sysctl_line(line: str) -> str:
    """As sysctl(8) prints it."""
    name, _, value = line.partition(":")
    return f"{name.replace('/', '.')} = {value}"


def _link_lines(link: dict[str, Any]) -> list[str]:
    """A line each: its keys, whether it is meant to be up, and whether an XDP program is on it (not which: ids are new each time)."""
    flags = link.get("flags", [])
    state = [f"up={'UP' in flags}", f"promiscuous={'PROMISC' in flags}", f"xdp={link.get('xdp', {}).get('mode', 0)}"]
    return state + [f"{key}={json.dumps(value, sort_keys=True)}" for key, value in sorted(_stripped(link).items())]


def _json(text: str) -> list[Any]:
    try:
        content = json.loads(text or "[]")
    except ValueError:
        return [{"unreadable": text.strip()}]
    return content if isinstance(content, list) else [content]


def _stripped(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _stripped(item) for key, item in value.items() if key not in _VOLATILE_LINK}
    return [_stripped(item) for item in value] if isinstance(value, list) else value
