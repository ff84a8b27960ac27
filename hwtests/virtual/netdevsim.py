"""Builds netdevsim for the rack's kernel: the kernel's simulated NIC, which no Debian kernel has.

Its source comes from linux-source of the same version as the kernel, so that it fits; ptp_mock, which it uses, is built beside it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

from hwtests.virtual.errors import RackError, Unavailable

_PARTS = ("drivers/net/netdevsim/", "drivers/ptp/ptp_mock.c")
_FLAGS = "-DCONFIG_PTP_1588_CLOCK_MOCK_MODULE=1"
_TOOLS = {"make": "make", "x86_64-linux-gnu-gcc-12": "gcc-12", "x86_64-linux-gnu-objcopy": "binutils"}  # the compiler that the kernel was built with
_EXTRA = "obj-m += ptp_mock.o\n"


def refuse_without_tools() -> None:
    """Raises RackError where there is no compiler for a module, naming the packages."""
    missing = [package for program, package in _TOOLS.items() if not shutil.which(program)]
    if missing:
        raise Unavailable(f"netdevsim is built from source, and these packages are missing: apt-get install --no-install-recommends {' '.join(missing)}")


def build(root: Path, release: str, say: Callable[[str], None]) -> None:
    """netdevsim.ko and ptp_mock.ko into the modules of `release` under `root`, and the index of modules over all. Raises RackError."""
    say("building netdevsim")
    place = root / "build/netdevsim"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    _take_source(root, place)
    headers = root / f"usr/src/linux-headers-{release}"
    _point_into(root, headers)
    (place / "Makefile").write_text(_makefile(place / "Makefile"))
    options = (f"M={place}", "CONFIG_NETDEVSIM=m", "CONFIG_DEBUG_INFO_BTF_MODULES=", f"KCFLAGS={_FLAGS}")  # BTF of modules would need pahole
    _run(["make", "-s", "-C", str(headers), *options, "modules"], "build netdevsim")
    extra = root / f"lib/modules/{release}/extra"
    extra.mkdir(exist_ok=True)
    for module in ("netdevsim", "ptp_mock"):
        _run(["x86_64-linux-gnu-objcopy", "--strip-debug", str(place / f"{module}.ko"), str(extra / f"{module}.ko")], f"strip {module}.ko")
    say("indexing the kernel's modules")
    _run([str(root / "tools/depmod"), "-b", str(root), release], "index the modules")
    for path in (place, *(root / "usr/src").glob("linux-source-*")):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _take_source(root: Path, place: Path) -> None:
    """Only netdevsim's own files out of the 150 MB archive; reading it through takes 8 s."""
    archive = next((root / "usr/src").glob("linux-source-*.tar.xz"))
    with tarfile.open(archive) as tar:
        for member in tar:
            inside = member.name.partition("/")[2]
            if inside.startswith(_PARTS) and member.isfile() and (source := tar.extractfile(member)):
                (place / Path(inside).name).write_bytes(source.read())
    if not (place / "netdev.c").is_file() or not (place / "ptp_mock.c").is_file():
        raise RackError(f"{archive.name} has no netdevsim or no ptp_mock where they used to be: {', '.join(_PARTS)}")


def _makefile(path: Path) -> str:
    """netdevsim's own Makefile, with what it takes from the kernel's configuration as modules of this build."""
    return re.sub(r"^obj-\$\(CONFIG_NETDEVSIM\)", "obj-m", path.read_text(), flags=re.MULTILINE) + _EXTRA


def _point_into(root: Path, headers: Path) -> None:
    """The headers' Makefile names its common part by the path it is installed at; here it is unpacked elsewhere."""
    makefile = headers / "Makefile"
    makefile.write_text(re.sub(r"include (?:/\S*)?/usr/src/", f"include {root}/usr/src/", makefile.read_text()))


def _run(command: list[str], what: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RackError(f"{what}: {' '.join(command)}: {(done.stdout + done.stderr).strip()[-1500:]}")
