"""What is left of the network when no policy can be put in force at boot: the devices that the policy names let in what it protects, and answers.

An nft table of its own (`inet netc-boot`), which needs no compiler, no BPF and not even the devices: they are matched by name, also when they
come later. docs/decisions/0013 says why it lets in what it lets in. The next apply that succeeds takes it away (steps/closed.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from typing import Any

from compiler.bundle import Bundle
from runtime.backends import nft as backend
from runtime.backends.nft import Json, NftError
from runtime.steps import StepError
from runtime.steps.nft_content import OWNER

TABLE = {"family": "inet", "name": "netc-boot"}
_SSH = 22  # what is let in where no policy says what to protect
_PRIORITY = -150  # behind conntrack (-200), before every firewall: what is dropped here no other table sees
_TCP, _UDP = 6, 17
_PROTOCOLS = {_TCP: "tcp", _UDP: "udp", 132: "sctp"}


def close(devices: Sequence[str], bundles: Iterable[Bundle]) -> list[str]:
    """Close the devices (none: every one but lo) but for what these bundles protect; gives what is let in, in words. Raises StepError."""
    rules = [rule for bundle in bundles for rule in _protected(bundle)]
    rules = list({str(rule): rule for rule in rules}.values())
    said = ["answers", "ARP, neighbour discovery, DHCP", *(["what the policy protects"] if rules else [f"tcp port {_SSH}"])]
    allowed = [*_always(), *(rules or [[_match("tcp", "dport", _SSH)]])]
    commands = [*_gone(), {"add": {"table": TABLE}}, _chain(OWNER)]
    for hook in ("input", "forward"):
        commands.append(_chain(hook, type="filter", hook=hook, prio=_PRIORITY, policy="accept"))
        for side in ("iifname",) if hook == "input" else ("iifname", "oifname"):
            commands.append(_rule(hook, [_on(side, devices), {"jump": {"target": OWNER}}]))
    commands += [_rule(OWNER, [*matches, {"accept": None}]) for matches in allowed]
    commands.append(_rule(OWNER, [{"counter": {"packets": 0, "bytes": 0}}, {"drop": None}]))
    _run(commands, "close the devices")
    return said


def is_closed() -> bool:
    """Is netc's closing table there? Raises StepError."""
    try:
        return (TABLE["family"], TABLE["name"]) in backend.tables() and OWNER in backend.names(backend.list_table(TABLE["family"], TABLE["name"]), "chain")
    except NftError as error:
        raise StepError("list the nft tables", str(error)) from None


def open_again() -> None:
    """Raises StepError."""
    if is_closed():
        _run(_gone(), "open what netc boot closed")


def _place() -> dict[str, str]:
    return {"family": TABLE["family"], "table": TABLE["name"]}


def _always() -> list[list[Json]]:
    """What a host cannot do without: answers to what it asked, and its addresses. ARP is not nft inet's."""
    neighbour = ["nd-neighbor-solicit", "nd-neighbor-advert", "nd-router-solicit", "nd-router-advert", "packet-too-big"]
    return [
        [{"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": ["established", "related"]}}],
        [{"match": {"op": "==", "left": _field("icmpv6", "type"), "right": {"set": neighbour}}}],
        [_match("udp", "sport", 67), _match("udp", "dport", 68)],
        [_match("udp", "sport", 547), _match("udp", "dport", 546)],
    ]


def _protected(bundle: Bundle) -> list[list[Json]]:
    return [_matches(flow) for flow in getattr(bundle, "protected", ())]


def _matches(flow: Any) -> list[Json]:
    """A protected flow (compiler.bundle.Protected) as matches."""
    ip = "ip" if flow.family == 4 else "ip6"
    found: list[Json] = [{"match": {"op": "==", "left": {"meta": {"key": "nfproto"}}, "right": "ipv4" if flow.family == 4 else "ipv6"}}]
    found.append({"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": flow.proto}})
    for side, ends in (("saddr", flow.src), ("daddr", flow.dst)):
        if ends[0]:
            first, last = (str(ip_address(end)) for end in ends)
            found.append({"match": {"op": "==", "left": _field(ip, side), "right": {"range": [first, last]} if first != last else first}})
    if flow.proto in _PROTOCOLS:
        found += [_match(_PROTOCOLS[flow.proto], "dport", flow.dport)] if flow.dport >= 0 else []
    return found


def _field(protocol: str, field: str) -> Json:
    return {"payload": {"protocol": protocol, "field": field}}


def _match(protocol: str, field: str, value: int) -> Json:
    return {"match": {"op": "==", "left": _field(protocol, field), "right": value}}


def _on(side: str, devices: Sequence[str]) -> Json:
    """On one of the devices; without any on every one but lo."""
    right: Any = {"set": sorted(devices)} if devices else "lo"
    return {"match": {"op": "==" if devices else "!=", "left": {"meta": {"key": side}}, "right": right}}


def _chain(name: str, **more: Any) -> Json:
    return {"add": {"chain": {**_place(), "name": name, **more}}}


def _rule(chain: str, expression: list[Json]) -> Json:
    return {"add": {"rule": {**_place(), "chain": chain, "expr": expression}}}


def _gone() -> list[Json]:
    """Adding it first lets the deletion never fail."""
    return [{"add": {"table": TABLE}}, {"delete": {"table": TABLE}}]


def _run(commands: list[Json], what: str) -> None:
    try:
        if ("inet", TABLE["name"]) in backend.tables() and OWNER not in backend.names(backend.list_table(TABLE["family"], TABLE["name"]), "chain"):
            raise StepError("nft table inet netc-boot", "it is there and netc did not make it", "rename or delete it: nft delete table inet netc-boot")
        backend.run(commands)
    except NftError as error:
        raise StepError(what, str(error)) from None
