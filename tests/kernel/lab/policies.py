"""Small policies for the tests of replay, test runs and the demonstration."""

from __future__ import annotations

from pathlib import Path

STATEFUL = """\
nic wan { device wan0; xdp native }
set banned : address timeout 10m size 100 full keep

filter wan in {
  drop  src in banned                                   as banned
  drop  udp fragment or malformed                       as junk
  drop  tcp dport 22 syn                                as ssh-scan   then add src to banned for 10m
  pass  udp dport 53 limit 1kpps burst 10 per src       as dns
  drop  udp dport 53                                    as dns-over
  pass  vlan 10 tcp dport 80                            as web
  pass  established                                     as established
  default drop
}
"""

TESTS = """
test "a scanner is banned" {
  packet wan in tcp 203.0.113.9:40000 -> 192.0.2.1:22 syn         is drop by ssh-scan
  packet wan in udp 203.0.113.9:5353 -> 192.0.2.1:53              is drop by banned
  wait 10m
  packet wan in udp 203.0.113.9:5353 -> 192.0.2.1:53              is pass by dns
}
test "given" {
  given 203.0.113.77 in banned
  packet wan in udp 203.0.113.77:5353 -> 192.0.2.1:53             is drop by banned
  packet wan in udp 203.0.113.78:5353 -> 192.0.2.1:53             is pass by dns
}
test "limited" {
  send 2000 over 1s wan in udp 203.0.113.7:5353 -> 192.0.2.1:53 gives pass 1000..1020
}
test "an answer is let in, a stranger is not" {
  packet wan in udp 203.0.113.99:123 -> 192.0.2.1:40000           is drop by default
  packet wan out udp 192.0.2.1:40000 -> 203.0.113.98:123          is pass
  packet wan in udp 203.0.113.98:123 -> 192.0.2.1:40000           is pass by established
}
"""


def write(directory: Path, text: str, name: str = "p.netc") -> Path:
    path = directory / name
    path.write_text(text)
    return path
