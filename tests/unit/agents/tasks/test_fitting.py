"""Which task fits the outputs of real families of networks, by their published shapes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hams_agents.tasks.base import TensorInfo
from hams_agents.tasks.coco import NAMES
from hams_agents.tasks.fitting import Fit, Seen, fitting, would_fit
from hams_agents.tasks.registry import BUILT_IN
from hams_shared.group.node_spec import InputSpec

Shapes = dict[str, tuple[int | None, ...]]
ULTRALYTICS = {"names": "{0: 'cat', 1: 'dog'}", "stride": "32", "task": "detect", "author": "Ultralytics"}


def seen(
    size: tuple[int, int] | None, shapes: Shapes, metadata: dict[str, str] | None = None, sample: Any = None
) -> Seen:
    outputs = tuple(TensorInfo(name, shape, "float32") for name, shape in shapes.items())
    width, height = size or (None, None)
    return Seen(outputs, TensorInfo("images", (1, 3, height, width), "float32"), metadata or {}, sample)


def fits(found: Seen, size: tuple[int, int] | None = None) -> list[Fit]:
    return fitting(found, InputSpec(size=size or (640, 640)), plug_ins=False)


@pytest.mark.parametrize(
    ("family", "size", "shapes", "metadata", "expected"),
    [
        ("YOLOv8 to v12", (640, 640), {"output0": (1, 84, 8400)}, {}, {"type": "yolo", "labels": 80}),
        ("YOLOv5, v7", (640, 640), {"output": (1, 25200, 85)}, {}, {"type": "yolo", "labels": 80}),
        ("YOLOX, v6", (416, 416), {"output": (1, 3549, 85)}, {}, {"type": "yolo", "version": "yolox", "labels": 80}),
        ("YOLOv8 wide", (640, 384), {"output0": (1, 6, 5040)}, {}, {"type": "yolo", "labels": 2}),
        ("YOLOv8 p6", (1280, 1280), {"output0": (1, 84, 34000)}, {}, {"type": "yolo"}),
        ("YOLOv8, any size", None, {"output0": (None, 6, None)}, ULTRALYTICS, {"type": "yolo", "labels": 2}),
        (
            "YOLOv5 with heads",
            (640, 640),
            {"out": (1, 25200, 7), "a": (1, 3, 80, 80, 7), "b": (1, 3, 40, 40, 7)},
            {},
            {"type": "yolo", "output": "out", "labels": 2},
        ),
        ("OMZ SSD", (672, 384), {"detection_out": (1, 1, 200, 7)}, {}, {"type": "detection_output"}),
        ("ResNet", (224, 224), {"output": (1, 1000)}, {}, {"type": "classification", "labels": 1000}),
        ("OMZ emotions", (64, 64), {"prob": (1, 5, 1, 1)}, {}, {"type": "classification", "labels": 5}),
        ("ArcFace", (112, 112), {"fc1": (1, 512)}, {}, {"type": "embedding"}),
        ("OMZ re-id", (128, 256), {"reid_embedding": (1, 256)}, {}, {"type": "embedding"}),
        (
            "OMZ head pose",
            (60, 60),
            {"angle_r_fc": (1, 1), "angle_p_fc": (1, 1), "angle_y_fc": (1, 1)},
            {},
            {"type": "regression", "outputs": 3},
        ),
        ("OMZ vehicle", (72, 72), {"type": (1, 4, 1, 1), "color": (1, 7, 1, 1)}, {}, {"type": "attributes"}),
        ("OMZ landmarks", (60, 60), {"align_fc3": (1, 70)}, {}, {"type": "landmarks", "points": 35}),
        (
            "mediapipe mesh",
            (192, 192),
            {"conv2d_20": (1, 1, 1, 1404), "conv2d_30": (1, 1, 1, 1)},
            {},
            {"type": "landmarks", "points": 468, "dims": 3, "output": "conv2d_20", "score_output": "conv2d_30"},
        ),
        ("PaddleOCR", (320, 48), {"softmax": (1, 40, 97)}, {}, {"type": "text", "characters": 96}),
        (
            "CenterFace",
            (640, 480),
            {"537": (1, 1, 120, 160), "538": (1, 2, 120, 160), "539": (1, 2, 120, 160), "540": (1, 10, 120, 160)},
            {},
            {"type": "centerface"},
        ),
        (
            "RetinaFace",
            (640, 640),
            {"loc": (1, 16800, 4), "conf": (1, 16800, 2), "landms": (1, 16800, 10)},
            {},
            {"type": "retinaface", "outputs": 3},
        ),
        (
            "clp plate",
            (480, 480),
            {"loc": (1, 9450, 4), "conf": (1, 9450, 2), "landms": (1, 9450, 8)},
            {},
            {"type": "retinaface", "points": 4},
        ),
        (
            "TensorFlow SSD",
            (300, 300),
            {"boxes": (1, 1917, 1, 4), "scores": (1, 1917, 91)},
            {},
            {"type": "ssd", "labels": 90},
        ),
        (
            "BlazeFace",
            (128, 128),
            {"regressors": (1, 896, 16), "classificators": (1, 896, 1)},
            {},
            {"type": "ssd", "background": False, "labels": 1},
        ),
        (
            "RT-DETR",
            (640, 640),
            {"labels": (1, 300), "boxes": (1, 300, 4), "scores": (1, 300)},
            {},
            {"type": "detr", "labels": 80},
        ),
        (
            "torchvision's detectors",
            (320, 320),
            {"2148": (1, 260, 4), "2117": (1, 260), "2118": (1, 260)},
            {},
            {"type": "instances", "labels": 80},
        ),
        ("the same, one object", (320, 320), {"a": (1, 4), "b": (1,), "c": (1,)}, {}, {"type": "instances"}),
        ("D-FINE", (640, 640), {"logits": (1, 300, 7), "pred_boxes": (1, 300, 4)}, {}, {"type": "detr", "labels": 7}),
        ("YOLO end to end", (640, 640), {"output0": (1, 300, 6)}, {}, {"type": "yolo", "labels": 80}),
        ("YOLO pose", (640, 640), {"output0": (1, 56, 8400)}, {}, {"type": "yolo-pose"}),
        (
            "YOLO seg",
            (640, 640),
            {"output0": (1, 116, 8400), "output1": (1, 32, 160, 160)},
            {},
            {"type": "yolo-seg", "labels": 80},
        ),
        (
            "YOLO obb",
            (1024, 1024),
            {"output0": (1, 7, 21504)},
            {**ULTRALYTICS, "task": "obb"},
            {"type": "obb", "labels": 2},
        ),
        ("HRNet", (192, 256), {"heatmaps": (1, 17, 64, 48)}, {}, {"type": "landmarks", "points": 17}),
        ("SegFormer", (512, 512), {"logits": (1, 19, 128, 128)}, {}, {"type": "segmentation", "labels": 19}),
        ("DPT, square", (96, 96), {"predicted_depth": (1, 96, 96)}, {}, {"type": "depth"}),
        (
            "CLIP's image encoder",
            (64, 64),
            {"image_embeds": (1, 64), "last_hidden_state": (1, 17, 32)},
            {},
            {"type": "embedding", "output": "image_embeds"},
        ),
        (
            "SigLIP's image encoder",
            (64, 64),
            {"last_hidden_state": (1, 16, 96), "pooler_output": (1, 96)},
            {},
            {"type": "embedding", "output": "pooler_output"},
        ),
        (
            "MaskFormer",
            (128, 128),
            {"class_queries_logits": (1, 10, 5), "masks_queries_logits": (1, 10, 32, 32)},
            {},
            {"type": "raw"},
        ),
        ("none known", (64, 64), {"a": (1, 3, 5, 7, 9)}, {}, {"type": "raw"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_likeliest_task(
    family: str, size: tuple[int, int] | None, shapes: Shapes, metadata: dict[str, str], expected: dict[str, Any]
) -> None:
    """A number stands for so many entries."""
    first = fits(seen(size, shapes, metadata), size)[0]
    found = {"type": first.type, **first.params}
    for key, value in expected.items():
        counted = isinstance(found[key], list | dict) and isinstance(value, int)
        assert (len(found[key]) if counted else found[key]) == value


@pytest.mark.parametrize(
    ("operators", "names", "activation", "labels"),
    [
        (["Conv", "Softmax"], ("logits", "pred_boxes"), "softmax", 4),  # DETR, YOLOS, Table Transformer
        (["Conv", "GridSample"], ("logits", "pred_boxes"), None, 5),  # RT-DETR, D-FINE
        (["Conv", "mmdeploy.grid_sampler"], ("logits", "pred_boxes"), None, 5),
        (["Conv"], ("labels", "dets"), None, 5),  # RF-DETR
        (None, ("logits", "pred_boxes"), None, 5),
    ],
)
def test_operators_tell_detr_from_its_kin(
    operators: list[str] | None, names: tuple[str, str], activation: str | None, labels: int
) -> None:
    sample = {names[0]: np.zeros((1, 20, 5), np.float32), names[1]: np.full((1, 20, 4), 0.5, np.float32)}
    found = seen((192, 128), {name: value.shape for name, value in sample.items()}, sample=sample)
    first = fits(replace(found, operators=operators), (192, 128))[0]
    assert (first.type, first.params.get("activation"), len(first.params["labels"])) == ("detr", activation, labels)
    assert ("activation" in first.stand_ins) == (activation is not None)


def test_raw_is_last_and_each_task_states_what_fits() -> None:
    found = fits(seen((224, 224), {"output": (1, 1000)}), (224, 224))
    assert found[-1].type == "raw"
    assert len(found) > 2
    assert {name for name, cls in BUILT_IN.items() if not hasattr(cls, "fits")} <= {"describe"}


def test_names_of_the_file_and_stand_ins() -> None:
    named = fits(seen((640, 640), {"output0": (1, 6, 8400)}, ULTRALYTICS))[0]
    assert named.params["labels"] == ["cat", "dog"]
    assert not named.stand_ins
    guessed = fits(seen((640, 640), {"output0": (1, 84, 8400)}))[0]
    assert guessed.params["labels"] == list(NAMES)
    assert "guess" in guessed.stand_ins["labels"]


@pytest.mark.parametrize("kind", ["segment", "pose", "obb", "classify"])
def test_other_tasks_of_ultralytics_are_no_detectors(kind: str) -> None:
    found = fits(seen((640, 640), {"output0": (1, 56, 8400)}, {**ULTRALYTICS, "task": kind}))
    assert "yolo" not in [fit.type for fit in found]


VALUES = np.array([[0.2, 0.5, 0.3]], np.float32)


@pytest.mark.parametrize(
    ("values", "expected", "params"),
    [
        (VALUES, "classification", {"activation": "none"}),
        (VALUES * 10.5, "classification", {}),
        (VALUES * 0, "classification", {}),
        (np.array([[3.0, 12, -1, -1]], np.float32), "text", {"decode": "indices"}),
        (np.full((1, 256), 1 / 16, np.float32), "embedding", {}),
        (np.full((1, 128), 1 / 128, np.float32), "classification", {"activation": "none"}),
    ],
)
def test_numbers_of_a_trial_decide(values: Any, expected: str, params: dict[str, Any]) -> None:
    first = fits(seen((64, 64), {"out": values.shape}, sample={"out": values}))[0]
    assert first.type == expected
    assert {**first.params, **params} == first.params


def test_several_heads_by_their_numbers() -> None:
    sample = {
        "kind": np.array([[0.25, 0.75]], np.float32),
        "colour": np.array([[0.9, 0.8]], np.float32),
        "has": np.array([[0.9, 0.8, 0.1]], np.float32),
    }
    first = fits(seen((64, 64), {name: value.shape for name, value in sample.items()}, sample=sample))[0]
    assert first.type == "attributes"
    assert list(first.params["classes"]) == ["kind"]
    assert first.params["points"] == {"colour": "colour"}
    assert len(first.params["flags"]["names"]) == 3


def test_a_hint_for_a_task_that_does_not_fit() -> None:
    outputs = {"output0": np.zeros((1, 84, 8400), np.float32)}
    assert would_fit(outputs, InputSpec(size=(640, 640)), {}) == "these outputs fit yolo (80 labels)"
    assert not would_fit({"a": np.zeros((1, 3, 5, 7, 9), np.float32)}, InputSpec(size=(64, 64)), {})
