"""Nodes with several inputs, from the group file to the joined result: deployed, run on real runtimes, and sent."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from accuracy.group import ONNXRUNTIME, OPENVINO, Networks
from hams_agents.runtime.further_values import Seen, fact, from_image_pixels
from hams_agents.runtime.served_node import ServedNode
from hams_agents.runtime.serving import Batch, Piece, finish, infer, prepare
from hams_agents.tasks.base import Affine, Detected, Outputs, TaskContext, TaskParams
from hams_agents.tasks.input import apply, boxes_through
from hams_agents.tasks.registry import BUILT_IN
from hams_shared.errors import ModelError, TaskError
from hams_shared.group.input_sources import InputSource
from hams_shared.group.spec import GroupSpec, parse_group
from hams_shared.wire.frames import FrameId, Given, Output, Work, pack_works, unpack_works
from support.networks import write

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
FOUND = np.array([[0.25, 0.5, 0.5, 1.0]], np.float32)
"""What the detector finds in every image: x0, y0, x1, y1 as parts of its input."""


class Sized:
    """Reads boxes in pixels of the image, as DETR-like networks output them; with two points each."""

    Params: ClassVar[type[TaskParams]] = TaskParams
    image_pixels = True

    def __init__(self, params: TaskParams, context: TaskContext) -> None:
        self.pixels = context.pixels

    def detect(
        self, outputs: Outputs, to_frame: Sequence[Affine], frame_size: tuple[int, int] | None = None
    ) -> list[list[Detected]]:
        boxes = np.asarray(outputs["boxes"], np.float64)
        found = [boxes_through(affine, one)[0] for affine, one in zip(to_frame, boxes, strict=True)]
        points = [np.array([[x0, y0], [x1, y1]]) for x0, y0, x1, y1 in found]
        boxed = [tuple(box.tolist()) for box in found]
        return [[Detected(box, 0.75, "thing", at)] for box, at in zip(boxed, points, strict=True)]  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BUILT_IN, "sized", Sized)


def detector(folder: Path) -> Path:
    """boxes = FOUND × (width, height, width, height) as it is given them; features = the mean of each channel."""
    nodes = [
        helper.make_node("Cast", ["orig_target_sizes"], ["wh"], to=FLOAT),
        helper.make_node("Concat", ["wh", "wh"], ["whwh"], axis=1),
        helper.make_node("Mul", ["whwh", "found"], ["flat"]),
        helper.make_node("Constant", [], ["middle"], value_ints=[1]),
        helper.make_node("Unsqueeze", ["flat", "middle"], ["boxes"]),
        helper.make_node("GlobalAveragePool", ["images"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
    ]
    ports = [
        helper.make_tensor_value_info("images", FLOAT, ["batch", 3, 64, 64]),
        helper.make_tensor_value_info("orig_target_sizes", INT64, ["batch", 2]),
    ]
    outputs = [
        helper.make_tensor_value_info("boxes", FLOAT, ["batch", 1, 4]),
        helper.make_tensor_value_info("features", FLOAT, ["batch", 3]),
    ]
    graph = helper.make_graph(nodes, "g", ports, outputs, [numpy_helper.from_array(FOUND, "found")])
    return write(folder / "detector.onnx", graph, opset=18)


INPUTS = {
    "size": ([None, 2], "size_hw"),
    "whole": ([None, 2], "frame_wh"),
    "input": ([2], "input_wh"),
    "content": ([None, 2], "content_wh"),
    "scale": ([None, 2], "scale_hw"),
    "pad": ([None, 4], "pad"),
    "region": ([None, 4], "box"),
    "box": ([None, 1, 4], {"parent": "box"}),
    "unit": ([None, 4], {"parent": "box", "pixels": "unit"}),
    "there": ([None, 4], {"parent": "box", "pixels": "frame"}),
    "points": ([None, "many", 2], {"parent": "points"}),
    "labels": ([1, 2], {"value": 1, "shape": [2]}),
    "threshold": ([], {"value": 0.5}),
    "features": ([None, 3], {"output": "features"}),
}


def echo(folder: Path, inputs: dict[str, Any]) -> Path:
    """Outputs what it is fed besides the image, each with 1 added, so that nothing is an input unread."""
    ports = [helper.make_tensor_value_info("crop", FLOAT, [None, 3, 32, 32])]
    ports += [helper.make_tensor_value_info(name, FLOAT, dims) for name, (dims, _) in inputs.items()]
    nodes = [helper.make_node("GlobalAveragePool", ["crop"], ["mean"])]
    nodes += [helper.make_node("Add", [name, "one"], [f"{name}_out"]) for name in inputs]
    outputs = [helper.make_tensor_value_info(name, FLOAT, None) for name in ("mean", *(f"{n}_out" for n in inputs))]
    graph = helper.make_graph(nodes, "g", ports, outputs, [numpy_helper.from_array(np.float32(1), "one")])
    return write(folder / "echo.onnx", graph, opset=18)


def group(folder: Path, fit: str = "stretch", child: bool = True, fed: Any = INPUTS, **changes: Any) -> GroupSpec:
    nodes: dict[str, Any] = {
        "det": {
            "model": str(detector(folder)),
            "input": {"size": [64, 64], "fit": fit},
            "inputs": {"orig_target_sizes": "size_wh"},
            "task": {"type": "sized"},
            **changes,
        }
    }
    if child:
        nodes["echo"] = {
            "model": str(echo(folder, fed)),
            "parent": "det",
            "input": {"size": [32, 32], "fit": fit},
            "inputs": {"crop": "image", **{name: source for name, (_, source) in fed.items()}},
            "task": {"type": "raw"},
        }
    return parse_group({"name": "g", "nodes": nodes})


def frame(width: int = 160, height: int = 120) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def sent(work: Work) -> Work:
    """The same after a message."""
    return unpack_works(pack_works([work]))[0]


@pytest.mark.parametrize("device", [OPENVINO, ONNXRUNTIME])
@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
def test_boxes_in_pixels_of_the_image_are_those_of_the_frame(tmp_path: Path, device: str, fit: str) -> None:
    spec = group(tmp_path, fit, child=False)
    served = Networks(spec, tmp_path / "kept").serve(spec, {"det": device})
    (found,) = served.objects(frame(), sent)
    # letterbox: the input of 64×64 shows 160×160 pixels, the frame and what is below it
    expected = FOUND[0] * (160, 120, 160, 120) if fit == "stretch" else FOUND[0] * 160
    assert found["box"] == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("device", [OPENVINO, ONNXRUNTIME])
@pytest.mark.parametrize("over_the_wire", [False, True])
def test_a_child_is_fed_with_facts_constants_and_its_parents_part(
    tmp_path: Path, device: str, over_the_wire: bool
) -> None:
    spec = group(tmp_path)
    served = Networks(spec, tmp_path / "kept").serve(spec, dict.fromkeys(spec.nodes, device))
    image = frame()
    (found,) = served.objects(image, sent if over_the_wire else lambda work: work)
    got = {name: np.array(found["echo"][f"{name}_out"]["values"]) - 1 for name in INPUTS}
    # the object is 40..80 × 60..120 of 160×120; its crop of 32×32 shows all of it
    expected = {
        "size": [60, 40], "whole": [160, 120], "input": [32, 32], "content": [32, 32], "scale": [32 / 60, 32 / 40],
        "pad": [0, 0, 0, 0], "region": [40, 60, 80, 120], "box": [0, 0, 32, 32], "unit": [0, 0, 1, 1],
        "there": [40, 60, 80, 120], "points": [0, 0, 32, 32], "labels": [1, 1], "threshold": [0.5],
    }  # fmt: skip
    for name, values in expected.items():
        np.testing.assert_allclose(got[name], values, atol=1e-3, err_msg=name)
    resized = image.reshape(60, 2, 80, 2, 3).mean((0, 1, 2, 3))
    np.testing.assert_allclose(got["features"], resized, rtol=0.02)
    assert found["echo"]["points_out"]["shape"] == [2, 2]


def test_a_letterboxed_crop(tmp_path: Path) -> None:
    inputs = {name: INPUTS[name] for name in ("size", "content", "scale", "pad", "region", "box", "unit")}
    spec = group(tmp_path, "letterbox", fed=inputs, input={"size": [64, 64]})
    served = Networks(spec, tmp_path / "kept").serve(spec, dict.fromkeys(spec.nodes, ONNXRUNTIME))
    (found,) = served.objects(frame(), sent)
    got = {name: np.array(found["echo"][f"{name}_out"]["values"]) - 1 for name in inputs}
    # 40×60 pixels fill 21×32 of 32×32
    expected = {
        "size": [60, 40], "content": [21, 32], "scale": [32 / 60, 21 / 40], "pad": [0, 0, 11, 0],
        "region": [40, 60, 80, 120], "box": [0, 0, 21, 32], "unit": [0, 0, 21 / 32, 1],
    }  # fmt: skip
    for name, values in expected.items():
        np.testing.assert_allclose(got[name], values, atol=1e-3, err_msg=name)


def test_a_task_that_reads_pixels_of_the_input_says_what_to_feed(tmp_path: Path) -> None:
    spec = group(tmp_path, child=False, task={"type": "yolo", "version": "v8", "labels": ["a"]})
    with pytest.raises(TaskError, match="inputs: gives the network the image's size.*feed input_wh"):
        Networks(spec, tmp_path / "kept").serve(spec, {"det": ONNXRUNTIME})


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        (
            {},
            r"nothing feeds the network's input orig_target_sizes \(\?×2 int64\).*orig_target_sizes: input_wh",
        ),
        ({"orig_size": "size_wh"}, r"no input 'orig_size' \(did you mean orig_target_sizes\?"),
        ({"orig_target_sizes": "pad"}, r"pad gives 4 and does not fit orig_target_sizes \(\?×2 int64\)"),
        (
            {"orig_target_sizes": "size_wh", "images": {"value": 1}},
            "none of the network's inputs is left for the image",
        ),
    ],
)
def test_inputs_that_do_not_fit_are_refused_at_deploy(tmp_path: Path, inputs: Any, text: str) -> None:
    spec = group(tmp_path, child=False, inputs=inputs)
    with pytest.raises(ModelError) as error:
        Networks(spec, tmp_path / "kept")
    assert re.search(text, str(error.value)), str(error.value)


def given_objects(spec: GroupSpec, image: np.ndarray, *objects: Given) -> Work:
    """Work of a child whose objects the pipeline chose."""
    number = len(objects)
    frame_id = FrameId(spec.name, "s", 0, 0, 1, 0.0)
    size = (image.shape[1], image.shape[0])
    empty = np.empty((0, 2, 3))
    return Work(frame_id, "echo", image[None], empty, list(range(number)), size, objects=list(objects))


def done(served: ServedNode, *works: Work) -> list[Output]:
    batch = Batch([Piece(served, sent(work), 0.0) for work in works])
    prepare(batch)
    infer(batch)
    return [one.output for one in finish(batch)]


def test_objects_that_the_pipeline_chose(tmp_path: Path) -> None:
    inputs = {name: INPUTS[name] for name in ("size", "region", "box", "there", "points")}
    spec = group(tmp_path, fed=inputs, track={})
    assert spec.chosen == {"echo"}
    served = Networks(spec, tmp_path / "kept").serve(spec, dict.fromkeys(spec.nodes, ONNXRUNTIME)).nodes["echo"]
    one = Given((40, 60, 80, 120), 0.9, "thing", [(40, 60), (60, 90)])
    two = Given((0, 0, 20, 10), 0.9, "thing", [(5, 5), (10, 10)])
    bare = Given((0, 0, 20, 10), 0.9, "thing")
    first, second, failed = done(
        served,
        given_objects(spec, frame(), one, two),
        given_objects(spec, frame(200, 100), two),
        given_objects(spec, frame(), one, bare),
    )
    got = [
        {name: np.array(item[f"{name}_out"]["values"]) - 1 for name in inputs} for item in first.items + second.items
    ]
    np.testing.assert_allclose(got[0]["size"], [60, 40], atol=1e-3)
    np.testing.assert_allclose(got[1]["region"], [0, 0, 20, 10], atol=1e-3)
    np.testing.assert_allclose(got[2]["there"], [0, 0, 20, 10], atol=1e-3)
    np.testing.assert_allclose(got[0]["points"], [0, 0, 16, 16], atol=1e-3)
    np.testing.assert_allclose(got[2]["points"], [8, 16, 16, 32], atol=1e-3)
    assert failed.error is not None
    assert failed.error["text"] == "node echo: nothing feeds points: the parent gave no points"


def test_no_objects_need_nothing(tmp_path: Path) -> None:
    spec = group(tmp_path, fed={"box": INPUTS["box"]}, track={})
    served = Networks(spec, tmp_path / "kept").serve(spec, dict.fromkeys(spec.nodes, ONNXRUNTIME)).nodes["echo"]
    (nothing,) = done(served, given_objects(spec, frame()))
    assert (nothing.error, nothing.items) == (None, [])


@given(
    st.floats(8, 4000), st.floats(8, 4000), st.floats(-1000, 1000), st.floats(-3, 3),
    st.sampled_from(["size_wh", "scale_hw"]), st.floats(0.3, 1),
)  # fmt: skip
def test_boxes_from_pixels_of_the_image_are_exact_for_any_crop(
    across: float, down: float, offset: float, angle: float, fed: Any, filled: float
) -> None:
    size = (64, 32)
    content = (64.0, 32 * filled)
    cos, sin = np.cos(angle), np.sin(angle)
    x, y = across / content[0], down / content[1]
    to_frame = np.array([[cos * x, -sin * y, offset], [sin * x, cos * y, -offset]])
    seen = Seen(to_frame, content, (1920, 1080))
    sources = {"s": InputSource(fact=fed)}
    values = fact(fed, seen, size)
    here = np.array([[10.0, 20.0]])  # in the input, as the network finds it
    in_image = here / size * values if fed == "size_wh" else here / values[::-1]
    back = apply(from_image_pixels(sources, seen, size), in_image)
    np.testing.assert_allclose(back, apply(to_frame, here), rtol=1e-3, atol=0.05)
    assert fact("size_wh", seen, size) == pytest.approx((across, down), abs=1e-3)
