"""The arithmetic of a measurement, on clocks that the test makes."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from runtime import cli
from runtime.bench import plot, timing
from runtime.bench.run import Results
from runtime.bench.timing import Measured, Series, Spread


def test_a_batch_takes_the_time_that_is_wanted_and_is_proportional() -> None:
    packets, steady = timing.calibrate(lambda n: n, 0.02, lambda run, n: n * 50e-9)
    assert steady and packets == pytest.approx(400_000, rel=0.01)


def test_a_batch_that_was_disturbed_when_it_was_sized_is_sized_again() -> None:
    """A softirq of a few ms in the first run of 256 packets made batches that measured the system call."""
    disturbed = iter([0.008])
    packets, steady = timing.calibrate(lambda n: n, 0.02, lambda run, n: n * 50e-9 + next(disturbed, 0.0))
    assert steady and packets == pytest.approx(400_000, rel=0.01)


def test_a_clock_that_is_not_proportional_is_told() -> None:
    packets, steady = timing.calibrate(lambda n: n, 0.02, lambda run, n: 0.01 + n * 1e-9)
    assert not steady and packets > 0


def test_medians_quartiles_and_the_worst_percent() -> None:
    found = timing.spread([float(n) for n in range(1, 101)])
    assert (found.median, found.p99) == (50.5, 99.0) and found.low < 26 and found.high > 75
    assert timing.spread([7.0]) == Spread(7.0, 7.0, 7.0, 7.0)


def test_differences_and_ratios_are_taken_within_rounds() -> None:
    """The machine becomes twice as slow half way: medians of totals would mix both halves."""
    taken = {
        "floor": Series(10, True, [10.0, 10.0, 20.0, 20.0, 20.0]),
        "netc": Series(10, True, [15.0, 15.0, 30.0, 30.0, 30.0], interrupted=2),
        "by hand": Series(10, True, [12.0, 12.0, 24.0, 24.0, 24.0]),
    }
    found = {m.subject: m for m in timing.summarise(taken, "hits", 1, "floor", "by hand")}
    assert found["netc"].over_floor is not None and found["netc"].over_floor.median == 10.0
    assert found["netc"].to_by_hand == 1.25 and found["netc"].interrupted == 2
    assert found["floor"].over_floor is None and found["by hand"].to_by_hand is None


def test_subjects_take_turns_and_every_batch_is_warmed() -> None:
    done: list[tuple[str, int]] = []

    def point(subject: str) -> timing.Run:
        return lambda packets: done.append((subject, packets)) or sum(range(packets))

    taken = timing.measure(point, ["floor", "netc"], 0.0, 0.001, 7)
    assert [len(series.values) for series in taken.values()] == [timing.ROUNDS_MIN] * 2
    rounds = [subject for subject, packets in done if packets == 7][2:]
    assert rounds[:4] == ["floor", "netc", "netc", "floor"], "each round begins with another"


def test_the_drawing_is_svg_with_every_point() -> None:
    spread = Spread(50.0, 49.0, 51.0, 52.0)
    measured = [Measured(who, "hits", n, 1, 1, True, 0, spread, None, None) for who in ("floor", "netc <1>") for n in (1, 256)]
    root = ElementTree.fromstring(plot.svg(Results(None, 0, measured, {}, {}), "a & b"))  # type: ignore[arg-type]
    lines = [item for item in root.iter("{http://www.w3.org/2000/svg}polyline")]
    assert len(lines) == 2 and all(len(line.get("points", "").split()) == 2 for line in lines)
    assert "netc <1>" in "".join(root.itertext())


@pytest.mark.parametrize("words", [["--flows", "3"], ["--flows", "131072"], ["--flows", "x"], ["--seconds", "0"], ["--first", "0"]])
def test_wrong_numbers_are_wrong_usage(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["bench", "policies/edge.netc", *words])
    assert ended.value.code == 2
