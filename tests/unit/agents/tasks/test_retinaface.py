from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hams_agents.tasks.base import DetectionTask
from hams_agents.tasks.registry import build_task, is_detection
from hams_agents.tasks.retinaface import priors
from hams_shared.errors import TaskError
from hams_shared.group.node_spec import InputSpec, TaskSpec

IDENTITY = np.eye(2, 3)
LEVELS: dict[str, Any] = {"min_sizes": [[8, 16], [32]], "steps": [16, 32]}
CELLS = 4 * 2 * 2 + 2 * 1
"""Priors of a 64×32 input on these levels."""


def task(size: tuple[int, int] = (64, 32), **params: Any) -> DetectionTask:
    built = build_task(
        TaskSpec.model_validate({"type": "retinaface", "points": 2, **LEVELS, **params}), InputSpec(size=size)
    )
    assert is_detection(built)
    return built


def tensors(count: int = 1, classes: int = 2) -> dict[str, np.ndarray]:
    return {
        "loc": np.zeros((count, CELLS, 4), np.float32),
        "conf": np.zeros((count, CELLS, classes), np.float32),
        "marks": np.zeros((count, CELLS, 4), np.float32),
    }


def test_priors_of_two_levels_one_by_one() -> None:
    centres, sides = priors((40, 20), [[8, 16], [32]], [16, 32])  # sides that are no multiples: cells are rounded up
    expected = [
        (8, 8, 8), (8, 8, 16), (24, 8, 8), (24, 8, 16), (40, 8, 8), (40, 8, 16),
        (8, 24, 8), (8, 24, 16), (24, 24, 8), (24, 24, 16), (40, 24, 8), (40, 24, 16),
        (16, 16, 32), (48, 16, 32),
    ]  # fmt: skip
    assert np.column_stack((centres, sides)).tolist() == [list(map(float, one)) for one in expected]


@given(st.integers(8, 90), st.integers(8, 90))
def test_priors_as_the_published_code_lists_them(width: int, height: int) -> None:
    """Two nested loops over cells and one over sizes, all relative to the image, as in PriorBox.forward."""
    expected = []
    for lengths, step in zip(LEVELS["min_sizes"], LEVELS["steps"], strict=True):
        for i, j in product(range(math.ceil(height / step)), range(math.ceil(width / step))):
            for side in lengths:
                expected.append(((j + 0.5) * step / width, (i + 0.5) * step / height, side / width, side / height))
    centres, sides = priors((width, height), LEVELS["min_sizes"], LEVELS["steps"])
    unit = np.array([width, height])
    ours = np.column_stack((centres / unit, sides[:, None] / unit))
    assert np.allclose(ours, expected)


def test_a_known_object() -> None:
    out = tensors()
    index = 2 * (4 + 2) + 1  # second row, third column, the larger size: centre (40, 24), side 16
    out["loc"][0, index] = [1, -2, 5 * math.log(1.5), 5 * math.log(0.5)]
    out["conf"][0, index] = [0.1, 0.9]
    out["marks"][0, index] = [-2.5, 0, 2.5, 1]
    ((one,),) = task(label="plate").detect(out, [IDENTITY])
    middle, half = np.array([40 + 1.6, 24 - 3.2]), np.array([12, 4])
    assert np.allclose(one.box, [*(middle - half), *(middle + half)], atol=1e-4)
    assert one.score == pytest.approx(0.9)
    assert one.label == "plate"
    assert one.points is not None
    assert np.allclose(one.points, [[36, 24], [44, 25.6]])
    ((turned,),) = task(order=[1, 0]).detect(out, [np.array([[2.0, 0, 10], [0, 3.0, 0]])])
    assert turned.points is not None
    assert np.allclose(turned.points, [[98, 76.8], [82, 72]])
    assert np.allclose(turned.box, [10 + 2 * 29.6, 3 * 16.8, 10 + 2 * 53.6, 3 * 24.8], atol=1e-3)


