"""Which part of its input an image fills reaches a task that needs it: of frames, and of crops however they travel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import pytest

from hams_agents.runtime.served_node import ServedNode
from hams_agents.runtime.serving import Batch, Piece, finish, prepare
from hams_agents.tasks.registry import build_task
from hams_services.pipeline.join import Join
from hams_shared.errors import MessageError
from hams_shared.group.spec import GroupSpec, parse_group
from hams_shared.wire import codec
from hams_shared.wire.frames import FrameId, Output, Work, pack_works, unpack_works
from support.build import plan

LABELS = ["road", "car"]
SCENE: GroupSpec = parse_group(
    {
        "name": "g",
        "nodes": {
            "scene": {
                "model": "/m.onnx",
                "input": {"size": [32, 32], "fit": "letterbox"},
                "task": {"type": "segmentation", "labels": LABELS, "objects": True, "only": ["car"], "png": True},
            },
            "far": {
                "model": "/d.onnx",
                "parent": "scene",
                "input": {"size": [16, 16], "fit": "letterbox", "pad": 200},
                "task": {"type": "depth", "png": True},
            },
        },
    }
)


def serve(node: str, work: Work, values: np.ndarray, devices: Mapping[str, str]) -> tuple[Output, list[Work]]:
    """Prepare `work`, and finish it as if the network had given `values`."""
    part = SCENE.nodes[node]
    task = build_task(part.task, part.input)
    served = ServedNode(devices[node], plan(1, devices, SCENE), node, None, task)  # type: ignore[arg-type]
    batch = Batch([Piece(served, work, 0.0)])
    prepare(batch)
    assert batch.error is None
    batch.outputs = {"y": values}
    [done] = finish(batch)
    assert done.output.error is None, done.output.error
    return Output.unpack(done.output.pack()), [child for _, child in done.children]


@pytest.mark.parametrize("device", ["h.b.u", "other.b.u"], ids=["from the frame", "as pixels"])
def test_padding_is_left_out_of_frames_and_of_crops(device: str) -> None:
    image = np.zeros((1, 64, 128, 3), np.uint8)
    work = Work(FrameId("g", "cam", 0, 0, 1, 0.0), "scene", image, np.eye(2, 3)[None], [0], (128, 64))
    devices = {"scene": "h.b.u", "far": device}
    classes = np.zeros((1, 32, 32), np.int64)
    classes[0, 16:] = 1  # below the frame: a frame of 128×64 fills 32×16
    classes[0, 4:8, 8:24] = 1
    said, [child] = serve("scene", work, classes, devices)
    [item] = said.items
    assert item["shares"] == {"road": 0.875, "car": 0.125}
    assert [one["box"] for one in item["objects"]] == [[32, 16, 96, 32]]
    if device != "h.b.u":
        [child] = unpack_works(pack_works([child]))
    depths = np.full((1, 16, 16), 99, np.float32)
    depths[0, :4] = np.arange(16) + 1  # a crop of 64×16 fills 16×4
    told, _ = serve("far", child, depths, devices)
    [far] = told.items
    assert (far["min"], far["max"], far["value"]) == (1, 16, 8.5)
    assert far["map"]["size"] == [4, 16]
    join = Join(SCENE)
    join.add(said)
    assert join.add(told)
    [frame] = join.objects()
    [car] = frame["scene"]["objects"]
    shown: Any = car["far"]["map"]
    assert np.array(shown["to_frame"]) @ (16, 4, 1) == pytest.approx((96, 32))  # its bottom right is that of the box
    assert cv2.imdecode(np.frombuffer(shown["png"], np.uint8), cv2.IMREAD_UNCHANGED)[0, 15] == 65535


def test_as_many_parts_as_images() -> None:
    images = np.zeros((2, 8, 8, 3), np.uint8)
    work = Work(
        FrameId("g", "s", 0, 0, 1, 0.0), "far", images, np.zeros((2, 2, 3)), [0, 0], (8, 8), filled=[(8, 4)] * 2
    )
    [sent] = codec.unpack(pack_works([work]))
    assert unpack_works(codec.pack([sent]))[0].filled == [(8, 4)] * 2
    with pytest.raises(MessageError, match="filled: 1 parts of 2 images"):
        unpack_works(codec.pack([{**sent, "filled": [(8, 4)]}]))
