"""Nodes are shared where it gains something, and stay whole where it gains next to nothing."""

from __future__ import annotations

import numpy as np
import pytest

from hams_scheduler.solver.instance import Instance
from hams_scheduler.solver.strategies.registry import solve


@pytest.mark.parametrize(
    ("costs", "cycle", "shared", "told"),
    [
        ((7.0, 3.0, 10.0), 10.0, False, False),  # nothing to gain
        ((7.0, 3.0, 9.6), 10.0, False, True),  # sharing the second would give 9.8
        ((7.0, 3.0, 9.0), 9.5, True, False),
        ((10.0, 5.0), 7.5, True, False),
    ],
)
def test_sharing_must_be_worth_it(costs: tuple[float, ...], cycle: float, shared: bool, told: bool) -> None:
    """Nodes that cost so many ms a frame on each of two devices."""
    fps = np.array([[1000 / cost] * 2 for cost in costs])
    found = solve(Instance(tuple("abc"[: len(costs)]), ("x", "y"), fps), "replicated", time_limit_s=20.0)
    assert 1000 / found.fps == pytest.approx(cycle, rel=1e-4)
    assert (max(len(places) for places in found.shares.values()) > 1) == shared
    assert bool([note for note in found.notes if "sharing nodes would gain 2.0%" in note]) == told
    assert found.bound_fps >= found.fps * (1 - 1e-9)
