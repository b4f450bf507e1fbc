"""Service V's real networks on real pictures with drawn plates: is what goes in and comes out understood rightly?"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from hams_agents.backends.base import ModelFile, Network
from hams_agents.backends.registry import open_backend
from hams_agents.devices import parse
from hams_agents.tasks.base import Affine, Detected
from hams_agents.tasks.crops import cut
from hams_agents.tasks.input import IDENTITY, compose, prepare
from hams_agents.tasks.registry import build_task, is_detection
from hams_services.models.prepare import prepare_model
from hams_shared.group.spec import load_group
from hams_shared.runtime.process import cache_folder
from support.plates import corners, plate, put
from support.zoo import parked_car, real, street

GROUP = load_group(Path(__file__).parents[4] / "examples" / "vehicle.yaml")
CAR = Detected((400, 196, 850, 470), 0.8, "car")
"""The parked car."""
PLATE = corners((592, 396), 120)


@cache
def network(node: str, device: str) -> Network:
    """A node's network as an agent gets it."""
    spec = GROUP.nodes[node]
    real(spec.model, spec.sha256)
    prepared = prepare_model(node, GROUP, cache_folder(), lambda *_: None)
    folder = cache_folder() / "test" / prepared.ref.digest
    folder.mkdir(parents=True, exist_ok=True)
    for part in prepared.ref.parts:
        (folder / f"model{part.suffix}").write_bytes(prepared.parts[part.digest])
    path = folder / f"model{prepared.ref.parts[0].suffix}"
    return open_backend(parse(device)).load(ModelFile(node, prepared.ref.digest, path, spec.input.shape()))


def run(
    node: str, images: list[np.ndarray], maps: list[Affine], device: str
) -> tuple[Network, Mapping[str, np.ndarray], list[Affine]]:
    loaded = network(node, device)
    batch, inner = prepare(images, GROUP.nodes[node].input)
    return loaded, loaded.infer(batch), [compose(a, b) for a, b in zip(maps, inner, strict=True)]


def crops(node: str, image: np.ndarray, to_frame: Affine, objects: list[Detected]) -> Any:
    spec = GROUP.nodes[node]
    return cut(image, to_frame, objects, spec.crop, spec.input.size, spec.input.pad)


def detect(node: str, image: np.ndarray, to_frame: Affine, frame: np.ndarray, device: str) -> list[Detected]:
    _, outputs, maps = run(node, [image], [to_frame], device)
    task = build_task(GROUP.nodes[node].task, GROUP.nodes[node].input)
    assert is_detection(task)
    return task.detect(outputs, maps, (frame.shape[1], frame.shape[0]))[0]


def read(frame: np.ndarray, vehicle: Detected, device: str) -> list[tuple[Detected, dict[str, Any]]]:
    """Plates on a vehicle, with what they say, by way of crops of crops."""
    (crop,), (to_frame,), _ = crops("plate", frame, IDENTITY, [vehicle])
    plates = detect("plate", crop, to_frame, frame, device)
    if not plates:
        return []
    images, maps, kept = crops("text", crop, to_frame, plates)
    loaded, outputs, maps = run("text", list(images), list(maps), device)
    task = build_task(GROUP.nodes["text"].task, GROUP.nodes["text"].input, loaded.metadata)
    assert not is_detection(task)
    return [(plates[index], output) for index, output in zip(kept, task.describe(outputs, maps), strict=True)]


def vehicles(frame: np.ndarray) -> list[Detected]:
    return detect("vehicle", frame, IDENTITY, frame, "openvino:CPU")


def test_vehicles_on_a_street() -> None:
    (car,) = vehicles(parked_car())
    assert car.label == "car"
    assert np.abs(np.array(car.box) - (400, 196, 850, 470)).max() < 20  # read off the picture
    found = vehicles(street(120))  # a van that fills the left half, cut off below
    assert {one.label for one in found} <= {"bus", "car", "truck"}
    assert np.abs(np.array(found[0].box) - (2, 28, 296, 270)).max() < 10
    middles = sorted((one.box[0] + one.box[2]) / 2 for one in vehicles(street(168)))
    assert any(abs(middle - 380) < 10 for middle in middles)
    assert any(abs(middle - 565) < 10 for middle in middles)
    assert vehicles(street(228)) == []  # a bicycle and a wall


