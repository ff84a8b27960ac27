"""How the agent of a machine is started: here, in a booted virtual machine, or over ssh by labgrid's SSHDriver."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hwtests.rack.channel import Channel
from hwtests.rack.errors import RackError
from hwtests.rack.file import MachineFile, Power, Ssh

AGENT = Path(__file__).with_name("agent.py")
CONNECT_SECONDS = 30.0
BOOT_SECONDS = 600.0  # a server after its power came back


@contextmanager
def local(name: str, deadman: float | None = None) -> Iterator[Channel]:
    """An agent on this machine, in a process of its own: what it does must not be undone by our death alone, but with it."""
    argv = [sys.executable, str(AGENT), *(["--deadman", str(deadman)] if deadman else [])]
    with _process(name, argv) as channel:
        yield channel


@contextmanager
def remote(name: str, machine: MachineFile, base: Path) -> Iterator[Channel]:
    """An agent on a machine that labgrid reaches by ssh. base: where relative paths of the rack file start. Raises RackError."""
    driver = _reached(name, machine, base)
    place = f"/tmp/netc-agent-{time.time_ns():x}.py"
    service = driver.networkservice
    ssh = ["ssh", "-x", *driver.ssh_prefix, "-p", str(service.port), "-l", service.username, service.address]
    try:
        driver.put(str(AGENT), place)
        # the program is read before it is removed: nothing is left behind, whatever ends the connection
        with _process(name, [*ssh, f"exec {machine.python} -c 'import os;c=open(\"{place}\").read();os.unlink(\"{place}\");exec(compile(c,\"agent\",\"exec\"))'"]) as channel:
            yield channel
    finally:
        driver.target.cleanup()


@contextmanager
def _process(name: str, argv: list[str]) -> Iterator[Channel]:
    """The agent as a child of ours; it is given time to undo what is left once its stream has ended."""
    child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
    assert child.stdin and child.stdout
    channel = Channel(name, child.stdout, child.stdin, lambda: _ended(child))
    try:
        channel.ask("ping", 1, timeout=CONNECT_SECONDS)
        yield channel
    finally:
        channel.close()


def _ended(child: subprocess.Popen[bytes]) -> None:
    try:
        child.wait(120)
    except subprocess.TimeoutExpired:
        child.kill()  # its guard undoes the rest
        child.wait()


def _reached(name: str, machine: MachineFile, base: Path) -> Any:
    """labgrid's active SSHDriver; a machine that does not answer is power-cycled once, if the rack file says how. Raises RackError."""
    target = _target(name, machine, base)
    ssh = target.get_driver("SSHDriver", activate=False)
    try:
        target.activate(ssh)
        return ssh
    except Exception as error:  # noqa: BLE001 (labgrid raises bare Exceptions when a connection fails)
        if not machine.power and "NetworkPowerDriver" not in {type(driver).__name__ for driver in target.drivers}:
            raise RackError(f"{name}: no connection by ssh: {error}; the rack file's `power` would let it be restarted") from None
    _power_cycle(target, name)
    return _awaited(target, ssh, name)


def _target(name: str, machine: MachineFile, base: Path) -> Any:
    try:
        from labgrid import Environment, Target
    except ImportError:
        raise RackError("machines over ssh need labgrid: pip install 'netc[rack]'") from None
    if machine.labgrid:
        target = Environment(str(base / machine.labgrid.env)).get_target(machine.labgrid.target)
        if target is None:
            raise RackError(f"{name}: {machine.labgrid.env} has no target {machine.labgrid.target!r}")
        return target
    target = Target(name)
    assert machine.ssh
    _ssh_driver(target, machine.ssh, base)
    if machine.power:
        _power_driver(target, machine.power)
    return target


def _ssh_driver(target: Any, ssh: Ssh, base: Path) -> None:
    from labgrid.driver import SSHDriver
    from labgrid.resource import NetworkService

    NetworkService(target, "service", address=ssh.host, username=ssh.user, port=ssh.port)
    key = str(base / Path(ssh.keyfile).expanduser()) if ssh.keyfile else ""
    SSHDriver(target, "ssh", keyfile=key, connection_timeout=CONNECT_SECONDS)


def _power_driver(target: Any, power: Power) -> None:
    from labgrid.driver import NetworkPowerDriver
    from labgrid.resource import NetworkPowerPort

    NetworkPowerPort(target, "outlet", model=power.model, host=power.host, index=power.index)
    NetworkPowerDriver(target, "power")


def _power_cycle(target: Any, name: str) -> None:
    outlet = target.get_driver("PowerProtocol")
    try:
        outlet.cycle()
    except Exception as error:  # noqa: BLE001
        raise RackError(f"{name}: it does not answer, and its outlet cannot be switched: {error}") from None


def _awaited(target: Any, ssh: Any, name: str) -> Any:
    until = time.monotonic() + BOOT_SECONDS
    while True:
        try:
            target.activate(ssh)
            return ssh
        except Exception as error:  # noqa: BLE001
            if time.monotonic() > until:
                raise RackError(f"{name}: no connection within {BOOT_SECONDS:g} s after its power was cycled: {error}") from None
