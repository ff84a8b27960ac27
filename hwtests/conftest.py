"""`pytest hwtests --rack lab|virtual|FILE`: every test on every port of the rack, what it changed undone, what it leaked a failure.

Options, fixtures and results; what they are made of is in hwtests/rack.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hwtests.rack import file as rack_files
from hwtests.rack import requires, results, snapshot
from hwtests.rack.errors import RackError, RackFileError
from hwtests.rack.installed import Installed
from hwtests.rack.port import Port
from hwtests.rack.rack import Rack, opened

_HERE = Path(__file__).parent
RACK = pytest.StashKey[tuple[rack_files.RackFile, Path]]()
RESULTS = pytest.StashKey[results.Results]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("racks", "tests of netc on NICs")
    group.addoption("--rack", default=None, metavar="lab|virtual|FILE", help="where to run hwtests: hwtests/racks/NAME.yaml or a file (NETIF…, else lab)")
    group.addoption("--port", action="append", default=[], metavar="NAME", help="only this port of the rack; may be repeated")
    group.addoption("--results", type=Path, default=None, metavar="DIR", help="write DIR/results.jsonl, one line a test, for `netc rack report`")
    group.addoption("--ktap", type=Path, default=None, metavar="FILE", help="write results as KTAP, the kernel's test format")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "requires(*needs): what the probed profile must have, as rss.contexts>=2")
    config.addinivalue_line("markers", "quirk(reason): expected to fail on this port, as its rack file says")
    try:
        config.stash[RACK] = _chosen(config)
    except RackFileError as error:
        raise pytest.UsageError(str(error)) from None
    if not hasattr(config, "workerinput"):
        file = config.stash[RACK][0]
        config.stash[RESULTS] = results.Results(config.getoption("results"), config.getoption("ktap"), file.name, file.ports)


def _chosen(config: pytest.Config) -> tuple[rack_files.RackFile, Path]:
    """The rack and where its relative paths start: --rack, else the kernel's names in the environment, else the lab."""
    named = config.getoption("rack")
    from_names = None if named else rack_files.from_environment(dict(os.environ))
    if from_names:
        return from_names, Path.cwd()
    path = rack_files.named(named or "lab")
    return rack_files.load(path), path.parent


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that asks for `port` runs once on each port of the rack."""
    if "port" in metafunc.fixturenames:
        file, _ = metafunc.config.stash[RACK]
        wanted = metafunc.config.getoption("port") or [name for name, port in file.ports.items() if not port.aside]
        if unknown := set(wanted) - set(file.ports):
            raise pytest.UsageError(f"rack {file.name} has no port {', '.join(sorted(unknown))}; it has {', '.join(file.ports)}")
        metafunc.parametrize("port", wanted, indirect=True, scope="session")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without root there is no lab and no virtual machine; the skip is counted, with its reason."""
    if os.geteuid() != 0:
        for item in items:
            if _HERE in item.path.parents and "port" in getattr(item, "fixturenames", ()):
                item.add_marker(pytest.mark.skip(reason="needs root on the machine under test: network namespaces and bpf(2)"))


@pytest.fixture(scope="session")
def rack(pytestconfig: pytest.Config) -> Iterator[Rack]:
    """The rack, opened once a run (and worker)."""
    file, base = pytestconfig.stash[RACK]
    try:
        with opened(file, base) as made:
            yield made
    except RackError as error:
        pytest.exit(f"rack {file.name}: {error}", returncode=3)


@pytest.fixture(scope="session")
def port(request: pytest.FixtureRequest, rack: Rack) -> Port:
    """The port that a test runs on, probed."""
    found = rack.ports[request.param]
    assert found.profile
    return found


