"""What all detectors share: scores over a threshold, suppression by class, and time that noise cannot lengthen."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hams_agents.tasks.decoding import MAX_CANDIDATES, keep_best, over_threshold
from hams_agents.tasks.registry import build_task, is_detection
from hams_shared.group.node_spec import InputSpec, TaskSpec
from support.examples import examples

IDENTITY = np.eye(2, 3)


def softmax(row: list[float]) -> list[float]:
    powers = [math.exp(v) for v in row]
    return [p / sum(powers) for p in powers]


@examples(100)
@given(
    st.lists(st.lists(st.floats(-8, 8, width=32), min_size=4, max_size=4), min_size=1, max_size=12),
    st.sampled_from([(0, 1, 2, 3), (1, 2, 3), (2,), (0, 3)]),
    st.sampled_from(["sigmoid", "softmax"]),
    st.floats(0.05, 0.95),
)
def test_what_passes_is_what_passes_when_all_are_computed(
    values: list[list[float]], wanted: tuple[int, ...], activation: Any, threshold: float
) -> None:
    chances = [softmax(row) if activation == "softmax" else [1 / (1 + math.exp(-v)) for v in row] for row in values]
    every = {(i, c): row[c] for i, row in enumerate(chances) for c in wanted}
    rows, classes, scores = over_threshold(np.array(values, np.float32), np.array(wanted), activation, threshold)
    found = dict(zip(zip(rows.tolist(), classes.tolist(), strict=True), scores.tolist(), strict=True))
    assert all(math.isclose(score, every[key], rel_tol=1e-4) for key, score in found.items())
    sure = {key for key, score in every.items() if score > threshold * 1.0001}
    near = {key for key, score in every.items() if score > threshold * 0.9999}
    assert sure <= found.keys() <= near


def test_plain_scores_and_no_more_than_the_best_candidates() -> None:
    values = np.random.default_rng(0).random((5000, 2), np.float32)
    rows, classes, scores = over_threshold(values, np.array([0, 1]), "none", 0.5)
    assert len(scores) == MAX_CANDIDATES
    assert scores.min() == np.sort(values.ravel())[-MAX_CANDIDATES]
    np.testing.assert_array_equal(values[rows, classes], scores)


@examples(60)
@given(st.integers(0, 2**32 - 1), st.integers(0, 40), st.floats(0.1, 0.9), st.integers(1, 10))
def test_suppression_by_class_is_that_of_each_class_alone(seed: int, count: int, iou: float, limit: int) -> None:
    random = np.random.default_rng(seed)
    low = random.uniform(0, 50, (count, 2))
    boxes = np.concatenate((low, low + random.uniform(1, 40, (count, 2))), axis=1)
    scores, classes = random.permutation(count) / 50, random.integers(0, 3, count)
    alone: list[int] = []
    for number in range(3):
        of = np.flatnonzero(classes == number)
        alone += of[keep_best(boxes[of], scores[of], iou)].tolist()
    together = keep_best(boxes, scores, iou, classes).tolist()
    assert sorted(alone) == sorted(together)
    assert keep_best(boxes, scores, iou, classes, limit).tolist() == together[:limit]


NAMES = [str(number) for number in range(80)]


@pytest.mark.parametrize(
    ("params", "shapes"),
    [
        (
            {
                "type": "ssd",
                "anchors": {"style": "tensorflow", "cells": [19, 10, 5, 3, 2, 1]},
                "labels": NAMES,
                "activation": activation,
                "threshold": 0.01,
            },
            {"b": (1, 1917, 4), "s": (1, 1917, 81)},
        )
        for activation in ("sigmoid", "softmax")
    ]
    + [
        ({"type": "yolo", "version": "v5", "labels": NAMES}, {"o": (1, 25200, 85)}),
        ({"type": "yolo", "version": "v8", "labels": NAMES}, {"o": (1, 84, 8400)}),
        ({"type": "detection_output", "labels": {1: "x"}, "iou": 0.99}, {"o": (1, 1, 200, 7)}),
    ],
)
@pytest.mark.timeout(30)
def test_noise_gives_no_more_objects_than_asked_for(params: dict[str, Any], shapes: dict[str, Any]) -> None:
    """It used to take seconds on 80 classes: thousands of candidates each, all suppressed to the last."""
    task = build_task(TaskSpec.model_validate({**params, "max_objects": 20}), InputSpec(size=(320, 320)))
    assert is_detection(task)
    random = np.random.default_rng(0)
    noise = {name: random.uniform(0.3, 1, shape).astype(np.float32) for name, shape in shapes.items()}
    if params["type"] == "yolo":  # pixels
        boxes = noise["o"][..., :4] if params["version"] == "v5" else noise["o"][:, :4]
        boxes *= 320
    if params["type"] == "detection_output":
        noise["o"][..., 1] = 1
        noise["o"][..., 3:] = [0.1, 0.1, 0.2, 0.2]
        noise["o"][..., 3:] += random.uniform(0, 0.7, (1, 1, 200, 1))
    [found] = task.detect(noise, [IDENTITY])
    assert len(found) == 20
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
