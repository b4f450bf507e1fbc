"""Lists of finished objects with masks and key points, as torchvision, mmdeploy and OpenVINO's networks give them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hams_agents.backends.registry import open_backend
from hams_agents.devices import parse
from hams_agents.tasks.base import DetectionTask
from hams_agents.tasks.registry import build_task, is_detection
from hams_shared.errors import TaskError
from hams_shared.group.node_spec import InputSpec, TaskSpec
from support import oracles
from support.networks import model_file

SIZE = (128, 96)
LABELS = ("cat", "dog")
IDENTITY = np.eye(2, 3)
HALF = np.array([[0.5, 0, 4], [0, 0.5, 8]])
BOXES = np.array([[10, 10, 60.5, 50], [30, 20, 100, 90.2], [5, 5, 9, 9], [0, 0, 50, 50]], np.float32)
SCORES = np.array([0.9, 0.7, 0.6, 0.2], np.float32)
NUMBERS = np.array([2, 1, 1, 1], np.int64)


def task(size: tuple[int, int] = SIZE, **params: Any) -> DetectionTask:
    spec = TaskSpec.model_validate({"type": "instances", "labels": LABELS, **params})
    built = build_task(spec, InputSpec(size=size))
    assert is_detection(built)
    return built


def maps(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((4, 1, height, width)).astype(np.float32)


@pytest.mark.parametrize("affine", [IDENTITY, HALF], ids=["whole", "half"])
def test_masks_of_a_box_are_stretched_over_it(affine: np.ndarray) -> None:
    values = maps(28, 28)
    outputs = {
        "dets": np.column_stack((BOXES, SCORES))[None],
        "labels": (NUMBERS - 1)[None],
        "masks": values[None, :, 0],
    }
    [found] = task(background=False).detect(outputs, [affine])
    assert [(one.label, round(one.score, 4)) for one in found] == [("dog", 0.9), ("cat", 0.7), ("cat", 0.6)]
    for one, box, value in zip(found, BOXES.tolist(), values[:, 0], strict=False):

        def at(x: float, y: float, box: list[float] = box, value: np.ndarray = value) -> float:
            x, y = (x - affine[0, 2]) / affine[0, 0], (y - affine[1, 2]) / affine[1, 1]
            across, down = (x - box[0]) / (box[2] - box[0]) * 28, (y - box[1]) / (box[3] - box[1]) * 28
            return oracles.bilinear(value, across, down, outside=0.0)

        wanted = oracles.mask(at, one.box, 0.5)
        assert one.mask.bits.shape == wanted.shape
        clear = np.abs(wanted) > 0.005
        assert (one.mask.bits == (wanted > 0))[clear].all()
    both = task(background=False).detect({n: np.concatenate((v, v)) for n, v in outputs.items()}, [affine, affine])
    assert [[one.box for one in image] for image in both] == [[one.box for one in found]] * 2


def test_masks_of_the_whole_input_and_of_each_class_are_recognised() -> None:
    whole = maps(96, 128)
    outputs = {"6568": BOXES, "6570": NUMBERS, "6572": SCORES, "6887": whole}  # torchvision: no batch axis, no names
    [found] = task().detect(outputs, [IDENTITY])
    assert [one.label for one in found] == ["dog", "cat", "cat"]
    assert [one.mask.bits.tolist() for one in found] == [
        (whole[i, 0, int(y0) : int(np.ceil(y1)), int(x0) : int(np.ceil(x1))] > 0.5).tolist()
        for i, (x0, y0, x1, y1) in enumerate(BOXES[:3].tolist())
    ]
    classes = np.concatenate((maps(28, 28, 1), maps(28, 28, 2), maps(28, 28, 3)), axis=1)
    [found] = task().detect({"boxes": BOXES, "labels": NUMBERS, "scores": SCORES, "raw_masks": classes}, [IDENTITY])
    [alone] = task().detect(
        {"b": BOXES, "l": NUMBERS, "s": SCORES, "m": classes[np.arange(4), NUMBERS][:, None]}, [IDENTITY]
    )
    assert [(one.mask.bits == other.mask.bits).all() for one, other in zip(found, alone, strict=True)] == [True] * 3


def test_key_points_come_with_the_scores_that_their_output_gives() -> None:
    rng = np.random.default_rng(0)
    points = np.concatenate((rng.uniform(0, 90, (4, 17, 2)), np.ones((4, 17, 1))), axis=2).astype(np.float32)
    sure = rng.normal(0, 3, (4, 17)).astype(np.float32)
    outputs = {"boxes": BOXES, "labels": NUMBERS, "scores": SCORES, "keypoints": points, "keypoints_scores": sure}
    [found] = task().detect(outputs, [HALF])
    assert len(found) == 3
    for one, at, logits in zip(found, points, sure, strict=False):
        assert one.points == pytest.approx(at[:, :2] * 0.5 + (4, 8), abs=1e-4)
        assert one.visibility == pytest.approx([oracles.sigmoid(x) for x in logits.tolist()], abs=1e-5)
    with pytest.raises(TaskError, match="skeleton joins"):
        task(skeleton=[[0, 17]]).detect(outputs, [IDENTITY])


def test_without_masks_it_reads_any_detector_of_torchvision() -> None:
    outputs = {"boxes": BOXES, "scores": SCORES, "labels": NUMBERS}
    [found] = task(only=["cat"]).detect(outputs, [IDENTITY])
    assert [(one.label, one.box) for one in found] == [
        ("cat", pytest.approx(BOXES[1])),
        ("cat", pytest.approx(BOXES[2])),
    ]
    named = {"a": BOXES, "b": NUMBERS.astype(np.float32), "c": SCORES}
    [other] = task(only=["cat"], outputs={"labels": "b", "scores": "c"}).detect(named, [IDENTITY])
    assert other == found


MISFITS = {
    "no boxes": ({"x": np.zeros((1, 1000))}, {}, "expected K×4 boxes"),
    "another count": ({"boxes": BOXES, "labels": NUMBERS[:2], "scores": SCORES}, {}, "expected K×4 boxes"),
    "a YOLO": ({"o": np.zeros((1, 6, 252))}, {}, "may be those of task yolo"),
    "an unknown name": ({"boxes": BOXES}, {"outputs": {"masks": "boxs"}}, "did you mean boxes"),
    "a class without a name": ({"b": BOXES, "l": NUMBERS + 7, "s": SCORES}, {}, "class 9, labels ends with class 2"),
    "fewer masks than classes": (
        {"boxes": BOXES, "labels": NUMBERS, "scores": SCORES, "masks": maps(28, 28, 1).repeat(2, axis=1)},
        {},
        "found class 2, and has masks for classes 0 to 1",
    ),
}


@pytest.mark.parametrize(("outputs", "params", "text"), MISFITS.values(), ids=MISFITS)
def test_what_does_not_fit_is_named(outputs: dict[str, np.ndarray], params: dict[str, Any], text: str) -> None:
    with pytest.raises(TaskError, match=text):
        task(**params).detect(outputs, [IDENTITY])


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["maskrcnn", "keypointrcnn"])
def test_a_real_network_of_torchvision_says_what_torchvision_says(tmp_path: Path, kind: str) -> None:
    """With random weights, but the real architecture, transforms and exporter."""
    torch = pytest.importorskip("torch")
    detection = pytest.importorskip("torchvision.models.detection")
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "weights": None, "weights_backbone": None, "min_size": 160, "max_size": 160, "box_detections_per_img": 8,
        "rpn_post_nms_top_n_test": 50, "box_score_thresh": 0.0,
    }  # fmt: skip
    net = getattr(detection, f"{kind}_resnet50_fpn")(**settings).eval()
    path = tmp_path / f"{kind}.onnx"
    names = ["boxes", "labels", "scores", *(["masks"] if kind == "maskrcnn" else ["keypoints", "keypoints_scores"])]
    image = torch.rand(1, 3, 160, 160)
    torch.onnx.export(net, (image,), str(path), dynamo=False, opset_version=17, output_names=names)
    with torch.no_grad():
        [expected] = net(image)
    loaded = open_backend(parse("onnxruntime:CPU")).load(model_file(path, shape=(1, 3, 160, 160)))
    outputs = loaded.infer(image.numpy())
    labels = {n: f"c{n}" for n in range(1, 91)}
    [found] = task((160, 160), labels=labels, threshold=1e-6).detect(outputs, [IDENTITY])
    assert [one.label for one in found] == [f"c{n}" for n in expected["labels"].tolist()]
    assert [one.score for one in found] == pytest.approx(expected["scores"].tolist(), abs=1e-4)
    for index, one in enumerate(found):
        assert one.box == pytest.approx(expected["boxes"][index].tolist(), abs=0.1)
        if kind == "maskrcnn":
            x0, y0 = one.mask.offset
            height, width = one.mask.size
            theirs = expected["masks"][index, 0, y0 : y0 + height, x0 : x0 + width].numpy()
            assert (one.mask.bits == (theirs > 0.5))[np.abs(theirs - 0.5) > 0.01].all()
        else:
            assert one.points == pytest.approx(expected["keypoints"][index, :, :2].numpy(), abs=0.2)
