"""Containers whose devices stand on a nic, in namespaces that netc does not judge in: what is left to stateful rules never reaches them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.kernel.apply.hosts import Host
from tests.kernel.apply.test_devices_above import MAC, MODES, addressed, inside, listen, policy, send_to, taken

GROUPS = {"broadcast": "ff:ff:ff:ff:ff:ff", "multicast": "01:00:5e:00:00:01"}


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("mode", MODES)
def test_group_frames_are_judged_before_a_container_sees_them(host: Host, make_netns: Callable[[], str], mode: str, group: str) -> None:
    """A macvlan gets its copy of every broadcast ahead of connection tracking; UDP takes one that is addressed to its IP."""
    other = make_netns()
    inside(host.netns, f"ip link add mv0 link wan0 type macvlan mode bridge; ip link set mv0 address {MAC} netns {other}")
    inside(other, addressed("mv0"))
    inside(host.netns, addressed("wan0"))
    host.netc("apply", policy(host, mode))
    with listen(other, 1000) as dropped, listen(other, 53) as passed, listen(host.netns, 1000) as own:
        send_to(host, GROUPS[group], 1000)
        send_to(host, GROUPS[group], 53)
        inside(other, "ip link set mv0 up")  # macvlan hands copies on from a work queue: wait for the passed ones
        assert _eventually(passed, 10) == 10
        assert taken(dropped) == taken(own) == 0
    assert host.counts()["conntrack", "wan.in.default"] == 10
    assert host.json("verify")["ok"]


def _eventually(heard, wanted: int) -> int:  # type: ignore[no-untyped-def]
    heard.setblocking(True)
    heard.settimeout(5)
    count = 0
    try:
        while count < wanted:
            heard.recv(2048)
            count += 1
    except TimeoutError:
        pass
    return count


@pytest.mark.parametrize("mode", MODES)
def test_a_device_with_the_nics_own_address_is_refused(host: Host, make_netns: Callable[[], str], mode: str) -> None:
    """Passthru (as ipvlan) takes what is addressed to the nic itself: nothing tells it from what the host would judge."""
    other = make_netns()
    inside(host.netns, f"ip link add mv0 link wan0 type macvlan mode passthru; ip link set mv0 netns {other}")
    refused = host.netc("apply", policy(host, mode), status=1)
    assert "mv0 (macvlan passthru) of another network namespace" in refused.stderr and "stateless rules only" in refused.stderr


def test_a_device_that_comes_later_is_told(host: Host, make_netns: Callable[[], str]) -> None:
    other = make_netns()
    host.netc("apply", policy(host))
    inside(host.netns, f"ip link add mv0 link wan0 type macvlan mode passthru; ip link set mv0 netns {other}")
    assert any("of another network namespace" in finding["detail"] for finding in host.json("verify", status=1)["findings"])
