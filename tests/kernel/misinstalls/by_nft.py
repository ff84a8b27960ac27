"""What can be done to nft tables with nft(8): netc's own, and others beside them. Dormant ones: tests/kernel/apply/test_dormant.py, which says why."""

from __future__ import annotations

from random import Random
from typing import Any

from tests.kernel.misinstalls.site import Kind, Site, Undo


def _of(site: Site, kind: str) -> list[dict[str, Any]]:
    """netc's objects of a kind; of rules those that judge."""
    found = [item[kind] for item in site.nft_json("list", "ruleset") if kind in item]
    return [body for body in found if body.get("table") == "netc" and body.get("chain", body.get("name")) != "netc-made-this-table"]


def rule_gone(site: Site, rng: Random) -> None:
    rule = rng.choice(_of(site, "rule"))
    site.nft(f"delete rule {rule['family']} netc {rule['chain']} handle {rule['handle']}")


def rule_added(site: Site, rng: Random) -> None:
    chain = rng.choice(_of(site, "chain"))
    verb, verdict = rng.choice(("add", "insert")), rng.choice(("accept", "drop", "return", "counter"))
    site.nft(f"{verb} rule {chain['family']} netc {chain['name']} {verdict}")


def rule_changed(site: Site, rng: Random) -> None:
    """Another verdict or other matches under the same comment."""
    rule = rng.choice([rule for rule in _of(site, "rule") if rule.get("comment")])
    comment = rule["comment"].replace('"', "")
    site.nft(f'replace rule {rule["family"]} netc {rule["chain"]} handle {rule["handle"]} {rng.choice(("accept", "drop", "return"))} comment "{comment}"')


def chain_flushed(site: Site, rng: Random) -> None:
    full = {(rule["family"], rule["chain"]) for rule in _of(site, "rule")}
    site.nft("flush chain {} netc {}".format(*rng.choice(sorted(full))))


def chain_added(site: Site, rng: Random) -> None:
    hook = rng.choice(("input", "prerouting", "output"))
    site.nft(f"add chain inet netc more{rng.randrange(100)} {{ type filter hook {hook} priority {rng.randrange(-400, 400)}; policy {rng.choice(('accept', 'drop'))}; }}")


def policy_changed(site: Site, rng: Random) -> None:
    base = rng.choice([chain for chain in _of(site, "chain") if "hook" in chain and chain["family"] == "inet"])
    site.nft(f"add chain inet netc {base['name']} {{ policy {'drop' if base['policy'] == 'accept' else 'accept'}; }}")


def table_gone(site: Site, rng: Random) -> None:
    site.nft(f"delete table {rng.choice(sorted({chain['family'] for chain in _of(site, 'chain')}))} netc")


def set_changed(site: Site, rng: Random) -> None:
    """A static set's members: all gone, or one more."""
    item = rng.choice(_of(site, "set"))
    if rng.random() < 0.5:
        site.nft(f"flush set {item['family']} netc {item['name']}")
        return
    more = f"203.0.113.{rng.randrange(256)}" if item["type"] == "ipv4_addr" else f"2001:db8:99::{rng.randrange(1, 9999):x}"
    site.nft(f"add element {item['family']} netc {item['name']} {{ {more} }}")


def others_table(site: Site, rng: Random) -> Undo:
    """Somebody else's table judges packets, too."""
    name, family = f"mine{rng.randrange(100)}", rng.choice(("inet", "ip", "ip6"))
    hook = rng.choice(("prerouting", "input", "forward", "output"))
    site.nft(f"add table {family} {name}")
    site.nft(f"add chain {family} {name} c {{ type filter hook {hook} priority {rng.randrange(-390, 390)}; policy {rng.choice(('accept', 'drop'))}; }}")
    return lambda: site.nft(f"delete table {family} {name}")


def others_ingress(site: Site, rng: Random) -> Undo:
    """The same at the device's ingress."""
    site.nft("add table netdev netc-like")
    site.nft(f"add chain netdev netc-like c {{ type filter hook ingress device wan0 priority {rng.randrange(-390, 390)}; policy drop; }}")
    return lambda: site.nft("delete table netdev netc-like")


def left_over(site: Site, rng: Random) -> Undo:
    """A table of netc's own kind, which is there for a moment of an apply only."""
    name = rng.choice(("netc-fence", "netc-probe", "netc-closed-7"))
    site.nft(f"add table inet {name}")
    site.nft(f"add chain inet {name} c {{ type filter hook input priority 0; policy drop; }}")
    return lambda: site.nft(f"delete table inet {name}")


KINDS = (
    Kind("an nft rule gone", "nft", "is not there", rule_gone),
    Kind("an nft rule added", "nft", "is not the policy's", rule_added),
    Kind("an nft rule changed", "nft", "was changed by hand", rule_changed),
    Kind("an nft chain flushed", "nft", "is not there", chain_flushed),
    Kind("an nft chain added", "nft", "is not the policy's", chain_added),
    Kind("an nft chain's policy", "nft", "its hook, priority or policy", policy_changed),
    Kind("an nft table gone", "nft", "it is not there", table_gone),
    Kind("an nft set's members", "nft", "its members are not the policy's", set_changed),
    Kind("somebody's nft table", "foreign", "also judges", others_table),
    Kind("somebody's nft table at ingress", "foreign", "also judges: ingress", others_ingress),
    Kind("what an apply left", "foreign", "netc", left_over),
)
