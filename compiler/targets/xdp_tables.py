"""C of a look-up in the tables of compiler.classify: statements that leave in `found` the record of the first rule that matches.

The text depends on the shape of the tables alone; where they begin and how wide they are is read from the root.
"""

from __future__ import annotations

from compiler.classify.shape import KINDS, NOTHING, SERVICE, Shape, Tables, Tree, table_name
from compiler.ir import Field
from compiler.tables.address_trie import RUN, RUN_BITS, TABLE
from compiler.tables.changes import Layout
from compiler.targets import xdp_changes
from compiler.targets.c_program import CProgram, read_part, symbol


def definitions(shape: Shape, layout: Layout | None) -> str:
    """What stands before the program's function. layout: of the rules that may change without the tables, None where none may."""
    numbers = {"ARENA_SIZE": shape.arena, "TABLE": TABLE, "RUN": RUN, "RUN_BITS": RUN_BITS}
    gone = xdp_changes.definitions(layout) + "#define GONE(record) RULE_GONE(record)\n" if layout else "#define GONE(record) 0\n"
    return gone + "".join(f"#define {name} {number}u\n" for name, number in numbers.items()) + read_part("tables.h")


def lookup(c: CProgram, tables: Tables, layout: Layout | None) -> str:
    """Statements; `found` and `record` are declared by them."""
    before = xdp_changes.begin(c) if layout else ""
    behind = xdp_changes.ask(tables.shape) if layout else "    u32 record = found;\n"
    return before + _lookup(c, tables, layout is not None) + behind


def _lookup(c: CProgram, tables: Tables, changing: bool) -> str:
    arena, root = (c.add_array(f"{c.name}.{name}", len(part), content=part) for name, part in (("arena", tables.arena), ("root", tables.root)))
    shape = tables.shape
    text = f"    u8 *arena = VALUE({arena});\n    volatile u32 *root = VALUE({root});\n"
    first = "" if shape.words else f"AT32({_root(shape, 'first')} + {_class(shape, shape.trees[0])} * 4)"
    if first and f"{Field.SRC}.lists" not in shape.names:
        return text + f"    u32 found = {first};\n"
    text += f"    u32 found = {_root(shape, 'nothing')};  /* read: a constant would make the verifier walk all that follows twice */\n"
    if f"{Field.SRC}.lists" in shape.names:
        text += _buckets(shape)
    if first:
        return text + f"    {{ u32 first = {first}; if (first < found) found = first; }}\n"
    for number, tree in enumerate(shape.trees):
        rows = _root(shape, f"rows.{table_name(tree)}")
        text += f"    p->row[{number}] = {rows} + {_class(shape, tree)} * {_root(shape, 'stride')};\n"
    return text + _scan(shape, changing)


def _buckets(shape: Shape) -> str:
    """Both addresses' intervals and lists, the service's class and row, then the lists."""
    text = ""
    for number, name in enumerate((Field.SRC, Field.DST)):
        if f"{name}.broad" in shape.names:  # asked again behind the lists: the verifier would follow every way to it through them
            text += f"    p->row[{number}] = {_leaf(shape, name)};\n    u32 {name}_at = p->row[{number}];\n"
        else:
            text += f"    u32 {name}_at = {_leaf(shape, name)};\n"
        text += f"    u64 {name}_list = AT64({_root(shape, f'{name}.lists')} + {name}_at * 8);\n"
    text += f"    u32 service = {_class(shape, shape.service)};\n"
    text += f"    u32 wishes = {_root(shape, 'service.rows')} + service * {_root(shape, 'service.width')};\n"
    for name, other, most in ((Field.SRC, Field.DST, shape.buckets[0]), (Field.DST, Field.SRC, shape.buckets[1])):
        if most:
            text += f"    FILED(found, {name}_list, {_root(shape, f'{name}.entries')}, {other}_at, wishes, {most});\n"
    return text


def _root(shape: Shape, name: str) -> str:
    """0 for a table that is not there, because it would be empty."""
    if name not in shape.names:
        return "0"
    return f"root[{shape.names.index(name)}]"


