"""Agreement of class maps, depths, quadrilaterals and labels of texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from hams_services.agreement.compare import compare
from hams_services.optimizer.accuracy.samples import read_labels
from hams_shared.errors import BadInputError, MessageError

RNG = np.random.default_rng(5)


def png(pixels: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".png", pixels)[1].tobytes())


def classes(pixels: np.ndarray, **more: Any) -> dict[str, Any]:
    return {"label": "x", "shares": {"x": 1.0}, "map": {"size": list(pixels.shape), "png": png(pixels), **more}}


def depths(values: np.ndarray, kind: str = "inverse") -> dict[str, Any]:
    low, step = float(values.min()), float(np.ptp(values)) / 65535 or 1.0
    pixels = ((values - low) / step).round().astype(np.uint16)
    facts = {"kind": kind, "value": float(np.median(values)), "min": low, "max": float(values.max())}
    return {**facts, "map": {"png": png(pixels), "kind": kind, "scale": step, "offset": low}}


def test_mean_intersection_over_union_is_that_of_a_plain_loop() -> None:
    reference = [RNG.integers(0, 4, (12, 9)).astype(np.uint8) for _ in range(3)]
    found = [
        np.where(RNG.uniform(size=a.shape) < 0.2, RNG.integers(0, 4, a.shape), a).astype(np.uint8) for a in reference
    ]
    shares = []
    for index in range(4):
        both = sum(
            int(x == y == index)
            for a, b in zip(reference, found, strict=True)
            for x, y in zip(a.flat, b.flat, strict=True)
        )
        either = sum(
            int(index in (x, y))
            for a, b in zip(reference, found, strict=True)
            for x, y in zip(a.flat, b.flat, strict=True)
        )
        shares.append(both / either)
    result = compare([classes(a) for a in reference], [classes(b) for b in found])
    assert result.agreement == pytest.approx(sum(shares) / 4, abs=1e-6)
    assert result.metrics["least_iou"] == pytest.approx(min(shares), abs=1e-6)
    assert "same_label" not in result.metrics


def test_void_pixels_tiny_classes_and_other_sizes() -> None:
    reference = np.zeros((100, 100), np.uint8)
    reference[:, 50:] = 1
    reference[0, 0] = 7  # one pixel of 10000
    reference[90:, :] = 255
    found = np.where(reference == 255, 3, reference).astype(np.uint8)
    found[0, 0] = 0
    assert compare([classes(reference)], [classes(found)]).agreement > 0.999
    assert compare([classes(reference)], [classes(found[::2, ::2].copy())]).agreement > 0.98
    assert compare([classes(reference)], [{"label": "x"}]).agreement == 0.0


def test_inverse_depth_is_compared_after_scale_and_offset() -> None:
    values = np.cumsum(RNG.uniform(size=(20, 30)), axis=1)
    assert compare([depths(values)], [depths(3 * values + 7)]).agreement > 0.999
    noisy = values + RNG.normal(size=values.shape) * 0.05 * np.ptp(values)
    low, high = np.quantile(values, (0.05, 0.95))
    slope, offset = np.polyfit(noisy.ravel(), values.ravel(), 1)
    expected = np.abs(values - slope * noisy - offset).mean() / (high - low)
    assert compare([depths(values)], [depths(noisy)]).metrics["depth_error"] == pytest.approx(expected, rel=1e-2)
    assert compare([depths(values)], [depths(-values)]).agreement < 0.8
    flat = depths(np.full((4, 4), 2.0))
    assert compare([flat], [flat]).agreement == 1.0


def test_metric_depth_is_compared_as_it_is() -> None:
    values = RNG.uniform(1, 10, (20, 30))
    result = compare([depths(values, "metric")], [depths(values * 1.1, "metric")])
    assert result.agreement == pytest.approx(0.9, abs=1e-3)
    assert result.metrics["delta_1.25"] == 1.0
    assert compare([depths(values, "metric")], [depths(values * 1.3, "metric")]).metrics["delta_1.25"] == 0.0


def quad(points: list[list[float]]) -> dict[str, Any]:
    array = np.array(points)
    return {
        "box": [*array.min(axis=0).tolist(), *array.max(axis=0).tolist()],
        "score": 0.9,
        "label": "text",
        "points": points,
    }


def test_quadrilaterals_overlap_by_their_corners() -> None:
    up = quad([[0, 90], [90, 0], [100, 10], [10, 100]])
    down = quad([[10, 0], [100, 90], [90, 100], [0, 10]])  # the same box, but the other diagonal
    assert up["box"] == down["box"]
    assert compare([[up]], [[up]]).metrics["turned f1"] == 1.0
    assert compare([[up]], [[down]]).metrics["turned f1"] == 0.0


def test_labels_of_texts_and_shares() -> None:
    one = {"label": "cat", "score": 0.9, "scores": {"cat": 0.9, "values": 0.1}, "embedding": [1.0, 0.0]}
    other = {"label": "cat", "score": 0.8, "scores": {"cat": 0.8}, "embedding": [0.8, 0.6]}
    result = compare([one], [other])
    assert result.agreement == pytest.approx(0.8)
    assert result.metrics["same_label"] == 1.0
    assert compare([{"shares": {"a": 0.7, "b": 0.3}}], [{"shares": {"a": 0.6, "c": 0.4}}]).agreement == pytest.approx(
        0.6
    )


def test_labels_may_be_maps_in_files(tmp_path: Path) -> None:
    (tmp_path / "truth").mkdir()
    pixels = RNG.integers(0, 3, (8, 8)).astype(np.uint8)
    (tmp_path / "truth" / "1.png").write_bytes(png(pixels))
    (tmp_path / "1.png").write_bytes(b"x")
    (tmp_path / "labels.json").write_text(json.dumps({"1.png": {"map": "truth/1.png"}}))
    [label] = read_labels(tmp_path).values()
    assert compare([label], [classes(pixels)]).agreement == 1.0
    for outside in ("../x.png", "truth/2.png"):
        (tmp_path / "labels.json").write_text(json.dumps({"1.png": {"map": {"png": outside, "scale": 0.001}}}))
        with pytest.raises(BadInputError, match="which is not below"):
            read_labels(tmp_path)


def test_what_is_no_map() -> None:
    color = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(MessageError, match="not a grey PNG"):
        compare([classes(color)], [classes(color)])
    with pytest.raises(BadInputError, match="no pixel"):
        compare([classes(np.full((4, 4), 255, np.uint8))], [classes(np.zeros((4, 4), np.uint8))])
