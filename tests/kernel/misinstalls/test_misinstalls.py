"""An installation spoilt behind netc's back, in a hundred seeded ways and more: `netc verify` fails, and says of what.

After each case, and so before the next one, the same installation verifies clean: nothing is noticed that is not there.
"""

from __future__ import annotations

import zlib
from random import Random

import pytest

from tests.kernel.misinstalls import by_bpf, by_nft, by_settings, by_tc
from tests.kernel.misinstalls.site import Kind, Site

KINDS = (*by_bpf.KINDS, *by_nft.KINDS, *by_tc.KINDS, *by_settings.KINDS)
SEEDS = 2
CASES = [(kind, seed) for kind in KINDS for seed in range(SEEDS)]
PARAMETERS = [pytest.param(*case, marks=[pytest.mark.long] if case[1] else [], id=f"{case[0].name}-{case[1]}") for case in CASES]  # each kind in every run


def test_nothing_is_noticed_that_is_not_there(site: Site) -> None:
    assert site.verify() == (0, [])


def test_there_are_enough() -> None:
    assert len(CASES) >= 100 and len({kind.name for kind in KINDS}) == len(KINDS) >= 25


@pytest.mark.parametrize(("kind", "seed"), PARAMETERS)
def test_it_is_noticed(site: Site, kind: Kind, seed: int) -> None:
    undo = kind.act(site, Random(zlib.crc32(f"{kind.name} {seed}".encode())))
    status, broken = site.verify()
    mended = undo() if undo else site.apply()
    after = site.verify()
    if after != (0, []):
        site.restore()
    told = [f"{found['what']}: {found['detail']}" for found in broken if found["where"] == kind.where]
    assert status == 1 and any(kind.words in text for text in told), broken
    assert after == (0, []), mended
