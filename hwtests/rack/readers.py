"""Programs that read UDP flows, each on a CPU of its own: what RFS sends packets after. Standard library only, Python 3.9 or later.

`python3 readers.py ADDRESS PORT FAR FIRST COUNT CPUS READY`: flow n comes from FAR, port FIRST + n, and is read on CPU n % CPUS. The sockets are connected: of
others the kernel does not remember where they are read (__udp_queue_rcv_skb in net/ipv4/udp.c). READY is written once all listen; SIGTERM ends them, and
a JSON list is printed: how many packets were read on each CPU.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys


def main(address: str, port: int, far: str, first: int, count: int, cpus: int, ready: str) -> None:
    """A process for each CPU, until SIGTERM."""
    children = []
    for cpu in range(cpus):
        sockets = [_connected((address, port), (far, first + flow)) for flow in range(cpu, count, cpus)]
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.sched_setaffinity(0, {cpu})
            _read(sockets, writer)
        children.append((pid, reader))
    signal.signal(signal.SIGTERM, lambda *_: [os.kill(pid, signal.SIGTERM) for pid, _ in children])
    with open(ready, "w"):
        pass
    for pid, _ in children:
        os.waitpid(pid, 0)
    print(json.dumps([int(os.read(reader, 64)) for _, reader in children]))


def _connected(near: tuple[str, int], far: tuple[str, int]) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(near)
    made.connect(far)
    return made


def _read(sockets: list[socket.socket], writer: int) -> None:
    """Read all of them until SIGTERM; then say how many packets there were. Does not return."""
    reader, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, lambda *_: None)
    found, told = 0, False
    while not told:
        ready = select.select([reader, *sockets], [], [])[0]
        told = reader in ready
        for each in ready:
            if each is not reader:
                each.recv(2048)
                found += 1
    os.write(writer, str(found).encode())
    os._exit(0)


if __name__ == "__main__":
    words = sys.argv[1:]
    main(words[0], int(words[1]), words[2], *map(int, words[3:6]), words[6])
