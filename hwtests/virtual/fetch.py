"""Fetches what the virtual rack is made of into one cache directory: kernel, QEMU with igb, kmod, busybox, and netdevsim built from source.

Each step leaves a stamp that says what it was made of; a step whose stamp fits is not done again. Nothing is installed on the machine.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from hwtests.virtual import netdevsim
from hwtests.virtual.apt import Apt
from hwtests.virtual.errors import RackError, Unavailable

SERIES = "6.12"  # the long-term kernel that notes and tests were made with
RUNNING = ("qemu-system-x86", "qemu-system-data", "qemu-system-common", "seabios", "kmod", "busybox-static")
NEEDED = 2_000_000_000  # bytes: 300 MB of archives, 1.1 GB unpacked, and what apt's lists take
RECIPE = "1"  # part of each stamp: a cache of an older recipe is made again


class Rack(NamedTuple):
    """What was fetched: where it is, and what the machine starts from. root: the unpacked packages."""

    cache: Path
    release: str

    @property
    def root(self) -> Path:
        return self.cache / "root"

    @property
    def kernel(self) -> Path:
        return self.root / f"boot/vmlinuz-{self.release}"

    @property
    def modules(self) -> Path:
        return self.root / f"lib/modules/{self.release}"

    @property
    def qemu(self) -> Path:
        return self.root / "usr/bin/qemu-system-x86_64"

    @property
    def busybox(self) -> Path:
        return self.root / "bin/busybox"

    @property
    def libraries(self) -> str:
        """LD_LIBRARY_PATH for what runs from `root`."""
        return f"{self.root}/usr/lib/x86_64-linux-gnu:{self.root}/lib/x86_64-linux-gnu"


def default_cache() -> Path:
    """NETC_RACK_CACHE, else netc/rack in the user's cache directory."""
    chosen = os.environ.get("NETC_RACK_CACHE")
    return Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "netc/rack"


def fetched(cache: Path | None = None) -> Rack:
    """The rack as fetched before. Raises RackError where it was not, or not whole."""
    cache = (cache or default_cache()).resolve()
    stamp = cache / "stamps/whole"
    if not stamp.is_file() or not stamp.read_text().startswith(f"{RECIPE} "):
        raise RackError(f"the virtual rack is not fetched in {cache} yet: python3 -m hwtests.virtual fetch")
    return Rack(cache, stamp.read_text().split()[1])


def fetch(cache: Path | None = None, offline: bool = False, say: Callable[[str], None] = lambda text: None) -> Rack:
    """Fetch what is missing. offline: only look whether all is there. Raises RackError."""
    cache = (cache or default_cache()).resolve()
    if offline:
        return fetched(cache)
    try:
        return fetched(cache)
    except RackError:
        pass
    _refuse_what_cannot_work(cache)
    (cache / "stamps").mkdir(parents=True, exist_ok=True)
    apt = Apt(cache / "apt")
    say("updating the lists of packages")
    apt.update()
    release, version = choose_kernel(apt)
    rack = Rack(cache, release)
    names = kernel_packages(release, version)
    _step(rack, "root", f"{' '.join(names)} {' '.join(RUNNING)}", lambda: _unpack_all(rack, apt, names, say))
    _step(rack, "netdevsim", version, lambda: netdevsim.build(rack.root, release, say))
    _step(rack, "whole", release, lambda: None)
    shutil.rmtree(apt.archives)  # 300 MB that are unpacked now
    return rack


def choose_kernel(apt: Apt) -> tuple[str, str]:
    """(release, version of the package) of the newest stock kernel of the series that has its source beside it. Raises RackError."""
    series = re.escape(SERIES)
    source = [version for _, version in apt.versions(f"^linux-source-{series}$")]
    images = apt.versions(rf"^linux-image-{series}\.[0-9.]+[^-]*-amd64$")
    for version in source:
        for name, other in images:
            if other == version:
                return name.removeprefix("linux-image-"), version
    raise Unavailable(f"no kernel image of series {SERIES} has its linux-source of the same version in the suites that the machine's sources name "
                    f"(sources: {source[:3]}, images: {images[:3]})")  # fmt: skip


def kernel_packages(release: str, version: str) -> tuple[str, ...]:
    """What is needed of one kernel: image, source, and what modules are built with."""
    base = release.removesuffix("-amd64")
    names = (f"linux-image-{release}", f"linux-headers-{release}", f"linux-headers-{base}-common", f"linux-kbuild-{base}", f"linux-source-{SERIES}")
    return tuple(f"{name}={version}" for name in names)


def _refuse_what_cannot_work(cache: Path) -> None:
    if platform.machine() != "x86_64":
        raise Unavailable(f"the virtual rack's guest shares the machine's root and its kernel is for x86-64; this machine is {platform.machine()}")
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RackError(f"{cache}: {error.strerror}; NETC_RACK_CACHE or --cache names another directory") from None
    free = shutil.disk_usage(cache).free
    if free < NEEDED:
        raise Unavailable(f"{cache}: {free / 1e9:.1f} GB free, {NEEDED / 1e9:.0f} GB needed; NETC_RACK_CACHE or --cache names a directory on another disk")
    netdevsim.refuse_without_tools()


def _step(rack: Rack, name: str, made_of: str, work: Callable[[], None]) -> None:
    """Do one step unless its stamp says that it was done for the same; the stamp comes last, so that a step cut short is done again."""
    stamp, text = rack.cache / "stamps" / name, f"{RECIPE} {made_of}\n"
    if stamp.is_file() and stamp.read_text() == text:
        return
    stamp.unlink(missing_ok=True)
    try:
        work()
    except OSError as error:
        raise RackError(f"{name}: {error}") from None
    new = stamp.with_suffix(".new")
    new.write_text(text)
    new.replace(stamp)


def _unpack_all(rack: Rack, apt: Apt, names: tuple[str, ...], say: Callable[[str], None]) -> None:
    say(f"downloading kernel {rack.release} and QEMU")
    archives = [*apt.download(*names), *apt.download_for_running(RUNNING)]
    say(f"unpacking {len(archives)} packages")
    fresh = rack.cache / "root.new"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    for archive in archives:
        _unpack(archive, fresh)
    (fresh / "tools").mkdir()
    for name in ("modprobe", "depmod", "insmod", "rmmod", "lsmod", "modinfo"):  # the package's own links start at /
        (fresh / "tools" / name).symlink_to("../bin/kmod")
    shutil.rmtree(rack.root, ignore_errors=True)
    fresh.rename(rack.root)


def _unpack(archive: Path, root: Path) -> None:
    done = subprocess.run(["dpkg-deb", "-x", archive, root], check=False, capture_output=True, text=True)
    if done.returncode:
        raise RackError(f"{archive.name}: {done.stderr.strip()}")
