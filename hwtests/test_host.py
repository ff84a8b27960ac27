"""What a policy sets of the host: sysctls by name, buffers for a bandwidth-delay product, BBR, NAPI budget, backlog, conntrack."""

from __future__ import annotations

from hwtests.rack.installed import Installed
from hwtests.rack.port import Port

NIC = "nic wan { device DEVICE; xdp none }\n"
HOST = """host {
  sysctl buffers for 10gbit 100ms
  napi budget 600, budget-usecs 8ms, weight 128, backlog 30k
  conntrack max 100k
  sysctl net.core.default_qdisc = fq
  sysctl net.ipv4.tcp_congestion_control = bbr
}
"""
WANTED = {
    "net.core.rmem_max": "125000000", "net.core.wmem_max": "125000000", "net.core.netdev_budget": "600", "net.core.netdev_budget_usecs": "8000",
    "net.core.dev_weight": "128", "net.core.netdev_max_backlog": "30000", "net.netfilter.nf_conntrack_max": "100000", "net.core.default_qdisc": "fq",
    "net.ipv4.tcp_congestion_control": "bbr",
}  # fmt: skip
UNLOAD = "for m in nf_conntrack_netlink nf_conntrack nf_defrag_ipv6 nf_defrag_ipv4 tcp_bbr sch_fq; do modprobe -r $m; done 2>/dev/null; true"

def test_sysctl(port: Port, installed: Installed) -> None:
    """One that belongs to the network namespace, so that every rack can set it."""
    was = int(port.machine.run("sysctl", "-n", "net.ipv4.ip_default_ttl").out)
    installed.apply(NIC + f"host {{ sysctl net.ipv4.ip_default_ttl = {was - 3} }}")
    assert int(port.machine.run("sysctl", "-n", "net.ipv4.ip_default_ttl").out) == was - 3
    installed.remove()
    assert int(port.machine.run("sysctl", "-n", "net.ipv4.ip_default_ttl").out) == was


def test_the_host(port: Port, installed: Installed) -> None:
    """What is the whole host's is set only where the machine under test is a host of its own. Conntrack's module comes with the apply."""
    if port.machine.netns:
        words = installed.refused(NIC + HOST)
        assert "it belongs to the host" in words or "is not the host's" in words
        return
    machine = port.machine
    loaded = machine.run("sh", "-c", "test -e /proc/sys/net/netfilter/nf_conntrack_max", status=None).code == 0
    if not loaded:
        machine.change("true", undo=["sh", "-c", UNLOAD])
    before = _sysctls(port, list(WANTED))
    installed.apply(NIC + HOST)
    assert _sysctls(port, list(WANTED)) == WANTED
    assert _sysctls(port, ["net.ipv4.tcp_rmem"])["net.ipv4.tcp_rmem"].split()[2] == "250000000"
    buckets = int(_sysctls(port, ["net.netfilter.nf_conntrack_buckets"])["net.netfilter.nf_conntrack_buckets"])
    assert 100_000 <= buckets < 101_000 and f"asked 100000, the driver took {buckets}" in [item["words"] for item in port.machine.netc_json("status")["rounded"]]
    installed.remove()
    after = _sysctls(port, list(WANTED))
    assert {name: value for name, value in after.items() if before[name]} == {name: value for name, value in before.items() if value}


def _sysctls(port: Port, names: list[str]) -> dict[str, str]:
    """Their values; "" for what there is not."""
    return {name: port.machine.run("sysctl", "-n", name, status=None).out.strip() for name in names}
