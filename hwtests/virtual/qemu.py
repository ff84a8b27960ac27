"""The command line of the rack's QEMU: typed NICs, and a machine that is the same wherever it runs (no KVM: emulated, one thread).

One thread (`thread=single`) because two vCPU threads spin against each other on a loaded host: a boot of 7 s takes 24 s then.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hwtests.virtual.errors import RackError

Kind = Literal["igb", "virtio", "vmxnet3", "e1000e"]
MODULE = {"igb": "igb", "virtio": "virtio_net", "vmxnet3": "vmxnet3", "e1000e": "e1000e"}  # the guest's driver
_PREFIX = {"igb": "igb", "virtio": "virtio", "vmxnet3": "vmxnet", "e1000e": "e1000e"}  # of the device's name in the guest
_FIRST_SLOT = 0x4  # on the root bus; below are 9p, serial port and what q35 has


@dataclass(frozen=True)
class Nic:
    """One emulated NIC. queues: of virtio only, where more than one needs a tap (root); the others have what the model has.

    peerless igb or e1000e work too: each has a wire of its own.
    """

    kind: Kind
    queues: int = 1

    def __post_init__(self) -> None:
        if self.kind not in MODULE:
            raise RackError(f"{self.kind!r} is none of the rack's NICs: {', '.join(MODULE)}")
        if not 1 <= self.queues <= 16 or (self.queues > 1 and self.kind != "virtio"):
            raise RackError(f"{self.kind} with {self.queues} queues: virtio can be given 1 to 16, the queues of the others are the model's")


def names(nics: tuple[Nic, ...]) -> list[str]:
    """The devices' names in the guest: driver and number, in the order given: igb0, igb1, virtio0, vmxnet0, e1000e0."""
    return [f"{_PREFIX[nic.kind]}{sum(other.kind == nic.kind for other in nics[:index])}" for index, nic in enumerate(nics)]


def address(index: int) -> str:
    """The MAC address of the NIC at `index`: locally administered, the same at each boot."""
    return f"02:6e:74:63:00:{index:02x}"


def nic_arguments(index: int, nic: Nic, descriptors: list[int]) -> list[str]:
    """QEMU's arguments of one NIC. descriptors: one datagram socket, or a tap's, one a queue."""
    if nic.queues > 1:
        netdev = f"tap,id=net{index},fds={':'.join(map(str, descriptors))},vhost=off"
    else:
        netdev = f"dgram,id=net{index},local.type=fd,local.str={descriptors[0]}"
    common = f"id=nic{index},netdev=net{index},mac={address(index)},romfile="
    slot = _FIRST_SLOT + index
    if nic.kind == "igb":  # SR-IOV: it must have a bus of its own
        port = f"pcie-root-port,id=port{index},chassis={index + 1},addr=0x{slot:x},hotplug=off"
        return ["-netdev", netdev, "-device", port, "-device", f"igb,bus=port{index},{common}"]
    model = {"virtio": "virtio-net-pci", "vmxnet3": "vmxnet3", "e1000e": "e1000e"}[nic.kind]
    extra = f",mq=on,vectors={2 * nic.queues + 2},rss=on,hash=on,rx_queue_size=1024" if nic.queues > 1 else ""
    return ["-netdev", netdev, "-device", f"{model},addr=0x{slot:x},{common}{extra}"]


def machine_arguments(kernel: Path, initrd: int, memory: int, cpus: int) -> list[str]:
    """QEMU's arguments of the machine itself: memory in MiB, initrd a descriptor, the host's root as a read-only 9p file system."""
    command_line = ("console=ttyS0 loglevel=4 mitigations=off tsc=reliable no_timer_check panic=-1 oops=panic net.ifnames=0 8250.nr_uarts=1 "
                    "cryptomgr.notests rcupdate.rcu_expedited=1")  # fmt: skip
    share = kernel.parents[1] / "usr/share"  # beside the kernel: the unpacked packages
    return [
        "-M", "q35,hpet=off,vmport=off", "-accel", "tcg,thread=single,tb-size=512", "-cpu", "max", "-smp", str(cpus), "-m", str(memory),
        "-no-user-config", "-nodefaults", "-nic", "none", "-display", "none", "-no-reboot", "-L", f"{share}/qemu", "-L", f"{share}/seabios",
        "-kernel", str(kernel), "-initrd", f"/proc/self/fd/{initrd}", "-append", command_line,
        "-fsdev", "local,id=root,path=/,readonly=on,security_model=none,multidevs=remap", "-device", "virtio-9p-pci,fsdev=root,mount_tag=root,addr=0x2",
        "-device", "virtio-serial-pci,addr=0x3",
    ]  # fmt: skip


def agent_arguments(descriptor: int) -> list[str]:
    """The byte stream to the guest's agent."""
    return ["-chardev", f"socket,id=agent,fd={descriptor}", "-device", "virtserialport,chardev=agent,name=netc.agent"]


def monitor_arguments(descriptor: int) -> list[str]:
    """QMP, QEMU's own control."""
    return ["-chardev", f"socket,id=qmp,fd={descriptor}", "-mon", "chardev=qmp,mode=control"]
