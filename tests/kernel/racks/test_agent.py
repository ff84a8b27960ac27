"""The agent of the racks: what it is told to undo is undone, however it ends; commands end with it; frames are what was on the wire."""

from __future__ import annotations

import base64
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kernel.racks.agent_rig import spoken, until


def note(path: Path, word: str) -> list[str]:
    return ["sh", "-c", f"echo {word} >> {path}"]


def test_the_stream_ends_and_all_is_undone_last_first(tmp_path: Path) -> None:
    with spoken() as agent:
        for word in ("first", "second", "third"):
            agent.ask(undo=note(tmp_path / "told", word))
    assert (tmp_path / "told").read_text().split() == ["third", "second", "first"]


def test_killed_without_a_word_and_still_undone(tmp_path: Path) -> None:
    """SIGKILL leaves the agent no time: a second process keeps the stack."""
    with spoken() as agent:
        agent.ask(undo=note(tmp_path / "told", "first"))
        agent.ask(undo=note(tmp_path / "told", "second"))
        agent.process.kill()
        until(tmp_path / "told", ["second", "first"])


def test_silence_is_a_dead_man(tmp_path: Path) -> None:
    with spoken("--deadman", "0.5") as agent:
        agent.ask(undo=note(tmp_path / "told", "undone"))
        until(tmp_path / "told", ["undone"])
        assert agent.process.wait(30) == 0
        assert agent.process.stderr and b"nothing was heard for 0.5 s" in agent.process.stderr.read()


def test_unwind_goes_on_past_what_fails_and_tells_it(tmp_path: Path) -> None:
    with spoken() as agent:
        kept = agent.ask(undo=note(tmp_path / "told", "kept"))["undo"]
        first = agent.ask(undo=note(tmp_path / "told", "first"))["undo"]
        agent.ask(undo=["sh", "-c", "echo why >&2; exit 3"])
        done = agent.ask(unwind=first)["undone"]
        assert [(entry["code"], entry["err"]) for entry in done] == [(3, "why\n"), (0, "")]
        assert (tmp_path / "told").read_text().split() == ["first"], "what is below stays"
        agent.ask(release=kept)
    assert (tmp_path / "told").read_text().split() == ["first"], "released: not undone, and nothing is undone twice"


def test_commands_end_with_the_agent(tmp_path: Path) -> None:
    """Also their children, which a shell would leave behind."""
    with spoken() as agent:
        agent.say(run=["sh", "-c", f"sleep 1000 & echo $! > {tmp_path / 'pid'}; wait"])
        end = time.monotonic() + 20
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            assert time.monotonic() < end
            time.sleep(0.02)
    pid = int((tmp_path / "pid").read_text())
    state = Path(f"/proc/{pid}/stat")
    end = time.monotonic() + 20
    while state.exists() and state.read_text().rsplit(")", 1)[1].split()[0] != "Z":
        assert time.monotonic() < end, "the command's child is still running"
        time.sleep(0.02)


def test_a_deadline_kills_a_command() -> None:
    with spoken() as agent:
        answer = agent.ask(run=["sh", "-c", "echo begun; sleep 1000"], timeout=0.3)
        assert "not done within 0.3 s" in answer["error"] and "begun" in answer["error"]


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"run": ["no-such-program"]}, "no-such-program"), ({"run": []}, "at least one"), ({"run": ["true"], "netns": "../x"}, "no name"),
        ({"run": ["true"], "netns": "not-there"}, "not-there"), ({"dance": 1}, "one verb"), ({"run": ["true"], "ping": 1}, "one verb"),
        ({"send": "not-a-device", "frames": ["AAAA"]}, "No such device"), ({"stop": 99}, "no listener 99"), ({"release": 7}, "no undo 7"),
        ({"get": "/no/such/file"}, "No such file"), ({"listen": "lo", "by": "colour"}, "by cpu or queue"), ({"send": "lo", "frames": 5}, "send"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_told(request_: dict[str, object], words: str) -> None:
    with spoken() as agent:
        assert words in agent.ask(**request_)["error"]
        assert agent.ask(ping=1)["agent"] == 1, "and it goes on"


def test_frames_as_they_were_on_the_wire(make_netns: Callable[[], str]) -> None:
    """A tag that the kernel keeps beside the frame is put back; a frame is counted at the socket of its CPU or queue."""
    near, far = make_netns(), make_netns()
    subprocess.run(["ip", "-n", near, "link", "add", "va0", "type", "veth", "peer", "name", "vb0", "netns", far], check=True)
    for space, device in ((near, "va0"), (far, "vb0")):
        subprocess.run(["nsenter", f"--net=/run/netns/{space}", "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1"], check=True)
        subprocess.run(["ip", "-n", space, "link", "set", device, "up"], check=True)
    plain = bytes.fromhex("020000000001 020000000002 88b5") + bytes(50)
    tagged = plain[:12] + bytes.fromhex("8100000a") + plain[12:]
    with spoken() as agent:
        handle = agent.ask(listen="vb0", netns=far)["handle"]
        sent = agent.ask(send="va0", netns=near, frames=[base64.b64encode(one).decode() for one in (plain, tagged)], count=3)
        assert sent["sent"] == 6
        end = time.monotonic() + 10
        while agent.ask(heard=handle)["seen"] < 6:
            assert time.monotonic() < end
        told = agent.ask(stop=handle)
        assert [base64.b64decode(data) for _, _, data, _ in told["frames"]] == [plain, tagged] * 3
        assert told["lost"] == 0 and [length for _, length, _, _ in told["frames"]] == [64, 68] * 3
