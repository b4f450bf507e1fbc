"""One node's work for one frame: what is published, level by level, and how the join puts it together."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import cv2
import numpy as np
import pytest
from msgspec.structs import replace
from numpy.typing import NDArray

from hams_agents.runtime.served_node import ServedNode
from hams_agents.runtime.serving import Batch, Piece, finish, prepare
from hams_agents.tasks.base import Detected
from hams_agents.tasks.crops import cut
from hams_agents.tasks.input import IDENTITY
from hams_agents.tasks.registry import build_task
from hams_services.pipeline.join import Join
from hams_shared.errors import FrameUnreachableError, MessageError
from hams_shared.group.spec import GroupSpec, parse_group
from hams_shared.wire import codec
from hams_shared.wire.frame_pool import FramePool, FrameReader, Slot, memory_domain
from hams_shared.wire.frames import FrameId, Output, Reduced, Work, pack_works, unpack_works
from hams_shared.wire.messages.plan import VariantChoice
from support.build import model_ref, plan

ID = FrameId("g", "cam", 0, 0, 1, 0.0)
MODEL = {"model": "/m.onnx"}
Variants = Mapping[str, Mapping[str, VariantChoice]]
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
    devices = {name: "h.b.u" if name == node else child_device for name in spec.nodes}
    batch = Batch([Piece(served(spec, node, devices), work, 0.0)])
    prepare(batch)
    batch.outputs = outputs
    [done] = finish(batch)
    assert all(device == child_device for device, _ in done.children)
    children = [work for _, work in done.children]
    if child_device != "h.b.u":
        children = unpack_works(pack_works(children))
    return Output.unpack(done.output.pack()), {child.node: shown(spec, child, child_device) for child in children}


def served(spec: GroupSpec, node: str, devices: Mapping[str, str]) -> ServedNode:
    part = spec.nodes[node]
    task = build_task(part.task, part.input)
    return ServedNode(devices[node], plan(1, devices, spec), node, None, task)  # type: ignore[arg-type]


def shown(spec: GroupSpec, work: Work, device: str = "h.b.u") -> Work:
    """What the node is shown, cut out of the frame where it is to do so itself."""
    batch = Batch([Piece(served(spec, work.node, dict.fromkeys(spec.nodes, device)), work, 0.0)])
    prepare(batch)
    assert batch.error is None
    assert batch.pieces[0].error is None
    return batch.pieces[0].work


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


SIGNS = group(
    sign={"input": {"size": [8, 8]}, "task": {"type": "retinaface", "points": 4, "min_sizes": [[8]], "steps": [8]}},
    text={
        "input": {"size": [24, 8], "fit": "letterbox", "pad": 7},
        "parent": "sign",
        "task": {"type": "raw"},
        "crop": {"align": "corners"},
    },
    kind={"input": {"size": [9, 9]}, "parent": "sign", "task": {"type": "raw"}, "crop": {"enlarge": 1.5}},
)
"""One prior, the whole input: a sign with corners, on whose crops two nodes look."""
FOUND = {
    "loc": np.zeros((1, 1, 4), np.float32),
    "conf": np.array([[[-9, 9]]], np.float32),
    "landms": np.array([[[-3, -2.5, 3, -2, 2.5, 3, -3, 2.5]]], np.float32),
}


@pytest.fixture
def pool() -> Iterator[FramePool]:
    if not memory_domain():
        pytest.skip("this system has no /dev/shm")
    pool = FramePool(1, 64 * 48 * 3)
    yield pool
    pool.close()


def seen(pool: FramePool, peers: dict[str, str]) -> tuple[Work, Slot]:
    """Work for the first node, as its agent gets it by pointer."""
    slot = pool.take((48, 64, 3))
    assert slot is not None
    slot.pixels[:] = np.random.default_rng(1).integers(0, 256, slot.pixels.shape, np.uint8)
    work = Work(ID, "sign", slot.pixels[None], IDENTITY[None], [0], (64, 48), pointer=slot.publish(), peers=peers)
    return unpack_works(pack_works([work]), FrameReader())[0], slot


def sent(
    spec: GroupSpec,
    work: Work,
    outputs: Mapping[str, NDArray[np.generic]],
    device: str,
    variants: Variants | None = None,
) -> dict[str, Work]:
    """What goes to the children on `device`, as their agent gets it before it does anything."""
    node = served(spec, "sign", {"sign": "h.b.u", "text": device, "kind": device})
    node = dataclasses.replace(node, plan=node.plan.model_copy(update={"variants": variants or {}}))
    batch = Batch([Piece(node, work, 0.0)])
    prepare(batch)
    batch.outputs = outputs
    [done] = finish(batch)
    works = [work for _, work in done.children]
    return {
        work.node: work for work in (works if device == "h.b.u" else unpack_works(pack_works(works), FrameReader()))
    }


def test_crops_are_the_same_whichever_device_makes_them(pool: FramePool) -> None:
    work, _ = seen(pool, peers={"near.b.u": ""})
    here, near, far = (sent(SIGNS, work, FOUND, device) for device in ("h.b.u", "near.b.u", "far.b.u"))
    for node, (width, height) in {"text": (24, 8), "kind": (9, 9)}.items():
        assert far[node].deferred is None
        assert far[node].images.shape == (1, height, width, 3)
        assert len(pack_works([far[node]])) > width * height * 3
        for other in (here[node], near[node]):
            assert other.deferred is not None
            whole = shown(SIGNS, other)
            assert (whole.deferred, whole.pointer, whole.view) == (None, None, None)
            assert (whole.images == far[node].images).all()
            assert (whole.to_frame == far[node].to_frame).all()
            assert whole.sources == far[node].sources == [0]
        assert len(pack_works([near[node]])) < 500


@pytest.mark.parametrize("device", ["h.b.u", "near.b.u", "far.b.u"])
def test_a_crop_is_as_large_as_the_network_on_its_device_wants_it(pool: FramePool, device: str) -> None:
    """One that looks at a part of its letterboxed image gets that part, the same pixels."""
    work, _ = seen(pool, peers={"near.b.u": ""})
    whole = shown(SIGNS, sent(SIGNS, work, FOUND, device)["text"], device)
    takes = SIGNS.nodes["text"].input.model_copy(update={"size": (20, 8)})
    choice = VariantChoice(model=model_ref("small"), label="rectangular", agreement=1.0, input=takes)
    small = shown(SIGNS, sent(SIGNS, work, FOUND, device, {"text": {device: choice}})["text"], device)
    filled = 16  # the sign is twice as wide as high
    assert small.images.shape == (1, 8, 20, 3)
    assert (small.images[:, :, :filled] == whole.images[:, :, :filled]).all()
    assert (small.to_frame == whole.to_frame).all()
    assert pack_works([sent(SIGNS, work, FOUND, device, {"text": {"another.b.u": choice}})["text"]]) == (
        pack_works([sent(SIGNS, work, FOUND, device)["text"]])
    )


def test_nothing_found_needs_no_frame(pool: FramePool) -> None:
    work, _ = seen(pool, peers={"near.b.u": ""})
    none = {**FOUND, "conf": -FOUND["conf"]}
    for one in sent(SIGNS, work, none, "near.b.u").values():
        assert (one.count, one.deferred, one.pointer) == (0, None, None)


def test_a_frame_that_was_given_up_is_the_failure_of_its_own_work_only(pool: FramePool) -> None:
    work, slot = seen(pool, peers={"near.b.u": ""})
    gone = sent(SIGNS, work, FOUND, "near.b.u")["kind"]
    stands = sent(SIGNS, work, FOUND, "far.b.u")["kind"]
    slot.free()
    node = served(SIGNS, "kind", {"sign": "h.b.u", "text": "h.b.u", "kind": "near.b.u"})
    batch = Batch([Piece(node, gone, 0.0), Piece(node, stands, 0.0)])
    prepare(batch)
    assert batch.tensor is not None
    assert batch.tensor.shape == (1, 3, 9, 9)
    batch.outputs = {"y": np.ones((1, 2), np.float32)}
    first, second = (one.output for one in finish(batch))
    assert first.error is not None
    assert first.error["code"] == "frame-gone"
    assert second.error is None
    assert len(second.items) == 1


@pytest.mark.parametrize(
    ("key", "value"), [(2, [(10, 9)]), (2, []), (0, (0, 9)), (1, 256), (3, [[1e9] * 8]), (3, [[1.0] * 7])]
)
def test_deferred_crops_that_make_no_sense_are_refused(pool: FramePool, key: int, value: Any) -> None:
    """By place: size, pad, filled, corners."""
    work, _ = seen(pool, peers={"near.b.u": ""})
    cuts = sent(SIGNS, work, FOUND, "near.b.u")["kind"]
    wire = codec.unpack(pack_works([cuts]))
    wire[0]["deferred"][key] = value
    with pytest.raises(MessageError):
        unpack_works(codec.pack(wire), FrameReader())


def test_a_crop_of_nothing_is_a_named_error(pool: FramePool) -> None:
    work, _ = seen(pool, peers={"near.b.u": ""})
    cuts = sent(SIGNS, work, FOUND, "near.b.u")["kind"]
    outside = replace(cuts, to_frame=cuts.to_frame + 1e4)
    node = served(SIGNS, "kind", dict.fromkeys(SIGNS.nodes, "near.b.u"))
    batch = Batch([Piece(node, outside, 0.0)])
    prepare(batch)
    assert "shows nothing" in str(batch.pieces[0].error)


BRIGHT = group(
    sign={"input": {"size": [64, 64], "fit": "letterbox"}, "task": {"type": "detection_output", "labels": {1: "sign"}}},
    text={"input": {"size": [20, 10]}, "parent": "sign", "task": {"type": "raw"}},
)
LARGE = (640, 360)
TRUE = (200.0, 90.0, 400.0, 270.0)
"""Where the bright sign is in the large frame, pixels."""


def sign(
    pool: FramePool, small: tuple[int, int] | None, peers: dict[str, str] | None = None
) -> tuple[Work, list[Slot]]:
    """A frame of noise with a bright sign, and the same moment in `small` pixels (width, height), both by pointer."""
    slots = [pool.take((LARGE[1], LARGE[0], 3)), pool.take((small[1], small[0], 3)) if small else None]
    large = slots[0]
    assert large is not None
    large.pixels[:] = np.random.default_rng(2).integers(0, 60, large.pixels.shape, np.uint8)
    x0, y0, x1, y1 = map(int, TRUE)
    large.pixels[y0:y1, x0:x1] += 190
    work = Work(ID, "sign", large.pixels[None], IDENTITY[None], [0], LARGE, pointer=large.publish(), peers=peers or {})
    if (second := slots[1]) is not None and small is not None:
        second.pixels[:] = cv2.resize(large.pixels, small, interpolation=cv2.INTER_AREA)
        work = replace(work, reduced=Reduced(second.pixels, second.publish()))
    return unpack_works(pack_works([work]), FrameReader())[0], [slot for slot in slots if slot is not None]


def detected(batch: Batch) -> dict[str, NDArray[np.generic]]:
    """What a network that finds the bright part of each image outputs."""
    assert batch.tensor is not None
    rows = []
    for number, image in enumerate(np.asarray(batch.tensor)):
        ys, xs = np.nonzero(image.mean(axis=0) > 120)
        height, width = image.shape[1:]
        ends = (xs.min() / width, ys.min() / height, (xs.max() + 1) / width, (ys.max() + 1) / height)
        rows.append([[number, 1, 0.9, *ends]])
    return {"found": np.array(rows, np.float32)}


@pytest.fixture
def two() -> Iterator[FramePool]:
    if not memory_domain():
        pytest.skip("this system has no /dev/shm")
    pool = FramePool(6, LARGE[0] * LARGE[1] * 3)
    yield pool
    pool.close()


@pytest.mark.parametrize("small", [None, (160, 90), (64, 64), (176, 144)], ids=str)
@pytest.mark.parametrize("device", ["h.b.u", "near.b.u", "far.b.u"])
def test_boxes_of_the_reduced_picture_lie_on_the_large_frame_and_crops_are_cut_from_it(
    two: FramePool, small: tuple[int, int] | None, device: str
) -> None:
    work, _ = sign(two, small, peers={"near.b.u": ""})
    batch = Batch([Piece(served(BRIGHT, "sign", {"sign": "h.b.u", "text": device}), work, 0.0)])
    prepare(batch)
    batch.outputs = detected(batch)
    [done] = finish(batch)
    [[found]] = done.output.items
    assert found["box"] == pytest.approx(TRUE, abs=1.5 * LARGE[0] / 64)  # a pixel of the input, and a half
    [(_, child)] = done.children
    if device != "h.b.u":
        [child] = unpack_works(pack_works([child]), FrameReader())
    assert child.reduced is None
    assert (child.deferred is None) == (device == "far.b.u")
    got = shown(BRIGHT, child, device)
    box = Detected(batch_box(batch), 0.9, "sign")
    expected, maps, _ = cut(work.images[0], None, [box], BRIGHT.nodes["text"].crop, (20, 10))
    assert (got.images == expected).all()
    assert got.to_frame == pytest.approx(maps)


def batch_box(batch: Batch) -> tuple[float, float, float, float]:
    """The box in the frame's pixels before it was rounded for the wire."""
    detector = batch.pieces[0].served.detector
    assert detector is not None
    assert batch.outputs is not None
    [[one]] = detector.detect(batch.outputs, batch.to_frame, LARGE)
    return one.box


