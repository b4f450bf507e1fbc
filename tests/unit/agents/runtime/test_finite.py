"""NaN and infinity in outputs."""

from __future__ import annotations

import numpy as np
import pytest

from hams_agents.runtime.finite import checked_outputs, refuse_not_finite
from hams_agents.tasks.registry import build_task
from hams_shared.errors import NotFiniteError
from hams_shared.group.node_spec import InputSpec, TaskSpec

NAMES = frozenset({"y"})


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_one_number_is_enough(value: float, kind: type) -> None:
    outputs = {"y": np.ones((2, 84, 100), kind), "z": np.full((1,), np.nan)}
    refuse_not_finite("n", "d", NAMES, outputs)  # z is not read
    outputs["y"][1, 83, 99] = value
    text = "NaN" if np.isnan(value) else "infinity"
    with pytest.raises(NotFiniteError, match=rf"node n: 1 of 16800 numbers of output y are not finite \({text}\) on d"):
        refuse_not_finite("n", "d", NAMES, outputs)


def test_numbers_whose_sum_overflows_are_finite() -> None:
    refuse_not_finite("n", "d", NAMES, {"y": np.full((4,), 3e38, np.float32)})


def test_views_and_nothing() -> None:
    refuse_not_finite("n", "d", NAMES, {"y": np.ones((4, 6), np.float32)[::2, ::3]})
    refuse_not_finite("n", "d", NAMES, {"y": np.empty((0, 6), np.float32)})


def test_outputs_that_a_task_does_not_read_are_not_looked_at() -> None:
    outputs = {"points": np.ones((1, 4), np.float32), "more": np.ones((1, 4), np.float32), "n": np.ones((1, 4), int)}
    spec, size = {"points": 2, "output": "points"}, InputSpec(size=(8, 8))
    points = build_task(TaskSpec.model_validate({"type": "landmarks", **spec}), size)
    assert checked_outputs(points, outputs) == {"points"}
    assert checked_outputs(build_task(TaskSpec(type="raw"), size), outputs) == frozenset()
