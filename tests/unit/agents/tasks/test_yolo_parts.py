"""YOLO's boxes and points in parts of the input's sides, as exports to TensorFlow Lite have them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hams_agents.tasks.base import TensorInfo
from hams_agents.tasks.registry import BUILT_IN
from hams_shared.errors import TaskError
from unit.agents.tasks.test_yolo_forms import CELLS, EXTRA, FORMS, IDENTITY, LABELS, SIZE, candidates, task


def in_parts(raw: np.ndarray, form: str, points: int = 0) -> np.ndarray:
    rows = (raw.T if form == "v8" else raw).copy()
    rows[:, :4] /= np.tile(SIZE, 2)
    for k in range(points):
        first = rows.shape[1] - 3 * points + 3 * k
        rows[:, first : first + 2] /= SIZE
    return rows.T if form == "v8" else rows


def same(found: list[Any], expected: list[Any]) -> None:
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        assert (one.label, one.score) == (other.label, other.score)
        assert one.box == pytest.approx(other.box, abs=1e-3)
        if other.points is not None:
            np.testing.assert_allclose(one.points, other.points, atol=1e-3)
        if other.mask is not None:
            np.testing.assert_array_equal(one.mask.bits, other.mask.bits)


@pytest.mark.parametrize("boxes", ["auto", "unit"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("type_", EXTRA)
def test_parts_are_pixels(type_: str, form: str, boxes: str) -> None:
    raw = candidates(form, 5, EXTRA[type_])
    maps = np.random.default_rng(1).normal(0, 1, (1, 32, 24, 32)).astype(np.float32)
    further = {"output1": maps} if type_ == "yolo-seg" else {}
    [expected] = task(type_, labels=LABELS).detect({"output0": raw[None], **further}, [IDENTITY])
    parts = in_parts(raw, form, 17 if type_ == "yolo-pose" else 0)
    [found] = task(type_, labels=LABELS, boxes=boxes).detect({"output0": parts[None], **further}, [IDENTITY])
    same(found, expected)


def test_where_nothing_tells_the_parameter_does() -> None:
    """Such a head has other cells than ours."""
    raw = candidates("v8", 2, rows=100)
    parts = in_parts(raw, "v8")[None]
    [expected] = task("yolo", labels=LABELS, boxes="input").detect({"o": raw[None]}, [IDENTITY])
    same(task("yolo", labels=LABELS, boxes="unit").detect({"o": parts}, [IDENTITY])[0], expected)
    [tiny] = task("yolo", labels=LABELS).detect({"o": parts}, [IDENTITY])
    assert max(one.box[2] for one in tiny) < 3
    with pytest.raises(TaskError, match="boxes of version yolox are relative to a grid"):
        task("yolo", labels=LABELS, version="yolox", boxes="unit")


def test_a_list_without_objects_is_of_either() -> None:
    assert task("yolo", labels=LABELS).detect({"o": np.zeros((1, 30, 6), np.float32)}, [IDENTITY]) == [[]]
    assert task("yolo", labels=LABELS).detect({"o": np.zeros((0, 7, CELLS), np.float32)}, []) == []


def test_prototypes_may_have_their_channels_last() -> None:
    raw = candidates("v8", 4, 32)[None]
    maps = np.random.default_rng(2).normal(0, 1, (1, 32, 24, 32)).astype(np.float32)
    [expected] = task("yolo-seg", labels=LABELS).detect({"a": raw, "b": maps}, [IDENTITY])
    last = maps.transpose(0, 2, 3, 1).copy()  # 24×32×32
    same(task("yolo-seg", labels=LABELS).detect({"a": raw, "b": last}, [IDENTITY])[0], expected)


def test_a_segmenter_of_tensorflow_lite_is_recognised() -> None:
    outputs = [TensorInfo("a", (1, 116, 8400), "float32"), TensorInfo("b", (1, 160, 160, 32), "float32")]
    names = {"names": str({n: f"c{n}" for n in range(80)}), "task": "segment"}
    image = TensorInfo("x", (1, 640, 640, 3), "float32")
    assert BUILT_IN["yolo-seg"].fits(outputs, image, names) == {"labels": [f"c{n}" for n in range(80)]}
