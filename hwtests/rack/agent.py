"""The one program of netc that runs on a rack's machines: device under test, peer, generator. Standard library only, Python 3.9 or later.

A controller starts it (`python3 agent.py`: in a namespace, in a virtual machine, over ssh) and speaks JSON lines over stdin and stdout. A
request names one verb, and each answer carries its request's id; requests run side by side, each in a thread of its own:

    {"id": 1, "run": ["ip", "link"], "netns": "dut", "timeout": 20}  ->  {"id": 1, "code": 0, "out": "...", "err": ""}
    {"id": 2, "undo": ["ip", "link", "set", "nic1", "mtu", "1500"]}  ->  {"id": 2, "undo": 1}
    {"id": 3, "unwind": 1}                                           ->  {"id": 3, "undone": [...]}

Verbs are the keys of VERBS; what one cannot do is {"id": ..., "error": "why"}. The undo stack is the dead man's timer: it is kept here and by
a second process, and unwound when the stream ends, when nothing was heard for --deadman seconds, or when this process is killed. So a controller that
dies, or a management line that this very test cut, gives the NIC back as it was.
"""

from __future__ import annotations

import argparse
import base64
import ctypes
import json
import os
import platform
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

VERSION = 1
DEADMAN = 120.0  # seconds; a controller pings much more often
TIMEOUT = 30.0  # seconds: the deadline of a command that names none
UNDO_TIMEOUT = 60.0
_CLONE_NEWNET, _PR_SET_PDEATHSIG = 0x40000000, 1
_SO_RCVBUFFORCE, _SO_SNDBUFFORCE, _SOL_PACKET, _PACKET_STATISTICS = 33, 32, 263, 6
_PACKET_AUXDATA, _PACKET_IGNORE_OUTGOING, _PACKET_FANOUT = 8, 23, 18
_FANOUT = {"cpu": 2, "queue": 5}  # PACKET_FANOUT_CPU, PACKET_FANOUT_QM
_AUXDATA = struct.Struct("=IIIHHHH")  # struct tpacket_auxdata
_TP_STATUS_VLAN_VALID, _TP_STATUS_VLAN_TPID_VALID = 0x10, 0x40
_BATCH = 64  # frames between two looks at the clock
_libc = ctypes.CDLL(None, use_errno=True)


class Refused(Exception):
    """A request that cannot be done. The text is the answer's error."""


def enter(netns: str | None) -> None:
    """This thread into a named network namespace (setns(2) is a thread's own); None stays. Raises Refused."""
    if netns is None:
        return
    if "/" in netns or netns in ("", ".", ".."):
        raise Refused(f"{netns!r} is no name of a network namespace")
    try:
        fd = os.open(f"/run/netns/{netns}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise Refused(f"network namespace {netns}: {error.strerror}") from None
    try:
        if _libc.setns(fd, _CLONE_NEWNET) != 0:
            raise Refused(f"enter network namespace {netns}: {os.strerror(ctypes.get_errno())}")
    finally:
        os.close(fd)


class Commands:
    """Commands that run, each in a process group of its own, so that its children end with it."""

    def __init__(self) -> None:
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._closed = False
        self._lock = threading.Lock()

    def start(self, argv: list[str], env: dict[str, str] | None = None, cwd: str | None = None) -> subprocess.Popen[bytes]:
        """Start a command. Raises Refused when there is no such program, or when all is ending."""
        with self._lock:
            if self._closed:
                raise Refused("the agent is ending")
            try:
                child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=cwd,
                                         env={**os.environ, **(env or {})}, start_new_session=True)  # fmt: skip
            except (OSError, ValueError) as error:
                raise Refused(f"{argv[0] if argv else 'nothing'}: {getattr(error, 'strerror', None) or error}") from None
            self._running[child.pid] = child
            return child

    def finish(self, child: subprocess.Popen[bytes], stdin: str | None, timeout: float) -> dict[str, object]:
        """Wait for a command; past its deadline it is killed. Raises Refused then, with what it had said."""
        try:
            out, err = child.communicate(None if stdin is None else stdin.encode(errors="surrogateescape"), timeout)
        except subprocess.TimeoutExpired:
            _kill(child)
            out, err = child.communicate()
            raise Refused(f"not done within {timeout:g} s and killed: {_text(out + err)[-2000:]}") from None
        finally:
            with self._lock:
                self._running.pop(child.pid, None)
        return {"code": child.returncode, "out": _text(out), "err": _text(err)}

    def end(self) -> None:
        """Kill all of them; none can be started afterwards."""
        with self._lock:
            self._closed = True
            for child in self._running.values():
                _kill(child)