def test_letterbox_keeps_the_proportions_of_the_frame_not_of_the_reduced_picture(two: FramePool) -> None:
    """Many cameras squeeze 16:9 into 704×576 or 352×288."""
    tensors = []
    for small in (None, (176, 144)):
        batch = Batch([Piece(served(BRIGHT, "sign", dict.fromkeys(BRIGHT.nodes, "h.b.u")), sign(two, small)[0], 0.0)])
        prepare(batch)
        assert batch.tensor is not None
        tensors.append(np.asarray(batch.tensor, np.float64))
    whole, reduced = tensors
    assert (reduced[:, :, 36:] == 0).all()  # 640×360 in 64×64 leaves 28 rows
    assert np.abs(whole - reduced).mean() < 8


def test_frames_with_and_without_a_reduced_picture_in_one_batch(two: FramePool) -> None:
    node = served(BRIGHT, "sign", dict.fromkeys(BRIGHT.nodes, "h.b.u"))
    batch = Batch([Piece(node, sign(two, small)[0], 0.0) for small in ((160, 90), None, (64, 64))])
    prepare(batch)
    batch.outputs = detected(batch)
    boxes = [one.output.items[0][0]["box"] for one in finish(batch)]
    assert len(boxes) == 3
    for box in boxes:
        assert box == pytest.approx(TRUE, abs=1.5 * LARGE[0] / 64)


