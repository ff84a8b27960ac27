"""netc without its start: a process that has imported netc and forks for each command. It runs on an emulated machine, where imports take seconds.

`PYTHON warm.py SOCKET`: one JSON line a connection, {"argv", "env"}, is answered by one, {"code", "out", "err"}. Each command is a process of its own, so
nothing is carried from one to the next but what importing leaves. The embedded lab and machines over ssh start netc as its users do.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import pkgutil
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator

LEFT_OUT = ("runtime.bench", "runtime.lab", "runtime.rack", "runtime.cli")  # what no command on a machine under test needs; the first is imported by name
MODULES = ("runtime.cli", "msgspec", "yaml", "nftables", "pyroute2", "pyroute2.netlink.exceptions", "pyroute2.netlink.rtnl.tcmsg")


def main() -> None:
    """Import, listen, fork."""
    for name in (*MODULES, *modules("runtime")):
        load(name)
    from runtime.backends import kernel_calls

    kernel_calls.of_this_kernel()  # a walk over the kernel's types: 2 s here, and the same for every command
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(sys.argv[1])
        listener.listen()
        while True:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                serve(connection)
                os._exit(0)
            connection.close()


def modules(package: str) -> Iterator[str]:
    """Its modules and theirs, by name: what is imported late is not imported by each command."""
    load(package)
    for found in pkgutil.iter_modules(sys.modules[package].__path__, f"{package}."):
        if found.name in LEFT_OUT:
            continue
        yield found.name
        if found.ispkg:
            yield from modules(found.name)


def load(name: str) -> None:
    """Import a module ahead of its time; one that cannot be is netc's to tell, when it needs it."""
    with contextlib.suppress(ImportError):
        importlib.import_module(name)


def serve(connection: socket.socket) -> None:
    """One command: its standard streams are files, so that whatever it leaves running holds nobody up."""
    with connection, connection.makefile("rwb") as stream, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        request = json.loads(stream.readline())
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        child = os.fork()
        if child == 0:
            run(request, out.fileno(), err.fileno())
        _, status = os.waitpid(child, 0)
        said = {name: os.pread(file.fileno(), 1 << 26, 0).decode(errors="surrogateescape") for name, file in (("out", out), ("err", err))}
        stream.write(json.dumps({"code": os.waitstatus_to_exitcode(status), **said}).encode() + b"\n")


def run(request: dict, out: int, err: int) -> None:
    """netc's own main function, in a process of its own."""
    from runtime import cli

    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(out, 1)
    os.dup2(err, 2)
    os.environ.update(request["env"])
    sys.argv[0] = "netc"
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    code = 1
    try:
        code = cli.main(request["argv"])
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001  what netc itself lets through is shown as Python shows it
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
