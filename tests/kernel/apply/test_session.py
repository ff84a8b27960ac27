"""Who is connected, in every form in which it can be known. Process trees of their own: a pid namespace hides how the test itself was started."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from runtime.lab import netns as namespaces
from tests.kernel.apply.hosts import ROOT, Host

ASK = "from runtime import session; print(tuple(session.current().session or ()), session.current().remote)"
NAMED = """
import ctypes, os, subprocess, sys
name, environment, *command = sys.argv[1:]
ctypes.CDLL(None).prctl(15, name.encode(), 0, 0, 0)  # PR_SET_NAME
kept = {key: value for key, value in os.environ.items() if key != "SSH_CONNECTION"}
kept.update({"SSH_CONNECTION": environment} if environment else {})
sys.exit(subprocess.run(command, env=kept).returncode)
"""


def inside(*command: str, pass_fds: tuple[int, ...] = (), space: str = "", **environment: str) -> str:
    """Run in a pid namespace, where the command's ancestors begin."""
    kept = {key: value for key, value in os.environ.items() if key not in ("SSH_CONNECTION", "INVOCATION_ID")}
    enter = ["nsenter", f"--net=/run/netns/{space}"] if space else []
    done = subprocess.run([*enter, "unshare", "--pid", "--fork", "--mount-proc", *command], capture_output=True, text=True, cwd=ROOT, check=False,
                          pass_fds=pass_fds, env={**kept, "PYTHONPATH": str(ROOT), **environment})  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout + done.stderr


def under(name: str, *command: str, gives: str = "") -> list[str]:
    """A process of that name which runs the command, with this SSH_CONNECTION or none."""
    return [sys.executable, "-c", NAMED, name, gives, *command]


ASKED = [sys.executable, "-c", ASK]


@contextmanager
def connection(family: int, address: str) -> Iterator[tuple[socket.socket, tuple[str, int, str, int]]]:
    """Both ends of a TCP connection to ourselves: the served one, and what its ends are."""
    with closing(socket.create_server((address, 0), family=family, dualstack_ipv6=address == "::")) as server:
        port = server.getsockname()[1]
        with closing(socket.create_connection(("127.0.0.1" if address in ("::", "127.0.0.1") else address, port))) as client:
            served, _ = server.accept()
            with closing(served):
                here = client.getsockname()
                yield served, (here[0], here[1], client.getpeername()[0], port)


def test_the_environment_says_it() -> None:
    assert inside(*ASKED, SSH_CONNECTION="198.51.100.7 50123 192.0.2.1 22") == "('198.51.100.7', 50123, '192.0.2.1', 22) False\n"
    assert inside(*ASKED, SSH_CONNECTION="fe80::7%eth9 50123 fe80::1%eth9 22") == "('fe80::7', 50123, 'fe80::1', 22) False\n"
    assert inside(*ASKED, SSH_CONNECTION="::ffff:198.51.100.7 50123 ::ffff:192.0.2.1 22") == "('198.51.100.7', 50123, '192.0.2.1', 22) False\n"


@pytest.mark.parametrize("text", ["UNKNOWN 65535 UNKNOWN 65535", "", "1 2 3 4", "198.51.100.7 0 192.0.2.1 22", "198.51.100.7 x 192.0.2.1 22", "a" * 10000])
def test_what_sshd_does_not_write_is_not_believed(text: str) -> None:
    assert inside(*ASKED, SSH_CONNECTION=text) == "() True\n"


def test_sudo_takes_it_from_ours_and_not_from_the_login_shells() -> None:
    shell = under("bash", *under("sudo", *ASKED), gives="")
    assert inside(*shell) == "() True\n"
    assert inside(*shell, SSH_CONNECTION="198.51.100.7 50123 192.0.2.1 22") == "('198.51.100.7', 50123, '192.0.2.1', 22) False\n"


