"""When `make bench-check` calls a tree slower."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))
from benchmarks.check.compare import ratio, slower
from benchmarks.check.turn import by_part


def test_the_median_of_the_rounds_decides_and_not_that_of_the_sides() -> None:
    found = ratio("frames/s", [10.0, 20.0, 30.0], [10.0, 10.0, 60.0])
    assert (found.this, found.base, found.middle) == (20.0, 10.0, 1.0)
    with pytest.raises(ValueError, match="no rounds"):
        ratio("frames/s", [], [])


@pytest.mark.parametrize(
    ("fps", "cpu", "said"),
    [
        ([1.0, 0.98, 1.02], [1.0, 1.05, 0.97], []),
        ([0.85, 0.8, 0.88], [1.0, 1.0, 1.0], ["0.85 × the frames/s"]),
        ([0.85, 0.8, 1.01], [1.0, 1.0, 1.0], []),  # one round says the contrary: the machine, not the tree
        ([1.0, 1.0, 1.0], [1.2, 1.15, 1.3], ["1.20 × the CPU time per frame"]),
        ([1.0, 1.0, 1.0], [1.05, 1.08, 1.09], []),
    ],
)
def test_slower_is_beyond_the_tolerance_and_in_every_round(fps: list[float], cpu: list[float], said: list[str]) -> None:
    ones = [1.0] * 3
    assert slower(ratio("frames/s", fps, ones), ratio("CPU ms/frame", cpu, ones), 0.1) == said


def test_cpu_time_is_summed_by_part() -> None:
    before = {
        1: ("hams-ctl up", 1.0),
        2: ("broker", 2.0),
        3: ("agents", 3.0),
        4: ("agents", 4.0),
        5: ("hams-ctl up", 9.0),
    }
    after = {1: ("hams-ctl up", 1.5), 2: ("broker", 2.0), 3: ("agents", 4.0), 4: ("agents", 6.0), 6: ("pipeline", 0.25)}
    spent = {part: seconds for part, seconds in by_part(before, after).items() if seconds}
    assert spent == {"hams-ctl up": 0.5, "agents": 3.0, "pipeline": 0.25}
    with pytest.raises(SystemExit, match="there ended: agents"):
        by_part(before, {1: ("hams-ctl up", 1.5), 2: ("broker", 2.0), 3: ("agents", 4.0)})
