"""Debian packages through apt with a state of its own: the machine's sources and packages stay as they are.

Mirror and key come from the machine's own sources; only the suite of backports is added beside the suites they name.
`Dir::State::status` stays the machine's, so that of QEMU's dependencies only what is missing is downloaded.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from hwtests.virtual.errors import RackError, Unavailable

_LISTS = Path("/etc/apt/sources.list"), Path("/etc/apt/sources.list.d")
_ONE_LINE = re.compile(r"^\s*deb\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+(?P<components>.+?)\s*(?:#.*)?$")
_PATIENCE = 600.0  # seconds for one call of apt-get: a download of 300 MB over a slow line


def codename(release: Path = Path("/etc/os-release")) -> str:
    """The distribution's codename. Raises RackError where this is no Debian."""
    text = release.read_text() if release.is_file() else ""
    found = re.search(r'^VERSION_CODENAME="?([a-z]+)"?$', text, re.MULTILINE)
    if not found or not re.search(r'^ID="?debian"?$', text, re.MULTILINE) or not shutil.which("apt-get"):
        raise Unavailable("the virtual rack is made of Debian's packages, and this is no Debian: fetch it on one (a container will do), "
                        "and copy the cache directory here")  # fmt: skip
    return found.group(1)


def sources(code: str, lists: tuple[Path, ...] = _LISTS) -> str:
    """The machine's own entries for its release, in deb822, with `<code>-backports` added beside the release itself.

    Entries of other parties are left out: nothing of theirs is needed. Raises RackError where no entry names the release.
    """
    entries = [entry for path in _files(lists) for entry in _entries(path)]
    wanted, has_release = [], False
    for entry in entries:
        suites = [suite for suite in entry["Suites"].split() if suite == code or suite.startswith(f"{code}-")]
        if not suites or "main" not in entry["Components"].split():
            continue
        if code in suites:
            has_release = True
            suites = [*(suite for suite in suites if suite != f"{code}-backports"), f"{code}-backports"]
        wanted.append({**entry, "Types": "deb", "Suites": " ".join(suites), "Components": "main"})
    if not has_release:
        raise Unavailable(f"no entry of {lists[0]} or {lists[1]} names the suite {code!r} with component main: add one, the rack takes mirror and key from there")
    return "\n".join("".join(f"{key}: {value}\n" for key, value in entry.items()) for entry in wanted)


def _files(lists: tuple[Path, ...]) -> list[Path]:
    found = []
    for place in lists:
        found += sorted([*place.glob("*.list"), *place.glob("*.sources")]) if place.is_dir() else [place] if place.is_file() else []
    return found


def _entries(path: Path) -> list[dict[str, str]]:
    """Entries of one file in the fields of deb822; those of type deb that are not disabled."""
    if path.suffix == ".sources":
        stanzas = [_fields(stanza) for stanza in re.split(r"\n[ \t]*\n", path.read_text())]
        return [fields for fields in stanzas if "deb" in fields.get("Types", "").split()
                and "Suites" in fields and "Components" in fields and fields.get("Enabled", "yes").lower() not in ("no", "false")]  # fmt: skip
    found = []
    for match in filter(None, map(_ONE_LINE.match, path.read_text().splitlines())):
        signed = re.search(r"signed-by=(\S+)", match["options"] or "", re.IGNORECASE)
        found.append({"URIs": match["uri"], "Suites": match["suite"], "Components": match["components"], **({"Signed-By": signed.group(1)} if signed else {})})
    return found


def _fields(stanza: str) -> dict[str, str]:
    """Fields of a stanza; a continued line (an inline key) stays with its field, comments go."""
    fields: dict[str, str] = {}
    last = ""
    for line in stanza.splitlines():
        if line.startswith("#"):
            continue
        if line[:1] in (" ", "\t") and last:
            fields[last] += f"\n{line}"
        elif ":" in line:
            last, value = line.split(":", 1)
            fields[last] = value.strip()
    return fields


