"""Policies that are noise or try to break out, files that are traps, and a working directory full of impostors."""

from __future__ import annotations

import os
import random
import struct
from pathlib import Path

import pytest

from runtime.apply import admitted
from tests.kernel.hostile.terminal import POLICY, Terminal

pytestmark = pytest.mark.needs("compiler")

MIB = 1 << 20
RULES = "nic wan {{ device wan0; xdp native }}\nfilter wan in {{ {} }}\n"
NOISE = {
    "random bytes": random.Random(1).randbytes(MIB),
    "tokens": " ".join(random.Random(2).choices(["filter", "wan", "{", "}", "(", ")", "not", "tcp", "or", "pass", "drop", "22", ",", "\n", "->", '"'], k=MIB // 4)).encode(),
    "parentheses": b"nic wan { device wan0 }\nfilter wan in { pass " + b"(" * MIB,
    "nots": b"nic wan { device wan0 }\nfilter wan in { pass " + b"not " * (MIB // 4) + b"tcp; default drop }",
    "one line": b"nic wan { device wan0 }\nset x = { " + b"10.0.0.1, " * (MIB // 10) + b"x }",
    "newlines": b"\n" * 1_000_000,
    "nothing": b"",
    "NUL": b"nic wan { device wan0 }\n\0\n",
    "UTF-16": "nic wan { device wan0 }\n".encode("utf-16"),
    "terminal escapes": b"nic \x1b]0;owned\x07\x1b[31m { device wan0 }\n",
}  # fmt: skip


def test_noise(installed: Terminal) -> None:
    for name, data in NOISE.items():
        print(name)
        assert "N0" in installed.refused("apply", installed.write("noise.netc", data))


def test_a_mark_at_the_start_and_returns_at_the_ends_are_no_noise(terminal: Terminal) -> None:
    terminal.done("apply", terminal.write("windows.netc", b"\xef\xbb\xbf" + POLICY.replace(b"\n", b"\r\n")))
    assert "wan.in.dns" in terminal.done("counters")


TRAPS = {
    "device": 'nic wan {{ device {} }}\n',
    "rule": RULES.format("pass tcp dport 22 as {}; default drop"),
    "set": "nic wan {{{{ device wan0 }}}}\nset {} = {{{{ 22 }}}}\n".format("{}"),
    "nic": "nic {} {{ device wan0 }}\n",
    "sysctl": "nic wan {{ device wan0 }}\nhost {{ sysctl {} = 1 }}\n",
}
BREAKS = ("a;reboot", "$(reboot)", "`reboot`", "a*/int x;/*", "a\\", "../../etc/passwd", "x'y", '"x"', "a\u202eb", "@x", "-x", "kernel.core_pattern", "x" * 300)


@pytest.mark.parametrize("kind", TRAPS)
def test_names_that_break_out(installed: Terminal, kind: str) -> None:
    """A third of the names in each place: every name comes up, in some place or other."""
    for name in BREAKS[list(TRAPS).index(kind) % 3 :: 3]:
        text = TRAPS[kind].replace("{{", "\1").replace("}}", "\2").replace("{}", name).replace("\1", "{").replace("\2", "}")
        done = installed.run("compile", installed.write("name.netc", text.encode()), "-o", installed.cwd / "x.bundle", where=False)
        assert done.returncode in (0, 1), done.stderr
        if done.returncode:
            assert "name.netc:" in done.stderr, done.stderr
        else:
            admitted((installed.cwd / "x.bundle").read_bytes())  # a quoted name is a name: its letters are checked there


def test_files_that_are_traps(installed: Terminal) -> None:
    """A secret's content is never shown; a pipe and a device are not waited for; a loop of links ends."""
    os.mkfifo(installed.cwd / "pipe")
    (installed.cwd / "loop").symlink_to("loop")
    (installed.cwd / "dir").mkdir()
    secret = Path("/etc/shadow").read_text().split(":")[1] if Path("/etc/shadow").exists() else ""
    for name in ("pipe", "loop", "dir", "/dev/zero", "/dev/tty", "/proc/self/mem", "../../../../../../dev/zero", "nope"):
        said = installed.refused("apply", installed.write("set.netc", f'nic wan {{ device wan0 }}\nset x = file "{name}"\n'.encode()))
        assert "N001" in said and "set.netc:2" in said, said
        assert "N001" in installed.refused("apply", installed.write("inc.netc", f'include "{name}"\n'.encode()))
        installed.refused("apply", name)
    for text in ('include "/etc/shadow"\n', 'nic wan { device wan0 }\nset x = file "/etc/shadow"\n'):
        said = installed.refused("apply", installed.write("steal.netc", text.encode()))
        assert not secret.strip("*!") or secret not in said


def test_bad_lines_of_a_set_file_are_each_named(installed: Terminal) -> None:
    lines = ["192.0.2.0/24", "10.0.0.1/8", "nonsense", "::1/200", "192.0.2.256", "-1", "$(reboot)", "2001:db8::/32"]
    installed.write("list.txt", "\n".join(lines).encode())
    said = installed.refused("apply", installed.write("p.netc", b'nic wan { device wan0 }\nset x = file "list.txt"\n'))
    assert [number for number in range(1, 9) if f"list.txt:{number}:" in said] == [2, 3, 4, 5, 6, 7]


def test_impostors_in_the_working_directory(installed: Terminal) -> None:
    """Neither the command nor its compiler imports what lies where the user stands, or where the environment points the compiler."""
    impostor = b"import os\nopen(os.path.join(os.path.dirname(os.path.abspath(__file__)), 'owned'), 'w')\nraise SystemExit('hijacked')\n"
    for name in ("lark.py", "bcc.py", "json.py", "msgspec.py", "re.py", "compiler/__init__.py", "compiler/__main__.py", "runtime/__init__.py"):
        installed.write(name, impostor)
    for name in ("env/lark.py", "env/bcc.py", "env/bcc/__init__.py"):
        installed.write(name, impostor)
    environment = {"PYTHONPATH": str(installed.cwd / "env"), "BCC_KERNEL_SOURCE": "/nonexistent", "ARCH": "x; reboot", "PYTHONSTARTUP": "lark.py"}
    done = installed.run("apply", "good.netc", env=environment)
    assert done.returncode == 0 and "nothing to do" in done.stdout, done.stderr
    assert not list(installed.cwd.rglob("owned"))


CAPTURES = {
    "empty": b"",
    "text": b"not a capture\n" * 10,
    "a head alone": struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)[:20],
    "a cut packet": struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1) + struct.pack("<IIII", 1, 0, 4000, 4000) + b"x" * 20,
    "a packet of 4 GiB": struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1) + struct.pack("<IIII", 1, 0, 0xFFFFFFFF, 0xFFFFFFFF),
    "another link": struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 113),
    "pcapng of noise": b"\x0a\x0d\x0d\x0a" + random.Random(3).randbytes(400),
    "pcapng cut": b"\x0a\x0d\x0d\x0a" + struct.pack("<IIHHq", 28, 0x1A2B3C4D, 1, 0, -1),
    "a block of no bytes": b"\x0a\x0d\x0d\x0a" + struct.pack("<IIHHqI", 28, 0x1A2B3C4D, 1, 0, -1, 28) + struct.pack("<II", 1, 0) * 4,
}  # fmt: skip


@pytest.mark.parametrize("engine", ["interp", "xdp"])
def test_captures(installed: Terminal, engine: str) -> None:
    for name, data in CAPTURES.items():
        print(name)
        said = installed.refused("replay", "good.netc", installed.write("c.pcap", data), "--engine", engine, where=False)
        assert "c.pcap" in said, said
    os.mkfifo(installed.cwd / "pipe.pcap")
    installed.refused("replay", "good.netc", "/dev/null", "--engine", engine, where=False)
    installed.refused("replay", "good.netc", "nope.pcap", "--engine", engine, where=False)
