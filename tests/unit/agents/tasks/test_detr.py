"""DETR and its kin in the forms that are exported, against a decode in plain loops."""

from __future__ import annotations

import types
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hams_agents.tasks.base import DetectionTask
from hams_agents.tasks.detr import Detr, DetrParams
from hams_agents.tasks.registry import build_task, is_detection
from hams_shared.errors import TaskError
from hams_shared.group.node_spec import InputSpec, TaskSpec
from support import oracles

SIZE = (128, 96)
LABELS = ("cat", "dog", "cow")
IDENTITY = np.eye(2, 3)
HALF = np.array([[0.5, 0, 0], [0, 2.0, 0]])
"""The image is 64×192, stretched to the input."""


def task(fit: str = "stretch", metadata: dict[str, str] | None = None, **params: Any) -> DetectionTask:
    spec = TaskSpec.model_validate({"type": "detr", **params})
    built = build_task(spec, InputSpec.model_validate({"size": SIZE, "fit": fit}), metadata)
    assert is_detection(built)
    return built


def queries(seed: int, classes: int = 3, count: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Logits and boxes of one image; a few queries are sure, and some of two classes."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-3, 1, (count, classes))
    hot = rng.choice(count, 12)
    logits[hot, rng.integers(0, classes, 12)] = rng.uniform(-1, 5, 12)
    return logits.astype(np.float32), rng.uniform(0.05, 0.7, (count, 4)).astype(np.float32)


def same(found: list[Any], rows: list[oracles.Row], names: tuple[str, ...] = LABELS) -> None:
    rows = [oracles.clipped(row, SIZE) for row in rows]
    rows = [row for row in rows if row[2] > row[0] and row[3] > row[1]]
    assert [one.label for one in found] == [names[row[5]] for row in rows]
    assert [one.score for one in found] == pytest.approx([row[4] for row in rows], abs=1e-5)
    for one, row in zip(found, rows, strict=True):
        assert one.box == pytest.approx(row[:4], abs=1e-3)


@pytest.mark.parametrize("names", [("logits", "pred_boxes"), ("pred_boxes", "logits"), ("labels", "dets")])
@settings(max_examples=12)
@given(seed=st.integers(0, 10**6))
def test_each_class_of_a_query_is_a_candidate(names: tuple[str, str], seed: int) -> None:
    logits, boxes = queries(seed)
    outputs = {name: (boxes if name in ("pred_boxes", "dets") else logits)[None] for name in names}
    [found] = task(labels=LABELS).detect(outputs, [IDENTITY])
    same(found, oracles.detr(logits, boxes, SIZE, 0.4, no_object=False))


@settings(max_examples=12)
@given(seed=st.integers(0, 10**6))
def test_the_original_has_a_class_for_no_object(seed: int) -> None:
    logits, boxes = queries(seed, classes=4)
    [found] = task(labels=LABELS, activation="softmax").detect(
        {"logits": logits[None], "pred_boxes": boxes[None]}, [IDENTITY]
    )
    same(found, sorted(oracles.detr(logits, boxes, SIZE, 0.4, no_object=True), key=lambda row: -row[4]))
    with pytest.raises(TaskError, match="has 4 classes, labels has 3.*activation: softmax"):
        task(labels=LABELS).detect({"logits": logits[:, :4][None, :, :], "boxes": boxes[None, :, :]}, [IDENTITY])


def deployed(seed: int, sides: tuple[int, int]) -> tuple[dict[str, np.ndarray], list[oracles.Row]]:
    """What RT-DETR's own export gives for one image: the 30 best, boxes times `orig_target_sizes`."""
    logits, boxes = queries(seed)
    rows = oracles.detr(logits, boxes, sides, 0.0, no_object=False)[:30]
    outputs = {
        "labels": np.array([[row[5] for row in rows]], np.int64),
        "boxes": np.array([[row[:4] for row in rows]], np.float32),
        "scores": np.array([[row[4] for row in rows]], np.float32),
    }
    return outputs, rows


def test_deployed_boxes_are_measured_in_what_orig_target_sizes_holds() -> None:
    outputs, rows = deployed(1, SIZE)
    sure = [row for row in rows if row[4] >= 0.4]
    [found] = task(labels=LABELS).detect(outputs, [IDENTITY])
    assert len(found) >= 3
    same(found, sure)
    [reference] = task(labels=LABELS).detect(outputs, [HALF])
    for sides, boxes in (((64, 192), "frame"), ((1, 1), "unit")):
        outputs, _ = deployed(1, sides)
        [found] = task(labels=LABELS, boxes=boxes).detect(outputs, [HALF])
        for one, other in zip(found, reference, strict=True):
            assert one.box == pytest.approx(other.box, abs=1e-2)
    reordered = {name: outputs[name] for name in ("scores", "labels", "boxes")}
    assert task(labels=LABELS, boxes="unit").detect(reordered, [HALF])[0] == found
    with pytest.raises(TaskError, match="boxes: frame needs input fit: stretch"):
        task(fit="letterbox", labels=LABELS, boxes="frame")


def test_boxes_in_pixels_of_the_image_are_mapped_by_what_the_node_gives() -> None:
    """As where `orig_target_sizes` is fed with the image's size: the map is from these pixels to the frame."""
    outputs, rows = deployed(1, (1280, 960))
    context = types.SimpleNamespace(input=InputSpec(size=SIZE), metadata={}, pixels="image")
    of = Detr(DetrParams(labels=LABELS), context)  # type: ignore[arg-type]
    assert Detr.image_pixels
    [found] = of.detect(outputs, [np.array([[0.1, 0, 0], [0, 0.1, 0]])], SIZE)
    same(found, [(*(v / 10 for v in row[:4]), *row[4:]) for row in rows if row[4] >= 0.4])
    logits, boxes = queries(1)
    with pytest.raises(TaskError, match="feed it the input's size"):
        of.detect({"logits": logits[None], "pred_boxes": boxes[None]}, [IDENTITY])


def test_rows_as_ultralytics_exports_them() -> None:
    logits, boxes = queries(9)
    scores = 1 / (1 + np.exp(-logits))
    rows = np.concatenate((boxes, scores), axis=1)[None]
    [found] = task(metadata={"names": str(dict(enumerate(LABELS)))}).detect({"output0": rows}, [IDENTITY])
    same(found, oracles.detr(logits, boxes, SIZE, 0.4, no_object=False))


def test_numbered_names_choose_among_category_ids() -> None:
    logits, boxes = queries(11, classes=91)
    outputs = {"dets": boxes[None], "labels": logits[None]}
    [found] = task(labels={1: "person", 90: "brush"}).detect(outputs, [IDENTITY])
    rows = [r for r in oracles.detr(logits, boxes, SIZE, 0.4, no_object=False) if r[5] in (1, 90)]
    same(found, rows, tuple({1: "person", 90: "brush"}.get(n, "") for n in range(91)))


@settings(max_examples=8)
@given(seed=st.integers(0, 10**6))
def test_masks_are_those_of_their_query(seed: int) -> None:
    logits, boxes = queries(seed)
    maps = np.random.default_rng(seed).normal(0, 1, (40, 24, 32)).astype(np.float32)
    outputs = {"dets": boxes[None], "labels": logits[None], "masks": maps[None]}
    [found] = task(labels=LABELS).detect(outputs, [IDENTITY])
    rows = [oracles.clipped(row, SIZE) for row in oracles.detr(logits, boxes, SIZE, 0.4, no_object=False)]
    rows = [row for row in rows if row[2] > row[0] and row[3] > row[1]]
    for one, row in zip(found, rows, strict=True):
        values = oracles.mask(lambda x, y, m=maps[row[6]]: oracles.bilinear(m, x / 4, y / 4), one.box, 0.0)
        assert one.mask.bits.shape == values.shape
        clear = np.abs(values) > 0.02
        assert (one.mask.bits == (values > 0))[clear].all()


MISFITS = {
    "a YOLO": ({"output0": np.zeros((1, 7, 252))}, "may be those of task yolo"),
    "classes": (
        {"logits": np.zeros((1, 300, 80)), "pred_boxes": np.zeros((1, 300, 4))},
        "has 80 classes, labels has 3",
    ),
    "both four": ({"a": np.zeros((1, 300, 4)), "b": np.zeros((1, 300, 4))}, "could both be the boxes"),
    "found": (
        {"l": np.full((1, 5), 7), "b": np.zeros((1, 5, 4)), "s": np.ones((1, 5), np.float32)},
        "found class 7, labels has 3",
    ),
    "a vector": ({"x": np.zeros((1, 1000))}, "expected N×Q×C logits"),
}


@pytest.mark.parametrize(("outputs", "text"), MISFITS.values(), ids=MISFITS)
def test_what_does_not_fit_is_named(outputs: dict[str, np.ndarray], text: str) -> None:
    with pytest.raises(TaskError, match=text):
        task(labels=LABELS).detect(outputs, [IDENTITY])


@pytest.mark.parametrize(
    "outputs",
    [
        {"a": np.zeros((1, 300, 3)), "b": np.zeros((1, 300, 4))},
        {"a": np.zeros((1, 300)), "b": np.zeros((1, 300, 4))},
        {"a": np.zeros((1, 300, 4)), "b": np.zeros((1, 100, 3))},
    ],
    ids=["exchanged", "two axes", "other queries"],
)
def test_outputs_that_are_named_must_fit_too(outputs: dict[str, np.ndarray]) -> None:
    with pytest.raises(TaskError, match="expected N×Q×C logits"):
        task(labels=LABELS, outputs=["a", "b"]).detect(outputs, [IDENTITY])