def _class(shape: Shape, tree: Tree) -> str:
    if isinstance(tree, str):
        return _field(shape, tree)
    name = table_name(tree)
    left, right = (_class(shape, part) for part in tree)
    return _at(shape, name, f"({left} * {_root(shape, name + '.width')} + {right})")


def _at(shape: Shape, name: str, index: str) -> str:
    """An entry of a table of classes."""
    size = 4 if name in shape.wide else 2
    return f"AT{8 * size}({_root(shape, name)} + {index} * {size})"


def _field(shape: Shape, name: str) -> str:
    """Class 0 where the field is absent."""
    if name in (Field.SRC, Field.DST):
        if f"{name}.broad" in shape.names:
            return _at(shape, f"{name}.broad", f"{name}_at")
        if f"{name}.lists" in shape.names:
            return f"(u32)({name}_list >> 48)"
        return _leaf(shape, name)
    if name == SERVICE:
        return "service"
    if name == KINDS:
        return _at(shape, name, "p->kinds") if name in shape.names else "0"
    return f"(p->have & HAVE_{symbol(name)} ? {_at(shape, name, f'p->{symbol(name)}')} : 0)"


def _leaf(shape: Shape, name: str) -> str:
    """Beside buckets the number of an interval, else a class."""
    root4, tables4, lower, root6, tables6, high, low, values, base, absent = (
        _root(shape, f"{name}.{part}")
        for part in ("root4", "tables4", "lower4", "root6", "tables6", "high6", "low6", "classes", "v4", "absent")
    )
    wide = int(f"{name}.classes" in shape.wide)
    of_v4 = f"netc_leaf4(arena, {root4}, {tables4}, {lower}, {values}, {wide}, {base}, (u32)p->{name}_lo)"
    of_v6 = f"netc_leaf6(arena, {root6}, {tables6}, {high}, {low}, {values}, {wide}, p->{name}_hi, p->{name}_lo)"
    return f"(p->{name}.at.family == 4 ? {of_v4} : p->{name}.at.family == 6 ? {of_v6} : {absent})"


def _scan(shape: Shape, changing: bool) -> str:
    """The first bit that stands in all rows. They are read back from memory: the verifier would follow every way to a class into every word."""
    text = f"    {{\n        u32 first = {NOTHING}u;\n" + "".join(f"        u32 row{number} = p->row[{number}];\n" for number in range(len(shape.trees)))
    if not shape.aggregates:
        for word in range(shape.words):
            body = f"u64 bits = {_all(shape, str(8 * word))}{_living(str(word), changing)}; if (bits) first = {_record(shape, f'{64 * word}u')};"
            text += f"        if (first == {NOTHING}u) {{ {body} }}\n"
        return text + "        if (first < found)\n            found = first;\n    }\n"
    return text + f"""        u32 next, i;
#pragma clang loop unroll(disable)
        for (next = 0; next < {shape.aggregates}; next++) {{
            u64 words = {_all(shape, "next * 8")};
#pragma clang loop unroll(disable)
            for (i = 0; i < 64; i++) {{
                u32 word;
                u64 bits;
                if (!words)
                    break;
                word = next * 64 + netc_lowest(arena, words);
                words &= words - 1;
                bits = {_all(shape, f"{8 * shape.aggregates} + word * 8")}{_living("word", changing)};
                if (bits) {{
                    first = {_record(shape, "word * 64")};
                    goto scanned;
                }}
            }}
        }}
scanned:
        if (first < found)
            found = first;
    }}
"""


def _all(shape: Shape, offset: str) -> str:
    return " & ".join(f"AT64(row{number} + {offset})" for number in range(len(shape.trees)))


def _living(word: str, changing: bool) -> str:
    """And the term's rule is still there."""
    return f" & ~CH64(half + ROWS_AT + {word} * 8)" if changing else ""


def _record(shape: Shape, base: str) -> str:
    return f"AT32({_root(shape, 'records')} + ({base} + netc_lowest(arena, bits)) * 4)"
