"""Service F's real networks on real pictures: is what goes in and what comes out understood rightly?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import openvino
import pytest

from hams_agents.tasks.base import Detected
from hams_agents.tasks.crops import cut
from hams_agents.tasks.input import compose, prepare
from hams_agents.tasks.registry import build_task, is_detection
from hams_services.models.onnx_dims import normalize_onnx
from hams_services.pipeline.sources.opening import open_file
from hams_shared.group.spec import GroupSpec, load_group
from support.zoo import ASTRONAUT, CARPHONE, real

Infer = Callable[[np.ndarray], Mapping[str, np.ndarray]]
GROUP = load_group(Path(__file__).parents[4] / "examples" / "face.yaml")
FACE = (178, 55, 271, 179)
"""The astronaut's face."""


def compiled(source: bytes | Path) -> Any:
    core = openvino.Core()
    return core.compile_model(core.read_model(source), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


@cache
def network(node: str) -> Infer:
    spec = GROUP.nodes[node]
    path = real(spec.model, spec.sha256)
    source = normalize_onnx(path.read_bytes(), spec.input.shape()) if path.suffix == ".onnx" else path
    model = compiled(source)

    def infer(batch: np.ndarray) -> Mapping[str, np.ndarray]:
        each = [model(batch[i : i + 1]) for i in range(len(batch))]
        return {port.get_any_name(): np.concatenate([out[port] for out in each]) for port in model.outputs}

    return infer


def detect(image: np.ndarray, group: GroupSpec = GROUP) -> list[Detected]:
    spec = group.nodes["face"]
    task = build_task(spec.task, spec.input)
    assert is_detection(task)
    batch, maps = prepare([image], spec.input)
    return task.detect(network("face")(batch), maps, (image.shape[1], image.shape[0]))[0]


def describe(node: str, image: np.ndarray, faces: list[Detected]) -> list[dict[str, Any]]:
    spec = GROUP.nodes[node]
    task = build_task(spec.task, spec.input)
    assert not is_detection(task)
    crops, maps, _ = cut(image, None, faces, spec.crop, spec.input.size)
    batch, inner = prepare(list(crops), spec.input)
    return task.describe(network(node)(batch), [compose(a, b) for a, b in zip(maps, inner, strict=True)])


@cache
def astronaut() -> np.ndarray:
    image = cv2.imread(str(real(ASTRONAUT)))
    assert image is not None
    return np.asarray(image, np.uint8)


def overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    wide = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    high = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return wide * high / (sum(areas) - wide * high)


def test_the_astronaut() -> None:
    (face,) = detect(astronaut())
    assert face.score > 0.85
    assert overlap(face.box, FACE) > 0.85
    assert face.points is not None
    left, right, nose, mouth_left, mouth_right = face.points
    assert np.abs(left - (202, 101)).max() < 5
    assert np.abs(right - (248, 101)).max() < 5
    assert left[0] < nose[0] < right[0]
    assert left[1] < nose[1] < min(mouth_left[1], mouth_right[1])
    (gender,) = describe("gender", astronaut(), [face])
    assert gender["label"] == "female"
    assert gender["score"] > 0.9
    (age,) = describe("age", astronaut(), [face])
    assert 20 < age["value"] < 45
    (emotion,) = describe("emotion", astronaut(), [face])
    assert emotion["label"] == "happy"
    assert emotion["score"] > 0.9
    (landmarks,) = describe("landmarks", astronaut(), [face])
    assert landmarks["score"] > 0.95
    points = np.array(landmarks["points"])
    assert points.shape == (468, 2)
    assert np.abs(points[[33, 133]].mean(axis=0) - left).max() < 5  # corners of the eyes and the eyes
    assert np.abs(points[[362, 263]].mean(axis=0) - right).max() < 5
    assert all(abs(angle) < 8 for angle in landmarks["pose"].values())


@pytest.mark.parametrize("angle", [-30, 20])
def test_a_turned_picture_turns_the_points_and_the_roll_only(angle: float) -> None:
    turn = cv2.getRotationMatrix2D((224, 117), -angle, 1)  # OpenCV's angles are counter-clockwise
    image = np.asarray(cv2.warpAffine(astronaut(), turn, (512, 512)), np.uint8)
    (before,) = describe("landmarks", astronaut(), detect(astronaut()))
    faces = detect(image)
    (after,) = describe("landmarks", image, faces[:1])
    expected = np.array(before["points"]) @ turn[:, :2].T + turn[:, 2]
    assert np.abs(np.array(after["points"]) - expected).mean() < 2.5
    assert after["pose"]["roll"] - before["pose"]["roll"] == pytest.approx(angle, abs=4)
    assert after["pose"]["yaw"] == pytest.approx(before["pose"]["yaw"], abs=8)
    assert describe("gender", image, faces[:1])[0]["label"] == "female"
    assert describe("emotion", image, faces[:1])[0]["label"] == "happy"


def irises(image: np.ndarray, face: Detected) -> dict[str, np.ndarray]:
    """The points of each eye's iris, by way of a crop of a crop."""
    spec = GROUP.nodes["landmarks"]
    task = build_task(spec.task, spec.input)
    assert not is_detection(task)
    (crop,), (to_frame,), _ = cut(image, None, [face], spec.crop, spec.input.size)
    batch, (inner,) = prepare([crop], spec.input)
    (mesh,) = task.describe(network("landmarks")(batch), [compose(to_frame, inner)])
    spec = GROUP.nodes["iris"]
    task = build_task(spec.task, spec.input)
    assert not is_detection(task)
    eyes, maps, kept = cut(crop, to_frame, mesh["objects"], spec.crop, spec.input.size)
    batch, inners = prepare(list(eyes), spec.input)
    found = task.describe(network("iris")(batch), [compose(a, b) for a, b in zip(maps, inners, strict=True)])
    return {mesh["objects"][i].label: np.array(one["points"]) for i, one in zip(kept, found, strict=True)}


@pytest.mark.parametrize("angle", [0.0, 35.0, -20.0])
def test_both_irises(angle: float) -> None:
    """Where they are was read off the photograph, enlarged: (203.5, 101.2) and (247, 103.2), some 9 pixels wide."""
    turn = cv2.getRotationMatrix2D((224, 117), -angle, 1)
    image = np.asarray(cv2.warpAffine(astronaut(), turn, (512, 512)), np.uint8)
    found = irises(image, detect(image)[0])
    assert sorted(found) == ["left_eye", "right_eye"]
    back = cv2.invertAffineTransform(turn)
    for eye, middle, nose in (("left_eye", (203.5, 101.2), 1), ("right_eye", (247.0, 103.2), -1)):
        points = found[eye] @ back[:, :2].T + back[:, 2]
        assert np.abs(points[0] - middle).max() < 2, eye
        width = (points[1, 0] - points[3, 0]) * nose  # the side towards the nose, and the other one
        assert 5 < width < 12, eye
        assert 5 < points[4, 1] - points[2, 1] < 12, eye


@pytest.mark.parametrize(("scale", "x", "y"), [(1.0, 900, 500), (0.5, 30, 700), (2.5, 200, 0)])
def test_boxes_are_in_pixels_of_the_picture(scale: float, x: int, y: int) -> None:
    small = cv2.resize(astronaut(), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    picture = np.full((1300, 1600, 3), 90, np.uint8)
    picture[y : y + len(small), x : x + small.shape[1]] = small[: 1300 - y, : 1600 - x]
    (face,) = detect(picture)
    expected = tuple(v * scale + offset for v, offset in zip(FACE, (x, y, x, y), strict=True))
    assert overlap(face.box, expected) > 0.75


def test_every_frame_of_the_video_has_one_face() -> None:
    with closing(open_file(str(real(CARPHONE)))) as source:
        images = [picture.pixels for picture in iter(source.read, None)]
    assert len(images) == 120
    for number in range(0, 120, 10):
        image = images[number]
        faces = detect(image)
        assert len(faces) == 1, number
        assert faces[0].score > 0.7
        assert describe("gender", image, faces)[0]["label"] == "male"
        assert describe("landmarks", image, faces)[0]["score"] > 0.9


def test_channel_order_matters_and_is_right() -> None:
    swapped = np.ascontiguousarray(astronaut()[:, :, ::-1])
    assert detect(astronaut())[0].score > detect(swapped)[0].score


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_both_runtimes_take_the_detector_with_free_dims(batch: int) -> None:
    spec = GROUP.nodes["face"]
    data = normalize_onnx(real(spec.model, spec.sha256).read_bytes(), spec.input.shape())
    images = np.random.default_rng(batch).integers(0, 256, (batch, 3, 480, 640)).astype(np.float32)
    ours = compiled(data)(images)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    theirs = session.run(["537", "538", "539", "540"], {"input.1": images})
    assert [t.shape for t in theirs] == [(batch, channels, 120, 160) for channels in (1, 2, 2, 10)]
    for name, their in zip(("537", "538", "539", "540"), theirs, strict=True):
        assert np.allclose(ours[name], their, atol=2e-2), name


@pytest.mark.parametrize("node", ["gender", "age"])
def test_good_files_stay_as_they_are(node: str) -> None:
    spec = GROUP.nodes[node]
    data = real(spec.model, spec.sha256).read_bytes()
    assert normalize_onnx(data, spec.input.shape()) is data
