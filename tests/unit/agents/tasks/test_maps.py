"""Segmentation and depth: on arrays in the layouts of exporters, and on real networks, with and without letterbox."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hams_agents.backends.onnxruntime import OnnxRuntimeBackend
from hams_agents.devices import parse
from hams_agents.evaluate.requests import Collect, Decode
from hams_agents.evaluate.run import collect, decode
from hams_agents.tasks import segmentation
from hams_agents.tasks.base import TaskContext, TensorInfo
from hams_agents.tasks.depth import Depth
from hams_agents.tasks.registry import build_task, describe, gives_objects, is_detection, used_outputs
from hams_agents.tasks.segmentation import Segmentation
from hams_shared.errors import TaskError
from hams_shared.group.node_spec import InputSpec, TaskSpec
from support import dense

LABELS = ["road", "sky", "car"]
COLORS = [(60, 60, 60), (230, 160, 90), (20, 20, 220)]
"""B, G, R."""
STREET = np.zeros((90, 160, 3), np.uint8)
STREET[:40] = COLORS[1]
STREET[40:] = COLORS[0]
STREET[52:76, 32:64] = COLORS[2]
STREET[60:72, 120:140] = COLORS[2]
ONE = np.eye(2, 3)


def task(type: str, size: tuple[int, int] = (8, 8), fit: str = "stretch", **params: Any) -> Any:
    spec = InputSpec.model_validate({"size": size, "fit": fit})
    return build_task(TaskSpec.model_validate({"type": type, **params}), spec)


def answer(built: Any, values: np.ndarray, filled: tuple[int, int] = (8, 8), to_frame: np.ndarray = ONE) -> Any:
    return describe(built, {"y": values}, [to_frame] * len(values), [filled] * len(values))[0]


def run(path: Path, image: np.ndarray, tmp_path: Path, input: dict[str, Any], task: dict[str, Any]) -> Any:
    """The answer of a network to an image, by the agent's own code."""
    samples = tmp_path / "samples"
    samples.mkdir(exist_ok=True)
    cv2.imwrite(str(samples / "0.png"), image)
    node = {"model": "x", "input": input, "task": task}
    request = {"do": "decode", "device": "onnxruntime:CPU", "name": "n", "node": node, "models": [{"path": str(path)}]}
    wanted = Decode.model_validate({**request, "samples": str(samples)})
    [result] = decode(wanted, OnnxRuntimeBackend(parse("onnxruntime:CPU")))["results"]
    assert "error" not in result, result
    return result["items"][0]


# ── segmentation ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("form", ["logits", "nhwc", "argmax", "upsampled"])
@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
def test_a_network_in_each_layout(tmp_path: Path, form: str, fit: str) -> None:
    path = dense.segmenter(tmp_path, COLORS, (160, 160), form)
    input = {"size": [160, 160], "fit": fit, **({"pad": 128} if fit == "letterbox" else {})}
    item = run(path, STREET, tmp_path, input, {"type": "segmentation", "labels": LABELS})
    expected = dense.shares(STREET, COLORS, LABELS)
    assert item["shares"] == pytest.approx(expected, abs=0.03)  # at a quarter of the input
    assert (item["label"], item["score"]) == ("road", item["shares"]["road"])
    shown = item["map"]
    pixels = dense.png(shown["png"])
    assert list(pixels.shape) == shown["size"]
    assert shown["labels"] == {"0": "road", "1": "sky", "2": "car"}
    to_frame = np.array(shown["to_frame"])
    for (x, y), label in {(80, 10): 1, (10, 80): 0, (48, 64): 2, (130, 66): 2}.items():
        column, row = np.linalg.inv(to_frame[:, :2]) @ ((x, y) - to_frame[:, 2])
        assert pixels[int(row), int(column)] == label


def test_what_is_padded_is_cut_away() -> None:
    scores = np.zeros((1, 3, 8, 8), np.float32)
    scores[:, 2] = 1  # padding is of class 2
    scores[:, 1, :4, :6] = 2
    item = answer(task("segmentation", labels=LABELS, png=True), scores, filled=(6, 4))
    assert item["shares"] == {"sky": 1.0}
    assert item["map"]["size"] == [4, 6]


