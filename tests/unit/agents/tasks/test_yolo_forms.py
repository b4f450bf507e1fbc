"""YOLO's outputs in all forms that are exported, against a decode in plain loops; what does not fit says what would."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hams_agents.tasks.base import DetectionTask
from hams_agents.tasks.registry import build_task, is_detection
from hams_shared.errors import TaskError
from hams_shared.group.node_spec import InputSpec, TaskSpec
from support import oracles

SIZE = (128, 96)
CELLS = 16 * 12 + 8 * 6 + 4 * 3
LABELS = ("cat", "dog", "cow")
IDENTITY = np.eye(2, 3)
FORMS = ["v8", "v5", "end2end"]
EXTRA = {"yolo": 0, "yolo-pose": 51, "yolo-seg": 32, "obb": 1}


def task(type_: str, metadata: dict[str, str] | None = None, **params: Any) -> DetectionTask:
    built = build_task(TaskSpec.model_validate({"type": type_, **params}), InputSpec(size=SIZE), metadata)
    assert is_detection(built)
    return built


def candidates(form: str, seed: int, extra: int = 0, classes: int = 3, rows: int | None = None) -> np.ndarray:
    """Random outputs of one image as they are exported; a few candidates score, some of these overlap."""
    rng = np.random.default_rng(seed)
    count = rows or {"end2end": 30, "v5": 3 * CELLS}.get(form, CELLS)
    centre = rng.choice(rng.uniform(0, 128, (9, 2)), count) + rng.normal(0, 3, (count, 2))
    sides = rng.uniform(4, 60, (count, 2))
    further = rng.normal(0, 1, (count, extra))
    scores = rng.uniform(0, 0.3, (count, classes))
    hot = rng.choice(count, min(count, 25), replace=False)
    scores[hot, rng.integers(0, classes, len(hot))] = rng.uniform(0.3, 1, len(hot))
    if form == "end2end":
        best = np.sort(scores.max(axis=1))[::-1]
        label = rng.integers(0, classes, count)
        corners = np.concatenate((centre - sides / 2, centre + sides / 2), axis=1)
        return np.column_stack((corners, best, label, further)).astype(np.float32)
    if form == "v8":
        return np.column_stack((centre, sides, scores, further)).astype(np.float32).T.copy()
    return np.column_stack((centre, sides, rng.uniform(0.5, 1, count), scores, further)).astype(np.float32)


def expected(raw: np.ndarray, form: str, threshold: float = 0.4, most: float = 0.5) -> list[oracles.Row]:
    rows = [oracles.clipped(row, SIZE) for row in oracles.yolo(raw, form, len(LABELS), threshold)]
    rows = [row for row in rows if row[2] > row[0] and row[3] > row[1]]
    return sorted(rows, key=lambda row: -row[4]) if form == "end2end" else oracles.suppressed(rows, most)


def same(found: list[Any], rows: list[oracles.Row]) -> None:
    assert [one.label for one in found] == [LABELS[row[5]] for row in rows]
    assert [one.score for one in found] == pytest.approx([row[4] for row in rows], abs=1e-6)
    for one, row in zip(found, rows, strict=True):
        assert one.box == pytest.approx(row[:4], abs=1e-3)


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=8)
@given(seed=st.integers(0, 10**6))
def test_every_form_is_decoded_as_by_plain_loops(form: str, seed: int) -> None:
    raw = candidates(form, seed)
    for params in ({}, {"version": form}):
        [found] = task("yolo", labels=LABELS, **params).detect({"output0": raw[None]}, [IDENTITY])
        same(found, expected(raw, form))


def test_yolox_stands_on_a_grid() -> None:
    rng = np.random.default_rng(3)
    raw = np.column_stack((rng.uniform(0, 1, (CELLS, 2)), rng.normal(0.5, 0.5, (CELLS, 2)), rng.random((CELLS, 4))))
    raw = raw.astype(np.float32)
    rows = [oracles.clipped(row, SIZE) for row in oracles.yolox(raw, SIZE, 3, 0.7)]
    [found] = task("yolo", labels=LABELS, version="yolox", threshold=0.7).detect({"output": raw[None]}, [IDENTITY])
    assert len(found) > 3
    same(found, oracles.suppressed(rows, 0.5))
    with pytest.raises(TaskError, match=r"v5 \(also YOLOv6\), or yolox, with 3 labels fits"):
        task("yolo", labels=LABELS).detect({"output": raw[None]}, [IDENTITY])


def test_several_outputs_and_other_columns_say_the_same_as_one() -> None:
    raw = candidates("end2end", 5)
    rows = expected(raw, "end2end")
    whole = raw[None]
    of = functools.partial(task, "yolo", labels=LABELS)
    nms = {
        "num_dets": np.array([[20]], np.int32),
        "det_boxes": whole[:, :, :4],
        "det_scores": whole[:, :, 4],
        "det_classes": whole[:, :, 5].astype(np.int32),
    }
    [found] = of().detect(nms, [IDENTITY])
    same(found, [row for row in rows if row[6] < 20])
    swapped = {name: nms[name] for name in ("num_dets", "det_boxes", "det_classes", "det_scores")}
    assert of(version="nms").detect(swapped, [IDENTITY])[0] == found

    seven = np.concatenate((np.zeros((len(raw), 1)), raw[:, :4], raw[:, [5, 4]]), axis=1).astype(np.float32)
    [found] = of(version="v7-end2end").detect({"output": seven}, [IDENTITY])  # without a batch axis
    same(found, rows)
    assert of(version="v7-end2end").detect({"output": seven[None]}, [IDENTITY])[0] == found

    raw = candidates("v8", 6)
    boxes, scores = raw[:4].T, raw[4:].T
    corners = np.concatenate((boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2), axis=1)
    [found] = of().detect({"904": corners[None], "913": scores[None]}, [IDENTITY])
    same(found, expected(raw, "v8"))
    with pytest.raises(TaskError, match="not those of version nms"):
        of(version="nms").detect({"904": corners[None], "913": scores[None]}, [IDENTITY])


def test_of_a_batch_each_image_has_its_own_objects() -> None:
    both = np.stack([candidates("v8", 1), candidates("v8", 2)])
    twice = np.array([[2.0, 0, 10], [0, 2, 0]])
    found = task("yolo", labels=LABELS).detect({"o": both}, [IDENTITY, twice], (200, 150))
    same(found[0], expected(both[0], "v8"))
    seen = [row for row in expected(both[1], "v8") if 2 * row[0] + 10 < 200 and 2 * row[1] < 150]
    for one, (x0, y0, x1, y1, *_) in zip(found[1], seen, strict=True):
        moved = (2 * x0 + 10, 2 * y0, min(2 * x1 + 10, 200), min(2 * y1, 150))
        assert one.box == pytest.approx(moved, abs=1e-3)


def test_names_come_from_the_file_where_the_group_gives_none() -> None:
    raw = candidates("v8", 4)
    names = {"names": str(dict(enumerate(LABELS)))}
    [found] = task("yolo", names).detect({"o": raw[None]}, [IDENTITY])
    same(found, expected(raw, "v8"))
    with pytest.raises(TaskError, match="does not name its classes"):
        task("yolo", {"names": "garbage("})


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=5)
@given(seed=st.integers(0, 10**6))
def test_points_of_poses(form: str, seed: int) -> None:
    raw = candidates(form, seed, extra=51)
    affine = np.array([[0.5, 0, 3], [0, 2, 1.0]])
    [found] = task("yolo-pose", labels=LABELS).detect({"output0": raw[None]}, [affine])
    rows = expected(raw, form)
    assert [one.label for one in found] == [LABELS[row[5]] for row in rows]
    table = raw.T if form == "v8" else raw
    for one, row in zip(found, rows, strict=True):
        numbers = table[row[6], -51:]
        for k in range(17):
            x, y, seen = numbers[3 * k : 3 * k + 3].tolist()
            assert one.points[k] == pytest.approx((x * 0.5 + 3, y * 2 + 1), abs=1e-4)
            assert one.visibility[k] == pytest.approx(min(max(seen, 0), 1), abs=1e-6)
    person = task("yolo-pose").detect({"o": candidates(form, seed, extra=51, classes=1)[None]}, [IDENTITY])[0]
    assert {one.label for one in person} <= {"person"}


def test_points_of_other_things_have_their_own_skeleton() -> None:
    raw = candidates("v8", 8, extra=8, classes=1)
    of = task("yolo-pose", {"names": "{0: 'plate'}", "kpt_shape": "[4, 2]"}, skeleton=[[0, 1], [1, 2], [2, 3]])
    [found] = of.detect({"o": raw[None]}, [IDENTITY])
    assert found
    assert found[0].points.shape == (4, 2)
    assert found[0].visibility is None
    assert found[0].skeleton == ((0, 1), (1, 2), (2, 3))
    with pytest.raises(TaskError, match="skeleton joins"):
        task("yolo-pose", labels=["a"], points=4, skeleton=[[0, 4]])


MISFITS = {
    "more classes": ("yolo", np.zeros((1, 84, CELLS)), r"1×84×252.*\(version v8 with 80 labels fits this shape"),
    "v5 classes": ("yolo", np.zeros((1, 3 * CELLS, 85)), "version v5 with 80 labels fits"),
    "other version": ("yolo", np.zeros((1, 3 * CELLS, 6)), "version v5 with 1 label fits"),
    "points": ("yolo", np.zeros((1, 56, CELLS)), "may be those of task yolo-pose"),
    "rt-detr": ("yolo", np.zeros((1, 300, 84)), "may be those of task detr"),
    "a pose without points": ("yolo-pose", np.zeros((1, 7, CELLS)), "may be those of task yolo"),
    "a detector without masks": ("yolo-seg", np.zeros((1, 7, CELLS)), "may be those of task yolo"),
    "a classifier": ("yolo", np.zeros((1, 1000)), "expected 1×7×P"),
    "classes of rows": ("yolo", np.full((1, 30, 6), 79.0), "found class 79, labels has 3"),
}


@pytest.mark.parametrize(("type_", "raw", "text"), MISFITS.values(), ids=MISFITS)
def test_what_does_not_fit_says_what_would(type_: str, raw: np.ndarray, text: str) -> None:
    with pytest.raises(TaskError, match=text):
        task(type_, labels=LABELS).detect({"output0": raw.astype(np.float32)}, [IDENTITY])


def test_a_network_that_segments_is_named() -> None:
    outputs = {"output0": np.zeros((1, 4 + 3 + 32, CELLS)), "output1": np.zeros((1, 32, 24, 32))}
    with pytest.raises(TaskError, match="has 2 outputs.*those of task yolo-seg"):
        task("yolo", labels=LABELS).detect(outputs, [IDENTITY])
