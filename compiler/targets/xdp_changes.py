"""C that asks for rules that changed since the tables were built: changes.h, and the tests of the fields that this program knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compiler import bundle, ir
from compiler.change_index import Changeable, Rule
from compiler.classify.shape import KINDS, SERVICE, Shape, Tree
from compiler.ir import Field
from compiler.tables import changes
from compiler.tables.changes import Layout
from compiler.targets import c_expr
from compiler.targets.c_program import CProgram, map_id, read_part, symbol

if TYPE_CHECKING:
    from compiler.targets.xdp_classifier import Pick

def fields(shape: Shape) -> frozenset[str]:
    """The fields that the tables ask for, so that the parser writes them; entries may ask for these."""
    named = {name for tree in (*shape.trees, shape.service) for name in _leaves(tree)} - {KINDS, SERVICE}
    return frozenset(named | {name for name in (Field.SRC, Field.DST) if f"{name}.root4" in shape.names})


def _leaves(tree: Tree) -> list[str]:
    return [tree] if isinstance(tree, str) else [name for part in tree for name in _leaves(part)]


def definitions(layout: Layout) -> str:
    """What stands before the program's function, and before tables.h."""
    numbers = {
        "CHANGES_SIZE": layout.size, "HALVES_AT": changes.HALVES_AT, "HALF": layout.half, "DEAD_AT": changes.DEAD_AT, "DEAD_SIZE": layout.dead, "ROWS_AT": layout.rows_at,
        "ENTRIES_AT": layout.entries_at, "ENTRY": changes.ENTRY, "MOST_CHANGES": changes.MOST,
    }  # fmt: skip
    return "".join(f"#define {name} {number}u\n" for name, number in numbers.items()) + read_part("changes.h")


def begin(c: CProgram) -> str:
    """Statements before the look-up: `changes`, `half`, `gone`. The map itself is made by `add_map`, once all counters are known."""
    return (
        f"    u8 *changes = VALUE({map_id(map_name(c))});\n    u32 half = netc_changes_half(changes);\n"
        "    u8 *gone = changes + HALVES_AT + DEAD_AT + half;\n"
        "    half += HALVES_AT;\n    OPAQUE(half);  /* else clang, which knows its two values, drops the masks */\n"
    )


def add_map(c: CProgram, layout: Layout) -> None:
    c.add_array(map_name(c), layout.size, role="changes", content=layout.header(bundle.slot_room(len(c.counters))))


def map_name(c: CProgram) -> str:
    return changes.map_name(c.name)


def ask(shape: Shape) -> str:
    """Statements behind the look-up: `record` is what judges, `found` its place among the rules.

    What the loop needs and finds goes through memory: the verifier would walk it once for every way through the look-up.
    """
    asked = fields(shape)
    tests = ["(p->kinds ^ CH32(at + 12)) & CH32(at + 8)"]
    for name, family, words in ((Field.SRC, 20, 32), (Field.DST, 24, 64)):
        if name in asked:
            mask = f"(CH32(at + 28) {'>> 8 ' if name == Field.DST else ''}& 0xff)"
            tests.append(f"(p->{name}.at.family ^ CH32(at + {family})) & {mask}")
            tests.append(f"netc_outside(changes, at + {words}, p->{name}.at.family, p->{name}_hi, p->{name}_lo)")
    for number, field in enumerate(changes.SMALL):
        if field in asked:
            there = list(ir.Field).index(Field(field))
            how = "unlike" if field == changes.BITS else "unfit"
            tests.append(
                f"netc_{how}(changes, at + {changes.SMALL_AT + 8 * number}, CH32(at + 16) >> {number} & 1, p->have >> {there}, p->{symbol(field)})"
            )
    sums = "\n".join(f"            unfit |= {test};" for test in tests)
    return f"""    u32 record = found;
    if (CH32(half)) {{
        u32 i;
        p->found = found;
        p->half = half;
        p->entry = 0;
#pragma clang loop unroll(disable)
        for (i = 0; i < MOST_CHANGES; i++) {{
            u32 begin = p->half, at = begin + ENTRIES_AT + i * ENTRY;
            u64 unfit = 0;
            OPAQUE(begin);
            if (i >= CH32(begin))
                break;
{sums}
            if (!unfit) {{
                p->entry = at;
                break;
            }}
        }}
        found = record = p->found;
        if (p->entry) {{
            u32 at = p->entry;
            if (CH32(at) < found) {{
                found = CH32(at);
                record = CH32(at + 4);
            }}
        }}
    }}
"""


def count(c: CProgram) -> str:
    """Statement: counts `judged` when it is an entry's. Its slot stands in the map: the slot table has the tables' rules alone."""
    where = f"VALUE({map_id(map_name(c))})"
    return (
        f"    {{ u32 entry = p->judged - *(u32 *)({where} + {changes.COUNTERS_AT}); if (entry < {2 * changes.MOST})\n"
        f"        netc_count(MAP(COUNTERS), {where} + {changes.SLOTS_AT}, entry, 1, bytes); }}\n"
    )


def changeable(c: CProgram, chain: ir.Chain, picked: Pick, layout: Layout) -> Changeable:
    """What compiler.change has to know of the program. Fixed: straight code, rules for control packets, what a cross-product has decided, and rules that
    cover others, which are not in the tables: without the one a packet gets to the other."""
    assert picked.tables is not None
    bits: dict[int, list[int]] = {}
    for number, record in enumerate(picked.tables.broad):
        bits.setdefault(record >> 1, []).append(number)
    straight = {rule.name for rule in picked.straight} | {name for rule in chain.rules for name in rule.covered}

    def described(rule: ir.Rule) -> Rule:
        counter = c.index(f"{chain.name}.{rule.name}")
        decided = not layout.words and counter in bits
        fixed = rule.name in straight or decided or bool(c_expr.control_mask(rule.when))
        return Rule(rule.span.line, counter, rule.name, rule.verdict == "pass", fixed, tuple(bits.get(counter, ())) if layout.words else ())

    asked = tuple(sorted(fields(picked.tables.shape)))
    rules = tuple(described(rule) for rule in chain.rules)
    return Changeable(c.name, map_name(c), bundle.slot_room(len(c.counters)), layout.counters, layout.words, asked, chain.name, rules)
