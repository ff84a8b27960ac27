"""Names that the standards give to numbers: protocols, DSCPs, ICMP types, EtherTypes, TCP flags, ports for hints."""

from __future__ import annotations

PROTOCOLS = {  # IANA protocol numbers
    "icmp": 1, "igmp": 2, "ipip": 4, "tcp": 6, "egp": 8, "udp": 17, "dccp": 33, "ipv6": 41, "rsvp": 46, "gre": 47, "esp": 50, "ah": 51,
    "icmp6": 58, "eigrp": 88, "ospf": 89, "pim": 103, "vrrp": 112, "l2tp": 115, "sctp": 132, "udplite": 136, "mpls": 137,
}  # fmt: skip

DSCPS = {  # RFC 2474, 2597, 3246, 5865, 8622
    "default": 0, "cs0": 0, "le": 1, "cs1": 8, "af11": 10, "af12": 12, "af13": 14, "cs2": 16, "af21": 18, "af22": 20, "af23": 22,
    "cs3": 24, "af31": 26, "af32": 28, "af33": 30, "cs4": 32, "af41": 34, "af42": 36, "af43": 38, "cs5": 40, "voice-admit": 44,
    "ef": 46, "cs6": 48, "cs7": 56,
}  # fmt: skip

# What a message is called, and its (type, code or None) in ICMP and in ICMPv6; None where a family has no such message.
ICMP: dict[str, tuple[tuple[int, int | None] | None, tuple[int, int | None] | None]] = {
    "echo-request": ((8, None), (128, None)),
    "echo-reply": ((0, None), (129, None)),
    "destination-unreachable": ((3, None), (1, None)),
    "time-exceeded": ((11, None), (3, None)),
    "parameter-problem": ((12, None), (4, None)),
    "packet-too-big": ((3, 4), (2, None)),  # RFC 792 type 3 code 4 as RFC 1191 uses it; RFC 4443
    "port-unreachable": ((3, 3), (1, 4)),
    "host-unreachable": ((3, 1), (1, 3)),
    "network-unreachable": ((3, 0), (1, 0)),
    "admin-prohibited": ((3, 13), (1, 1)),
    "redirect": ((5, None), (137, None)),
    "router-solicitation": ((10, None), (133, None)),
    "router-advertisement": ((9, None), (134, None)),
    "neighbour-solicitation": (None, (135, None)),
    "neighbour-advertisement": (None, (136, None)),
    "timestamp-request": ((13, None), None),
    "timestamp-reply": ((14, None), None),
    "mld-query": (None, (130, None)),
    "mld-report": (None, (131, None)),
    "mld-done": (None, (132, None)),
    "mld2-report": (None, (143, None)),
}

ETHERTYPES = {"ip4": 0x0800, "arp": 0x0806, "wol": 0x0842, "ip6": 0x86DD, "mpls": 0x8847, "pppoe-discovery": 0x8863,
              "pppoe": 0x8864, "eapol": 0x888E, "lacp": 0x8809, "lldp": 0x88CC, "ptp": 0x88F7, "macsec": 0x88E5}  # fmt: skip

TCP_FLAGS = {"fin": 1, "syn": 2, "rst": 4, "psh": 8, "ack": 16, "urg": 32, "ece": 64, "cwr": 128}

# For hints only: ports are numbers in netc, a policy must not change its meaning with /etc/services.
SERVICES = {
    "ssh": 22, "telnet": 23, "smtp": 25, "dns": 53, "domain": 53, "http": 80, "ntp": 123, "snmp": 161, "bgp": 179, "ldap": 389,
    "https": 443, "submission": 587, "imaps": 993, "mysql": 3306, "rdp": 3389, "sip": 5060, "postgres": 5432,
}  # fmt: skip
