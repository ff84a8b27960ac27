"""The rack takes mirror and key from the machine's own sources, in both of apt's formats, and nothing of other parties."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwtests.virtual.apt import codename, sources
from hwtests.virtual.errors import RackError

DEB822 = """# the distribution
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQINBF
 -----END PGP PUBLIC KEY BLOCK-----

Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main
Enabled: no

Types: deb
URIs: https://other.example/tools
Suites: nodistro
Components: main
"""
ONE_LINE = """deb [arch=amd64 signed-by=/usr/share/keyrings/a.gpg] http://mirror.example/debian bookworm main contrib  # ours
deb http://mirror.example/security bookworm-security main
deb-src http://mirror.example/debian bookworm main
deb https://packages.example/apt cloud-sdk-bookworm main
"""


def written(tmp_path: Path, name: str, text: str) -> tuple[Path, ...]:
    parts = tmp_path / "parts"
    parts.mkdir()
    (parts / name).write_text(text)
    return tmp_path / "sources.list", parts


def test_deb822_keeps_mirror_and_key(tmp_path: Path) -> None:
    text = sources("bookworm", written(tmp_path, "debian.sources", DEB822))
    assert "Suites: bookworm bookworm-updates bookworm-backports\n" in text
    assert "Components: main\n" in text
    assert "Types: deb\n" in text
    assert "-----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQINBF\n" in text
    assert "off.example" not in text and "other.example" not in text


def test_one_line_entries_keep_mirror_and_key(tmp_path: Path) -> None:
    text = sources("bookworm", written(tmp_path, "debian.list", ONE_LINE))
    first, second = text.split("\n\n")
    assert first.splitlines()[:2] == ["URIs: http://mirror.example/debian", "Suites: bookworm bookworm-backports"]
    assert "Signed-By: /usr/share/keyrings/a.gpg" in first
    assert "Suites: bookworm-security\n" in second
    assert "packages.example" not in text


def test_no_entry_for_the_release_is_told(tmp_path: Path) -> None:
    with pytest.raises(RackError, match="names the suite 'trixie'"):
        sources("trixie", written(tmp_path, "debian.sources", DEB822))


def test_another_distribution_is_told(tmp_path: Path) -> None:
    release = tmp_path / "os-release"
    release.write_text("ID=fedora\nVERSION_CODENAME=forty\n")
    with pytest.raises(RackError, match="no Debian"):
        codename(release)