@pytest.mark.parametrize(
    ("activation", "classes", "value", "score"),
    [
        ("none", 2, [0.2, 0.8], 0.8),
        ("none", 1, [0.8], 0.8),
        ("softmax", 2, [1, 2], 1 / (1 + math.exp(-1))),
        ("softmax", 2, [-1000, 1000], 1.0),
        ("sigmoid", 1, [1], 1 / (1 + math.exp(-1))),
        ("softmax", 1, [1], 1 / (1 + math.exp(-1))),
    ],
)
def test_scores(activation: str, classes: int, value: list[float], score: float) -> None:
    out = tensors(classes=classes)
    out["conf"][:] = -1000 if activation != "none" else 0
    out["conf"][0, 3] = value
    if activation == "softmax" and classes == 2:
        out["conf"][0, :, 0] = np.where(np.arange(CELLS) == 3, value[0], 1000)
    ((one,),) = task(activation=activation).detect(out, [IDENTITY])
    assert one.score == pytest.approx(score, abs=1e-6)


def test_overlaps_sizes_batches_and_numbers_that_are_none() -> None:
    out = tensors(2)
    out["conf"][1, [1, 3, 9], 1] = [0.6, 0.7, 0.8]  # sizes 16 at (8, 8), (24, 8) and (8, 24): they touch only
    none, found = task().detect(out, [IDENTITY, IDENTITY])
    assert none == []
    assert [round(one.score, 1) for one in found] == [0.8, 0.7, 0.6]
    out["loc"][1, 1, 0] = 10  # now the first one lies on the second
    assert [round(one.score, 1) for one in task().detect(out, [IDENTITY] * 2)[1]] == [0.8, 0.7]
    assert len(task(max_objects=1).detect(out, [IDENTITY] * 2)[1]) == 1
    assert task(min_size=17).detect(out, [IDENTITY] * 2)[1] == []
    assert len(task(threshold=0.75).detect(out, [IDENTITY] * 2)[1]) == 1
    out["loc"][1, 9] = np.nan
    out["marks"][1, 3] = np.inf
    assert [round(one.score, 1) for one in task().detect(out, [IDENTITY] * 2)[1]] == [0.6]


def test_without_points() -> None:
    out = tensors()
    out["conf"][0, 0, 1] = 1
    del out["marks"]
    ((one,),) = task(points=0).detect(out, [IDENTITY])
    assert one.points is None
    assert one.box == (4, 4, 12, 12)


def test_outputs_by_name_and_what_does_not_fit() -> None:
    out = tensors()
    shuffled = {name: out[name] for name in ("conf", "marks", "loc")}
    assert task(outputs=["loc", "conf", "marks"]).detect(shuffled, [IDENTITY]) == [[]]
    with pytest.raises(TaskError, match=r"expected.*check input size, min_sizes"):
        task().detect(shuffled, [IDENTITY])
    with pytest.raises(TaskError, match=r"no output 'boxes'"):
        task(outputs=["boxes", "conf", "marks"]).detect(out, [IDENTITY])
    with pytest.raises(TaskError, match="expected"):
        task((96, 32)).detect(out, [IDENTITY])


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"steps": [16]}, "its number in steps"),
        ({"order": [0, 0]}, "twice"),
        ({"order": [2]}, "from 0 to 1"),
        ({"outputs": ["a", "b"]}, "names 3 tensors"),
        ({"min_sizes": [[8], [0]]}, "greater than 0"),
    ],
)
def test_parameters_that_do_not_fit(params: dict[str, Any], text: str) -> None:
    with pytest.raises(TaskError, match=text):
        task(**params)


@pytest.mark.timeout(20)
def test_noise_takes_bounded_time() -> None:
    count = sum(2 * (640 // step) ** 2 for step in (8, 16, 32))
    random = np.random.default_rng(0)
    out = {n: random.random((1, count, k), np.float32) for n, k in (("loc", 4), ("conf", 2), ("marks", 10))}
    built = build_task(TaskSpec.model_validate({"type": "retinaface", "max_objects": 50}), InputSpec(size=(640, 640)))
    assert is_detection(built)
    assert len(built.detect(out, [IDENTITY])[0]) == 50
