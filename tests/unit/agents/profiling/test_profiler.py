"""How much others used of a device's cores while it was measured."""

from __future__ import annotations

import pytest

from hams_agents.profiling.profiler import CpuUse, cpu_use, parse_stat, used_by_others

STAT = """cpu  400 0 200 4000 50 0 10 40 0 0
cpu0 100 0 100 2000 50 0 10 20 7 7
cpu1 300 0 100 2000 0 0 0 20
intr 1 2 3
"""


def test_what_a_host_tells() -> None:
    assert parse_stat(STAT, 100) == {0: pytest.approx(2.3), 1: pytest.approx(4.2)}
    assert parse_stat("", 100) == {}


@pytest.mark.parametrize(
    ("cores", "own", "part"),
    [
        ((0,), 1.0, 0.0),  # the device's own work is nobody else's
        ((0,), 0.25, 0.75),
        ((1,), 0.0, 0.5),
        ((), 1.0, 0.25),  # of both cores
        ((7,), 0.0, 0.75),  # a core that the host does not tell of
        ((0,), 5.0, 0.0),  # clocks that disagree
    ],
)
def test_the_part_of_others(cores: tuple[int, ...], own: float, part: float) -> None:
    before, after = CpuUse(0.0, {0: 10.0, 1: 20.0}, 3.0), CpuUse(2.0, {0: 12.0, 1: 21.0}, 3.0 + 2 * own)
    assert used_by_others(before, after, cores) == pytest.approx(part)


def test_a_host_that_tells_nothing_is_nobodys_fault() -> None:
    assert used_by_others(CpuUse(0.0, {}, 0.0), CpuUse(1.0, {}, 0.0), (0,)) == 0.0


def test_this_host() -> None:
    before = cpu_use()
    total = 0
    while (after := cpu_use()).own - before.own < 0.2:
        total += sum(range(1000))
    assert total
    assert 0.0 <= used_by_others(before, after, ()) <= 1.0
    assert sum(after.busy.values()) > sum(before.busy.values())
