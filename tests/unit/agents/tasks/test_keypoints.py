"""Key points from heat maps and from vectors, against a decode in plain loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hams_agents.tasks.base import DescriptionTask
from hams_agents.tasks.registry import build_task, is_detection
from hams_shared.errors import TaskError
from hams_shared.group.node_spec import InputSpec, TaskSpec
from support import oracles

SIZE = (48, 64)
AFFINE = np.array([[0.5, 0, 10], [0, 2.0, 20]])


def task(points: int = 17, **params: Any) -> DescriptionTask:
    spec = TaskSpec.model_validate({"type": "landmarks", "points": points, **params})
    built = build_task(spec, InputSpec(size=SIZE))
    assert not is_detection(built)
    return built


@pytest.mark.parametrize("udp", [False, True])
def test_peaks_of_heat_maps(udp: bool) -> None:
    maps = np.random.default_rng(1).random((2, 17, 16, 12)).astype(np.float32)
    items = task(decode="heatmaps", udp=udp).describe({"o": maps}, [np.eye(2, 3), AFFINE])
    step = (47 / 11, 63 / 15) if udp else (4, 4)
    for index, (item, affine) in enumerate(zip(items, (np.eye(2, 3), AFFINE), strict=True)):
        for k in range(17):
            x, y, value = oracles.peak(maps[index, k])
            at = affine[:, :2] @ (x * step[0] + 0.5, y * step[1] + 0.5) + affine[:, 2]
            assert item["points"][k] == pytest.approx(at, abs=0.006)
            assert item["visibility"][k] == pytest.approx(value, abs=1e-3)


@pytest.mark.parametrize("names", [("simcc_x", "simcc_y"), ("simcc_y", "simcc_x"), ("a", "b")])
def test_peaks_of_vectors(names: tuple[str, str]) -> None:
    rng = np.random.default_rng(2)
    x, y = rng.random((1, 17, 96)).astype(np.float32), rng.random((1, 17, 128)).astype(np.float32)
    outputs = {name: y if name in ("simcc_y", "b") else x for name in names}
    [item] = task(decode="simcc").describe(outputs, [np.eye(2, 3)])
    for k in range(17):
        at = max(range(96), key=lambda i: x[0, k, i]) / 2 + 0.5, max(range(128), key=lambda i: y[0, k, i]) / 2 + 0.5
        assert item["points"][k] == pytest.approx(at, abs=0.006)
        assert item["visibility"][k] == pytest.approx(min(x[0, k].max(), y[0, k].max()), abs=1e-3)


def test_a_skeleton_of_ones_own_and_parts_of_heat_maps() -> None:
    maps = np.zeros((1, 3, 16, 12), np.float32)
    maps[0, 0, 4, 2] = maps[0, 1, 4, 8] = maps[0, 2, 12, 5] = 1
    of = task(3, decode="heatmaps", skeleton=[[0, 1]], parts={"pair": [0, 1]})
    [item] = of.describe({"o": maps}, [np.eye(2, 3)])
    assert item["points"] == [[8.5, 16.5], [32.5, 16.5], [20.5, 48.5]]
    assert item["visibility"] == [1, 1, 1]
    assert item["skeleton"] == [[0, 1]]
    assert item["objects"][0].box == (8.5, 4.5, 32.5, 28.5)


WRONG = {
    "another count": ({"decode": "heatmaps"}, {"o": np.zeros((1, 21, 16, 12))}, "that is points: 21"),
    "no maps": ({"decode": "heatmaps"}, {"o": np.zeros((1, 34))}, "expected 1×17×h×w heat maps"),
    "one vector": ({"decode": "simcc"}, {"o": np.zeros((1, 17, 96))}, "expected 1×17×Wx and 1×17×Wy"),
    "not finite": ({"decode": "heatmaps"}, {"o": np.full((1, 17, 16, 12), np.nan)}, "not finite"),
}


@pytest.mark.parametrize(("params", "outputs", "text"), WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_named(params: dict[str, Any], outputs: dict[str, np.ndarray], text: str) -> None:
    with pytest.raises(TaskError, match=text):
        task(**params).describe(outputs, [np.eye(2, 3)])


def test_parameters_of_coordinates_do_not_go_with_maps() -> None:
    with pytest.raises(TaskError, match="go with decode: coordinates"):
        task(decode="simcc", normalized=True)
    with pytest.raises(TaskError, match="skeleton joins"):
        task(skeleton=[[0, 17]])
