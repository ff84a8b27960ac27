"""Probing real devices: what is there, what is refused in which words, and that the answer is a profile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from compiler import profile
from runtime import driver_hints, probe
from runtime.backends import bpf, ethtool, link, tc_kinds
from runtime.context import Context
from runtime.lab import netns as namespaces
from runtime.probe import view
from runtime.steps import StepError


@pytest.fixture
def context(netns: str, tmp_path: Path) -> Iterator[Context]:
    with namespaces.enter(netns):
        for words in ("link add va0 numrxqueues 2 numtxqueues 2 type veth peer name vb0", "tuntap add ta0 mode tap", "link set va0 up"):
            subprocess.run(["ip", *words.split()], check=True)
        yield Context(tmp_path, tmp_path / "bpf", (), netns)


@pytest.mark.parametrize(("device", "driver"), [("va0", "veth"), ("ta0", "tun"), ("lo", "")])
def test_the_answer_is_a_profile(context: Context, device: str, driver: str) -> None:
    found = probe.probe(context, device)
    file = context.state / "nic.yaml"
    file.write_text(yaml.safe_dump(found, sort_keys=False))
    read = profile.load(file)
    assert read.driver == driver and read.cpus >= 1 and read.kernel
    assert read.facts == yaml.safe_load(file.read_text())["facts"]
    json.dumps(found)


def test_every_fact_has_its_evidence_in_the_devices_words(context: Context) -> None:
    facts = probe.probe(context, "va0")["facts"]
    assert all(fact.get("evidence") for fact in facts.values())
    assert facts["ring"] == {"supported": False, "evidence": "ETHTOOL_MSG_RINGS_GET: Operation not supported"}
    assert facts["ntuple"] == {"supported": False, "evidence": "ETHTOOL_GRXCLSRLALL: Operation not supported"}
    assert facts["channels"]["most"] == {"rx": 2, "tx": 2}
    assert facts["features"]["rx-lro"] == "off [fixed]" and facts["features"]["rx-gro"] == "off"
    assert facts["qdiscs"]["pfifo"] == "yes"


def test_the_answer_is_json_too(context: Context) -> None:
    found = probe.probe(context, "va0")
    assert json.loads(json.dumps(found)) == found
    assert len(found["facts"]["link"]["address"].split(":")) == 6


def test_veth_has_native_xdp_and_loopback_has_not(context: Context) -> None:
    assert probe.probe(context, "va0")["xdp"]["native"] is True
    assert probe.probe(context, "lo")["xdp"]["native"] is False


def test_trying_native_xdp_leaves_nothing_attached(context: Context) -> None:
    found = probe.probe(context, "va0", attempt=True)
    assert found["facts"]["xdp"]["tried"] == "attached natively, and taken off again"
    assert link.get("va0").xdp_program == 0


def test_native_xdp_that_is_attached_is_not_denied_by_a_trial_that_cannot_be(context: Context) -> None:
    """The profile once said `native: false` of a device on which netc's own policy ran natively."""
    program = bpf.load_program("xdp", bytes.fromhex("b7000000020000009500000000000000"), {}, "nt_pass", bpf.XDP)  # r0 = XDP_PASS; exit
    attached = bpf.link_create(program, link.get("va0").ifindex, bpf.XDP, bpf.XDP_FLAGS_DRV)
    try:
        found = probe.probe(context, "va0", attempt=True)
    finally:
        os.close(attached)
        os.close(program)
    assert found["facts"]["xdp"]["tried"].startswith("not tried")
    assert found["xdp"]["native"] is True and found["xdp"]["metadata"] is True


def test_trying_where_the_driver_refuses_says_so(context: Context) -> None:
    found = probe.probe(context, "lo", attempt=True)
    assert found["xdp"]["native"] is False and "attach" in found["facts"]["xdp"]["tried"]


def test_no_such_device(context: Context) -> None:
    with pytest.raises(StepError, match="probing absent0: No such device"):
        probe.probe(context, "absent0")


ROOT = Path(__file__).parents[3]
KILLED_WHILE_ATTACHED = """
import os, signal
from pathlib import Path
from runtime.backends import link
from runtime.context import Context
from runtime import probe
real = link.get
def get(device):
    if (found := real(device)).xdp_program:
        os.kill(os.getpid(), signal.SIGKILL)
    return found
link.get = get
probe.probe(Context(Path("."), Path(".")), "va0", attempt=True)
"""


def test_a_try_that_is_killed_leaves_nothing_attached(context: Context) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED_WHILE_ATTACHED], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert link.get("va0").xdp_program == 0


