"""What a lab is called and how a policy's nics find its devices."""

from __future__ import annotations

import ipaddress

import pytest

from runtime.lab import topology
from runtime.lab.topology import LabError


def test_nics_are_bound_by_name_first() -> None:
    assert topology.bind(["up", "wan"]) == {"wan": "wan0", "up": "lan0"}
    assert topology.bind(["lan", "wan"]) == {"lan": "lan0", "wan": "wan0"}
    assert topology.bind(["a", "b"]) == {"a": "wan0", "b": "lan0"}


def test_more_nics_than_devices_is_an_error_that_names_the_nic() -> None:
    with pytest.raises(LabError, match="there is none left for nic dmz"):
        topology.bind(["wan", "lan", "dmz"])


@pytest.mark.parametrize("name", ["", "..", "a/b", "A", "-x", "x" * 33, "a b", "a\n"])
def test_a_name_cannot_leave_its_place(name: str) -> None:
    with pytest.raises(LabError, match="is no name for a lab"):
        topology.names(name)


def test_both_ends_of_a_cable_share_a_network() -> None:
    for side in topology.SIDES:
        for mine, theirs in zip(side.addresses, side.peer_addresses, strict=True):
            assert ipaddress.ip_interface(mine).network == ipaddress.ip_interface(theirs).network
        networks = [ipaddress.ip_interface(address).network for address in side.addresses]
        assert all(any(ipaddress.ip_address(host) in network for network in networks) for host in side.silent)


def test_an_unknown_side_is_told_what_there_is() -> None:
    with pytest.raises(LabError, match="it has wan, lan"):
        topology.side("dmz")