class Apt:
    """apt with its own sources, lists and archives under `place`."""

    def __init__(self, place: Path) -> None:
        self._code = codename()
        self._place = place
        (place / "sources").mkdir(parents=True, exist_ok=True)
        for part in ("state/lists/partial", "cache/archives/partial"):
            (place / part).mkdir(parents=True, exist_ok=True)
        (place / "sources/rack.sources").write_text(sources(self._code))
        self.archives = place / "cache/archives"

    @property
    def backports(self) -> str:
        """The suite to name with -t."""
        return f"{self._code}-backports"

    def update(self) -> None:
        """Download the lists. Raises RackError."""
        self._run("apt-get", "-q", "update", "--error-on=any")

    def versions(self, names: str) -> list[tuple[str, str]]:
        """(package, version) of every package whose name matches the regular expression, newest first within a name."""
        found = sorted({line.split()[0] for line in self._run("apt-cache", "search", "--names-only", names).splitlines()})
        rows = [line.split("|") for line in self._run("apt-cache", "madison", *found).splitlines()] if found else []
        return list(dict.fromkeys((row[0].strip(), row[1].strip()) for row in rows if len(row) == 3))

    def download(self, *packages: str) -> list[Path]:
        """The archives of these packages (`name` or `name=version`) alone, without what they depend on. Raises RackError."""
        self._run("apt-get", "-q", "download", *packages, cwd=self.archives)
        return [self._archive(package) for package in packages]

    def download_for_running(self, packages: tuple[str, ...]) -> list[Path]:
        """Archives of these packages and of all they depend on that the machine does not have, so that they run unpacked. Raises RackError."""
        wanted = ("-q", "-y", "--no-install-recommends", "--reinstall", "-t", self.backports, "install", *packages)
        plan = self._run("apt-get", "-s", *wanted)
        names = re.findall(r"^Inst (\S+)(?: \[[^\]]*\])? \((\S+)", plan, re.MULTILINE)
        return self.download(*(f"{name}={version}" for name, version in names))

    def _archive(self, package: str) -> Path:
        name, _, version = package.partition("=")
        found = list(self.archives.glob(f"{name.partition(':')[0]}_{version.replace(':', '%3a') or '*'}_*.deb"))
        if not found:
            raise RackError(f"apt-get download said nothing and left no archive of {package} in {self.archives}")
        return max(found, key=lambda path: path.stat().st_mtime)

    def _run(self, program: str, *arguments: str, cwd: Path | None = None) -> str:
        options = {"Dir::State": f"{self._place}/state", "Dir::State::status": "/var/lib/dpkg/status", "Dir::Cache": f"{self._place}/cache",
                   "Dir::Etc::sourcelist": "/dev/null", "Dir::Etc::sourceparts": f"{self._place}/sources", "Debug::NoLocking": "1",
                   "Acquire::Retries": "3", "APT::Sandbox::User": ""}  # fmt: skip
        command = [program, *(part for key, value in options.items() for part in ("-o", f"{key}={value}")), *arguments]
        try:
            done = subprocess.run(command, cwd=cwd, check=False, capture_output=True, text=True, timeout=_PATIENCE, env={**os.environ, "LC_ALL": "C"})
        except subprocess.TimeoutExpired:
            raise Unavailable(f"{program} {' '.join(arguments)}: not done within {_PATIENCE:g} s; try again, what was downloaded stays") from None
        if done.returncode:
            said = done.stdout + done.stderr
            kind = Unavailable if _is_elsewhere(said) else RackError
            raise kind(f"{program} {' '.join(arguments)}: {_complaint(said)}")
        return done.stdout


def _is_elsewhere(text: str) -> bool:
    """Does apt say that it does not reach the mirror, or that the mirror lacks what is asked for?"""
    return any(words in text for words in ("Could not resolve", "failure resolving", "Could not connect", "Unable to connect", "unreachable", "Connection timed out", "does not have a Release file", "404  Not Found"))


def _complaint(text: str) -> str:
    """The lines with which apt says why, and the mend for the two usual ones."""
    lines = [line for line in text.splitlines() if line.startswith(("E:", "W:", "Err:"))] or text.splitlines()[-3:]
    why = " ".join(lines)
    if _is_elsewhere(why):
        why += " (no network: with --offline what was fetched before is used)"
    elif "No space left" in why or "enough free space" in why:
        why += " (NETC_RACK_CACHE or --cache names a directory on another disk)"
    return why
