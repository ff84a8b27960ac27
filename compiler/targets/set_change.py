"""The program of set_change.h as bytecode: made by bcc, kept in tables/set_change.json, since an edge host has no compiler.

    python -m compiler.targets.set_change > compiler/tables/set_change.json     # after every change of its C; a test holds them equal
"""

from __future__ import annotations

import base64
import hashlib
import json

from compiler.tables import set_change
from compiler.targets.c_program import CProgram, read_part

_BODY = f"""\
    struct batch *b = VALUE(BATCH);
    u64 next = b->next, size;
    asm volatile("%0 = {set_change.SIZE_MARK:#x}" : "=r"(size));
    b->next = next + 1;
    if (next >= b->count)
        return 0;
    if (b->op == OP_SWEEP) {{
        if (netc_retire(MAP(SET), VALUE(RING), next, size, b->now, 1, 0)) {{
            netc_push(VALUE(RING), next, size);
            b->freed += 1;
        }}
        return 0;
    }}
    OPAQUE(next);
    if (next >= BATCH_ENTRIES)
        return 0;
    b->entry[next].result = netc_do(b, &b->entry[next], size);
    return 0;
"""


def program() -> CProgram:
    """The C of the program, not yet compiled."""
    c = CProgram("set.change", "", "tcx_ingress", {})
    c.definitions = read_part("set_change.h")
    return c


def kept() -> str:
    """What tables/set_change.json has to hold."""
    c = program()
    code = c.finish(_BODY).code
    return json.dumps({"source": hashlib.sha256(c.source.encode()).hexdigest(), "code": base64.b64encode(code).decode()}) + "\n"


if __name__ == "__main__":
    print(kept(), end="")