def _kill(child: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _text(data: bytes) -> str:
    return data.decode(errors="surrogateescape")


def undo_now(entry: dict[str, object]) -> dict[str, object]:
    """Run one undo entry: {"argv", "netns", "warm"}; the answer tells whether it worked. Never raises: the ones below it must run too.

    warm: {"path", "line"} of who does the same without a start of its own (hwtests/rack/warm.py); where nobody answers there, argv is run.
    """
    done: dict[str, object] = {"argv": entry["argv"], "code": -1, "err": ""}

    def work() -> None:
        warm = entry.get("warm")
        if warm:
            try:
                done.update(relayed(warm["path"], warm["line"], UNDO_TIMEOUT))  # type: ignore[index]
                return
            except (OSError, ValueError):
                pass
        commands = Commands()
        try:
            enter(entry.get("netns"))  # type: ignore[arg-type]
            done.update(commands.finish(commands.start(entry["argv"]), None, UNDO_TIMEOUT))  # type: ignore[arg-type]
        except Refused as refusal:
            done["err"] = str(refusal)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return done


def relayed(path: str, line: object, timeout: float) -> dict[str, object]:
    """One JSON line to a Unix socket of this machine, and the line that it answers. Raises OSError, ValueError: nobody there, or no answer."""
    with socket.socket(socket.AF_UNIX) as there:
        there.settimeout(timeout)
        there.connect(path)
        with there.makefile("rwb") as stream:
            stream.write(json.dumps(line).encode() + b"\n")
            stream.flush()
            return dict(json.loads(stream.readline()))


class UndoStack:
    """What has to be done, in reverse, to have the machine as it was. Each entry is also with the guard, who outlives this process."""

    def __init__(self) -> None:
        self._entries: list[dict[str, object]] = []
        self._next = 1
        self._lock = threading.RLock()
        self._guard = _guard()

    def push(self, argv: list[str], netns: str | None, warm: dict[str, object] | None = None) -> int:
        """Register what undoes a change, BEFORE the change is made. The number is for unwind and release."""
        with self._lock:
            entry = {"number": self._next, "argv": argv, "netns": netns, "warm": warm}
            self._tell({"push": entry})
            self._entries.append(entry)
            self._next += 1
            return self._next - 1

    def release(self, number: int) -> None:
        """The change is gone already: nothing to undo. Raises Refused for a number that is not there."""
        with self._lock:
            kept = [entry for entry in self._entries if entry["number"] != number]
            if len(kept) == len(self._entries):
                raise Refused(f"there is no undo {number}")
            self._entries = kept
            self._tell({"release": number})

    def unwind(self, number: int) -> list[dict[str, object]]:
        """Undo all from `number` on, last first; every one is run, whatever became of the others."""
        with self._lock:
            done = []
            while self._entries and int(self._entries[-1]["number"]) >= number:  # type: ignore[call-overload]
                entry = self._entries[-1]
                done.append(undo_now(entry))
                self.release(entry["number"])  # type: ignore[arg-type]
            return done

    def _tell(self, message: dict[str, object]) -> None:
        try:
            os.write(self._guard, json.dumps(message).encode() + b"\n")
        except OSError as error:
            raise Refused(f"the process that keeps the undo stack is gone: {error.strerror}") from None


def _guard() -> int:
    """Fork the process that keeps the stack, in a session of its own; a pipe to it. It acts when the pipe ends, however this process ended."""
    ours, theirs = os.pipe()
    if os.fork():
        os.close(ours)
        return theirs
    os.close(theirs)
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    quiet = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):  # the controller's stream must end with the agent, not with this process
        os.dup2(quiet, stream)
    entries: dict[int, dict[str, object]] = {}
    with os.fdopen(ours, "rb") as told:
        for line in told:
            message = json.loads(line)
            if "push" in message:
                entries[message["push"]["number"]] = message["push"]
            else:
                entries.pop(message["release"], None)
    for number in sorted(entries, reverse=True):
        undo_now(entries[number])
    os._exit(0)


