"""One node's work for one frame: what is published, level by level, and how the join puts it together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hams_agents.serving import Batch, Piece, ServedNode, finish, prepare
from hams_agents.tasks.registry import build_task
from hams_services.pipeline.join import Join
from hams_shared.frames import FrameId, Output, Work
from hams_shared.group_spec import GroupSpec, parse_group
from support.build import plan

ID = FrameId("g", "cam", 0, 0, 1, 0.0)
MODEL = {"model": "/m.onnx"}
EYES = {"left": [0, 1], "right": [2, 3]}


def group(**nodes: dict[str, Any]) -> GroupSpec:
    return parse_group({"name": "g", "nodes": {name: {**MODEL, **node} for name, node in nodes.items()}})


FACE = group(
    mesh={"input": {"size": [16, 16]}, "task": {"type": "landmarks", "points": 4, "parts": EYES}},
    iris={
        "input": {"size": [32, 8], "fit": "letterbox", "pad": 9},
        "parent": "mesh",
        "task": {"type": "landmarks", "points": 1},
        "crop": {"mirror": ["right"]},
    },
)


def run(
    spec: GroupSpec,
    node: str,
    work: Work,
    outputs: Mapping[str, NDArray[np.generic]] | None,
    child_device: str = "h.b.u",
) -> tuple[Output, dict[str, Work]]:
    """Prepare and finish `work` as if the network had said `outputs`; return what is published."""
    part = spec.nodes[node]
    of = plan(1, {name: "h.b.u" if name == node else child_device for name in spec.nodes}, spec)
    served = ServedNode("h.b.u", of, node, None, build_task(part.task, part.input))  # type: ignore[arg-type]
    batch = Batch([Piece(served, work, 0.0)])
    prepare(batch)
    batch.outputs = outputs
    *crops, said = finish(batch)
    assert isinstance(said, tuple)
    children = [crop if isinstance(crop, Work) else Work.unpack(crop[1]) for crop in crops]
    assert all(isinstance(crop, tuple) == (child_device != "h.b.u") for crop in crops)
    return Output.unpack(said[1]), {child.node: child for child in children}


def frame(count: int = 1) -> Work:
    images = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), np.uint8)
    maps = np.repeat(np.eye(2, 3)[None], count, axis=0)
    return Work(ID, "mesh", images, maps, [0] * count, (32, 32))


@pytest.mark.parametrize("device", ["h.b.u", "other.b.u"], ids=["same device", "another device"])
def test_parts_become_crops_of_the_children_and_come_back_to_their_place(device: str) -> None:
    # on a 16×16 input: the left eye 4 pixels wide about (4, 4), the right one about (12, 4), on a 32×32 frame
    points = np.array([[2, 4, 6, 4, 10, 4, 14, 4]], np.float32)
    said, crops = run(FACE, "mesh", frame(), {"p": points}, device)
    assert said.error is None
    boxes = [(one["label"], one["box"], one["points"]) for one in said.items[0]["objects"]]
    assert boxes == [("left", [4, 4, 12, 12], [[4, 8], [12, 8]]), ("right", [20, 4, 28, 12], [[20, 8], [28, 8]])]
    iris = crops["iris"]
    assert iris.images.shape == (2, 8, 32, 3)
    assert iris.sources == [0, 1]
    assert (iris.images[:, :, 8:] == 9).all()  # a square eye in a wide input
    picture = frame().images[0]
    assert (iris.images[0, :, :8] == picture[4:12, 4:12]).all()
    assert (iris.images[1, :, :8] == picture[4:12, 20:28][:, ::-1]).all()  # mirrored
    told, none = run(FACE, "iris", iris, {"p": np.array([[1, 2], [1, 2]], np.float32)})
    assert none == {}
    join = Join(FACE)
    join.add(told)
    assert join.add(said)
    (result,) = join.objects()
    left, right = result["mesh"]["objects"]
    assert left["iris"]["points"] == [[5, 6]]
    assert right["iris"]["points"] == [[27, 6]]


def test_without_images_the_children_get_an_empty_message() -> None:
    said, crops = run(FACE, "mesh", frame(0), None)
    assert (said.error, said.items) == (None, [])
    assert crops["iris"].images.shape == (0, 8, 32, 3)