@pytest.fixture(autouse=True)
def _on_port(request: pytest.FixtureRequest) -> Iterator[None]:
    """Skip what the port lacks, expect what it is known to fail, undo all changes, and fail for what leaked or could not be undone."""
    if "port" not in request.fixturenames:
        yield
        return
    found: Port = request.getfixturevalue("port")
    _identified(request, found)
    for marker in request.node.iter_markers("requires"):
        if reason := requires.lacking(found.profile, marker.args):
            pytest.skip(reason)
    if quirk := found.known(*results.named(request.node.nodeid, found.name)):
        request.node.user_properties.append(("quirk", quirk.id or quirk.reason))
        request.applymarker(pytest.mark.xfail(reason=f"known quirk of {found.identity['driver']}: {quirk.reason}", strict=False))
    before = found.settings or snapshot.take(found.machine, found.device)
    yield
    problems = found.machine.undone.unwind()
    found.up()
    found.settings = snapshot.take(found.machine, found.device)  # what the next test begins with: one look a test, not two
    problems += [f"leaked {text}" for text in snapshot.differences(before, found.settings)]
    if problems:
        pytest.fail("after the test:\n" + "\n".join(problems), pytrace=False)


def _identified(request: pytest.FixtureRequest, found: Port) -> None:
    file, _ = request.config.stash[RACK]
    request.node.user_properties += [("identity", {**found.identity, "rack": file.name})]


@pytest.fixture
def installed(port: Port, tmp_path: Path) -> Installed:
    """netc on the port, for one test; removed by the undo stack."""
    return Installed(port, tmp_path)


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[str, float], None]:
    """A number for the report: figure("pps", 1e6)."""

    def note(name: str, value: float) -> None:
        request.node.user_properties.append(("figure", (name, float(value))))

    return note


@pytest.fixture
def series(request: pytest.FixtureRequest) -> Callable[[str, list[tuple[float, float]]], None]:
    """Points for one of the report's plots."""

    def note(name: str, points: list[tuple[float, float]]) -> None:
        request.node.user_properties.append(("series", (name, [[float(x), float(y)] for x, y in points])))

    return note


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    if RESULTS in session.config.stash:
        session.config.pluginmanager.register(_Writer(session.config.stash[RESULTS]))


class _Writer:
    """Turns pytest's reports into results; with xdist it runs where the workers report to."""

    def __init__(self, into: results.Results) -> None:
        self._into = into
        self._phases: dict[str, list[pytest.TestReport]] = {}

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        if nodeid.startswith("hwtests/"):
            self._into.attempted(nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not report.nodeid.startswith("hwtests/"):
            return
        phases = self._phases.setdefault(report.nodeid, [])
        phases.append(report)
        if report.when == "teardown":
            self._into.add(_result(self._phases.pop(report.nodeid)))

    def pytest_unconfigure(self) -> None:
        self._into.close()


def _result(phases: list[pytest.TestReport]) -> results.Result:
    """One result of a test's phases: the worst of them, with its reason."""
    kinds = [(_kind(phase), phase) for phase in phases]
    kind, phase = next((pair for wanted in ("fail", "skip", "xfail") for pair in kinds if pair[0] == wanted), kinds[0])
    properties = [entry for entry in phases[-1].user_properties]
    identity = dict(dict(properties).get("identity", {}))
    test, variant = results.named(phase.nodeid, identity.get("nic", ""))
    reasons = [_reason(kind, one) for found, one in kinds if found == kind]
    return results.Result(
        test=test, variant=variant, **identity, result=kind, reason="\n".join(filter(None, reasons)), quirk=str(dict(properties).get("quirk", "")),
        seconds=round(sum(one.duration for one in phases), 3),
        figures=dict(value for name, value in properties if name == "figure"),
        series=dict(value for name, value in properties if name == "series"),
    )  # fmt: skip


def _kind(report: pytest.TestReport) -> str:
    if hasattr(report, "wasxfail"):
        return "xfail" if report.skipped else "pass"
    return {"passed": "pass", "failed": "fail", "skipped": "skip"}[report.outcome]


def _reason(kind: str, report: pytest.TestReport) -> str:
    if kind == "xfail":
        return str(report.wasxfail)
    if kind == "skip" and isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    return _failure(report) if kind == "fail" else ""


def _failure(report: pytest.TestReport) -> str:
    """What went wrong, without the way there: the exception's own text."""
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(crash.message if crash else report.longreprtext)[:4000]