class Listener:
    """Frames that arrive on a device, as they were on the wire: a VLAN tag that the NIC took off is put back.

    With `by`, `ways` sockets share them: by the CPU that handed a frame to the stack (way = CPU), or by the receive queue that the driver
    recorded (way = queue + 1; 0: none recorded). That is the same on every driver (PACKET_FANOUT_CPU and _QM, packet(7)).
    """

    def __init__(self, device: str, snap: int, most: int, by: str = "", ways: int = 1) -> None:
        """snap: bytes kept of each frame (0: all); most: frames kept. Raises Refused."""
        if by and by not in _FANOUT or not 1 <= ways <= 256:
            raise Refused(f"frames are spread by {' or '.join(_FANOUT)} over 1 to 256 ways")
        self._snap, self._most = snap, most
        self.frames: list[tuple[float, int, bytes, int]] = []
        self.seen = 0
        self._sockets = [self._socket(device, by) for _ in range(ways)]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _socket(self, device: str, by: str) -> socket.socket:
        made = _packet_socket(device, 3)  # ETH_P_ALL
        made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 64 << 20)
        made.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
        made.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        if by:
            made.setsockopt(_SOL_PACKET, _PACKET_FANOUT, id(self) >> 4 & 0xFFFF | _FANOUT[by] << 16)
        return made

    def _read(self) -> None:
        poll = select.poll()
        ways = {made.fileno(): way for way, made in enumerate(self._sockets)}
        for fd in ways:
            poll.register(fd, select.POLLIN)
        while True:
            ready = poll.poll(20)
            for fd, _ in ready:
                self._take(ways[fd])
            if not ready and self._stop.is_set():  # only once nothing waits any more
                return

    def _take(self, way: int) -> None:
        try:
            data, ancillary, _, _ = self._sockets[way].recvmsg(1 << 16, 64)
        except OSError:  # the device went down: it may come up again
            return
        self.seen += 1
        if len(self.frames) < self._most:
            frame = _tagged(data, ancillary)
            self.frames.append((time.time(), len(frame), frame[: self._snap] if self._snap else frame, way))

    def stop(self) -> dict[str, object]:
        """End, and what was received; `lost`: what these sockets had no room for."""
        self._stop.set()
        self._thread.join()
        lost = 0
        for made in self._sockets:
            lost += struct.unpack("=II", made.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))[1]
            made.close()
        frames = [[when, length, base64.b64encode(data).decode(), way] for when, length, data, way in self.frames]
        return {"frames": frames, "seen": self.seen, "lost": lost}


def _tagged(data: bytes, ancillary: list[tuple[int, int, bytes]]) -> bytes:
    for level, kind, content in ancillary:
        if (level, kind) == (_SOL_PACKET, _PACKET_AUXDATA) and len(content) >= _AUXDATA.size:
            status, _, _, _, _, tci, tpid = _AUXDATA.unpack(content[: _AUXDATA.size])
            if status & _TP_STATUS_VLAN_VALID:
                ether = tpid if status & _TP_STATUS_VLAN_TPID_VALID else 0x8100
                return data[:12] + struct.pack("!HH", ether, tci) + data[12:]
    return data


def _packet_socket(device: str, protocol: int) -> socket.socket:
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    try:
        made.bind((device, protocol))
    except OSError as error:
        made.close()
        raise Refused(f"{device}: {error.strerror}") from None
    return made


