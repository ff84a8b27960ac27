"""Packets in words → ir.PacketSpec: `tcp 203.0.113.9:40000 -> 192.0.2.1:22 syn ttl 3`. What the words make is `frames.py`'s."""

from __future__ import annotations

from collections.abc import Sequence

from compiler import frames, types, wellknown
from compiler.findings import Findings, LiteralError
from compiler.ir import PacketSpec
from compiler.suggest import hint
from compiler.syntax import Word

PORTED = ("tcp", "udp", "sctp")
LINK = tuple(frames.LINK_WORDS)
PROTOCOLS = (*PORTED, "icmp", "icmp4", "icmp6", "arp", "nd", "mld", "gre", "esp", "ah", "ospf", "igmp", "ip")
_ALIASES = {"more-fragments": "more"}
_TEXT_VALUES = ("dscp", "vlan", "src-mac", "dst-mac")
_EXAMPLE = "write it like this: tcp 203.0.113.9:40000 -> 192.0.2.1:22 syn"


def packet(words: Sequence[Word], findings: Findings) -> PacketSpec | None:
    """The packet that the words describe; None with findings."""
    proto = words[0]
    if proto.text in LINK:
        attributes = _attributes(words[1:], findings)
        return None if attributes is None else PacketSpec(proto.text, "", "", None, None, attributes)
    if proto.text not in PROTOCOLS:
        findings.add(
            "N083",
            f"`{proto.text[:40]}` is not a packet that netc can build",
            proto.span,
            hint(proto.text, (*PROTOCOLS, *LINK)),
        )
        return None
    if len(words) < 4 or words[2].text != "->":
        findings.add(
            "N083",
            "a packet goes from somewhere to somewhere",
            (words[2] if len(words) > 2 else words[-1]).span,
            _EXAMPLE,
        )
        return None
    ends = [_endpoint(word, proto.text, findings) for word in (words[1], words[3])]
    attributes = _attributes(words[4:], findings)
    if attributes is None or ends[0] is None or ends[1] is None:
        return None
    (src, sport), (dst, dport) = ends[0], ends[1]
    if (":" in src) != (":" in dst):
        findings.add(
            "N083", "a packet has addresses of one family", words[3].span, "write two IPv4 or two IPv6 addresses"
        )
        return None
    return PacketSpec(proto.text, src, dst, sport, dport, attributes)


def _endpoint(word: Word, proto: str, findings: Findings) -> tuple[str, int | None] | None:
    """`192.0.2.1:53`, `[2001:db8::1]:53`, `192.0.2.1`: the address and its port."""
    address, port = word.text, ""
    if address.startswith("["):
        address, _, port = address[1:].partition("]")
        if port and not port.startswith(":"):
            findings.add("N083", f"`{word.text}` is not an address with a port", word.span, "write [2001:db8::1]:53")
            return None
        port = port[1:]
    elif address.count(":") == 1:
        address, _, port = address.partition(":")
    try:
        low, high = types.address(address)
        if low != high:
            raise LiteralError("N083", f"`{address}` is more than one address", "a packet has one")
        number = types.PORT.parse(port)[0] if port else None
    except LiteralError as error:
        findings.literal(error, word.span)
        return None
    return _ported(word, proto, types.show_address(low), number, findings)


def _ported(
    word: Word, proto: str, address: str, port: int | None, findings: Findings
) -> tuple[str, int | None] | None:
    if proto in PORTED and port is None:
        example = f"[{address}]:53" if ":" in address else f"{address}:53"
        findings.add("N083", f"this {proto} packet has no port here", word.span, f"write {example}")
        return None
    if proto not in PORTED and port is not None:
        findings.add("N083", f"{proto} has no ports", word.span, f"write {address}")
        return None
    return address, port


def _attributes(words: Sequence[Word], findings: Findings) -> tuple[tuple[str, int | str], ...] | None:
    """The words behind the addresses: flags (`syn`) and names with a value (`ttl 3`)."""
    found: list[tuple[str, int | str]] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name = _ALIASES.get(word.text, word.text)
        if name in frames.VALUED and (name not in frames.FLAGS or (rest and rest[0].text[:1].isdigit())):
            value = _value(name, rest.pop(0) if rest else None, word, findings)
            if value is None:
                return None
            found.append((name, value))
        elif name in frames.FLAGS:
            found.append((name, 1))
        else:
            known = (*frames.FLAGS, *frames.VALUED, *_ALIASES)
            findings.add(
                "N083", f"`{word.text[:40]}` says nothing about a packet", word.span, hint(word.text, known, _EXAMPLE)
            )
            return None
    return tuple(found)


def _value(name: str, word: Word | None, after: Word, findings: Findings) -> int | str | None:
    if word is None:
        findings.add("N083", f"`{name}` needs a value", after.span, f"write it like this: {name} 5")
        return None
    if word.text.isascii() and word.text.isdigit() and len(word.text) < 10:
        return int(word.text)
    try:
        if name == "vlan":
            for part in word.text.split("."):
                types.VLAN_ID(part)
            return word.text
        if name in ("src-mac", "dst-mac"):
            types.mac(word.text)
            return word.text
    except LiteralError as error:
        findings.literal(error, word.span)
        return None
    if name == "dscp" and word.text in wellknown.DSCPS:
        return wellknown.DSCPS[word.text]
    findings.add("N083", f"`{name}` cannot be `{word.text[:40]}`", word.span, "write a number")
    return None
