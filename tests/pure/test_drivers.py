"""What is known of drivers: the table is whole, each entry has its source, and what is asked of it depends on driver and kernel."""

from __future__ import annotations

import pytest

from compiler.tables import drivers


@pytest.mark.parametrize("item", drivers.every(), ids=lambda item: item.name)
def test_an_entry_says_what_it_is_how_to_mend_it_and_where_it_is_from(item: drivers.Constraint) -> None:
    assert item.drivers and item.message and item.mend
    assert any(word in item.source for word in ("drivers/net/", "Linux", "measured", "https://")), item.source
    assert set(item.quirks) <= set(drivers.QUIRKS) and set(item.explains) <= set(drivers.GROUPS) and item.when in drivers.CONDITIONS
    assert item.explains or item.quirks or item.name in ("i40e-redirect-cpus", "x710-firmware-lldp", "bnxt-aggregation", "vmxnet3-lro"), "nothing would ever show it"
    assert (item.when == "mtu") == (item.mtu > 0)


def test_names_are_unique() -> None:
    names = [item.name for item in drivers.every()]
    assert len(names) == len(set(names)) >= 60


@pytest.mark.parametrize(
    ("driver", "wanted"),
    [
        ("virtio_net", {"xdp-queues-shown", "rss-lost-at-attach", "rss-reset-by-channels", "rss-readback-lies", "hash-needs-rxhash", "channels-before-xdp", "channels-reset-by-xdp"}),
        ("igb", {"carrier-lost-at-attach", "rss-reset-by-channels", "rss-default-in-blocks"}),
        ("vmxnet3", {"rss-lost-at-attach", "rss-reset-by-ring", "rss-reset-by-link", "rss-readback-lies"}),
        ("netdevsim", {"xdp-driver-mode-not-executed"}),
        ("veth", set()),
        ("e1000e", set()),
        ("nobodys", set()),
    ],
)
def test_quirks_that_steps_are_ordered_by(driver: str, wanted: set[str]) -> None:
    assert drivers.quirks(driver, "6.12.117+deb12-amd64") == drivers.quirks(driver) == wanted


def test_every_quirk_is_some_drivers() -> None:
    assert {quirk for item in drivers.every() for quirk in item.quirks} == set(drivers.QUIRKS)


def test_the_kernel_decides_where_it_is_known() -> None:
    old = {item.name for item in drivers.reasons("vmxnet3", "6.1.0-56-amd64", "xdp")}
    new = {item.name for item in drivers.reasons("vmxnet3", "6.12.117+deb12-amd64", "xdp")}
    assert old - new == {"vmxnet3-native-since"} and not new - old
    assert "vmxnet3-native-since" in {item.name for item in drivers.of("vmxnet3", "")}
    assert [drivers.Constraint("n", ("d",), "m", "f", "s", since="6.3", until="6.10").holds(kernel) for kernel in ("6.2.9", "6.3", "6.9.0", "6.10.1", "")] == [
        False, True, True, False, True]  # fmt: skip


def test_limits_of_the_mtu() -> None:
    assert drivers.max_xdp_mtu("ena") == 3498
    assert drivers.max_xdp_mtu("virtio_net", frags=True) == 0 and drivers.max_xdp_mtu("virtio_net", frags=False) == 3506
    assert drivers.max_xdp_mtu("nobodys") == 0


def test_a_refusal_has_the_reasons_of_its_group_only() -> None:
    assert {item.name for item in drivers.reasons("ixgbe", "6.12", "xdp")} == {"ixgbe-lro", "ixgbe-sriov", "ixgbe-dcb", "ixgbe-cpus", "ixgbe-mtu"}
    assert drivers.reasons("ixgbe", "6.12", "ntuple") == ()
