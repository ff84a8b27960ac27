"""A process that has imported all of netc and forks a child for each command: what a sweep saves is half a second of imports under strace, each time.

The child is netc from its entry point on, with the arguments on its command line and no hook in it. It waits at a FIFO until whoever traces it is
there. Orders are JSON objects `{arguments, netns, fifo, output, error}`, one a line on standard input; answers on standard output: the child's
process id, then its wait status, a line each.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import sys
from typing import Any, NoReturn

_APART = ("runtime.bench", "runtime.lab.")  # no command on a host uses them


def import_all() -> None:
    """Every module that a command on a host may need, so that what is traced is what the command does."""
    import runtime

    for module in pkgutil.walk_packages(runtime.__path__, "runtime."):
        if not module.name.startswith(_APART):
            importlib.import_module(module.name)
    for name in ("runtime.lab.netns", "tempfile", "nftables", "numpy"):
        importlib.import_module(name)


def serve() -> None:
    """Fork for each order until standard input ends."""
    for line in sys.stdin:
        order = json.loads(line)
        number = os.fork()
        if number == 0:
            run(order)
        print(number, flush=True)
        print(os.waitpid(number, 0)[1], flush=True)


def run(order: dict[str, Any]) -> NoReturn:
    """netc, as the console script runs it. Raises SystemExit."""
    for number, path, flags in (
        (0, "/dev/null", os.O_RDONLY), (1, order["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), (2, order["error"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    ):  # fmt: skip
        handle = os.open(path, flags, 0o600)
        os.dup2(handle, number)
        os.close(handle)
    from runtime import cli
    from runtime.lab import netns

    sys.argv = ["netc", *order["arguments"]]
    with netns.enter(order["netns"]):
        os.close(os.open(order["fifo"], os.O_RDONLY))
        status = cli.main()
    sys.exit(status)


if __name__ == "__main__":
    import_all()
    gc.freeze()
    serve()