@settings(max_examples=30)
@given(st.integers(2, 6), st.integers(1, 12), st.integers(1, 12), st.booleans(), st.integers(0, 999))
def test_classes_and_shares_are_those_of_a_plain_loop(classes: int, h: int, w: int, last: bool, seed: int) -> None:
    scores = np.random.default_rng(seed).integers(-3, 4, (1, classes, h, w)).astype(np.float32)
    labels = [f"c{index}" for index in range(classes)]
    given_scores = np.ascontiguousarray(scores.transpose(0, 2, 3, 1)) if last else scores
    built = task("segmentation", labels=labels, png=True, layout="nhwc" if last else "nchw")
    item = answer(built, given_scores)
    expected = np.zeros((h, w), int)
    for row in range(h):
        for column in range(w):
            mine = scores[0, :, row, column].tolist()
            expected[row, column] = mine.index(max(mine))
    assert (dense.png(item["map"]["png"]) == expected).all()
    counts = {labels[i]: (expected == i).sum() / (h * w) for i in range(classes) if (expected == i).any()}
    assert item["shares"] == pytest.approx(counts, abs=1e-4)


def test_one_channel_is_a_class_and_its_background() -> None:
    logits = np.full((1, 1, 4, 4), -2.0, np.float32)
    logits[0, 0, :2, :2] = 2.0
    built = task("segmentation", labels=["none", "crack"], objects=True, background="none")
    item = answer(built, logits)
    assert item["shares"] == {"none": 0.75, "crack": 0.25}
    [one] = item["objects"]
    assert (one.label, one.box) == ("crack", (0, 0, 4, 4))
    assert one.score == pytest.approx(1 / (1 + np.exp(-2)))


def test_regions_are_objects_in_the_frame_the_largest_first() -> None:
    numbers = np.zeros((1, 8, 8), np.int64)
    numbers[0, 1:4, 1:3] = 2
    numbers[0, 5, 5] = 2
    numbers[0, 6, 6] = 2  # touches it by a corner
    numbers[0, 0, 7] = 2
    built = task("segmentation", labels=LABELS, objects=True, only=["car"], min_share=2 / 64)
    assert gives_objects(built)
    assert not is_detection(built)
    item = answer(built, numbers, to_frame=np.array([[10.0, 0, 5], [0, 20, 0]]))
    assert [(one.box, one.score, one.label) for one in item["objects"]] == [
        ((15, 20, 35, 80), 1.0, "car"),
        ((55, 100, 75, 140), 1.0, "car"),
    ]


def test_of_noise_only_the_largest_regions_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 9, (1, 64, 64))
    noise[0, 10:20, 10:30] = 3
    looked, region = [], segmentation._Region
    monkeypatch.setattr(segmentation, "_Region", lambda *of: looked.append(of) or region(*of))
    labels = [f"c{number}" for number in range(9)]
    built = task("segmentation", (64, 64), labels=labels, objects=True, min_share=0, max_objects=2)
    largest, _ = answer(built, noise, (64, 64))["objects"]
    assert largest.label == "c3"
    assert len(looked) == 2 * len(labels)


def test_padding_of_a_parents_crop_gives_no_samples(tmp_path: Path) -> None:
    """The optimizer's samples: a crop of the car alone is padded in the colour of the road, and shows no road."""
    street = np.full((96, 160, 3), COLORS[0], np.uint8)
    street[52:76, 32:64] = COLORS[2]
    (tmp_path / "frames").mkdir()
    cv2.imwrite(str(tmp_path / "frames" / "0.png"), street)
    models = {}
    nodes: dict[str, Any] = {"wheel": {"input": {"size": [8, 8]}, "parent": "car", "task": {"type": "raw"}}}
    for name, size, wanted in (("street", 160, "car"), ("car", 64, "road")):
        (tmp_path / name).mkdir()
        models[name] = {"path": str(dense.segmenter(tmp_path / name, COLORS, (size, size)))}
        task = {"type": "segmentation", "labels": LABELS, "objects": True, "only": [wanted]}
        nodes[name] = {"input": {"size": [size, size], "fit": "letterbox", "pad": COLORS[0][0]}, "task": task}
    nodes["car"]["parent"] = "street"
    group = {"name": "g", "nodes": {name: {"model": "x", **node} for name, node in nodes.items()}}
    request = {
        "do": "collect",
        "device": "onnxruntime:CPU",
        "group": group,
        "models": {**models, "wheel": models["car"]},
    }
    wanted = Collect.model_validate({**request, "frames": str(tmp_path / "frames"), "out": str(tmp_path / "out")})
    assert collect(wanted, OnnxRuntimeBackend(parse("onnxruntime:CPU"))) == {"street": 1, "car": 1, "wheel": 0}


