"""PP-OCR's real networks on a drawn sign: text of three directions is found, rectified by its corners, and read."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest

from hams_agents.backends.base import ModelFile, Network
from hams_agents.backends.registry import open_backend
from hams_agents.devices import parse
from hams_agents.tasks.crops import cut
from hams_agents.tasks.input import compose, prepare
from hams_agents.tasks.registry import build_task, is_detection
from hams_services.models.groups import with_zoo
from hams_services.models.manifest import zoo
from hams_services.models.prepare import prepare_model
from hams_shared.group.spec import parse_group
from hams_shared.runtime.process import cache_folder
from support import db_oracle
from support.zoo import real

NODES = {"find": {"model": "zoo:ppocr-v4-det"}, "read": {"model": "zoo:ppocr-v4-rec", "parent": "find"}}
GROUP = parse_group(with_zoo({"name": "ocr", "nodes": NODES}, zoo()), "ocr")
PAPER = (210, 205, 200)


def sign() -> np.ndarray:
    """640×480: a level text, one turned by 25 degrees, and one that runs from top to bottom."""
    image = np.full((480, 640, 3), PAPER, np.uint8)
    turned = np.full((120, 420, 3), 255, np.uint8)
    cv2.putText(turned, "ROTATED 42", (20, 80), cv2.FONT_HERSHEY_SIMPLEX, 2, (20, 20, 20), 5, cv2.LINE_AA)
    to = cv2.getRotationMatrix2D((210, 60), 25, 1)
    to[:, 2] += (100, 180)
    cv2.warpAffine(turned, to, (640, 480), image, borderMode=cv2.BORDER_TRANSPARENT)
    cv2.putText(image, "LEVEL 7", (40, 60), cv2.FONT_HERSHEY_SIMPLEX, 1.2, (30, 30, 120), 3, cv2.LINE_AA)
    down = np.full((60, 300, 3), PAPER, np.uint8)
    cv2.putText(down, "DOWN 938", (10, 45), cv2.FONT_HERSHEY_SIMPLEX, 1.4, (10, 90, 10), 4, cv2.LINE_AA)
    image[100:400, 560:620] = np.rot90(down, -1)
    return image


@cache
def network(node: str) -> Network:
    """A node's network as an agent gets it."""
    spec = GROUP.nodes[node]
    real(spec.model, spec.sha256)
    prepared = prepare_model(node, GROUP, cache_folder(), lambda *_: None)
    folder = cache_folder() / "test" / prepared.ref.digest
    folder.mkdir(parents=True, exist_ok=True)
    path = Path(folder / "model.onnx")
    path.write_bytes(prepared.parts[prepared.ref.parts[0].digest])
    return open_backend(parse("onnxruntime:CPU")).load(ModelFile(node, prepared.ref.digest, path, spec.input.shape()))


@cache
def chances() -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
    tensor, to_image = prepare([np.asarray(sign(), np.uint8)], GROUP.nodes["find"].input)
    return {name: value.copy() for name, value in network("find").infer(tensor).items()}, to_image


def test_texts_are_found_and_read() -> None:
    image = np.asarray(sign(), np.uint8)
    find, read = GROUP.nodes["find"], GROUP.nodes["read"]
    outputs, to_image = chances()
    detector = build_task(find.task, find.input)
    assert is_detection(detector)
    [found] = detector.detect(outputs, to_image, (640, 480))
    images, maps, kept = cut(image, None, found, read.crop, read.input.size, read.input.pad)
    assert kept == [0, 1, 2]
    loaded = network("read")
    reader = build_task(read.task, read.input, loaded.metadata)
    assert not is_detection(reader)
    texts = set()
    for crop, to_frame in zip(images, maps, strict=True):
        tensor, (inner,) = prepare([crop], read.input)
        [item] = reader.describe(loaded.infer(tensor), [compose(to_frame, inner)])
        texts.add(item["text"].replace(" ", ""))
    assert texts == {"LEVEL7", "ROTATED42", "DOWN938"}


def test_the_rectangles_are_those_of_an_independent_decode() -> None:
    outputs, to_image = chances()
    task = GROUP.nodes["find"].task.model_copy(update={"dilate": False, "turn_tall": False})
    detector = build_task(task, GROUP.nodes["find"].input)
    assert is_detection(detector)
    [found] = detector.detect(outputs, to_image, None)
    expected = db_oracle.decode(next(iter(outputs.values()))[0, 0], 0.3, 0.5, 1.6)
    assert len(found) == len(expected) == 3
    for one, (corners, score) in zip(found, expected, strict=True):
        assert one.points == pytest.approx(corners + 0.5, abs=1.0)  # the picture is as large as the input
        assert one.score == pytest.approx(score, abs=0.03)
