"""Rack files and the kernel's names: the shipped ones are right, each wrong one is refused with its place and the mend."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from hwtests.rack import file as files
from hwtests.rack.errors import RackFileError

GOOD = yaml.safe_load((files.RACKS / "example-ssh.yaml").read_text())


@pytest.mark.parametrize("path", sorted(files.RACKS.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_racks_are_right(path: Path) -> None:
    assert files.load(files.named(path.stem)).name


def test_the_example_has_every_key() -> None:
    """Whoever copies it sees what there is. (nic, queues, aside, lab, virtual and local are of racks that are made, not found.)"""
    text = (files.RACKS / "example-ssh.yaml").read_text()
    for kind in (files.Ssh, files.Labgrid, files.Power, files.Quirk, files.Far, files.Port, files.MachineFile, files.RackFile):
        for key in kind.__struct_fields__:
            if key not in ("nic", "queues", "aside", "lab", "virtual", "local"):
                assert f"{key}:" in text, f"{kind.__name__}.{key}"


def changed(path: str, value: Any) -> dict[str, Any]:
    content = copy.deepcopy(GOOD)
    *parts, last = path.split("/")
    place = content
    for part in parts:
        place = place[part]
    if value is None:
        place.pop(last)
    else:
        place[last] = value
    return content


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("dut", "nobody", "there is no machine 'nobody'"),
        ("ports", {}, "at least one port"),
        ("machines/dut/ssh", None, "exactly one of lab, virtual"),
        ("machines/dut/lab", {}, "exactly one of lab, virtual"),
        ("machines/dut/netc", None, "say where `netc` is"),
        ("machines/dut/ssh/prot", 22, "prot"),
        ("machines/dut/ssh/port", "22", "int"),
        ("ports/p0/device", {"name": "eno2"}, "names of devices change"),
        ("ports/p0/device", {"pci": "03:00.0"}, "no PCI address"),
        ("ports/p0/device", {"mac": "02-00"}, "no MAC address"),
        ("ports/p0/device", {}, "exactly one of pci, mac and name"),
        ("ports/p0/peer", None, "what is at the far end"),
        ("ports/p0/peer/machine", "x", "there is no machine 'x'"),
        ("ports/p0/address", None, "addresses of both ends"),
        ("ports/P 0", {}, "small letters"),
    ],
)  # fmt: skip
def test_wrong_files_are_refused(path: str, value: Any, words: str) -> None:
    with pytest.raises(RackFileError, match=r"^my\.yaml: ") as caught:
        files.parsed(changed(path, value), "my.yaml")
    assert words in str(caught.value), caught.value


@pytest.mark.parametrize(("text", "words"), [(b"\xff", "UTF-8"), (b"a: [", "not YAML"), (b"[" * 5000, "not YAML"), (b"5", "object"), (b"", "object")])
def test_what_is_no_rack_file(tmp_path: Path, text: bytes, words: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(text)
    with pytest.raises(RackFileError, match="r.yaml") as caught:
        files.load(path)
    assert words in str(caught.value)


def test_no_such_rack() -> None:
    with pytest.raises(RackFileError, match="example-ssh, lab, virtual"):
        files.named("labb")


NAMES = {"NETIF": "nut0", "LOCAL_V4": "192.0.2.1", "REMOTE_V4": "192.0.2.2", "REMOTE_TYPE": "netns", "REMOTE_ARGS": "far"}


def test_the_kernels_names() -> None:
    assert files.from_environment({}) is None
    found = files.from_environment(NAMES)
    assert found and found.machines["remote"].local and found.machines["remote"].local.netns == "far"
    assert (found.ports["nic"].address, found.ports["nic"].device.name) == ("192.0.2.1/24", "nut0")
    over_ssh = files.from_environment({**NAMES, "REMOTE_TYPE": "ssh", "REMOTE_ARGS": "me@host"})
    assert over_ssh and over_ssh.machines["remote"].ssh == files.Ssh("host", "me")


@pytest.mark.parametrize(("change", "words"), [({"REMOTE_V4": ""}, "REMOTE_V4"), ({"REMOTE_TYPE": "carrier-pigeon"}, "netns and ssh")])
def test_wrong_names_are_refused(change: dict[str, str], words: str) -> None:
    with pytest.raises(RackFileError, match=words):
        files.from_environment({**NAMES, **change})
