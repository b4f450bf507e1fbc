"""Dead output and class elimination: what is used stays the same, in both runtimes, by fewer weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import openvino as ov
import pytest
from onnx import NodeProto, helper

from hams_services.optimizer.passes.drop_outputs.unused_outputs import drop_outputs
from hams_shared.errors import UnsupportedModelError
from support.networks import graph, write

CLASSES = 10
READ = [1, 4, 7]
Outputs = dict[str, np.ndarray]
Reads = Mapping[str, Sequence[int] | None]


def detector(folder: Path, last: str = "Sigmoid", extra: Sequence[NodeProto] = (), opset: int = 13) -> Path:
    """``boxes`` N×80×4 and ``scores`` N×80×10: of each 8×8 cell one anchor, and of each 4×4 one, as SSD has them."""
    random = np.random.default_rng(3)
    constants: dict[str, np.ndarray] = {}
    nodes = []
    for level, (source, strides) in {"a": ("x", [1, 1]), "b": ("x", [2, 2])}.items():
        for what, size in (("box", 4), ("class", CLASSES)):
            name = f"{what}_{level}"
            constants |= {
                f"{name}_w": random.normal(size=(size, 3, 1, 1)).astype(np.float32),
                f"{name}_b": random.normal(size=(1, size, 1, 1)).astype(np.float32),
                f"{name}_s": np.array([0, -1, size], np.int64),
            }
            nodes += [
                helper.make_node("Conv", [source, f"{name}_w"], [f"{name}_0"], strides=strides),
                helper.make_node("Add", [f"{name}_0", f"{name}_b"], [f"{name}_1"]),
                helper.make_node("Transpose", [f"{name}_1"], [f"{name}_2"], perm=[0, 2, 3, 1]),
                helper.make_node("Reshape", [f"{name}_2", f"{name}_s"], [f"{name}_3"]),
            ]
    nodes += [
        helper.make_node("Concat", ["box_a_3", "box_b_3"], ["boxes"], axis=1),
        helper.make_node("Concat", ["class_a_3", "class_b_3"], ["logits"], axis=1),
        helper.make_node(last, ["logits"], ["scores"]),
        *extra,
    ]
    ports: dict[str, list[int | str] | None] = {"boxes": ["n", 80, 4], "scores": ["n", 80, CLASSES]}
    return write(folder / "detector.onnx", graph(nodes, constants=constants, outputs=ports), opset=opset)


def outputs_of(path: Path, image: np.ndarray) -> Outputs:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]
    return dict(zip(names, session.run(None, {session.get_inputs()[0].name: image}), strict=True))


def reduced(file: Path, folder: Path, reads: Reads) -> tuple[Path, str]:
    done = drop_outputs(str(file), str(folder / "made"), reads)
    return Path(done["files"][0]), done["dropped"]


def weights(path: Path) -> int:
    return sum(int(np.prod(one.dims)) for one in onnx.load_model(path).graph.initializer if one.data_type == 1)


def test_classes_that_are_not_read_are_not_computed(tmp_path: Path) -> None:
    file = detector(tmp_path)
    path, dropped = reduced(file, tmp_path, {"boxes": None, "scores": READ})
    assert dropped == "7 of 10 numbers of scores"
    image = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)
    before, after = outputs_of(file, image), outputs_of(path, image)
    assert after["scores"].shape == before["scores"].shape == (2, 80, CLASSES)
    np.testing.assert_array_equal(after["boxes"], before["boxes"])
    np.testing.assert_allclose(after["scores"][..., READ], before["scores"][..., READ], atol=1e-6)
    assert not np.delete(after["scores"], READ, axis=2).any()
    assert weights(file) - weights(path) == 2 * (3 + 1) * (CLASSES - len(READ))
    compiled = ov.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    np.testing.assert_allclose(compiled(image)["scores"], after["scores"], atol=1e-5)


def test_outputs_that_are_not_read_go_with_what_only_they_need(tmp_path: Path) -> None:
    file = detector(tmp_path)
    path, dropped = reduced(file, tmp_path, {"scores": None})
    image = np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)
    after = outputs_of(path, image)
    assert (dropped, list(after)) == ("boxes", ["scores"])
    np.testing.assert_array_equal(after["scores"], outputs_of(file, image)["scores"])
    assert weights(path) == 2 * (3 + 1) * CLASSES


def layers(kind: str) -> tuple[list[NodeProto], dict[str, np.ndarray]]:
    """A layer of ten channels after the mean over the picture (N×3×1×1), of each kind."""
    random = np.random.default_rng(1)
    w, b = random.normal(size=(3, CLASSES)).astype(np.float32), random.normal(size=CLASSES).astype(np.float32)
    mean = helper.make_node("GlobalAveragePool", ["x"], ["m"])
    flat = helper.make_node("Flatten", ["m"], ["f"])
    bare = np.array([0, -1, CLASSES], np.int64)
    match kind:
        case "Gemm":
            return [mean, flat, helper.make_node("Gemm", ["f", "w", "b"], ["y"])], {"w": w, "b": b}
        case "Gemm, turned":
            turned = helper.make_node("Gemm", ["f", "w", "b"], ["y"], transB=1)
            return [mean, flat, turned], {"w": w.T.copy(), "b": b}
        case "MatMul, one number for all":
            nodes = [helper.make_node("MatMul", ["f", "w"], ["p"]), helper.make_node("Mul", ["p", "b"], ["q"])]
            return [mean, flat, *nodes, helper.make_node("Relu", ["q"], ["y"])], {"w": w, "b": np.array(2, np.float32)}
        case "Conv with a bias, not turned":
            nodes = [helper.make_node("Conv", ["m", "w", "b"], ["c"]), helper.make_node("Reshape", ["c", "s"], ["y"])]
            return [mean, *nodes], {"w": w.T.reshape(CLASSES, 3, 1, 1).copy(), "b": b, "s": bare}
    raise AssertionError(kind)


@pytest.mark.parametrize("kind", ["Gemm", "Gemm, turned", "MatMul, one number for all", "Conv with a bias, not turned"])
def test_layers_of_all_kinds(tmp_path: Path, kind: str) -> None:
    nodes, constants = layers(kind)
    file = write(tmp_path / "net.onnx", graph(nodes, constants=constants, outputs={"y": None}))
    image = np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)
    path, _ = reduced(file, tmp_path, {"y": READ})
    before, after = outputs_of(file, image)["y"], outputs_of(path, image)["y"]
    np.testing.assert_allclose(after[..., READ], before[..., READ], atol=1e-6)
    assert not np.delete(after, READ, axis=-1).any()
    assert weights(path) < weights(file)


@pytest.mark.parametrize(
    ("last", "extra", "reads"),
    [
        ("Softmax", [], {"boxes": None, "scores": READ}),  # each number depends on all
        ("Sigmoid", [helper.make_node("Identity", ["logits"], ["more"])], {"boxes": None, "scores": READ}),
        ("Sigmoid", [], {"boxes": None, "scores": list(range(1, CLASSES))}),  # too few to be worth it
        ("Sigmoid", [], {"boxes": None, "scores": None}),
    ],
)
def test_what_cannot_be_left_out_stays(
    tmp_path: Path, last: str, extra: list[NodeProto], reads: dict[str, list[int] | None]
) -> None:
    file = detector(tmp_path, last, extra)
    if extra:  # what another output reads as well
        model = onnx.load_model(file)
        model.graph.output.add().name = "more"
        file.write_bytes(model.SerializeToString())
        reads = {**reads, "more": None}
    assert drop_outputs(str(file), str(tmp_path / "made"), reads)["files"] == []


def test_a_task_that_uses_nothing_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="the task uses none of its outputs"):
        drop_outputs(str(detector(tmp_path)), str(tmp_path / "made"), {"other": None})


def test_the_same_bytes_twice_and_what_the_file_says_of_itself(tmp_path: Path) -> None:
    file = detector(tmp_path, opset=12)
    model = onnx.load_model(file)
    helper.set_model_props(model, {"names": "cats"})
    file.write_bytes(model.SerializeToString())
    one, two = (reduced(file, tmp_path / name, {"scores": READ})[0].read_bytes() for name in ("a", "b"))
    assert one == two
    assert {each.key: each.value for each in onnx.load_model_from_string(one).metadata_props} == {"names": "cats"}