def test_the_drivers_own_words_of_a_refusal_are_told_and_what_is_known_of_it(context: Context) -> None:
    """veth refuses native XDP where the peer sends on more queues than it receives on; bpf(2) hands on the errno alone."""
    subprocess.run(["ip", "link", "set", "va0", "down"], check=True)
    subprocess.run(["ip", "link", "del", "va0"], check=True)
    subprocess.run(["ip", *"link add va0 type veth peer numtxqueues 4 name vb0".split()], check=True)
    ethtool.put("vb0", "channels", {"tx": 4})
    found = probe.probe(context, "va0", attempt=True)
    assert found["xdp"]["native"] is False
    assert "(the driver: veth: XDP expects number of rx queues not less than peer tx queues)" in found["facts"]["xdp"]["tried"]
    assert link.get("va0").xdp_program == 0
    beside = driver_hints.beside("set channels", "va0", "xdp")
    assert beside.startswith("set channels\n  = known of veth: XDP needs at least as many receive queues") and "ethtool -L va0 rx N" in beside
    assert "MTU" not in beside, "the peer's MTU is not above the limit: that cannot be the reason"


def test_offload_is_not_promised_and_not_tried_where_the_driver_does_not_declare_it(context: Context) -> None:
    found = probe.probe(context, "va0", attempt=True)
    assert found["xdp"]["offload"] is False and "offload-tried" not in found["facts"]["xdp"]
    with pytest.raises(bpf.BpfError):
        bpf.load_program("xdp", bytes.fromhex("b7000000020000009500000000000000"), {}, "nt_off", offload=link.get("va0").ifindex)


def test_the_fields_that_placement_reads(context: Context) -> None:
    found = probe.probe(context, "va0")
    assert found["channels"] == {"combined": 0, "rx": 2, "tx": 2} and found["rings"] == {"rx": 0, "tx": 0}
    assert found["mtu"] == 1500 and found["numa"] == -1 and found["xdp"]["frags"] is True
    assert found["facts"]["mtu"]["least"] == 68 and found["facts"]["mtu"]["most"] == 65535
    assert {"htb", "pfifo", "bfifo", "clsact"} <= set(found["qdiscs"]) and "bpf" in found["classifiers"]
    assert found["rss"]["contexts"] == 0 and found["ntuple"]["kinds"] == []


def test_kinds_are_the_kernels_and_nothing_is_left(context: Context) -> None:
    before = os.listdir("/sys/class/net")
    assert tc_kinds.qdiscs(("htb", "no_such")) == {"htb": "", "no_such": "Specified qdisc kind is unknown (No such file or directory)"}
    assert tc_kinds.classifiers(("bpf", "no_such", "u32"))["no_such"] == "TC classifier not found (No such file or directory)"
    assert tc_kinds.classifiers(("bpf",)) == {"bpf": ""}
    assert os.listdir("/sys/class/net") == before


def test_statistics_of_queues_are_found_by_their_names(context: Context) -> None:
    names = ethtool.statistics("va0")
    assert any(name.startswith("rx_queue_0_") for name in names)
    told = probe.probe(context, "va0")["facts"]["statistics"]
    assert told["counters"] == len(names) and told["of-queues"] == len([name for name in names if "queue_" in name])


@pytest.mark.parametrize("columns", ["60", "100", "200"])
def test_the_summary_fits_its_terminal(context: Context, monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("NO_COLOR", "1")
    shown = view.shown(probe.probe(context, "va0", attempt=True), "va0")
    assert max(map(len, shown.splitlines())) <= int(columns)
    for words in ("va0: veth on Linux", "channels        rx 2 of 2, tx 2 of 2", "XDP             native, generic", "attached natively, and taken off again", "known of this driver"):
        assert words in shown


def test_a_device_that_says_escape_codes_drives_no_terminal(context: Context) -> None:
    found = probe.probe(context, "va0")
    found["facts"]["vlan"] = {"stripping": "\x1b[31mon", "evidence": "\x1b]0;title\x07"}
    assert "\x1b" not in view.shown(found, "va0") and "\\x1b[31mon" in view.shown(found, "va0")


def test_three_capabilities_suffice_or_the_answer_says_what_it_takes(context: Context, tmp_path: Path) -> None:
    """Without CAP_SYS_ADMIN no namespace to try kinds in and no sysfs of this namespace; native XDP is tried all the same."""
    reduced = ["setpriv", "--bounding-set", "-all,+bpf,+net_admin,+perfmon", "--inh-caps=-all", "--no-new-privs"]
    words = [sys.executable, "-m", "runtime.cli", "probe", "va0", "--try", "--json", "--state-dir", str(tmp_path / "state"), "--bpffs", str(tmp_path / "bpf")]
    done = subprocess.run([*reduced, *words], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["facts"]["xdp"]["tried"] == "attached natively, and taken off again"
    assert found["channels"]["rx"] == 2
    for fact in ("qdiscs", "classifiers", "numa"):
        assert "CAP_SYS_ADMIN" in found["facts"][fact]["evidence"], fact
