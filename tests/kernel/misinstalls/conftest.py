"""One host for every case: made and spoilt again and again, since making it takes longer than a case."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from compiler import bundle as bundles
from compiler import pipeline, profile
from compiler.source import Sources
from runtime.lab import netns as namespaces
from tests.kernel.apply import hosts
from tests.kernel.misinstalls.site import POLICY, Site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Site]:
    """The policy is installed, nobody has touched it."""
    import secrets

    directory, made = tmp_path_factory.mktemp("site"), []

    def make() -> str:
        name = f"nt{secrets.token_hex(4)}m{len(made)}"
        namespaces.create(name)
        made.append(name)
        return name

    try:
        with hosts.host(make, directory) as host:
            yield installed(host)
    finally:
        for name in made:
            namespaces.delete(name)


def installed(host: hosts.Host) -> Site:
    policy = host.directory / "p.netc"
    policy.write_text(POLICY)
    veth = profile.load(hosts.ROOT / "compiler/profiles/veth.yaml")
    site = Site(host, host.write(bundles.encode(pipeline.compile_policy(policy, veth, Sources()).bundle)))
    site.run("ip link add lan0 type veth peer name lan0p")
    for device in ("lan0", "lan0p"):
        site.run(f"ip link set {device} up")
    site.run("ethtool -K lan0p gro on")  # or lan0 does not send what XDP redirects to it
    site.peer("ethtool -K wan0p tx-vlan-hw-insert off tx-vlan-stag-hw-insert off")
    site.peer("ethtool -L wan0p rx 2 tx 2")
    assert site.apply()
    return site
