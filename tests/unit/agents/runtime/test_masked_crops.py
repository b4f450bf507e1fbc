"""Crops that show an object without what is around it, wherever they are cut; and objects whose masks travel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from hams_agents.runtime.served_node import ServedNode
from hams_agents.runtime.serving import Batch, Piece, finish, prepare
from hams_agents.tasks.base import Detected, Mask
from hams_agents.tasks.crops import cut
from hams_agents.tasks.input import IDENTITY
from hams_agents.tasks.registry import build_task
from hams_shared.errors import MessageError
from hams_shared.group.node_spec import CropSpec
from hams_shared.group.spec import parse_group
from hams_shared.wire import codec
from hams_shared.wire.frame_pool import FramePool, FrameReader, memory_domain
from hams_shared.wire.frames import FrameId, Given, Work, pack_works, unpack_works
from hams_shared.wire.masks import decode
from support.build import plan

ID = FrameId("g", "cam", 0, 0, 1, 0.0)
SIZE = (64, 64)
GROUP = parse_group({
    "name": "g",
    "nodes": {
        "find": {"model": "/m.onnx", "input": {"size": SIZE}, "task": {"type": "yolo-seg", "labels": ["cat", "dog"]}},
        "kind": {
            "model": "/m.onnx",
            "input": {"size": [20, 16], "fit": "letterbox", "pad": 7},
            "parent": "find",
            "task": {"type": "raw"},
            "crop": {"mask": True},
        },
        "whole": {"model": "/m.onnx", "input": {"size": [20, 16]}, "parent": "find", "task": {"type": "raw"}},
    },
})  # fmt: skip
HEAD = np.zeros((1, 38, 84), np.float32)
HEAD[0, :7, 40] = 30, 20, 20, 16, 0, 0.9, 1
PROTOTYPES = np.full((1, 32, 16, 16), -1, np.float32)
PROTOTYPES[0, 0, :, 7:] = 1
FOUND = {"output0": HEAD, "output1": PROTOTYPES}
"""A dog at (20, 12)–(40, 28), whose mask is what lies right of x = 28."""


@pytest.fixture
def pool() -> Iterator[FramePool]:
    if not memory_domain():
        pytest.skip("this system has no /dev/shm")
    pool = FramePool(1, 64 * 64 * 3)
    yield pool
    pool.close()


def served(node: str, device: str, other: str) -> ServedNode:
    devices = {name: device if name == node else other for name in GROUP.nodes}
    part = GROUP.nodes[node]
    task = build_task(part.task, part.input)
    return ServedNode(device, plan(1, devices, GROUP), node, None, task)  # type: ignore[arg-type]


def seen(pool: FramePool) -> Work:
    slot = pool.take((64, 64, 3))
    assert slot is not None
    slot.pixels[:] = np.random.default_rng(1).integers(100, 256, slot.pixels.shape, np.uint8)
    work = Work(
        ID, "find", slot.pixels[None], IDENTITY[None], [0], SIZE, pointer=slot.publish(), peers={"near.b.u": ""}
    )
    return unpack_works(pack_works([work]), FrameReader())[0]


def sent(work: Work, device: str) -> tuple[list[dict[str, object]], dict[str, Work]]:
    """What is found, and what goes to the children on `device`, as their agent gets it."""
    batch = Batch([Piece(served("find", "h.b.u", device), work, 0.0)])
    prepare(batch)
    batch.outputs = FOUND
    [done] = finish(batch)
    assert done.output.error is None, done.output.error
    works = [work for _, work in done.children]
    works = works if device == "h.b.u" else unpack_works(pack_works(works), FrameReader())
    return done.output.items[0], {work.node: work for work in works}


def shown(work: Work, device: str) -> Work:
    batch = Batch([Piece(served(work.node, device, "h.b.u"), work, 0.0)])
    prepare(batch)
    assert batch.error is None
    return batch.pieces[0].work


def test_a_crop_without_what_is_around_the_object_is_the_same_on_each_device(pool: FramePool) -> None:
    work = seen(pool)
    crops = {device: shown(sent(work, device)[1]["kind"], device).images for device in ("h.b.u", "near.b.u", "far.b.u")}
    image = crops["h.b.u"][0]
    assert image.shape == (16, 20, 3)
    assert (image[:, :8] == 7).all()
    assert (image[:, 8:] == work.images[0, 12:28, 28:40]).all()
    assert all((other == crops["h.b.u"]).all() for other in crops.values())
    plain = shown(sent(work, "near.b.u")[1]["whole"], "near.b.u").images[0]
    assert (plain == work.images[0, 12:28, 20:40]).all()


def test_the_mask_is_in_the_result(pool: FramePool) -> None:
    [one] = sent(seen(pool), "far.b.u")[0]
    assert one["mask"]["offset"] == (20, 12)  # type: ignore[index]
    assert (decode(one["mask"]) == (np.arange(20, 40) >= 28)[None]).all()  # type: ignore[arg-type]


def test_objects_that_the_pipeline_chose_bring_their_masks(pool: FramePool) -> None:
    work = seen(pool)
    [one] = sent(work, "far.b.u")[0]
    given = Given(tuple(one["box"]), one["score"], one["label"], None, one["mask"])  # type: ignore[arg-type]
    chosen = Work(ID, "kind", work.images, np.empty((0, 2, 3)), [0], SIZE, objects=[given])
    [chosen] = unpack_works(pack_works([chosen]))
    image = shown(chosen, "far.b.u").images[0]
    assert (image[:, :8] == 7).all()
    assert (image[:, 8:] == work.images[0, 12:28, 28:40]).all()


def test_a_chosen_object_with_a_damaged_mask_fails_its_own_work_and_not_the_lane(pool: FramePool) -> None:
    work = seen(pool)
    mask: Any = {"size": (16, 20), "counts": "zz", "offset": (0, 0)}
    objects = [Given((20, 12, 40, 28), 0.9, "dog", None, one) for one in (mask, None)]
    works = [Work(ID, "kind", work.images, np.empty((0, 2, 3)), [0], SIZE, objects=[one]) for one in objects]
    kind = served("kind", "far.b.u", "h.b.u")
    batch = Batch([Piece(kind, one, 0.0) for one in unpack_works(pack_works(works))])
    prepare(batch)
    batch.outputs = {"y": np.ones((1, 2), np.float32)}
    bad, good = (done.output for done in finish(batch))
    assert "not a mask" in (bad.error or {})["text"]
    assert (good.error, len(good.items)) == (None, 1)


def test_masks_that_make_no_sense_fail_their_own_work(pool: FramePool) -> None:
    wire = codec.unpack(pack_works([sent(seen(pool), "near.b.u")[1]["kind"]]))
    wire[0]["deferred"][4] = []
    assert unpack_works(codec.pack(wire), FrameReader())[0].deferred is not None  # no masks at all: none is hidden
    for masks in ([None, None], [{"size": [16, 20]}], "x"):
        wire[0]["deferred"][4] = masks
        with pytest.raises(MessageError):
            unpack_works(codec.pack(wire), FrameReader())
    for size in ([65, 8], [8, 65]):
        wire[0]["deferred"][4] = [{"size": size, "counts": "zz", "offset": [0, 0]}]
        with pytest.raises(MessageError, match="a mask is larger than its frame of 64×64"):
            unpack_works(codec.pack(wire), FrameReader())
    wire[0]["deferred"][4] = [{"size": [16, 20], "counts": "zz", "offset": [0, 0]}]
    [work] = unpack_works(codec.pack(wire), FrameReader())
    batch = Batch([Piece(served("kind", "near.b.u", "h.b.u"), work, 0.0)])
    prepare(batch)
    batch.outputs = {"y": np.ones((1, 2), np.float32)}
    [done] = finish(batch)
    assert done.output.error is not None
    assert "not a mask" in done.output.error["text"]


def test_a_turned_crop_hides_what_is_not_the_object_too() -> None:
    image = np.full((60, 80, 3), 200, np.uint8)
    bits = np.zeros((30, 40), np.bool_)
    bits[:, :20] = True
    quad = np.array([[20.0, 15], [60, 15], [60, 45], [20, 45]])
    one = Detected((20, 15, 60, 45), 0.9, "x", quad, mask=Mask.of(bits, (20, 15)))
    for align in ("none", "corners"):
        crops, _, _ = cut(image, None, [one], CropSpec(align=align, mask=True, mirror=("x",)), (40, 30), 5)
        assert (crops[0, :, :19] == 5).all()
        assert (crops[0, :, 21:] == 200).all()
    [shown], _, _ = cut(image, None, [Detected((20, 15, 60, 45), 0.9, "x")], CropSpec(mask=True), (40, 30))
    assert (shown == 200).all()  # an object without a mask is shown whole
