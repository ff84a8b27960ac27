"""Who is connected: the TCP connection that this command is run over, so that it is not cut by what the command does.

Asked in this order, as far as it is known: SSH_CONNECTION in the environment; in that of an ancestor (sudo takes it from ours, not from the
login shell's); the socket of the sshd that is an ancestor. It counts only if its local address is one of the network namespace that the command
works in: over ssh on a host with labs, the labs are not what the command is reached by.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from runtime import processes
from runtime.processes import PROC, Process

_SSHD = ("sshd", "sshd-session", "sshd-auth", "dropbear")
_LOCAL = ("login", "getty", "agetty", "mingetty", "cron", "crond", "atd")  # whoever started us is no remote user, or at a console
_ESTABLISHED = "01"  # enum tcp_states, as /proc/net/tcp has it
_SOCKET = re.compile(r"socket:\[(\d+)\]")
_MOST_ANCESTORS = 64


class Session(NamedTuple):
    """A TCP connection: addresses without zone, in their shortest form."""

    client: str
    client_port: int
    local: str
    local_port: int


class Found(NamedTuple):
    """What is known. remote: somebody may be connected whom `session` does not name."""

    session: Session | None
    remote: bool


def current(environment: Mapping[str, str] | None = None) -> Found:
    """The connection that this process is run over, wherever its addresses are. Raises nothing: what cannot be read is not known."""
    environment = os.environ if environment is None else environment
    ancestors = list(_ancestors())
    session = _written(environment.get("SSH_CONNECTION", ""))
    for process in ancestors:
        session = session or _written(_of_environment(process.pid))
    serving = [process for process in ancestors if process.name in _SSHD]
    for process in serving:
        session = session or _of_sockets(process.pid)
    at_console = not serving and (any(process.name in _LOCAL for process in ancestors) or _is_service(environment, ancestors))
    return Found(session, session is None and not at_console)


def _is_service(environment: Mapping[str, str], ancestors: list[Process]) -> bool:
    """Started by systemd and not from a session: it says so to what it starts."""
    return "INVOCATION_ID" in environment and bool(ancestors) and ancestors[0].pid == 1


def _ancestors() -> Iterator[Process]:
    """The parent, its parent, and so on."""
    pid = os.getppid()
    for _ in range(_MOST_ANCESTORS):
        process = processes.find(pid)
        if process is None:
            return
        yield process
        pid = process.parent


def _of_environment(pid: int) -> str:
    """SSH_CONNECTION of a process, as it was when the process was started."""
    with suppress(OSError):
        for entry in (PROC / str(pid) / "environ").read_bytes().split(b"\0"):
            if entry.startswith(b"SSH_CONNECTION="):
                return entry.partition(b"=")[2].decode("ascii", "replace")
    return ""


def _written(text: str) -> Session | None:
    """`198.51.100.7 50123 192.0.2.1 22`, as sshd(8) writes it; None for anything else."""
    with suppress(ValueError):
        client, client_port, local, local_port = text.split(" ")
        return _session(client, int(client_port), local, int(local_port))
    return None


def _session(client: str, client_port: int, local: str, local_port: int) -> Session:
    from runtime.backends.routes import plain

    if not 0 < client_port < 1 << 16 or not 0 < local_port < 1 << 16:
        raise ValueError("not a port")
    return Session(str(plain(client)), client_port, str(plain(local)), local_port)


def _of_sockets(pid: int) -> Session | None:
    """The connection that a process serves: the first of its descriptors that is an established TCP socket."""
    numbers = []
    try:
        for entry in sorted(os.scandir(PROC / str(pid) / "fd"), key=lambda entry: int(entry.name)):
            with suppress(OSError):
                if match := _SOCKET.fullmatch(os.readlink(entry.path)):
                    numbers.append(match[1])
    except OSError:
        return None
    known = dict(established(PROC / str(pid) / "net"))
    return next((known[number] for number in numbers if number in known), None)


def established(folder: Path) -> Iterator[tuple[str, Session]]:
    """The inode and the ends of each established TCP connection in `<folder>/tcp` and `tcp6` (Documentation/networking/proc_net_tcp.rst)."""
    for name in ("tcp", "tcp6"):
        try:
            lines = (folder / name).read_text().splitlines()[1:]
        except OSError:
            continue
        for words in map(str.split, lines):
            if words[3] == _ESTABLISHED:
                (local, local_port), (client, client_port) = map(_end, words[1:3])
                yield words[9], _session(client, client_port, local, local_port)


def _end(text: str) -> tuple[str, int]:
    """`0100007F:0016`: words of 32 bits in the host's order, each in hexadecimal digits."""
    from ipaddress import ip_address

    address, _, port = text.partition(":")
    packed = b"".join(struct.pack("=I", int(address[at : at + 8], 16)) for at in range(0, len(address), 8))
    return str(ip_address(packed)), int(port, 16)
