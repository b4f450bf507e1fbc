from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hams_agents.tasks.base import DetectionTask
from hams_agents.tasks.decoding import keep_best
from hams_agents.tasks.registry import build_task, is_detection
from hams_shared.errors import TaskError
from hams_shared.group.node_spec import InputSpec, TaskSpec

SPEC = InputSpec(size=(128, 64))
IDENTITY = np.eye(2, 3)


def task(size: tuple[int, int] = (128, 64), **params: Any) -> DetectionTask:
    built = build_task(TaskSpec.model_validate({"type": "centerface", **params}), InputSpec(size=size))
    assert is_detection(built)
    return built


def tensors(count: int = 1) -> dict[str, np.ndarray]:
    return {
        name: np.zeros((count, channels, 16, 32), np.float32)
        for name, channels in (("heat", 1), ("scale", 2), ("offset", 2), ("marks", 10))
    }


def put(
    out: dict[str, np.ndarray], row: int, column: int, score: float, height: float, width: float, image: int = 0
) -> None:
    out["heat"][image, 0, row, column] = score
    out["scale"][image, :, row, column] = np.log((height / 4, width / 4))
    out["marks"][image, :, row, column] = [0.3, 0.2, 0.3, 0.8, 0.5, 0.5, 0.7, 0.25, 0.7, 0.75]  # y, x in turn


def test_a_known_face() -> None:
    out = tensors()
    put(out, 8, 10, 0.9, 24, 16)
    out["offset"][0, :, 8, 10] = (0.25, -0.25)  # y, x
    ((face,),) = task().detect(out, [IDENTITY])
    assert np.allclose(face.box, (33, 23, 49, 47))  # centre: (10 - 0.25 + 0.5) * 4 = 41, (8 + 0.25 + 0.5) * 4 = 35
    assert face.score == pytest.approx(0.9)
    assert face.label == "face"
    assert face.points is not None
    assert np.allclose(face.points[0], (33 + 0.2 * 16, 23 + 0.3 * 24), atol=1e-4)
    assert np.allclose(face.points[4], (33 + 0.75 * 16, 23 + 0.7 * 24), atol=1e-4)


def test_frame_pixels_and_batches() -> None:
    out = tensors(2)
    put(out, 8, 10, 0.9, 16, 16, image=1)
    maps = [IDENTITY, np.array([[2.0, 0.0, 100.0], [0.0, 3.0, 0.0]])]
    none, (face,) = task().detect(out, maps)
    assert none == []
    assert np.allclose(face.box, (100 + 2 * 34, 3 * 26, 100 + 2 * 50, 3 * 42))


def test_overlapping_boxes_leave_the_best_and_best_comes_first() -> None:
    out = tensors()
    put(out, 4, 5, 0.7, 16, 16)
    put(out, 4, 6, 0.8, 16, 16)
    put(out, 10, 25, 0.95, 16, 16)
    (faces,) = task().detect(out, [IDENTITY])
    assert [round(face.score, 2) for face in faces] == [0.95, 0.8]
    (faces,) = task(max_objects=1).detect(out, [IDENTITY])
    assert len(faces) == 1
    (faces,) = task(threshold=0.9).detect(out, [IDENTITY])
    assert len(faces) == 1
    (faces,) = task(min_size=17).detect(out, [IDENTITY])
    assert faces == []


def test_boxes_are_clipped_to_the_input_and_the_frame() -> None:
    out = tensors()
    put(out, 0, 31, 0.9, 40, 40)
    ((face,),) = task().detect(out, [IDENTITY])
    assert face.box == pytest.approx((106, 0, 128, 22))
    ((face,),) = task().detect(out, [IDENTITY], (120, 60))
    assert face.box == pytest.approx((106, 0, 120, 22))
    assert task().detect(out, [IDENTITY], (100, 60)) == [[]]  # wholly in the letterbox's padding


def test_what_is_not_finite_is_no_face() -> None:
    out = tensors()
    for column, (key, value) in enumerate(
        [("heat", np.nan), ("scale", np.nan), ("offset", np.inf), ("marks", np.nan), ("scale", -np.inf)]
    ):
        put(out, 8, 5 * column, 0.9, 12, 12)
        out[key][0, 0, 8, 5 * column] = value
    assert task().detect(out, [IDENTITY]) == [[]]


def test_an_endless_box_is_the_whole_input() -> None:
    out = tensors()
    put(out, 8, 8, 0.9, 12, 12)
    out["scale"][0, :, 8, 8] = 1e6
    ((face,),) = task().detect(out, [IDENTITY])
    assert face.box == (0, 0, 128, 64)


@pytest.mark.timeout(20)
def test_a_heat_map_of_noise_takes_bounded_time() -> None:
    out = {
        k: np.random.default_rng(0).random((1, c, 120, 160), np.float32)
        for k, c in zip("abcd", (1, 2, 2, 10), strict=True)
    }
    out["a"][:] = 1
    (faces,) = task((640, 480), max_objects=50).detect(out, [IDENTITY])
    assert len(faces) == 50


def test_outputs_by_name_in_any_order() -> None:
    out = tensors()
    put(out, 8, 10, 0.9, 24, 16)
    shuffled = {name: out[name] for name in ("marks", "offset", "scale", "heat")}
    (faces,) = task(outputs=["heat", "scale", "offset", "marks"]).detect(shuffled, [IDENTITY])
    assert len(faces) == 1
    with pytest.raises(TaskError, match="expected"):
        task().detect(shuffled, [IDENTITY])
    with pytest.raises(TaskError, match=r"no output 'heatmap'.*did you mean heat"):
        task(outputs=["heatmap", "scale", "offset", "marks"]).detect(out, [IDENTITY])
    with pytest.raises(TaskError, match="expected"):
        task().detect(out, [IDENTITY, IDENTITY])


def test_sides_must_be_multiples_of_32() -> None:
    with pytest.raises(TaskError, match="multiples of 32"):
        task((100, 64))


def test_suppression_is_greedy_and_stable() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [5, 0, 15, 10], [30, 0, 40, 10]], float)
    scores = np.array([0.5, 0.5, 0.9, 0.1])
    assert keep_best(boxes, scores, 0.3).tolist() == [2, 3]
    assert keep_best(boxes, scores, 0.5).tolist() == [2, 0, 3]
    assert keep_best(np.empty((0, 4)), np.empty(0), 0.5).tolist() == []
