"""What the probe concludes from the kernel's release alone."""

from __future__ import annotations

import pytest

from runtime.probe.xdp import keeps_metadata


@pytest.mark.parametrize(("release", "keeps"), [
    ("6.12.117+deb12-amd64", True), ("6.12.130-cloud", True), ("6.12.43+deb12-amd64", False), ("6.12-rc1", False), ("6.15.9", False),
    ("6.16.0-1-generic", True), ("6.18.44-fc-v657", True), ("7.0", True), ("5.15.200", False), ("6.1.0-56-amd64", False),
])  # fmt: skip
def test_which_kernels_keep_metadata_over_a_redirect_to_a_cpu(release: str, keeps: bool) -> None:
    assert keeps_metadata(release) is keeps
