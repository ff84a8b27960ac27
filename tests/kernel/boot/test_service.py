"""The systemd unit: right by systemd's own judgement, and a real systemd brings the policy up with it, with three capabilities."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from runtime import service
from tests.kernel.apply.hosts import DNS, ESTABLISHED, ROOT, SSH, Host, made, program
from tests.kernel.boot import rig
from tests.kernel.boot.conftest import reboot

NETC = Path(sys.executable).with_name("netc")
THREE = f"{1 << 12 | 1 << 38 | 1 << 39:016x}"
EXPOSURE = 3.0  # of 10, by systemd-analyze: what is left is what netc is for
MORE = f"""[Service]
# this netc may live where PrivateTmp= hides it
BindReadOnlyPaths={ROOT}
ExecStartPre=/bin/sh -c "grep -E 'Cap|NoNew' /proc/self/status > /var/lib/netc/status; touch /usr/x 2>/dev/null && touch /var/lib/netc/writes || true"
"""


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze (apt-get install systemd)")
def test_systemd_finds_nothing_wrong_with_it(tmp_path: Path) -> None:
    (tmp_path / "etc/systemd/system").mkdir(parents=True)
    done = subprocess.run([NETC, "service", "--install", "--root", tmp_path], capture_output=True, text=True, check=True)
    unit = tmp_path / "etc/systemd/system/netc.service"
    assert str(unit) in done.stdout and "systemctl enable netc.service" in done.stdout and unit.stat().st_mode & 0o777 == 0o644
    verified = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert verified.returncode == 0 and "netc.service" not in verified.stderr, verified.stderr
    judged = subprocess.run(["systemd-analyze", "security", "--offline=true", unit], capture_output=True, text=True, check=True).stdout
    level = float(judged.rpartition("Overall exposure level for netc.service:")[2].split()[0])
    assert level <= EXPOSURE, judged
    assert "✓ CapabilityBoundingSet=~CAP_SYS_ADMIN" in judged and "✓ NoNewPrivileges=" in judged


def test_paths_that_a_unit_cannot_hold() -> None:
    for bad in ("relative/netc", "/with space/netc", "/per%cent/netc", "/line\nbreak"):
        with pytest.raises(service.ServiceError):
            service.unit(Path(bad), Path("/var/lib/netc"), Path("/sys/fs/bpf/netc"))
    done = subprocess.run([NETC, "service", "--install", "--root", "/proc/self"], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "no systemd here" in done.stderr


def test_a_real_systemd_brings_the_policy_up(host: Host) -> None:
    host.netc("apply", host.write(made(program(DNS, SSH, shape=True), "boot.netc")))
    reboot(host)
    unit = service.unit(NETC, Path("/var/lib/netc"), Path("/sys/fs/bpf/netc"))
    try:
        with rig.started(host.netns, host.directory, unit, MORE) as machine:
            assert (machine.show("ActiveState"), machine.show("Result")) == ("active", "success"), machine.run("systemctl", "status", "netc").stdout
            said = machine.run("cat", "/var/lib/netc/status").stdout
            assert said.count(THREE) == 3 and "NoNewPrivs:\t1" in said, said  # permitted, effective, bounding
            assert machine.run("ls", "/var/lib/netc/writes").returncode != 0, "the file system is not read-only for it"
            assert "network-pre.target" in machine.show("Before") and host.attached()["xdp"]
            verified = machine.run(NETC, "verify", "--json")
            assert verified.returncode == 0, verified.stdout + verified.stderr
            assert machine.run("stat", "-c", "%a %u", "/sys/fs/bpf/netc").stdout == "700 0\n"
            machine.run("systemctl", "stop", "netc")
            assert machine.show("ActiveState") == "inactive" and machine.run(NETC, "verify", "--json").returncode == 0, "stopping took the policy off"
            machine.run("systemctl", "start", "netc")
            assert machine.show("ActiveState") == "active"
    except rig.CannotError as error:
        pytest.skip(f"no systemd of its own: {error}")


def test_systemd_has_a_watchdog_of_its_own_for_a_trial(host: Host) -> None:
    """The forked one is killed, as the end of an ssh session may do: everything comes back all the same."""
    old, new = (host.write(made(program(rule, ESTABLISHED, shape=True), f"{rule.name}.netc"), f"{rule.name}.bundle") for rule in (SSH, DNS))
    host.netc("apply", old)
    reboot(host)
    unit = service.unit(NETC, Path("/var/lib/netc"), Path("/sys/fs/bpf/netc"))
    try:
        with rig.started(host.netns, host.directory, unit, MORE) as machine:
            before = host.attached()
            done = machine.run(NETC, "apply", new, "--confirm", "3s")
            assert done.returncode == 0, done.stderr
            units = machine.run("systemctl", "list-units", "--no-legend", "--plain", "netc-trial-*").stdout
            assert "active running" in units, units
            assert machine.run("pkill", "-KILL", "-f", "apply .*--confirm").returncode == 0
            assert machine.run(NETC, "recover", "--wait").returncode == 0
            told = machine.run("cat", "/var/lib/netc/watchdog.txt").stdout
            assert "nobody confirmed it: took back" in told and machine.run(NETC, "verify", "--json").returncode == 0
            assert {key: value for key, value in host.attached().items() if key != "pins"} == {key: value for key, value in before.items() if key != "pins"}
    except rig.CannotError as error:
        pytest.skip(f"no systemd of its own: {error}")
