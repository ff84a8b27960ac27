"""`xdp native` to `xdp generic`: refused before anything is touched, in words that say what to do."""

from __future__ import annotations

import pytest

from tests.kernel.apply.hosts import Host


def policy(host: Host, mode: str) -> str:
    text = f"nic wan {{ device wan0; xdp {mode} }}\nfilter wan in {{ pass udp dport 53 as dns; default drop }}\n"
    return str(host.write(text.encode(), f"{mode}.netc"))


@pytest.mark.parametrize(("old", "new"), [("native", "generic"), ("generic", "native")])
def test_another_mode_is_refused_before_anything_is_done(host: Host, old: str, new: str) -> None:
    host.netc("apply", policy(host, old))
    before = host.attached()
    for command in ("plan", "apply"):
        refused = host.netc(command, policy(host, new), status=1).stderr
        assert f"runs as {old}" in refused and "netc remove" in refused
        assert "replace wan.xdp" not in refused
    assert host.attached() == before
    host.netc("remove")
    host.netc("apply", policy(host, new))
    assert host.json("verify")["ok"]