@pytest.mark.parametrize("which", [0, 1], ids=["large", "reduced"])
def test_either_picture_given_up_meanwhile_fails_the_frame(two: FramePool, which: int) -> None:
    work, slots = sign(two, (160, 90))
    batch = Batch([Piece(served(BRIGHT, "sign", dict.fromkeys(BRIGHT.nodes, "h.b.u")), work, 0.0)])
    prepare(batch)
    batch.outputs = detected(batch)
    slots[which].free()
    [done] = finish(batch)
    error = done.output.error
    assert error is not None
    assert error["code"] == "frame-gone"


def test_a_reduced_picture_that_cannot_be_mapped_is_told_with_the_rest_of_the_work(two: FramePool) -> None:
    work, _ = sign(two, (160, 90))
    inline = pack_works([replace(work, pointer=None)])  # only the reduced one by pointer
    [unread] = unpack_works(inline)
    assert isinstance(unread.unreadable, FrameUnreachableError)
    assert unread.id == ID
    [read] = unpack_works(inline, FrameReader())
    assert read.unreadable is None
    assert (read.images == work.images).all()


@pytest.mark.parametrize(
    "reduced",
    [
        {"shape": [1, 0, 4, 3], "pixels": b""},
        {"shape": [2, 1, 1, 3], "pixels": bytes(6)},
        {"shape": [1, 2, 2, 3], "pixels": bytes(11)},
        {"shape": [1, 2, 2, 1], "pixels": bytes(4)},
        {"shape": [1, 2, 2, 3], "pointer": ["/etc/passwd", 0, 2, 4096]},
        {"shape": [1, 2, 2, 3]},
        b"pixels",
    ],
)
def test_a_reduced_picture_that_makes_no_sense_is_refused(reduced: Any) -> None:
    whole = Work(ID, "sign", np.zeros((1, 8, 8, 3), np.uint8), IDENTITY[None], [0], (8, 8))
    with pytest.raises(MessageError):
        unpack_works(codec.pack([{**codec.unpack(pack_works([whole]))[0], "reduced": reduced}]))


def test_a_reduced_picture_comes_with_one_whole_frame_only() -> None:
    several = Work(ID, "sign", np.zeros((2, 8, 8, 3), np.uint8), np.repeat(IDENTITY[None], 2, 0), [0, 0], (8, 8))
    [wire] = codec.unpack(pack_works([several]))
    with pytest.raises(MessageError, match="only with one frame"):
        unpack_works(codec.pack([{**wire, "reduced": {"shape": [1, 4, 4, 3], "pixels": bytes(48)}}]))