@pytest.mark.parametrize("name", ["sshd", "sshd-session"])
@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::")], ids=["ip4", "mapped"])
def test_the_socket_of_the_sshd_that_we_stem_from(name: str, family: int, address: str) -> None:
    with connection(family, address) as (served, ends):
        held = served.fileno()
        script = f"import os; os.set_inheritable({held}, True)\n" + NAMED.replace("env=kept", "env=kept, close_fds=True")
        answer = inside(sys.executable, "-c", script, name, "", *under("bash", *ASKED), pass_fds=(held,))
        assert answer == f"{ends} False\n"
        other = inside(sys.executable, "-c", script, "nginx", "", *under("bash", *ASKED), pass_fds=(held,))
        assert other == "() True\n", "no sshd, no session"


@pytest.mark.parametrize(("name", "remote"), [("login", False), ("agetty", False), ("crond", False), ("tmux: server", True), ("sshd", True)])
def test_a_console_is_known_not_to_be_remote(name: str, remote: bool) -> None:
    assert inside(*under(name, *under("bash", *ASKED))) == f"() {remote}\n"


def test_what_systemd_starts_is_nobodys_session() -> None:
    """The first process of the namespace stands for it."""
    started = ["sh", "-c", '"$@"; true', "systemd", *ASKED]
    assert inside(*started, INVOCATION_ID="0" * 32) == "() False\n"
    assert inside(*started) == "() True\n"


def test_unknown_is_told_once_where_somebody_is_connected(host: Host) -> None:
    host.run("ip", "address", "add", "192.0.2.1/24", "dev", "wan0")
    subprocess.run(["ip", "-n", host.peer, "address", "add", "192.0.2.7/24", "dev", "wan0p"], check=True)
    policy = host.directory / "edge.netc"
    policy.write_text("nic wan { device wan0; xdp native }\nfilter wan in { drop tcp dport 23; default pass }\n")
    where = ["--state-dir", str(host.directory / "state"), "--bpffs", str(host.directory / "bpf")]
    plan = [sys.executable, "-m", "runtime.cli", "plan", str(policy), *where]
    assert "not known from where" not in inside(*plan, space=host.netns), "nobody is connected"
    with namespaces.enter(host.netns):
        server = socket.create_server(("192.0.2.1", 2222))
    with namespaces.enter(host.peer):
        client = socket.create_connection(("192.0.2.1", 2222))
    with closing(server), closing(client):
        assert inside(*plan, space=host.netns).count("it is not known from where you are connected") == 1
        assert "not known from where" not in inside(*under("login", *plan), space=host.netns), "at the console"
        assert "not known from where" not in inside(*plan, space=host.netns, SSH_CONNECTION="198.51.100.7 50123 203.0.113.1 22"), "connected elsewhere"


def test_the_connection_of_an_sshd_is_guarded(host: Host) -> None:
    """All of it: no variable anywhere, a process called sshd with the socket, and the command below it."""
    host.run("ip", "address", "add", "192.0.2.1/24", "dev", "wan0")
    subprocess.run(["ip", "-n", host.peer, "address", "add", "192.0.2.7/24", "dev", "wan0p"], check=True)
    policy = Path(host.directory / "edge.netc")
    policy.write_text("nic wan { device wan0; xdp native }\nfilter wan in { drop src 192.0.2.7; default pass }\n")
    with namespaces.enter(host.netns):
        server = socket.create_server(("192.0.2.1", 2222))
    with namespaces.enter(host.peer):
        client = socket.create_connection(("192.0.2.1", 2222))
    served, _ = server.accept()
    with closing(server), closing(client), closing(served):
        plan = [sys.executable, "-m", "runtime.cli", "plan", str(policy), "--state-dir", str(host.directory / "state"), "--bpffs", str(host.directory / "bpf")]
        script = f"import os; os.set_inheritable({served.fileno()}, True)\n" + NAMED
        told = inside(sys.executable, "-c", script, "sshd", "", *plan, pass_fds=(served.fileno(),), space=host.netns)
        assert "edge.netc:2:17" in told and "tcp dport 2222 src 192.0.2.7 dst 192.0.2.1" in told
