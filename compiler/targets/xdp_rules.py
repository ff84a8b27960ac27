"""Filter rules → C: condition, limit, effects, verdict."""

from __future__ import annotations

from compiler import ir
from compiler.diagnostics import CompileError
from compiler.targets import c_expr, c_sets
from compiler.targets.c_program import CProgram, counter

SAMPLES_SIZE = 1 << 20  # bytes of the ring buffer; a power of two and whole pages
_TICKS_MAX = 1 << 62  # now + depth must not wrap
_SIDES = {ir.Field.SRC: "src", ir.Field.DST: "dst"}
_IP_FREE_KINDS = ("arp", "l2", "vlan", "malformed")
_IP_FREE_FIELDS = (ir.Field.ETH_SRC, ir.Field.ETH_DST, ir.Field.ETHERTYPE, ir.Field.VLAN, ir.Field.VLAN_INNER)
ABSENT = ir.Connection(("new",))  # as an operand: neither true nor false in a BPF program


def without_ip(expr: ir.Expr) -> ir.Expr:
    """The expression for packets that are neither IPv4 nor IPv6: their kinds are false, their fields absent."""
    match expr:
        case ir.Is(kind) if kind not in _IP_FREE_KINDS:
            return ir.Const(False)
        case ir.Within(field, _) | ir.Bits(field, _, _) | ir.Member(field, _) if field not in _IP_FREE_FIELDS:
            return ABSENT
        case ir.Not(item):
            return ir.Not(without_ip(item))
        case ir.And(items):
            return ir.And(tuple(map(without_ip, items)))
        case ir.Or(items):
            return ir.Or(tuple(map(without_ip, items)))
    return expr


def rule(c: CProgram, chain: ir.Chain, item: ir.Rule, condition: str, nic_index: int) -> str:
    """C of one rule: when it matches, its counter's index goes to p->judged and control to `passed` or `dropped`."""
    index = add_counter(c, chain, item)
    if condition == c_expr.NEVER:
        return ""
    effects = "".join(_effect(c, effect, index, nic_index, item) for effect in item.effects)
    done = f"{effects}p->judged = {index}; goto {'passed' if item.verdict == 'pass' else 'dropped'};"
    if item.limit is None:
        return f"    if ({condition}) {{ {done} }}\n"
    return f"    if ({condition}) {{ {_limited(c, item, item.limit, index, done)} }}\n"


def add_counter(c: CProgram, chain: ir.Chain, item: ir.Rule) -> int:
    name = f"{chain.name}.{item.name}"
    return c.add_counter(counter(name, "xdp", "rule", item.verdict, item.span, item.text))


def uses_time(rules: tuple[ir.Rule, ...], sets: dict[str, ir.Set]) -> bool:
    """Whether judging these rules needs the clock: limits, additions, members that expire."""
    if any(item.limit or any(isinstance(e, ir.Add) for e in item.effects) for item in rules):
        return True
    return any(known.size is not None for known in sets.values()) and any(asks_clock(item.when, sets) for item in rules)


def asks_clock(expr: ir.Expr, sets: dict[str, ir.Set]) -> bool:
    """Whether the expression asks for a member of a dynamic set."""
    match expr:
        case ir.Member(_, name):
            return sets[name].size is not None
        case ir.Not(item):
            return asks_clock(item, sets)
        case ir.And(items) | ir.Or(items):
            return any(asks_clock(item, sets) for item in items)
    return False


def _limited(c: CProgram, item: ir.Rule, limit: ir.Limit, index: int, done: str) -> str:
    depth = (limit.burst - 1) * limit.interval
    if limit.interval < 1 or limit.burst < 1 or depth + limit.interval >= _TICKS_MAX:
        message = f"the limit of rule {item.name} is deeper than the clock counts ({limit.burst} packets of {limit.interval} ticks)"
        raise CompileError([c.refusal("N904", message, "take a smaller burst or a higher rate", item.span)])
    bucket = c.bucket(index)
    numbers = f"p->now * {ir.TICKS_PER_NS}, {limit.interval}ULL, {depth}ULL"
    sign = "!" if limit.over else ""
    if limit.per is None:
        return f"if ({sign}netc_conforms({bucket}, {numbers})) {{ {done} }}"
    table, ring = c_sets.keyed_table(c, f"limit.{limit.name}", limit.size, "buckets")
    masks = ", ".join(f"{mask}u" for mask in (_mask(limit.v4_prefix, 32)[0], *_mask(limit.v6_prefix, 128)))
    cut = f"netc_cut(&key, &p->{_SIDES[limit.per]}.at, {masks})"
    asked = f"netc_conforms_keyed(MAP({table}), VALUE({ring}), {limit.size}, &key, {bucket}, {numbers})"
    return f"struct address key; if ({cut} && {sign}{asked}) {{ {done} }}"


def _mask(prefix: int, bits: int) -> list[int]:
    """A prefix mask as words that read right on a little-endian machine when they stand for network order."""
    data = ((1 << bits) - (1 << bits - prefix)).to_bytes(bits // 8, "big")
    return [int.from_bytes(data[at : at + 4], "little") for at in range(0, len(data), 4)]


def _effect(c: CProgram, effect: ir.Effect, index: int, nic_index: int, item: ir.Rule) -> str:
    match effect:
        case ir.Add():
            return _add(c, effect, item)
        case ir.Sample(one_in):
            return _sample(c, index, nic_index, one_in, 0)
        case ir.Log():
            return _sample(c, index, nic_index, 1, 1)
        case ir.SetDscp(value):
            return f"netc_set_dscp(ctx, p, {value}); "


def _sample(c: CProgram, index: int, nic_index: int, one_in: int, log: int) -> str:
    ring = c.add_map("samples", "ringbuf", 0, 0, SAMPLES_SIZE, scope="persistent", role="samples")
    return f"netc_sample(ctx, p, MAP({ring}), {nic_index}, netc_slot(VALUE(SLOTS), {index}), {one_in}u, {log}); "


def _add(c: CProgram, effect: ir.Add, item: ir.Rule) -> str:
    """Nothing when the address is absent; else never, live, expired, room, hand: in this order."""
    known = c.sets[effect.set]
    if known.size is None or effect.field not in _SIDES:
        message = f"rule {item.name} adds {effect.field} to {known.name}; only src and dst can be added, to a dynamic set"
        raise CompileError([c.refusal("N903", message, "declare the set with a size: set NAME : address size 100k", item.span)])
    side = _SIDES[effect.field]
    table, ring = c_sets.dynamic_set(c, known)
    timeout = known.timeout if effect.timeout is None else effect.timeout
    expiry = "0" if timeout is None else f"p->now + {timeout}ULL"
    flags = f"{int(effect.renew)}, {int(known.full == 'evict')}"
    call = f"netc_add(MAP({table}), VALUE({ring}), {known.size}, &p->{side}.at, {expiry}, p->now, p->change, {flags})"
    full = f"if ({call} >= FULL) COUNT({set_counter(c, known, 'full')}, bytes);"
    never = c_expr.true_when(ir.Or(tuple(ir.Member(effect.field, name) for name in known.never)), c)
    if never != c_expr.NEVER:
        full = f"if ({never}) COUNT({set_counter(c, known, 'never')}, bytes); else {full}"
    return f"if (p->{side}.at.family) {{ {full} }} "


def set_counter(c: CProgram, known: ir.Set, what: str) -> int:
    return c.add_counter(counter(f"{known.name}.{what}", "xdp", "other", "", known.span))