def transmit(device: str, frames: list[bytes], count: int, rate: float) -> dict[str, object]:
    """Send the frames in order, the whole list `count` times, at `rate` frames a second (0: as fast as it goes). Raises Refused."""
    if not frames or count < 1:
        raise Refused("nothing to send")
    with _packet_socket(device, 0) as raw:
        raw.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, 16 << 20)
        began, sent = time.monotonic(), 0
        batch = min(_BATCH, max(1, round(rate / 1000))) if rate else _BATCH
        for _ in range(count):
            for frame in frames:
                _put(raw, frame, device, sent)
                sent += 1
                if rate and sent % batch == 0:
                    time.sleep(max(0.0, began + sent / rate - time.monotonic()))
        return {"sent": sent, "seconds": time.monotonic() - began}


def _put(raw: socket.socket, frame: bytes, device: str, sent: int) -> None:
    """One frame; a full transmit queue is waited for, for at most 5 s."""
    until = time.monotonic() + 5
    while True:
        try:
            raw.send(frame)
            return
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno != 105 or time.monotonic() > until:  # ENOBUFS
                raise Refused(f"{device}: after {sent} frames: {error.strerror}") from None
        time.sleep(0.001)


class Agent:
    """The verbs, by their requests. Each takes the request and gives the answer."""

    def __init__(self) -> None:
        self.commands, self.stack = Commands(), UndoStack()
        self._handles: dict[int, object] = {}
        self._next = 1
        self._lock = threading.Lock()

    def ping(self, _: dict) -> dict:
        return {"agent": VERSION, "kernel": platform.release(), "python": platform.python_version(), "machine": platform.machine(),
                "uid": os.geteuid(), "cpus": os.cpu_count(), "node": platform.node(), "time": time.time()}  # fmt: skip

    def run(self, request: dict) -> dict:
        child = self.commands.start(_words(request["run"]), request.get("env"), request.get("cwd"))
        return self.commands.finish(child, request.get("stdin"), float(request.get("timeout", TIMEOUT)))

    def start(self, request: dict) -> dict:
        return {"handle": self._keep(self.commands.start(_words(request["start"]), request.get("env"), request.get("cwd")))}

    def finish(self, request: dict) -> dict:
        """Wait for what `start` began, or tell it to end with `signal`."""
        child = self._taken(request["finish"], subprocess.Popen)
        if request.get("signal"):
            child.send_signal(int(request["signal"]))
        return self.commands.finish(child, request.get("stdin"), float(request.get("timeout", TIMEOUT)))

    def send(self, request: dict) -> dict:
        frames = [base64.b64decode(frame) for frame in request["frames"]]
        return transmit(request["send"], frames, int(request.get("count", 1)), float(request.get("rate", 0)))

    def listen(self, request: dict) -> dict:
        by, ways = request.get("by", ""), int(request.get("ways", 1))
        listener = Listener(request["listen"], int(request.get("snap", 0)), int(request.get("most", 100_000)), by, ways)
        return {"handle": self._keep(listener)}

    def heard(self, request: dict) -> dict:
        """How many frames a listener has seen so far; it goes on."""
        return {"seen": self._kept(request["heard"], Listener).seen}

    def stop(self, request: dict) -> dict:
        return self._taken(request["stop"], Listener).stop()

    def relay(self, request: dict) -> dict:
        """One line to a Unix socket of this machine, and the line that it answers."""
        return {"line": relayed(request["relay"], request["line"], float(request.get("timeout", TIMEOUT)))}

    def put(self, request: dict) -> dict:
        """A file, whole or not at all."""
        path = request["put"]
        beside = f"{path}.{os.getpid()}.tmp"
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, int(request.get("mode", 0o644))), "wb") as file:
            file.write(base64.b64decode(request["data"]))
        os.replace(beside, path)
        return {}

    def get(self, request: dict) -> dict:
        with open(request["get"], "rb") as file:
            return {"data": base64.b64encode(file.read()).decode()}

    def undo(self, request: dict) -> dict:
        return {"undo": self.stack.push(_words(request["undo"]), request.get("netns"), request.get("warm"))}

    def release(self, request: dict) -> dict:
        self.stack.release(int(request["release"]))
        return {}

    def unwind(self, request: dict) -> dict:
        return {"undone": self.stack.unwind(int(request["unwind"]))}

    def answer(self, request: dict) -> dict:
        """Do one request in this thread. Never raises."""
        found = [verb for verb in VERBS if verb in request]
        try:
            if len(found) != 1:
                raise Refused(f"a request has one verb of {', '.join(VERBS)}; this one has {', '.join(found) or 'none'}")
            if found[0] != "undo":  # an undo's namespace is entered when it is undone
                enter(request.get("netns"))
            return VERBS[found[0]](self, request)
        except Refused as refusal:
            return {"error": str(refusal)}
        except OSError as error:
            return {"error": f"{found[0]}: {error.filename or ''} {error.strerror or error}"}
        except (ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
            return {"error": f"{'/'.join(found)}: {type(error).__name__}: {error}"}

    def end(self) -> None:
        """Kill what runs, undo what was changed."""
        self.commands.end()
        self.stack.unwind(0)

    def _keep(self, thing: object) -> int:
        with self._lock:
            self._handles[self._next] = thing
            self._next += 1
            return self._next - 1

    def _kept(self, handle: int, kind: type) -> object:
        thing = self._handles.get(handle)
        if not isinstance(thing, kind):
            raise Refused(f"there is no {kind.__name__.lower()} {handle}")
        return thing

    def _taken(self, handle: int, kind: type) -> object:
        thing = self._kept(handle, kind)
        del self._handles[handle]
        return thing


VERBS = {name: getattr(Agent, name) for name in (
    "ping", "run", "start", "finish", "send", "listen", "heard", "stop", "relay", "put", "get", "undo", "release", "unwind")}  # fmt: skip


def _words(argv: object) -> list[str]:
    if not isinstance(argv, list) or not argv or not all(isinstance(word, str) for word in argv):
        raise Refused("a command is a list of at least one string")
    return argv


def serve(reader: int, writer: int, deadman: float) -> str:
    """Answer requests until the stream ends or nothing was heard for `deadman` seconds; then give everything back. Why it ended."""
    agent, lock = Agent(), threading.Lock()

    def reply(request: dict) -> None:
        line = json.dumps({"id": request.get("id"), **agent.answer(request)}).encode() + b"\n"
        with lock:
            _write_all(writer, line)

    why = "the stream ended"
    try:
        for line in _lines(reader, deadman):
            try:
                request = dict(json.loads(line))
            except (ValueError, TypeError):
                request = {}  # answered as a request without a verb
            threading.Thread(target=reply, args=(request,), daemon=True).start()
    except TimeoutError:
        why = f"nothing was heard for {deadman:g} s"
    except _Told as signalled:
        why = str(signalled)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    agent.end()
    return why


class _Told(BaseException):
    """A signal that ends the agent."""


def _told(number: int, _: object) -> None:
    raise _Told(signal.Signals(number).name)


def _lines(reader: int, deadman: float):
    """Whole lines of the stream. Raises TimeoutError when none comes for `deadman` seconds."""
    poll = select.poll()
    poll.register(reader, select.POLLIN | select.POLLHUP)
    rest: list[bytes] = []
    while True:
        if not poll.poll(deadman * 1000):
            raise TimeoutError
        data = os.read(reader, 1 << 20)
        if not data:
            return
        *whole, last = data.split(b"\n")
        for part in whole:
            yield b"".join(rest) + part
            rest = []
        if last:
            rest.append(last)


def _write_all(writer: int, data: bytes) -> None:
    try:
        while data:
            data = data[os.write(writer, data) :]
    except OSError:  # nobody reads any more: the reader's end will be seen
        pass


def main() -> None:
    """Serve stdin and stdout; stderr says why it ended."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--deadman", type=float, default=DEADMAN, help="seconds without a word after which everything is undone")
    chosen = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _told)
    print(f"agent: {serve(0, 1, chosen.deadman)}", file=sys.stderr)
    sys.stderr.flush()
    os._exit(0)  # threads of requests that nobody waits for end here


if __name__ == "__main__":
    main()
