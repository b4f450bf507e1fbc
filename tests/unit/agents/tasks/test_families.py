"""Which tasks a file's outputs are of, by shapes, names and metadata; and that they are decoded as that says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hams_agents.backends.registry import open_backend
from hams_agents.devices import parse
from hams_agents.tasks.base import TensorInfo
from hams_agents.tasks.families import recognised
from hams_agents.tasks.names import names_in, point_shape
from hams_agents.tasks.registry import BUILT_IN, build_task, is_detection
from hams_shared.group.node_spec import InputSpec, TaskSpec
from support import exports
from support.networks import model_file

TASKS = ("yolo", "yolo-pose", "yolo-seg", "obb", "detr", "instances", "landmarks")
COCO = {"names": str({n: f"c{n}" for n in range(80)}), "task": "detect", "stride": "32"}
Shape = tuple[int | None, ...]


def fitting(shapes: dict[str, Shape], metadata: dict[str, str], size: tuple[Any, Any] = (640, 640)) -> dict[str, Any]:
    outputs = [TensorInfo(name, shape, "float32") for name, shape in shapes.items()]
    image = TensorInfo("images", (1, 3, size[1], size[0]), "float32")
    found = {task: BUILT_IN[task].fits(outputs, image, metadata) for task in TASKS}
    return {task: params for task, params in found.items() if params is not None}


NAMED = {"labels": [f"c{n}" for n in range(80)]}
Family = tuple[dict[str, Shape], dict[str, str], dict[str, Any]]
FAMILIES: dict[str, Family] = {
    "yolo11": ({"output0": (1, 84, 8400)}, COCO, {"yolo": NAMED}),
    "yolov8 without metadata": ({"output0": (1, 84, 8400)}, {}, {"yolo": {}}),
    "yolov8, any size": ({"output0": (None, 84, None)}, COCO, {"yolo": NAMED}),
    "yolov5": ({"output0": (1, 25200, 85)}, COCO, {"yolo": NAMED}),
    "yolov7 with its heads": (
        {"output": (1, 25200, 85), "a": (1, 3, 80, 80, 85), "b": (1, 3, 40, 40, 85)}, {},
        {"yolo": {"output": "output"}},
    ),
    "yolox": ({"output": (1, 8400, 85)}, {}, {"yolo": {"version": "yolox"}}),
    "yolov10": ({"output0": (1, 300, 6)}, COCO, {"yolo": NAMED}),
    "yolo26": ({"output0": (1, 300, 6)}, {**COCO, "end2end": "True"}, {"yolo": NAMED}),
    "yolo-nas": ({"904": (1, 8400, 4), "913": (1, 8400, 80)}, {}, {"yolo": {"version": "nas"}}),
    "efficient nms": (
        {"num_dets": (1, 1), "det_boxes": (1, 100, 4), "det_scores": (1, 100), "det_classes": (1, 100)}, {},
        {"yolo": {"version": "nms"}},
    ),
    "pose": (
        {"output0": (1, 56, 8400)}, {"names": "{0: 'person'}", "task": "pose", "kpt_shape": "[17, 3]"},
        {"yolo-pose": {"labels": ["person"], "points": 17}},
    ),
    "pose, end to end": (
        {"output0": (1, 300, 57)}, {"names": "{0: 'person'}", "task": "pose", "kpt_shape": "[17, 3]"},
        {"yolo-pose": {"labels": ["person"], "points": 17}},
    ),
    "pose without metadata": ({"output0": (1, 56, 8400)}, {}, {"yolo": {}, "yolo-pose": {"points": 17}}),
    "segment": (
        {"output0": (1, 116, 8400), "output1": (1, 32, 160, 160)}, {**COCO, "task": "segment"}, {"yolo-seg": NAMED},
    ),
    "segment, end to end": (
        {"output0": (1, 300, 38), "output1": (1, 32, 160, 160)}, {**COCO, "task": "segment"}, {"yolo-seg": NAMED},
    ),
    "obb": (
        {"output0": (1, 7, 21504)}, {"names": "{0: 'a', 1: 'b'}", "task": "obb"}, {"obb": {"labels": ["a", "b"]}},
    ),
    "rt-detr of hugging face": ({"logits": (1, 300, 80), "pred_boxes": (1, 300, 4)}, {}, {"detr": {}}),
    "detr": ({"logits": (1, 100, 92), "pred_boxes": (1, 100, 4)}, {}, {"detr": {"activation": "softmax"}}),
    "rf-detr": ({"dets": (1, 300, 4), "labels": (1, 300, 91)}, {}, {"detr": {}}),
    "rf-detr, segmentation": (
        {"dets": (1, 100, 4), "labels": (1, 100, 91), "masks": (1, 100, 108, 108)}, {}, {"detr": {}},
    ),
    "rt-detr of ultralytics": (
        {"output0": (1, 300, 84)}, {**COCO, "description": "Ultralytics rtdetr-l"}, {"detr": NAMED},
    ),
    "a classifier": ({"output0": (1, 1000)}, {}, {}),
    "simcc": ({"simcc_x": (1, 17, 384), "simcc_y": (1, 17, 512)}, {}, {"landmarks": {"points": 17, "decode": "simcc"}}),
    "heat maps": ({"output": (1, 17, 64, 48)}, {}, {"landmarks": {"points": 17, "decode": "heatmaps"}}),
}  # fmt: skip
SIZES = {"obb": (1024, 1024), "simcc": (192, 256), "heat maps": (192, 256), "yolov8, any size": (None, None)}


@pytest.mark.parametrize("family", FAMILIES)
def test_outputs_of_a_family_fit_its_task_and_no_other(family: str) -> None:
    shapes, metadata, expected = FAMILIES[family]
    assert fitting(shapes, metadata, SIZES.get(family, (640, 640))) == expected


def test_lists_of_objects_fit_two_tasks_where_nothing_tells() -> None:
    shapes: dict[str, Shape] = {"labels": (1, 300), "boxes": (1, 300, 4), "scores": (1, 300)}
    assert set(fitting(shapes, {})) == {"detr", "instances"}
    masks: dict[str, Shape] = {"boxes": (None, 4), "labels": (None,), "scores": (None,), "masks": (None, 1, None, None)}
    assert set(fitting(masks, {})) == {"instances"}


def network(kind: str) -> tuple[dict[str, np.ndarray], dict[str, str], list[tuple[str, list[float]]]]:
    """Outputs for a 64×64 image with one object, names in the metadata, and what is there."""
    rng = np.random.default_rng(0)
    box = [30.0, 20.0, 20.0, 16.0]
    names = {"names": "{0: 'cat', 1: 'dog'}"}
    at = [20.0, 12.0, 40.0, 28.0]
    if kind == "detr":
        logits = np.full((1, 300, 2), -6, np.float32)
        boxes = rng.uniform(0.2, 0.4, (1, 300, 4)).astype(np.float32)
        logits[0, 17, 1], boxes[0, 17] = 3, np.array(box) / 64
        return {"logits": logits, "pred_boxes": boxes}, names, [("dog", at)]
    extra = {"yolo": 0, "yolo-seg": 32, "yolo-pose": 51, "obb": 1}[kind]
    head = np.zeros((1, 6 + extra, 84), np.float32)
    head[0, :4, 40], head[0, 5, 40] = box, 0.9
    told = {"yolo": "detect", "yolo-seg": "segment", "yolo-pose": "pose", "obb": "obb"}[kind]
    outputs = {"output0": head}
    if kind == "yolo-seg":
        head[0, 6, 40] = 1
        outputs["output1"] = np.full((1, 32, 16, 16), -1, np.float32)
        outputs["output1"][0, 0, :, 7:] = 1  # right of x = 28
    if kind == "yolo-pose":
        names["kpt_shape"] = "[17, 3]"
        head[0, 6:, 40] = np.tile([30, 20, 0.8], 17)
    return outputs, {**names, "task": told}, [("dog", at)]


@pytest.mark.parametrize("device", ["openvino:CPU", "onnxruntime:CPU"])
@pytest.mark.parametrize("kind", ["yolo", "yolo-seg", "yolo-pose", "obb", "detr"])
def test_a_file_is_decoded_by_what_fits_it(kind: str, device: str, tmp_path: Path) -> None:
    outputs, metadata, expected = network(kind)
    path = exports.write(tmp_path / f"{kind}.onnx", outputs, metadata=metadata)
    loaded = open_backend(parse(device)).load(model_file(path, (1, 3, 64, 64)))
    try:
        found = fitting({name: value.shape for name, value in outputs.items()}, dict(loaded.metadata), (64, 64))
        assert set(found) == {kind}
        task = build_task(TaskSpec.model_validate({"type": kind}), InputSpec(size=(64, 64)), loaded.metadata)
        assert is_detection(task)
        [objects] = task.detect(loaded.infer(np.zeros((1, 3, 64, 64), np.float32)), [np.eye(2, 3)])
        assert [(one.label, pytest.approx(one.box, abs=1e-3)) for one in objects] == expected
        if kind == "yolo-seg":
            assert (objects[0].mask.bits == (np.arange(20, 40) >= 28)[None]).all()
            assert objects[0].mask.bits.shape == (16, 20)
    finally:
        loaded.close()


WRONG = {
    "a key that cannot be one": "{[]: 'a'}",
    "keys of two types": "{0: 'a', 'b': 'c'}",
    "a call": "print()",
    "a deep one": "[" * 100_000,
    "many signs": "-" * 1_000_000 + "1",
    "a long one": f"['{'a' * (1 << 22)}']",
    "other numbers": "[17, 'x']",
    "no points": "[0, 3]",
}


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG)
def test_metadata_that_writes_something_else_names_nothing(text: str) -> None:
    assert names_in({"names": text}) in ((), ("17", "x"), ("0", "3"))
    assert point_shape({"kpt_shape": text}) is None
    metadata = {"kpt_shape": text, "task": "pose"}
    assert recognised([TensorInfo("o", (1, 56, 8400), "float32")], (640, 640), metadata)["yolo-pose"]["points"] == 17
