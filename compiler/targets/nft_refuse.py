"""What nft cannot judge as the language means it: every such construct is an error that names it and says what to do instead.

N801 a predicate that cannot be decided there, N802 a limit whose meaning would change, N803 a dynamic set, N804 an effect that lives in
XDP, N805 a rule with too many alternatives, N806 a name that nft or netc cannot use.
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler import ir
from compiler import ranges as rng
from compiler.diagnostics import Diagnostic
from compiler.targets import nft_rate

RESERVED = ("seen", "default", "control", "handed-on", "carried", "unreadable", "elsewhere")
MIN_INTERVAL = 1000 * ir.TICKS_PER_NS  # nft counts whole nanoseconds: up to 1 Mpps the rate is exact to 0.1 %
INET_HOOKS = ("prerouting", "forward", "postrouting")
XDP = "write `xdp native` (or generic) for the nic and put the rule before the first stateful one: XDP can"
ARRIVING = "only XDP can, and it judges what arrives: write the rule in `filter NIC in`, before the first stateful one"
LENGTHS = ((0, 1535),)
_FRAGMENTS = ("fragment", "first-fragment", "later-fragment")


def parts(when: ir.Expr) -> Iterator[ir.Expr]:
    """The expression and everything in it."""
    yield when
    for item in (when.item,) if isinstance(when, ir.Not) else when.items if isinstance(when, ir.And | ir.Or) else ():
        yield from parts(item)


def refusals(rule: ir.Rule, chain: ir.Chain, hook: str, sets: dict[str, ir.Set], settings: tuple[ir.Setting, ...]) -> Iterator[Diagnostic]:
    """Everything in this rule that the hook (ingress, egress, prerouting, forward, postrouting) cannot do.

    settings: those of the chain's nic, which may switch the merging of packets (GRO) off.
    """

    def error(code: str, message: str, helps: str) -> Diagnostic:
        if chain.direction != "in":  # XDP never sees what leaves or is forwarded: another mode of it would not help
            helps = helps.replace(XDP, ARRIVING)
        return Diagnostic(code, f"`{rule.text or rule.name}`: {message}", rule.span, helps)

    single = hook not in INET_HOOKS and (_never_merged(rule.when) or (hook == "ingress" and _gro_off(chain.nic, settings)))
    for part in parts(rule.when):
        if found := _undecidable(part, hook, single):
            yield error("N801", *found)
        if isinstance(part, ir.Member) and part.set in sets and sets[part.set].size is not None:
            yield error("N803", f"the dynamic set `{part.set}` lives in XDP; nft at the {hook} hook cannot ask it", XDP)
    if rule.limit is not None and (found := _limit(rule.limit, hook, single)):
        yield error("N802", *found)
    for effect in rule.effects:
        if isinstance(effect, ir.Add | ir.Sample):
            word = f"add to {effect.set}" if isinstance(effect, ir.Add) else "sample"
            yield error("N804", f"`{word}` is not supported where nft judges ({hook}): its table lives in XDP", f"{XDP}; `log` works here")
    if rule.name in RESERVED:
        yield error("N806", f"a rule cannot be called {rule.name}: the counter {chain.name}.{rule.name} is the stage's own", "rename it")


def _undecidable(part: ir.Expr, hook: str, single: bool) -> tuple[str, str] | None:
    inet = hook in INET_HOOKS
    match part:
        case ir.Is("malformed"):
            return f"`malformed` cannot be decided by nft ({hook})", XDP
        case ir.Is(kind) if kind in _FRAGMENTS and inet:
            return f"`{kind}` means nothing at the {hook} hook: packets are reassembled", XDP
        case ir.Is("vlan") | ir.Within(ir.Field.VLAN, _) if inet:
            return f"the VLAN tag is already gone at the {hook} hook", f"{XDP}; or filter on the VLAN device"
        case ir.Within(ir.Field.VLAN_INNER, _):
            return "a second VLAN tag cannot be read by nft", XDP
        case ir.Within(ir.Field.ETHERTYPE, ranges) if not inet and rng.intersect(ranges, LENGTHS) not in ((), LENGTHS):
            return "nft cannot tell one type under 1536 (a length) from another behind a VLAN tag", f"{XDP}; or take all of them: 0-1535"
        case ir.Within(ir.Field.ETH_SRC | ir.Field.ETH_DST, _) if hook in ("forward", "postrouting"):
            return f"MAC addresses are not yet, or no longer, those of the frame at the {hook} hook", "judge them in `filter NIC in`"
        case ir.Within(ir.Field.LENGTH, _) if not single:
            return f"`length` means something else at the {hook} hook: packets may be merged (GRO, GSO)", _single_help(hook)
    return None


def _limit(limit: ir.Limit, hook: str, single: bool) -> tuple[str, str] | None:
    if limit.per is not None:
        return f"`per {limit.per}` is not supported where nft judges ({hook}): its table of sources cannot share one bucket when full", XDP
    if not single:
        return f"a limit in packets means something else at the {hook} hook: packets may be merged (GRO, GSO)", _single_help(hook)
    if limit.interval < MIN_INTERVAL:
        return "nft counts whole nanoseconds: a limit above 1 Mpps would be a different one", XDP
    if nft_rate.spell(limit.interval) is None:
        return "nft cannot say a rate so small: its smallest are a few packets a week", f"write a limit of at least 0.001pps; or {XDP}"
    return None


def _single_help(hook: str) -> str:
    return f"{XDP}; or write `offload gro off` in `tune`" if hook == "ingress" else "limit what arrives, in `filter NIC in`"


def _never_merged(when: ir.Expr) -> bool:
    """Only packets match that neither GRO nor GSO ever touches: ICMP and ARP."""
    kinds = {item.kind for item in (when.items if isinstance(when, ir.And) else (when,)) if isinstance(item, ir.Is)}
    return bool(kinds & {"icmp4", "icmp6", "arp"}) or (isinstance(when, ir.Or) and all(map(_never_merged, when.items)))


def _gro_off(nic: str, settings: tuple[ir.Setting, ...]) -> bool:
    mine = [s for s in settings if (s.nic, s.group, s.key) == (nic, "feature", "gro") and not s.prefer]
    return bool(mine) and all(s.value in (0, "off") for s in mine)