def test_from_the_street_to_the_text() -> None:
    frame = put(parked_car(), plate("B7K291M"), PLATE)
    (car,) = vehicles(frame)
    assert [output["text"] for _, output in read(frame, car, "openvino:CPU")] == ["B7K291M"]


@pytest.mark.parametrize("device", ["openvino:CPU", "onnxruntime:CPU"])
@pytest.mark.parametrize("text", ["ZA85621", "B7K291M"])
def test_a_plate_on_a_car(text: str, device: str) -> None:
    frame = put(parked_car(), plate(text), PLATE)
    ((found, output),) = read(frame, CAR, device)
    assert output["text"] == text
    assert output["score"] > 0.8
    assert found.label == "plate"
    assert found.score > 0.6
    assert found.points is not None
    assert np.abs(found.points - PLATE).max() < 8  # clockwise from top left
    low, high = PLATE.min(axis=0), PLATE.max(axis=0)
    assert np.abs(np.array(found.box) - (*low, *high)).max() < 8


def test_no_plate() -> None:
    assert read(parked_car(), CAR, "openvino:CPU") == []


@pytest.mark.parametrize("tilt", [0.0, -0.25, 0.35])
def test_a_plate_askew_is_rectified(tilt: float) -> None:
    where = corners((592, 396), 150, tilt)
    frame = put(parked_car(), plate("KA8F62"), where)
    marked = [Detected((*where.min(axis=0), *where.max(axis=0)), 0.9, "plate", where)]
    images, maps, _ = crops("text", frame, IDENTITY, marked)
    loaded, outputs, maps = run("text", list(images), list(maps), "openvino:CPU")
    task = build_task(GROUP.nodes["text"].task, GROUP.nodes["text"].input, loaded.metadata)
    assert not is_detection(task)
    assert task.describe(outputs, maps)[0]["text"] == "KA8F62"


def greedy(scores: np.ndarray, characters: str) -> tuple[str, float]:
    """Decode T×K probabilities by the definition: collapse runs of the best class, drop blanks (class 0)."""
    symbols = ["", *characters.splitlines(), " "]
    runs = [list(steps) for _, steps in groupby(enumerate(scores.argmax(axis=1)), key=lambda step: step[1])]
    firsts = [run[0] for run in runs if run[0][1] != 0]
    return "".join(symbols[k] for _, k in firsts), float(np.mean([scores[t, k] for t, k in firsts]))


def test_text_as_its_authors_prepare_it() -> None:
    """Beside ours: PaddleOCR's resize_norm_img as rapidocr has it (48 high, width rounded up, zeros on the right)."""
    loaded = network("text", "onnxruntime:CPU")
    task = build_task(GROUP.nodes["text"].task, GROUP.nodes["text"].input, loaded.metadata)
    assert not is_detection(task)
    for number, (width, height) in enumerate([(96, 30), (150, 40), (220, 90), (300, 60)]):
        text = f"KA{number}F6{number}2"
        image = np.asarray(cv2.resize(plate(text), (width, height), interpolation=cv2.INTER_AREA), np.uint8)
        wide = int(np.ceil(48 * width / height))
        tensor = np.zeros((1, 3, 48, 320), np.float32)
        resized = cv2.resize(image, (wide, 48)).astype(np.float32).transpose(2, 0, 1)
        tensor[0, :, :, :wide] = (resized / 255 - 0.5) / 0.5
        outputs = loaded.infer(tensor)
        expected, score = greedy(next(iter(outputs.values()))[0], loaded.metadata["character"])
        (same,) = task.describe(outputs, [IDENTITY])
        assert (same["text"], same["score"]) == (expected, pytest.approx(score, abs=1e-4))
        box = Detected((0, 0, width, height), 1.0, "plate")
        images, maps, _ = crops("text", image, IDENTITY, [box])
        _, outputs, maps = run("text", list(images), list(maps), "onnxruntime:CPU")
        (ours,) = task.describe(outputs, maps)
        assert ours["text"] == expected == text
        assert ours["score"] == pytest.approx(score, abs=0.05)
