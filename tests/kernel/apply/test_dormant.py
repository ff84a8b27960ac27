"""A table of netc's that was put to sleep by hand. By the commands and not within this process: libnftables 1.0.6 twice aborted a worker while it
listed a dormant table after many other calls, and never in a process of its own.
"""

from __future__ import annotations

from tests.kernel.apply.hosts import ESTABLISHED, Host, made, program


def test_a_dormant_table_is_named_and_woken(host: Host) -> None:
    bundle = host.write(made(program(ESTABLISHED)))
    host.netc("apply", bundle)
    host.run("nft", "add table inet netc { flags dormant; }")
    told = host.json("verify", status=1)
    assert any("dormant" in finding["detail"] for finding in told["findings"] if finding["result"] == "broken"), told
    host.netc("apply", bundle)
    assert "dormant" not in host.run("nft", "list", "tables") and host.json("verify")["ok"]