def test_the_score_of_a_region_is_its_mean_probability() -> None:
    scores = np.zeros((1, 3, 4, 4), np.float32)
    scores[0, 2, 1, 1:3] = [1.0, 3.0]
    item = answer(task("segmentation", labels=LABELS, objects=True, only=["car"]), scores)
    expected = np.mean([np.exp(v) / (np.exp(v) + 2) for v in (1.0, 3.0)])
    assert item["objects"][0].score == pytest.approx(expected, abs=1e-6)


def test_the_map_at_the_resolution_of_the_frame() -> None:
    numbers = np.repeat(np.arange(2), 4)[None, None, :].repeat(8, axis=1)
    built = task("segmentation", labels=LABELS, png=True, resolution="frame")
    item = answer(built, numbers, (8, 6), np.array([[4.0, 0, 0], [0, 4.0, 0]]))
    pixels = dense.png(item["map"]["png"])
    assert item["map"]["to_frame"] == [[1, 0, 0], [0, 1, 0]]
    assert (pixels == np.repeat([[0, 1]], 16, axis=1).repeat(24, axis=0)).all()


@pytest.mark.parametrize(
    ("values", "params", "text"),
    [
        (np.zeros((1, 5, 8, 8), np.float32), {}, "5 classes, but 3 labels"),
        (np.zeros((1, 100), np.float32), {}, "expected 1×3×H×W"),
        (np.full((1, 8, 8), 3, np.int32), {}, "class 3, labels has 3"),
        (np.full((1, 8, 8), -1, np.int32), {}, "class -1"),
        (np.full((1, 8, 8), 0.5, np.float32), {}, "not class numbers"),
        (np.full((1, 3, 8, 8), np.nan, np.float32), {}, "not finite"),
        (np.full((1, 8, 8), np.nan, np.float32), {}, "class nan"),
        (np.zeros((1, 3, 8, 8), np.float32), {"output": "z"}, "no output 'z'"),
        (np.zeros((1, 3, 8, 8), np.float32), {"only": ["cow"]}, "cow"),
        (np.zeros((1, 3, 8, 8), np.float32), {"labels": ["a", "a"]}, "twice"),
    ],
)
def test_errors_name_what_does_not_fit(values: np.ndarray, params: dict[str, Any], text: str) -> None:
    with pytest.raises(TaskError, match=text):
        answer(task("segmentation", **{"labels": LABELS, **params}), values)


# ── depth ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("channel", [False, True])
@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
def test_a_depth_network(tmp_path: Path, channel: bool, fit: str) -> None:
    ramp = np.repeat(np.linspace(0, 255, 128).astype(np.uint8)[None, :, None], 64, axis=0).repeat(3, axis=2)
    path = dense.depth(tmp_path, (128, 128), channel)
    item = run(path, ramp, tmp_path, {"size": [128, 128], "fit": fit}, {"type": "depth", "kind": "metric", "unit": "m"})
    values = sorted(float(pixel[0]) for pixel in ramp[0])
    assert (item["min"], item["max"], item["unit"], item["kind"]) == (0, 255, "m", "metric")
    assert item["mean"] == pytest.approx(sum(values) / 128, abs=0.1)
    assert item["value"] == pytest.approx((values[63] + values[64]) / 2, abs=2)
    assert item["quantiles"] == pytest.approx({"0.05": 12.7, "0.25": 63.7, "0.75": 191, "0.95": 242}, abs=2)
    shown = item["map"]
    read = dense.png(shown["png"]).astype(float) * shown["scale"] + shown["offset"]
    assert dense.png(shown["png"]).dtype == np.uint16
    assert np.abs(read[0] - ramp[0, :, 0]).max() < 255 / 65535
    assert shown["size"] == ([64, 128] if fit == "letterbox" else [128, 128])


