"""A rack of two machines over ssh, all in namespaces: a controller, the machine under test with an sshd of its own, and its peer with another.

Nobody else's ssh is touched: own keys, own configuration, ports of own namespaces. sshd wants a user and a directory that a machine without
openssh-server lacks: they are in a mount namespace of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SSHD = os.environ.get("NETC_SSHD") or shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin") or ""
ROOT = Path(__file__).parents[3]
PORT = 2222
_CONFIG = """Port {port}
ListenAddress {address}
HostKey {directory}/host
AuthorizedKeysFile {directory}/key.pub
PermitRootLogin yes
StrictModes no
UsePAM no
PidFile none
Subsystem sftp internal-sftp
"""


@dataclass(frozen=True)
class SshRack:
    """controller, dut, peer: namespaces; file: the rack file; device: under test."""

    controller: str
    dut: str
    peer: str
    file: Path
    device: str = "nut0"

    def pytest(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run hwtests on the rack, as a controller that reaches it by ssh alone."""
        return subprocess.run(self.command(*arguments), cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)

    def command(self, *arguments: str) -> list[str]:
        return ["nsenter", f"--net=/run/netns/{self.controller}", sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rack", str(self.file), *arguments]

    def at_dut(self, *argv: str) -> str:
        return subprocess.run(["nsenter", f"--net=/run/netns/{self.dut}", *argv], capture_output=True, text=True, check=True).stdout


@contextmanager
def rack(make_netns: Callable[[], str], directory: Path) -> Iterator[SshRack]:
    """Wire three namespaces, start two sshd, write the rack file."""
    made = SshRack(make_netns(), make_netns(), make_netns(), directory / "rack.yaml")
    _cable(made.controller, "mg0", "10.77.0.1/24", made.dut, "mg0", "10.77.0.2/24")
    _cable(made.controller, "mg1", "10.77.1.1/24", made.peer, "mg1", "10.77.1.2/24")
    _cable(made.dut, made.device, "198.18.1.1/24", made.peer, "far0", "198.18.1.2/24")
    _ip(made.peer, "ethtool", "-K", "far0", "txvlan", "off", "tx-vlan-stag-hw-insert", "off")
    for name in ("host", "key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / name)], check=True)
    servers = [_server(directory, made.dut, "10.77.0.2"), _server(directory, made.peer, "10.77.1.2")]
    try:
        made.file.write_text(_rack_file(made, directory))
        for server, space, address in zip(servers, (made.dut, made.peer), ("10.77.0.2", "10.77.1.2"), strict=True):
            _listening(server, space, address)
        yield made
    finally:
        for server in servers:
            server.terminate()
            server.wait(20)


def _rack_file(made: SshRack, directory: Path) -> str:
    macs = {end: _mac(space, end) for space, end in ((made.dut, made.device), (made.peer, "far0"))}
    return f"""name: ssh-lab
dut: dut
machines:
  dut: {{ ssh: {{ host: 10.77.0.2, port: {PORT}, keyfile: key }}, netc: {Path(sys.executable).with_name("netc")}, python: {sys.executable} }}
  peer: {{ ssh: {{ host: 10.77.1.2, port: {PORT}, keyfile: {directory}/key }}, python: {sys.executable} }}
ports:
  p0:
    device: {{ mac: '{macs[made.device]}' }}
    address: 198.18.1.1/24
    far_address: 198.18.1.2/24
    peer: {{ machine: peer, device: {{ mac: '{macs["far0"]}' }} }}
"""


def _server(directory: Path, space: str, address: str) -> subprocess.Popen[bytes]:
    config = directory / f"sshd-{space}"
    config.write_text(_CONFIG.format(port=PORT, address=address, directory=directory))
    users = directory / f"passwd-{space}"
    users.write_text(Path("/etc/passwd").read_text() + "sshd:x:65534:65534::/run/sshd:/usr/sbin/nologin\n")
    # sshd's own directory, /run/sshd, over whatever is there; the agent behind it needs nothing of /run but what it makes itself
    script = f"mount -t tmpfs -o mode=755 none /run && mkdir -m 755 /run/sshd && mount --bind {users} /etc/passwd && exec {SSHD} -D -e -f {config}"
    with (directory / f"sshd-{space}.log").open("wb") as log:
        return subprocess.Popen(["nsenter", f"--net=/run/netns/{space}", "unshare", "-m", "sh", "-c", script], stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def _listening(server: subprocess.Popen[bytes], space: str, address: str) -> None:
    until = time.monotonic() + 20
    while f"{address}:{PORT}" not in subprocess.run(["ss", "-N", space, "-Hltn"], capture_output=True, text=True, check=True).stdout:
        assert server.poll() is None and time.monotonic() < until, "sshd did not come up"
        time.sleep(0.05)


def _cable(one: str, device: str, address: str, other: str, far: str, far_address: str) -> None:
    queues = ("numrxqueues", "2", "numtxqueues", "2")
    _ip(one, "ip", "link", "add", device, *queues, "type", "veth", "peer", "name", far, *queues, "netns", other)
    for space, end, words in ((one, device, address), (other, far, far_address)):
        _ip(space, "sysctl", "-qw", f"net.ipv6.conf.{end}.disable_ipv6=1")
        _ip(space, "ip", "addr", "add", words, "dev", end)
        _ip(space, "ip", "link", "set", end, "up")


def _mac(space: str, device: str) -> str:
    return _ip(space, "ip", "-br", "link", "show", "dev", device).split()[2]


def _ip(space: str, *argv: str) -> str:
    return subprocess.run(["nsenter", f"--net=/run/netns/{space}", *argv], check=True, capture_output=True, text=True).stdout
