"""The thin layers: the kernel's words, layouts as the kernel's header has them, paths that cannot leave their tree."""

from __future__ import annotations

import errno
import ipaddress
import struct
import subprocess
from pathlib import Path

import pytest

from runtime.backends import ethtool, ethtool_ioctl, link, netdev, rss_contexts, sysfs
from runtime.backends.netlink import Generic, NetlinkError, attr, attributes, nest
from runtime.backends.sysfs import Sysfs
from runtime.knobs.affinity import mask, parse_list, shown, unmask

HEADER = Path("/usr/include/linux/ethtool.h")


def test_extack_words_are_kept(inside: str) -> None:
    with pytest.raises(NetlinkError) as caught:
        ethtool.put("va0", "channels", {"rx": 9})
    assert caught.value.words == "requested channel count exceeds maximum (Invalid argument)"
    with pytest.raises(NetlinkError, match="No such device"):
        link.get("absent0")
    with pytest.raises(NetlinkError, match="no generic netlink family 'warp'"):
        Generic("warp")


def test_features_agree_with_ethtool(inside: str) -> None:
    lines = subprocess.run(["ethtool", "-k", "va0"], check=True, capture_output=True, text=True).stdout.splitlines()[1:]
    said = {line.split(":")[0].strip(): line.split(":")[1].strip() for line in lines}
    ours = ethtool.features("va0")
    common = set(said) & set(ours)
    assert len(common) > 40
    for name in common:
        assert said[name].split()[0] == ("on" if ours[name].active else "off"), name
        assert ("[fixed]" in said[name]) == ours[name].fixed, name


def test_netdev_family(inside: str) -> None:
    ifindex = link.get("va0").ifindex
    assert {"basic", "redirect"} <= set(netdev.xdp_features(ifindex))
    assert sum(queue.kind == "rx" for queue in netdev.queues(ifindex)) == 4
    assert netdev.napi_irqs(ifindex) == {}


def test_attributes_survive_odd_lengths_and_cut_messages() -> None:
    whole = attr(1, "abc") + nest(2, attr(3, 7)) + attr(4, b"")
    assert attributes(whole) == {1: b"abc\0", 2: attr(3, 7), 4: b""}
    for cut in range(len(whole)):
        attributes(whole[:cut])  # never reads past the end, never loops


def test_flow_spec_is_laid_out_as_the_header_says(tmp_path: Path) -> None:
    if not HEADER.exists():
        pytest.skip("needs linux/ethtool.h")
    source = tmp_path / "spec.c"
    source.write_text(_SPEC_C)
    subprocess.run(["cc", "-o", str(tmp_path / "spec"), str(source)], check=True)
    specs = subprocess.run([str(tmp_path / "spec")], check=True, capture_output=True).stdout
    ours = ethtool_ioctl.flow_spec(("udp4", "dst-port", 53, "dst-ip", "192.0.2.0/24", "action", 7), 5)
    ours += ethtool_ioctl.flow_spec(("tcp6", "src-port", 443, "src-ip", "2001:db8::/32", "action", 3), 6)
    assert ours == specs


_SPEC_C = """
#include <linux/ethtool.h>
#include <arpa/inet.h>
#include <string.h>
#include <unistd.h>
int main(void) {
  struct ethtool_rx_flow_spec s[2]; memset(s, 0, sizeof s);
  s[0].flow_type = UDP_V4_FLOW; s[0].ring_cookie = 7; s[0].location = 5;
  s[0].h_u.udp_ip4_spec.pdst = htons(53); s[0].m_u.udp_ip4_spec.pdst = 0xffff;
  inet_pton(AF_INET, "192.0.2.0", &s[0].h_u.udp_ip4_spec.ip4dst); inet_pton(AF_INET, "255.255.255.0", &s[0].m_u.udp_ip4_spec.ip4dst);
  s[1].flow_type = TCP_V6_FLOW; s[1].ring_cookie = 3; s[1].location = 6;
  s[1].h_u.tcp_ip6_spec.psrc = htons(443); s[1].m_u.tcp_ip6_spec.psrc = 0xffff;
  inet_pton(AF_INET6, "2001:db8::", s[1].h_u.tcp_ip6_spec.ip6src); inet_pton(AF_INET6, "ffff:ffff::", s[1].m_u.tcp_ip6_spec.ip6src);
  return write(1, s, sizeof s) != sizeof s;
}
"""


@pytest.mark.parametrize(
    "words", [("udp4", "dst-ip", "2001:db8::/32", "action", 1), ("gre4", "action", 1), ("udp4", "dst-port", 53), ("udp4", "color", 1, "action", 1),
              ("udp4", "dst-port", 53, "action", 1 << 32 | 1), ("udp4", "dst-port", 53, "action", -2), ("udp4", "dst-port", 53, "dst-port", 22, "action", 1)],
)
def test_flow_specs_that_cannot_be(words: tuple[int | str, ...]) -> None:
    with pytest.raises(ValueError):
        ethtool_ioctl.flow_spec(words)


def test_a_flow_spec_of_every_type_has_the_structs_size() -> None:
    for kind in ethtool_ioctl.FLOW_TYPES:
        spec = ethtool_ioctl.flow_spec((kind, "dst-port", 1, "action", 2))
        assert len(spec) == 168 and struct.unpack_from("=I", spec)[0] == ethtool_ioctl.FLOW_TYPES[kind]
    assert ipaddress.ip_address("192.0.2.1").packed in ethtool_ioctl.flow_spec(("tcp4", "src-ip", "192.0.2.1/32", "action", 0))


@pytest.mark.parametrize("path", ["/etc/passwd", "../etc/passwd", "class/net/../../../etc/passwd", "", "class\0net"])
def test_sysfs_paths_stay_inside(inside: str, path: str) -> None:
    with Sysfs() as tree, pytest.raises(OSError):
        tree.read(path)
    with pytest.raises(OSError):
        sysfs.write_proc(path, "x")


def test_cpu_lists_and_masks() -> None:
    assert parse_list("0-2,5") == [0, 1, 2, 5] and shown([5, 0, 1, 2]) == "0-2,5"
    assert mask("0-1,33") == "00000002,00000003" and unmask("00000002,00000003") == "0-1,33"
    assert mask("") == "00000000" and unmask("0") == ""


def test_contexts_are_asked_for_in_the_kernels_words(inside: str) -> None:
    """veth has none: the kernel takes the messages as they are (netlink from 6.17 on, else the ioctl), and the device is what refuses."""
    assert rss_contexts.numbers("va0") == []
    for ask in (lambda: rss_contexts.create("va0", (0, 1), bytes(40)), lambda: rss_contexts.delete("va0", 3), lambda: ethtool_ioctl.rss("va0", 3)):
        with pytest.raises(OSError) as caught:
            ask()
        assert caught.value.errno == errno.EOPNOTSUPP