@settings(max_examples=30)
@given(st.integers(0, 999), st.sampled_from([0.0, 1e-3, 1.0, 1e4]), st.floats(0.1, 10), st.floats(-5, 5))
def test_a_reader_gets_depths_back(seed: int, spread: float, scale: float, offset: float) -> None:
    values = np.random.default_rng(seed).normal(size=(1, 4, 4)).astype(np.float32) * np.float32(spread)
    item = answer(task("depth", scale=scale, offset=offset, png=True), values)
    shown = item["map"]
    read = dense.png(shown["png"]) * shown["scale"] + shown["offset"]
    wanted = values[0] * np.float32(scale) + np.float32(offset)
    assert np.abs(read - wanted).max() <= shown["scale"] * 0.51 + 1e-6 * np.abs(wanted).max()
    assert (item["min"], item["max"]) == pytest.approx((float(wanted.min()), float(wanted.max())), rel=1e-5)


def test_numbers_that_are_not_finite_are_no_parameters() -> None:
    for name in ("scale", "offset"):
        with pytest.raises(TaskError, match=f"{name}.*finite number"):
            task("depth", **{name: float("inf")})


def test_depths_of_one_value_and_errors() -> None:
    item = answer(task("depth", png=True), np.full((1, 8, 8), 2.5, np.float32))
    assert item["value"] == item["min"] == item["max"] == 2.5
    assert (dense.png(item["map"]["png"]) * item["map"]["scale"] + item["map"]["offset"] == 2.5).all()
    with pytest.raises(TaskError, match="not finite"):
        answer(task("depth"), np.full((1, 8, 8), np.inf, np.float32))
    with pytest.raises(TaskError, match="expected 1×H×W"):
        answer(task("depth"), np.zeros((1, 3, 8, 8), np.float32))


# ── what fits ─────────────────────────────────────────────────────────────────────────────────────────────────────────

IMAGE = TensorInfo("images", (1, 3, 512, 512), "float32")


@pytest.mark.parametrize(
    ("outputs", "segmentation", "depth"),
    [
        ([("logits", (1, 19, 128, 128), "float32")], {}, None),
        ([("logits", (1, 128, 128, 19), "float32")], {}, None),
        ([(n, (None, 21, None, None), "float32") for n in ("out", "aux")], {"output": "out"}, None),
        ([("classes", (1, 512, 512), "int64")], {}, None),
        ([("classes", (1, 1, 512, 512), "int32")], {}, None),
        ([("depth", (1, 256, 256), "float32")], None, {}),
        ([("depth", (1, 1, None, None), "float32")], {}, {}),
        ([("scores", (1, 1000), "float32")], None, None),
        ([("boxes", (1, 84, 8400), "float32")], None, None),
        ([("features", (1, 2048, 16, 16), "float32")], None, None),
        ([("pooled", (1, 512, 1, 1), "float32")], None, None),
    ],
)  # fmt: skip
def test_which_outputs_fit(outputs: list[Any], segmentation: Any, depth: Any) -> None:
    infos = [TensorInfo(*one) for one in outputs]
    assert Segmentation.fits(infos, IMAGE, {}) == segmentation
    assert Depth.fits(infos, IMAGE, {}) == depth


def test_unused_outputs_are_named() -> None:
    built = Segmentation(
        Segmentation.Params.model_validate({"labels": LABELS, "output": "out"}),
        TaskContext(InputSpec(size=(8, 8))),
    )
    values = np.zeros((1, 3, 8, 8), np.float32)
    assert used_outputs(built, {"out": values, "aux": values}) == {"out": None}
