"""C compiled by another process, one that is given C text and nothing else: `python -I -m compiler.targets.c_service LINK`.

What it answers hangs on the text alone, whatever policy the text came from; so netc, which stands between (runtime.c_compiler), may keep the
answer under the text's hash and give it to other policies. docs/decisions/0007.

    question     function, a zero byte, C text
    answer       `+` and the bytecode, or `-` and the compiler's messages
    then         the files that the compiler consists of, one path a line
"""

from __future__ import annotations

import ctypes
import os
import socket
import sys

from compiler.tables import framing
from compiler.targets import bcc

LINK = "NETC_C_COMPILER"  # in the environment: the descriptor that leads to netc
_LIBRARIES = ("libbcc", "libLLVM", "libclang")
_PR_SET_DUMPABLE = 4
_FIRST = """
struct first { u32 a, b; u64 c; };
int netc(struct xdp_md *ctx) {
    volatile struct first *at = (void *)bpf_pseudo_fd(2, 1);
    u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
    u32 i, found = 0;
    if (data + 64 > end)
        return 1;
    for (i = 0; i < 14; i++)
        found = found * 31 + (data[i] & at->a ? data[i + 20] : at->b);
    at->c += found;
    return found > at->b ? 1 : 2;
}
"""


def ask(link: int, text: str, function: str) -> bytes:
    """The bytecode, by way of netc. Raises bcc.CError with the compiler's messages."""
    with socket.socket(fileno=os.dup(link)) as other:
        framing.send(other, f"{function}\0{text}".encode())
        answer = framing.receive(other)
    if not answer or answer[:1] != b"+":
        raise bcc.CError((answer or b"-netc has gone")[1:].decode(errors="replace"))
    return answer[1:]


def main() -> None:
    """Answer until netc has heard enough. A first argument: compile something at once, so that the first question finds the compiler awake."""
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)  # another process of the same uid cannot look or reach into this one
    with socket.socket(fileno=int(os.environ[LINK])) as link:
        if sys.argv[1:]:
            bcc.compile_c(_FIRST, "netc")
        while (question := framing.receive(link)) is not None:
            function, _, text = question.decode().partition("\0")
            try:
                answer = b"+" + bcc.compile_c(text, function)
            except bcc.CError as error:
                answer = b"-" + str(error).encode()
            framing.send(link, answer)
            framing.send(link, "\n".join(_compiler()).encode())


def _compiler() -> list[str]:
    """The files behind an answer; when one of them changes, other bytecode may come of the same text."""
    with open("/proc/self/maps", encoding="utf-8") as maps:
        mapped = {line.split(maxsplit=5)[5].strip() for line in maps if "/" in line}
    libraries = {path for path in mapped if os.path.basename(path).startswith(_LIBRARIES)}
    return sorted({*libraries, *(module for name in ("bcc",) if (module := sys.modules[name].__file__))})


if __name__ == "__main__":
    main()
