"""A root that is given views of the frame, as one batch of deferred crops, answers in pixels of the frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from hams_agents.backends.base import ModelFile
from hams_agents.backends.registry import open_backend
from hams_agents.devices import parse
from hams_agents.runtime.served_node import ServedNode
from hams_agents.runtime.serving import Batch, Piece, finish, infer, prepare
from hams_agents.tasks.input import compose
from hams_agents.tasks.input import prepare as prepared
from hams_agents.tasks.registry import build_task
from hams_services.pipeline.regions import View, as_crops, merged, overlaps, views
from hams_services.pipeline.sources.opening import open_file
from hams_shared.group.regions import TilesSpec
from hams_shared.group.spec import GroupSpec, parse_group
from hams_shared.wire.frames import FrameId, Pixels, Work, pack_works, unpack_works
from support.build import plan

ID = FrameId("g", "cam", 0, 0, 1, 0.0)
OMZ = Path(__file__).parents[5] / "shared" / "omz"
THREE_BY_TWO = TilesSpec(grid=(3, 2), overlap=0.15)


def served(spec: GroupSpec, network: Any = None) -> ServedNode:
    node = spec.nodes[spec.root]
    task = build_task(node.task, node.input)
    return ServedNode("h.b.u", plan(1, dict.fromkeys(spec.nodes, "h.b.u"), spec), spec.root, network, task)


def piece(on: ServedNode, frame: Pixels, parts: tuple[View, ...]) -> Piece:
    """A frame's views as they come by message."""
    crops, to_frame = as_crops(parts, on.takes)
    size = (frame.shape[1], frame.shape[0])
    work = Work(ID, on.node, frame[None], to_frame, [0] * len(parts), size, deferred=crops)
    [received] = unpack_works(pack_works([work]))
    return Piece(on, received, 0.0)


def group(size: tuple[int, int], fit: str, **child: Any) -> GroupSpec:
    root = {
        "model": "/m.onnx",
        "input": {"size": size, "fit": fit},
        "task": {"type": "detection_output", "labels": {1: "person"}},
    }
    return parse_group({"name": "g", "nodes": {"det": root, **child}})


@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
def test_boxes_of_views_are_in_pixels_of_the_frame(fit: str) -> None:
    """A network that finds, in each view, the whole of what it shows and its left upper quarter."""
    parts = views(THREE_BY_TWO, (0.1, 0.0, 1.0, 1.0), (640, 360))
    child = {"model": "/c.onnx", "parent": "det", "input": {"size": [8, 8]}, "task": {"type": "embedding"}}
    on = served(group((96, 64), fit, age=child))
    batch = Batch([piece(on, np.zeros((360, 640, 3), np.uint8), parts)])
    prepare(batch)
    assert batch.error is None
    assert batch.tensor is not None
    assert batch.tensor.shape == (6, 3, 64, 96)
    rows = np.zeros((6, 1, 2, 7), np.float32)
    for image, part in zip(rows[:, 0], parts, strict=True):
        right, lower = np.array(as_crops([part], on.takes)[0].filled[0]) / (96, 64)
        image[:] = [[0, 1, 0.9, 0, 0, right, lower], [0, 1, 0.8, 0, 0, right / 2, lower / 2]]
    batch.outputs = {"out": rows}
    [done] = finish(batch)
    assert done.output.error is None
    for part, (whole, quarter) in zip(parts, done.output.items, strict=True):
        assert whole["box"] == pytest.approx([part.x0, part.y0, part.x1, part.y1], abs=0.02)
        middle = (part.x0 + part.x1) / 2, (part.y0 + part.y1) / 2
        assert quarter["box"] == pytest.approx([part.x0, part.y0, *middle], abs=0.02)
    [(_, crops)] = done.children
    assert crops.sources == list(range(12))  # counted over all views
    assert crops.to_frame[2, :, 2] == pytest.approx([parts[1].x0, parts[1].y0], abs=0.02)


@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
def test_the_view_of_the_whole_is_prepared_as_the_frame_is(fit: str) -> None:
    frame = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (360, 640, 3), np.uint8), (0, 0), 3)
    on = served(group((96, 64), fit))
    batch = Batch([piece(on, frame, views(None, None, (640, 360)))])
    prepare(batch)
    assert batch.tensor is not None
    tensor, [to_frame] = prepared([frame], on.takes)
    assert np.abs(batch.tensor - tensor).mean() < 2
    assert batch.to_frame[0] == pytest.approx(compose(np.eye(2, 3), to_frame))


# ── a real network ────────────────────────────────────────────────────────────────────────────────────────────────


def scene(frames: list[Pixels]) -> Pixels:
    """A square full of people: 25 pictures, small, in 1080p."""
    rows = [np.hstack([cv2.resize(one, (384, 216), interpolation=cv2.INTER_AREA) for one in frames[at : at + 5]])
            for at in range(0, 25, 5)]  # fmt: skip
    return np.vstack(rows)


def found(on: ServedNode, frame: Pixels, parts: tuple[View, ...]) -> NDArray[np.float64]:
    """Return the N×4 boxes that the root finds in a frame's views, merged."""
    batch = Batch([piece(on, frame, parts)])
    prepare(batch)
    infer(batch)
    [done] = finish(batch)
    assert done.output.error is None
    return np.array([one["box"] for one in merged(parts, done.output.items)], np.float64).reshape(-1, 4)


@pytest.mark.slow
def test_tiles_find_small_people() -> None:
    path = OMZ / "pedestrian-detection-adas-0002.xml"
    if not path.exists():
        pytest.skip(f"there is no {path} (Open Model Zoo, not part of the repository)")
    task = {"type": "detection_output", "labels": {1: "person"}, "threshold": 0.5}
    node = {"model": str(path), "input": {"size": [672, 384]}, "task": task}
    spec = parse_group({"name": "g", "nodes": {"det": node}})
    network = open_backend(parse("openvino:CPU")).load(ModelFile("det", "0", path, spec.nodes["det"].input.shape()))
    on, source = served(spec, network), open_file(str(OMZ / "one-by-one-person-detection.mp4"), Path())
    pictures = [picture.pixels for number in range(500) if (picture := source.read()) and number % 20 == 0]
    source.close()
    truth = []
    for number, picture in enumerate(pictures):
        boxes = found(on, picture, views(None, None, (768, 432))) / 2
        truth += (boxes + np.tile([number % 5 * 384, number // 5 * 216], 2)).tolist()
    small = scene(pictures)
    recall = {}
    for name, tiles in (("whole", None), ("tiles", THREE_BY_TWO)):
        boxes = found(on, small, views(tiles, None, (1920, 1080)))
        best = overlaps(np.array(truth), boxes).max(axis=1, initial=0)
        recall[name] = float((best >= 0.5).mean())
    assert recall["tiles"] > recall["whole"] + 0.1, f"of {len(truth)} people"
