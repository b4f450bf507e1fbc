"""Detection of text: against an independent decode (support/db_oracle.py), and by a network in PaddleOCR's layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from hams_agents.backends.onnxruntime import OnnxRuntimeBackend
from hams_agents.devices import parse
from hams_agents.evaluate.requests import Decode
from hams_agents.evaluate.run import decode
from hams_agents.tasks.base import Detected, TensorInfo
from hams_agents.tasks.crops import cut
from hams_agents.tasks.registry import build_task
from hams_agents.tasks.text_detection import TextDetection
from hams_shared.errors import TaskError
from hams_shared.group.node_spec import CropSpec, InputSpec, TaskSpec
from support import db_oracle, dense

ONE = np.eye(2, 3)


def task(size: tuple[int, int] = (160, 120), **params: Any) -> Any:
    return build_task(TaskSpec.model_validate({"type": "text_detection", **params}), InputSpec(size=size))


def find(chances: np.ndarray, to_frame: np.ndarray = ONE, **params: Any) -> list[Detected]:
    height, width = chances.shape
    found: list[Detected] = task((width, height), **params).detect({"y": chances[None, None]}, [to_frame], None)[0]
    return found


def written(texts: list[tuple[float, float, float, float, float, float]], size: tuple[int, int]) -> np.ndarray:
    """A map with texts: centre x, y, width, height, angle in degrees, probability."""
    image = np.zeros(size[::-1], np.float32)
    for x, y, width, height, angle, chance in texts:
        corners = cv2.boxPoints(((x, y), (width, height), angle))
        cv2.fillPoly(image, [np.round(corners * 16).astype(np.int32)], (chance,), cv2.LINE_8, 4)
    return image


TEXTS = [(40, 20, 60, 8, 0, 0.95), (110, 40, 50, 10, 25, 0.9), (50, 80, 40, 9, -40, 0.8), (140, 90, 8, 40, 3, 0.7)]


@pytest.mark.parametrize("ratio", [1.5, 2.0])
def test_rectangles_and_scores_are_those_of_a_decode_of_its_own(ratio: float) -> None:
    chances = written(TEXTS, (160, 120))
    chances[100:103, 5:30] = 0.45  # not sure enough
    chances[115, 60] = 0.99  # too small
    chances += np.random.default_rng(3).uniform(0, 0.04, chances.shape).astype(np.float32)
    found = find(chances, unclip=ratio, turn_tall=False)
    expected = db_oracle.decode(chances, 0.3, 0.6, ratio)
    assert len(found) == len(expected) == 4
    for one, (corners, score) in zip(found, expected, strict=True):
        assert one.points == pytest.approx(corners + 0.5, abs=0.3)
        assert one.score == pytest.approx(score, abs=0.05)
        low, high = one.points.min(axis=0), one.points.max(axis=0)  # type: ignore[union-attr]
        assert one.box == pytest.approx((*low, *high))


def test_a_rectangle_grows_by_area_over_perimeter() -> None:
    chances = np.zeros((60, 100), np.float32)
    chances[20:31, 10:71] = 0.9  # 60×10 between pixel centres
    [one] = find(chances, unclip=1.4)
    grown = 1.4 * 600 / 140
    corners = np.array([(10, 20), (70, 20), (70, 30), (10, 30)]) + 0.5
    assert one.points == pytest.approx(corners + grown * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]))


def test_a_tall_text_begins_at_its_top_right() -> None:
    chances = np.zeros((100, 60), np.float32)
    chances[10:80, 20:30] = 0.9
    [turned], [plain] = find(chances), find(chances, turn_tall=False)
    assert turned.points == pytest.approx(np.roll(plain.points, -1, axis=0))  # type: ignore[arg-type]
    assert turned.box == plain.box


def test_an_output_smaller_than_the_input_and_the_frame() -> None:
    chances = np.zeros((30, 40), np.float32)
    chances[10:15, 5:26] = 0.8
    built = task((80, 120), unclip=0.0)
    to_frame = np.array([[3.0, 0, 10], [0, 0.5, 0]])
    [[one]] = built.detect({"y": chances[None, None]}, [to_frame], (100, 100))
    assert one.points[0] == pytest.approx((5.5 * 2 * 3 + 10, 10.5 * 4 * 0.5))
    assert one.box == pytest.approx((43, 21, 100, 29))  # clipped to the frame, its points are not


def test_a_map_that_is_all_noise_takes_no_time() -> None:
    chances = np.random.default_rng(1).uniform(0, 1, (640, 640)).astype(np.float32)
    assert len(find(chances, threshold=0.1, binarize=0.9)) <= 1000


def test_through_a_network_its_frame_and_the_crop_of_a_child(tmp_path: Path) -> None:
    frame = np.zeros((200, 400, 3), np.uint8)
    corners = cv2.boxPoints(((200, 100), (160, 24), 30))
    cv2.fillPoly(frame, [corners.astype(np.int32)], (250, 250, 250))
    samples = tmp_path / "samples"
    samples.mkdir()
    cv2.imwrite(str(samples / "0.png"), frame)
    path = dense.textness(tmp_path, (200, 200))
    node = {"model": "x", "input": {"size": [200, 200], "fit": "letterbox"}, "task": {"type": "text_detection"}}
    request = {"do": "decode", "device": "onnxruntime:CPU", "name": "n", "node": node, "models": [{"path": str(path)}]}
    wanted = Decode.model_validate({**request, "samples": str(samples)})
    [result] = decode(wanted, OnnxRuntimeBackend(parse("onnxruntime:CPU")))["results"]
    [one] = result["items"][0]
    assert (one["label"], one["score"] > 0.8) == ("text", True), one["score"]
    points = np.array(one["points"])
    grown = 1.5 * 160 * 24 / (2 * 184)
    expected = db_oracle.smallest(cv2.boxPoints(((200, 100), (160 + 2 * grown, 24 + 2 * grown), 30)))
    assert points == pytest.approx(expected, abs=3)
    crops, _, _ = cut(
        frame, None, [Detected(tuple(one["box"]), 1.0, "text", points)], CropSpec(align="corners"), (96, 32)
    )
    inner = crops[0, 14:18, 20:76]
    assert inner.min() > 200  # the text lies level in its crop


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (np.zeros((1, 2, 8, 8), np.float32), "expected 1×H×W"),
        (np.full((1, 1, 8, 8), np.nan, np.float32), "not finite"),
        (np.full((1, 1, 8, 8), 3.0, np.float32), "no probabilities"),
    ],
)
def test_errors(values: np.ndarray, text: str) -> None:
    with pytest.raises(TaskError, match=text):
        task((8, 8)).detect({"y": values}, [ONE], (8, 8))


def test_what_fits() -> None:
    image = TensorInfo("x", (None, 3, None, None), "float32")
    assert TextDetection.fits([TensorInfo("y", (None, 1, None, None), "float32")], image, {}) == {}
    assert TextDetection.fits([TensorInfo("y", (None, 2, None, None), "float32")], image, {}) is None
    assert TextDetection.fits([TensorInfo("y", (1, 8, 8), "float32")], image, {}) is None
