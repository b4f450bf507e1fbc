"""Raw single-shot detectors: anchors as their makers list them, and boxes decoded from them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from hams_agents.tasks.anchors import MediapipeAnchors, TensorFlowAnchors
from hams_agents.tasks.base import DetectionTask
from hams_agents.tasks.registry import build_task, is_detection, used_outputs
from hams_shared.errors import TaskError
from hams_shared.group.node_spec import InputSpec, TaskSpec
from hams_shared.group.spec import GroupSpec, parse_group
from hams_shared.wire import codec

IDENTITY = np.eye(2, 3)
TENSORFLOW: dict[str, Any] = {"style": "tensorflow", "cells": [2, 1]}
"""2×2 cells of 3 boxes and one of 6: 18 anchors."""
BLAZE: dict[str, Any] = {"style": "mediapipe", "cells": [2, 1], "per_cell": [2, 3]}
"""11 anchors."""


def task(size: tuple[int, int] = (100, 200), **params: Any) -> DetectionTask:
    given = {"type": "ssd", "anchors": TENSORFLOW, "labels": ["cat", "dog"], **params}
    built = build_task(TaskSpec.model_validate(given), InputSpec(size=size))
    assert is_detection(built)
    return built


def outputs(anchors: int = 18, width: int = 4, classes: int = 3, count: int = 1) -> dict[str, np.ndarray]:
    return {
        "boxes": np.zeros((count, anchors, width), np.float32),
        "scores": np.full((count, anchors, classes), -9.0, np.float32),
    }


def test_tensorflow_anchors_as_the_generator_makes_them() -> None:
    """Literally as create_ssd_anchors and MultipleGridAnchorGenerator write it, for 300×300."""
    cells = [19, 10, 5, 3, 2, 1]
    scales = [0.2 + (0.95 - 0.2) * i / 5 for i in range(6)] + [1.0]
    expected = []
    for layer, n in enumerate(cells):
        if layer == 0:
            shapes = [(0.1, 1.0), (0.2, 2.0), (0.2, 0.5)]
        else:
            shapes = [(scales[layer], r) for r in (1.0, 2.0, 0.5, 3.0, 1 / 3)]
            shapes.append((math.sqrt(scales[layer] * scales[layer + 1]), 1.0))
        for row in range(n):
            for column in range(n):
                for scale, ratio in shapes:
                    height, width = scale / math.sqrt(ratio), scale * math.sqrt(ratio)
                    expected.append(((column + 0.5) / n, (row + 0.5) / n, width, height))
    boxes = TensorFlowAnchors(cells=tuple(cells)).boxes((300, 300))
    assert boxes.shape == (1917, 4)  # the number every SSD MobileNet at 300×300 has
    np.testing.assert_allclose(boxes, expected)


def test_tensorflow_anchors_are_square_on_a_wide_input() -> None:
    """Scales are parts of the shorter side: base_anchor_size in MultipleGridAnchorGenerator."""
    anchors = TensorFlowAnchors(cells=((4, 2),), reduce_lowest=False, aspect_ratios=(1.0,), interpolated_scale=False)
    boxes = anchors.boxes((400, 200)) * (400, 200, 400, 200)
    assert boxes.shape == (8, 4)
    np.testing.assert_allclose(boxes[[0, 3, 4]], [(50, 50, 40, 40), (350, 50, 40, 40), (50, 150, 40, 40)])


@pytest.mark.parametrize(
    ("cells", "per_cell", "count"),
    [
        ((16, 8), (2, 6), 896),  # BlazeFace, short range
        ((48,), (1,), 2304),  # BlazeFace, full range
        ((28, 14, 7), (2, 2, 6), 2254),  # poses
        ((24, 12), (2, 6), 2016),  # palms
    ],
)
def test_mediapipe_detectors_have_as_many_anchors_as_their_files(
    cells: tuple[int, ...], per_cell: tuple[int, ...], count: int
) -> None:
    assert len(MediapipeAnchors(style="mediapipe", cells=cells, per_cell=per_cell).boxes((1, 1))) == count


def test_mediapipe_anchors_of_blazeface() -> None:
    boxes = MediapipeAnchors(style="mediapipe").boxes((128, 128))
    assert boxes.shape == (896, 4)
    assert boxes[0].tolist() == [0.5 / 16, 0.5 / 16, 1, 1]
    assert boxes[2].tolist() == [1.5 / 16, 0.5 / 16, 1, 1]
    assert boxes[512].tolist() == [0.5 / 8, 0.5 / 8, 1, 1]
    assert boxes[-1].tolist() == [7.5 / 8, 7.5 / 8, 1, 1]


def test_an_anchor_by_itself_is_a_box() -> None:
    given = outputs()
    given["scores"][0, 12, 2] = 4.0  # the first box of the single cell: scale 0.95, square
    [[found]] = task().detect(given, [IDENTITY])
    assert found.label == "dog"
    assert found.score == pytest.approx(1 / (1 + math.exp(-4.0)))
    assert found.box == pytest.approx((2.5, 52.5, 97.5, 147.5))  # square on an input that is not
    assert found.points is None


def test_tensorflow_numbers_move_and_grow_the_anchor() -> None:
    given = outputs()
    given["scores"][0, 12, 1] = 4.0
    given["boxes"][0, 12] = [0.5, -1.0, math.log(0.5) * 5, math.log(0.25) * 5]  # y, x, h, w
    [[found]] = task().detect(given, [IDENTITY])
    middle = (50 - 0.1 * 95, 100 + 0.05 * 95)
    half = (95 * 0.25 / 2, 95 * 0.5 / 2)
    expected = (middle[0] - half[0], middle[1] - half[1], middle[0] + half[0], middle[1] + half[1])
    assert found.box == pytest.approx(expected)


def test_mediapipe_numbers_are_pixels_and_points_follow() -> None:
    given = outputs(11, 8, 1)
    given["scores"][0, 2] = 5.0  # the first of the second cell: centre (0.75, 0.25)
    given["boxes"][0, 2] = [1, 2, 20, 40, -3, -4, 5, 6]
    of = task(anchors=BLAZE, labels=["face"], background=False, order=[1, 0])
    [[found]] = of.detect(given, [IDENTITY])
    assert found.box == pytest.approx((75 + 1 - 10, 50 + 2 - 20, 75 + 1 + 10, 50 + 2 + 20))
    assert found.points is not None
    assert found.points.tolist() == [[80, 56], [72, 46]]


def test_softmax_reads_all_classes_and_labels_name_those_wanted() -> None:
    given = outputs()
    given["scores"][0, 12] = [0.0, 1.0, 3.0]
    given["scores"][0, 13:] = [9.0, 0.0, 0.0]
    given["scores"][0, :12] = [9.0, 0.0, 0.0]
    [[found]] = task(activation="softmax", labels={2: "dog"}).detect(given, [IDENTITY])
    assert found.score == pytest.approx(math.exp(3) / (1 + math.exp(1) + math.exp(3)))
    assert task(activation="softmax", labels={1: "cat"}).detect(given, [IDENTITY]) == [[]]


@pytest.mark.parametrize(
    ("params", "read"),
    [
        ({"labels": {2: "dog"}}, [2]),
        ({"labels": {2: "dog"}, "activation": "none"}, [2]),
        ({"labels": {2: "dog"}, "activation": "softmax"}, None),  # each class counts for the others' scores
        ({}, [1, 2]),
    ],
)
def test_of_scores_that_stand_alone_it_reads_the_classes_wanted(params: dict[str, Any], read: list[int] | None) -> None:
    assert used_outputs(task(**params), outputs()) == {"boxes": None, "scores": read}
    with pytest.raises(TaskError, match="expected 1×18×4 boxes"):
        used_outputs(task(**params), outputs(anchors=17))


def test_what_is_not_read_does_not_matter() -> None:
    finds = task(labels={2: "dog"}, activation="none")
    some = outputs()
    some["scores"][0, 3, 2] = 0.9
    found = finds.detect(some, [IDENTITY])
    for name, numbers in used_outputs(finds, some).items():
        if numbers is not None:
            some[name][..., np.delete(np.arange(3), numbers)] = np.nan
    assert finds.detect(some, [IDENTITY]) == found
    assert len(found[0]) == 1


def test_classes_do_not_suppress_each_other_and_the_best_come_first() -> None:
    given = outputs()
    given["scores"][0, 12] = [-9, 2.0, 3.0]
    given["scores"][0, 17] = [-9, 1.0, -9]  # nearly the same place: suppressed by the other cat
    [found] = task().detect(given, [IDENTITY])
    assert [one.label for one in found] == ["dog", "cat"]
    [found] = task(max_objects=1).detect(given, [IDENTITY])
    assert [one.label for one in found] == ["dog"]


def test_an_axis_of_length_one_and_either_order_of_outputs_are_understood() -> None:
    given = outputs()
    given["scores"][0, 12, 2] = 4.0
    swapped = {"scores": given["scores"], "boxes": given["boxes"][:, :, None]}
    assert task().detect(swapped, [IDENTITY]) == task().detect(given, [IDENTITY])
    many = outputs(classes=91)
    many["scores"][0, 12, 2] = 4.0
    swapped = {"scores": many["scores"], "boxes": many["boxes"]}
    assert task().detect(swapped, [IDENTITY]) == task().detect(given, [IDENTITY])
    named = task(outputs=["boxes", "scores"], labels={2: "dog"})
    assert named.detect(outputs(classes=4), [IDENTITY]) == [[]]


@pytest.mark.parametrize(
    ("params", "given", "text"),
    [
        ({}, outputs(17), "expected 1×18×4"),
        ({}, {"one": np.zeros((1, 18, 4))}, "has 1 outputs"),
        ({}, outputs(classes=4), "1×18×4 and 1×18×4: either could be the boxes"),
        ({"outputs": ["boxes", "score"]}, outputs(), "did you mean scores"),
        ({"labels": {5: "cow"}}, outputs(), "3 classes, not number 5"),
        ({}, outputs(18, 6), "expected 1×18×4"),
        ({"anchors": BLAZE, "order": [0]}, outputs(11, 4), "beyond the network's 0"),
    ],
)
def test_outputs_that_do_not_fit_are_named(params: dict[str, Any], given: dict[str, Any], text: str) -> None:
    with pytest.raises(TaskError) as error:
        task(**params).detect(given, [IDENTITY])
    assert text in str(error.value)


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"anchors": {"style": "yolo"}}, "anchors"),
        ({"anchors": {"style": "mediapipe", "cells": [4]}}, "per_cell"),
        ({"labels": {0: "background"}}, "count from 1"),
        ({"order": [1]}, "style mediapipe"),
        ({"labels": []}, "labels"),
    ],
)
def test_wrong_parameters_are_named(params: dict[str, Any], text: str) -> None:
    with pytest.raises(TaskError, match=text):
        task(**params)


def test_numbered_labels_survive_the_wire() -> None:
    node = {"model": "/m.onnx", "input": {"size": [8, 8]}, "task": {"type": "ssd", "labels": {3: "car"}}}
    spec = parse_group({"name": "g", "nodes": {"n": node}})
    again = codec.decode(GroupSpec, codec.encode(spec))
    assert again.nodes["n"].task.params == {"labels": {"3": "car"}}
    given = {"type": "ssd", "anchors": TENSORFLOW, **again.nodes["n"].task.params}
    build_task(TaskSpec.model_validate(given), InputSpec(size=(8, 8)))
