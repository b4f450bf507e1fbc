"""Detectors whose networks decode boxes themselves: DetectionOutput and YOLO."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hams_agents.tasks.base import DetectionTask
from hams_agents.tasks.registry import build_task, is_detection
from hams_shared.errors import TaskError
from hams_shared.group.node_spec import InputSpec, TaskSpec

IDENTITY = np.eye(2, 3)


def task(type_: str, **params: Any) -> DetectionTask:
    built = build_task(TaskSpec.model_validate({"type": type_, **params}), InputSpec(size=(200, 100)))
    assert is_detection(built)
    return built


def listed(*rows: list[float], count: int = 6) -> np.ndarray:
    """A DetectionOutput list of `count` rows; what is not given is rubbish after its end."""
    found = np.full((1, 1, count, 7), 0.9, np.float32)
    for index, row in enumerate([*rows, [-1.0, 0, 0, 0, 0, 0, 0]]):
        found[0, 0, index] = row
    return found


def test_detection_output_reads_up_to_the_end_mark() -> None:
    of = task("detection_output", labels={1: "person", 3: "bike"})
    out = listed([0, 1, 0.8, 0.1, 0.2, 0.5, 0.6], [0, 2, 0.9, 0, 0, 1, 1], [0, 3, 0.95, 0.5, 0.5, 1.2, 0.9])
    [found] = of.detect({"d": out}, [IDENTITY])
    assert [(one.label, round(one.score, 2)) for one in found] == [("bike", 0.95), ("person", 0.8)]
    assert found[0].box == pytest.approx((100, 50, 200, 90))  # clipped to the input
    assert found[1].box == pytest.approx((20, 20, 100, 60))
    assert found[0].points is None


def test_detection_output_of_a_batch_and_of_nothing() -> None:
    of = task("detection_output", labels={1: "person"})
    two = np.concatenate((listed([0, 1, 0.8, 0, 0, 1, 1]), listed([0, 1, 0.2, 0, 0, 1, 1])))
    assert [len(one) for one in of.detect({"d": two}, [IDENTITY, IDENTITY])] == [1, 0]
    assert of.detect({"d": np.zeros((1, 1, 0, 7), np.float32)}, [IDENTITY]) == [[]]


def test_detection_output_that_is_something_else_is_named() -> None:
    of = task("detection_output", labels={1: "person"})
    with pytest.raises(TaskError, match="1×1917×4, expected 1×1×N×7"):
        of.detect({"d": np.zeros((1, 1917, 4))}, [IDENTITY])
    with pytest.raises(TaskError, match="labels"):
        task("detection_output", labels={})


def candidates(version: str) -> np.ndarray:
    """Two boxes nearly alike of one class, one of another in the same place, one far off; C = 2."""
    boxes = [[50, 40, 20, 10], [51, 40, 20, 10], [50, 40, 20, 10], [150, 60, 40, 30], [20, 20, 10, 10]]
    scores = [[0.9, 0.1], [0.8, 0.1], [0.1, 0.7], [0.2, 0.6], [0.1, 0.1]]
    if version == "v5":
        return np.array([[[*b, 0.5, *(2 * s for s in c)] for b, c in zip(boxes, scores, strict=True)]], np.float32)
    return np.array([[[*b, *c] for b, c in zip(boxes, scores, strict=True)]], np.float32).transpose(0, 2, 1)


@pytest.mark.parametrize("version", ["v5", "v8"])
def test_yolo_layouts_say_the_same(version: str) -> None:
    of = task("yolo", version=version, labels=["cat", "dog"])
    [found] = of.detect({"o": candidates(version)}, [IDENTITY])
    assert [(one.label, round(one.score, 2)) for one in found] == [("cat", 0.9), ("dog", 0.7), ("dog", 0.6)]
    assert found[0].box == pytest.approx((40, 35, 60, 45))
    assert found[2].box == pytest.approx((130, 45, 170, 75))
    [only] = task("yolo", version=version, labels=["cat", "dog"], only=["dog"]).detect(
        {"o": candidates(version)}, [IDENTITY]
    )
    assert [one.label for one in only] == ["dog", "dog"]


def test_yolo_with_another_number_of_classes_is_named() -> None:
    of = task("yolo", labels=["cat", "dog", "cow"])
    with pytest.raises(TaskError, match=r"expected 1×7×P \(v8\), .* for 3 labels"):
        of.detect({"o": candidates("v8")}, [IDENTITY])
    with pytest.raises(TaskError, match="cow"):
        task("yolo", labels=["cat"], only=["cow"])
