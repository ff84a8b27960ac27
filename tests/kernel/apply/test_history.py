"""`netc history` and `netc rollback NUMBER`: whole policies, changes in place, after a removal."""

from __future__ import annotations

import pytest

from tests.kernel.apply.hosts import DNS, ESTABLISHED, SSH, Host, made, program, tcp
from tests.kernel.apply.test_plan import WEB
from tests.kernel.apply.test_rule_change import IN_PLACE, write


def numbers(host: Host) -> list[tuple[int, str, str, str]]:
    return [(e["number"], e["policy"], e["command"], e["state"]) for e in host.json("history")["history"]]


def test_every_apply_is_numbered_and_can_be_gone_back_to(host: Host) -> None:
    assert numbers(host) == [] and host.netc("history").stdout == "nothing was ever applied\n"
    for name, rules in (("a", (DNS, ESTABLISHED)), ("b", (DNS, SSH)), ("c", (WEB,))):
        host.netc("apply", host.write(made(program(*rules), f"{name}.netc")))
    assert numbers(host) == [(3, "c.netc", "apply", "installed"), (2, "b.netc", "apply", ""), (1, "a.netc", "apply", "")]
    assert host.json("rollback", "1")["installed"]["policy"] == "a.netc"
    assert numbers(host)[0] == (4, "a.netc", "rollback", "installed") and host.json("verify")["ok"]
    assert not host.json("rollback", "4")["changed"], "it is what is installed"
    assert host.json("rollback")["installed"]["policy"] == "c.netc", "the newest that is another one"
    refused = host.netc("rollback", "9", status=1).stderr
    assert "number 9 is not in the history" in refused and "there is: 1, 2, 3, 4, 5 (netc history)" in refused
    host.netc("remove")
    assert [entry[3] for entry in numbers(host)] == [""] * 5
    assert host.json("rollback", "2")["installed"]["policy"] == "b.netc" and host.json("verify")["ok"]
    text = host.netc("history").stdout.splitlines()
    assert text[0].split() == ["number", "when", "by", "policy", "bundle", "nics", "state"] and text[1].split()[0] == "7" and text[1].endswith("installed")


def test_a_damaged_entry_is_named_and_changes_nothing(host: Host) -> None:
    for name, rules in (("a", (DNS,)), ("b", (SSH,))):
        host.netc("apply", host.write(made(program(*rules), f"{name}.netc")))
    bundle = host.json("history")["history"][1]["bundle"]
    (host.directory / "state/bundles" / f"{bundle}.bundle").write_bytes(b"netc-bundle 1 x\n")
    before = host.attached()
    assert "is damaged" in numbers(host)[1][3]
    assert f"bundle {bundle[:12]} in {host.directory}/state/bundles is damaged" in host.netc("rollback", "1", status=1).stderr
    assert host.attached() == before and host.json("verify")["ok"]


@pytest.mark.needs("compiler")
@pytest.mark.parametrize("removed", [False, True])
def test_changes_in_place_have_numbers_of_their_own(host: Host, removed: bool) -> None:
    path = write(host)
    host.netc("apply", path)
    for rule in ("pass tcp dport 22 as ssh", "pass tcp dport 443 as web"):
        write(host, [rule])
        assert IN_PLACE in host.json("apply", path)["steps"][0]
    assert [entry[0] for entry in numbers(host)] == [3, 2, 1] and {entry["generation"] for entry in host.json("history")["history"]} == {1}
    if removed:
        host.netc("remove")
    host.netc("rollback", "2")
    host.send(tcp(22), 3)
    counts = host.counts()
    assert counts["xdp", "wan.in.ssh"] == 3 and ("xdp", "wan.in.web") not in counts and host.json("verify")["ok"]
