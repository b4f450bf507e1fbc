"""What every runtime must do alike, on real runtimes and small real networks."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from openvino import Core

from hams_agents.backends.base import Backend
from hams_agents.backends.network import Lanes
from hams_agents.backends.openvino import OpenVinoBackend, _config, _requests
from hams_agents.backends.registry import open_backend
from hams_agents.devices import parse
from hams_shared.errors import ModelError, UnsupportedModelError
from support.networks import graph, images, means, mixing, model_file, positives, scaled, write


@pytest.fixture(scope="module", params=["openvino:CPU", "onnxruntime:CPU"])
def backend(request: pytest.FixtureRequest) -> Backend:
    return open_backend(parse(request.param))


def test_capabilities(backend: Backend) -> None:
    able = backend.capabilities
    assert able.kind == able.unit == "cpu"
    assert able.name
    assert able.threads >= 1
    assert able.memory_mib > 100
    assert able.precisions[0] == "fp32"
    assert able.runtime.startswith(able.backend)
    assert not able.emulated


@pytest.mark.parametrize("batch", ["n", 1, "free rank"])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 13])
def test_any_number_of_images(backend: Backend, tmp_path: Path, batch: str | int, count: int) -> None:
    network = backend.load(model_file(means(tmp_path, "n" if batch == "free rank" else batch)))
    pictures = images(count)
    outputs = network.infer(pictures)
    assert list(outputs) == ["y"]
    assert outputs["y"].shape == (count, 3, 1, 1)
    np.testing.assert_allclose(outputs["y"][:, :, 0, 0], pictures.mean((2, 3)), rtol=1e-5)
    assert network.memory_mib > 0
    assert network.load_ms > 0


@pytest.mark.parametrize("alone", [True, False])
def test_numbers_that_a_cpu_is_slow_with_count_as_zero(backend: Backend, tmp_path: Path, alone: bool) -> None:
    """1e-40 is below the smallest normal number of fp32, 1.2e-38."""
    node = helper.make_node("Mul", ["x", "tiny"], ["y"])
    path = write(tmp_path / "tiny.onnx", graph([node], constants={"tiny": np.float32([1e-30])}))
    network, picture = backend.load(model_file(path)), np.full((1, 3, 8, 8), 1e-10, np.float32)
    with ThreadPoolExecutor(1) as new:  # one that no network has run in
        outputs = new.submit(lambda: network.infer(picture, alone=alone)).result()
    assert not outputs["y"].view(np.uint32).any()  # as numbers they may be taken as zero by this thread as well


def test_outputs_are_not_overwritten_by_the_next_run(backend: Backend, tmp_path: Path) -> None:
    network = backend.load(model_file(means(tmp_path)))
    first = network.infer(images(2))["y"]
    kept = first.copy()
    network.infer(images(2, seed=9))
    np.testing.assert_array_equal(first, kept)


def test_read_only_and_strided_input(backend: Backend, tmp_path: Path) -> None:
    network = backend.load(model_file(means(tmp_path)))
    pictures = np.moveaxis(np.ascontiguousarray(np.moveaxis(images(2), 1, 3)), 3, 1)
    pictures.setflags(write=False)
    np.testing.assert_allclose(network.infer(pictures)["y"][:, :, 0, 0], pictures.mean((2, 3)), rtol=1e-5)


def test_a_network_that_mixes_the_images_of_a_batch_is_run_one_by_one(backend: Backend, tmp_path: Path) -> None:
    network = backend.load(model_file(mixing(tmp_path)))
    assert not network.dynamic_batch
    pictures = images(3)
    np.testing.assert_allclose(network.infer(pictures)["y"], 2 * pictures, rtol=1e-5)


def test_outputs_as_long_as_each_image_wants(backend: Backend, tmp_path: Path) -> None:
    network = backend.load(model_file(positives(tmp_path)))
    pictures = np.zeros((2, 3, 8, 8), np.float32)
    pictures[0, 1, 2, 3] = pictures[1, 0, 0, 7] = pictures[1, 2, 5, 5] = 1
    np.testing.assert_array_equal(
        network.infer(pictures)["y"], [[[0, 1, 2, 3], [0, 0, 0, 0]], [[0, 0, 0, 7], [0, 2, 5, 5]]]
    )
    assert network.infer(pictures[:1])["y"].shape == (1, 1, 4)


@pytest.mark.parametrize("listed", [False, True])
def test_initializers_among_the_inputs(backend: Backend, tmp_path: Path, listed: bool) -> None:
    network = backend.load(model_file(scaled(tmp_path, listed)))
    pictures = images(2)
    np.testing.assert_allclose(network.infer(pictures)["y"], 2 * pictures)


def test_u8_images_for_an_f32_network(backend: Backend, tmp_path: Path) -> None:
    network = backend.load(model_file(means(tmp_path), dtype="u8"))
    pictures = (images(2) * 255).astype(np.uint8)
    np.testing.assert_allclose(network.infer(pictures)["y"][:, :, 0, 0], pictures.mean((2, 3)), rtol=1e-5)


def test_u8_network(backend: Backend, tmp_path: Path) -> None:
    node = helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)
    path = write(tmp_path / "bytes.onnx", graph([node], element=TensorProto.UINT8))
    pictures = (images(2) * 255).astype(np.uint8)
    np.testing.assert_array_equal(backend.load(model_file(path, dtype="u8")).infer(pictures)["y"], pictures)


def test_free_sides_take_the_size_asked_for(backend: Backend, tmp_path: Path) -> None:
    path = means(tmp_path, sides=("h", "w"))
    network = backend.load(model_file(path, (1, 3, 16, 24)))
    assert network.infer(images(2, (1, 3, 16, 24)))["y"].shape == (2, 3, 1, 1)


@pytest.mark.parametrize("shape", [(1, 3, 9, 8), (1, 8, 8, 3), (1, 1, 8, 8), (1, 3, 8), (1, 3, 8, 8, 1)])
def test_a_network_of_another_shape(backend: Backend, tmp_path: Path, shape: tuple[int, ...]) -> None:
    asked = "×".join(map(str, shape))
    with pytest.raises(ModelError, match=f"^model means takes .×3×8×8, not {asked} ") as caught:
        backend.load(model_file(means(tmp_path), shape))
    assert not isinstance(caught.value, UnsupportedModelError)


def test_images_of_another_shape(backend: Backend, tmp_path: Path) -> None:
    network = backend.load(model_file(means(tmp_path)))
    with pytest.raises(ModelError, match="was given 2×3×4×4, not images of 1×3×8×8"):
        network.infer(np.zeros((2, 3, 4, 4), np.float32))


def test_several_inputs(backend: Backend, tmp_path: Path) -> None:
    path = write(tmp_path / "two.onnx", graph([helper.make_node("Add", ["x", "z"], ["y"])], more_inputs=("z",)))
    with pytest.raises(UnsupportedModelError, match=r"2 inputs that nothing but an image could feed \(x, z\)"):
        backend.load(model_file(path))


def test_an_input_that_is_no_image(backend: Backend, tmp_path: Path) -> None:
    node = helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)
    path = write(tmp_path / "ids.onnx", graph([node], element=TensorProto.INT64))
    with pytest.raises(UnsupportedModelError, match="not images"):
        backend.load(model_file(path))


def test_an_operator_that_does_not_exist(backend: Backend, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    node = helper.make_node("Frobnicate", ["x"], ["y"], domain="custom")
    path = write(tmp_path / "frob.onnx", graph([node]))
    with pytest.raises(UnsupportedModelError, match="Frobnicate") as caught:
        backend.load(model_file(path))
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_network_that_cannot_run_on_this_size(backend: Backend, tmp_path: Path) -> None:
    constants = {"skip": np.zeros((1, 3, 8, 8), np.float32)}
    path = write(
        tmp_path / "sides.onnx",
        graph([helper.make_node("Add", ["x", "skip"], ["y"])], constants=constants, sides=("h", "w")),
    )
    with pytest.raises(ModelError) as caught:
        backend.load(model_file(path, (1, 3, 9, 9)))
    assert "\n" not in str(caught.value)
    assert backend.load(model_file(path)).infer(images(1))["y"].shape == (1, 3, 8, 8)


def test_closed(backend: Backend, tmp_path: Path) -> None:
    network = backend.load(model_file(means(tmp_path)))
    network.close()
    network.close()
    with pytest.raises(ModelError, match="is closed"):
        network.infer(images(1))


@pytest.mark.parametrize("lanes", [0, 1])
def test_several_threads_run_a_network_of_any_number_of_lanes(backend: Backend, tmp_path: Path, lanes: int) -> None:
    network = backend.load(replace(model_file(means(tmp_path)), lanes=lanes))
    pictures = images(40)
    with ThreadPoolExecutor(4) as pool:
        outputs = pool.map(lambda i: network.infer(pictures[i : i + 1], alone=i % 4 == 0)["y"], range(40))
        np.testing.assert_allclose(np.concatenate(list(outputs))[:, :, 0, 0], pictures.mean((2, 3)), rtol=1e-5)


@pytest.mark.parametrize("shared_mib", [0.0, 32.0])
def test_a_small_network_is_computed_by_the_threads_that_ask(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shared_mib: float
) -> None:
    """A large one has its weights in memory once, and threads of its own."""
    device = OpenVinoBackend(parse("openvino:CPU"))
    device._lanes = 2
    device._config["INFERENCE_NUM_THREADS"] = 2
    monkeypatch.setattr("hams_agents.backends.openvino._SHARED_MIB", shared_mib)
    kernel = {"kernel": np.full((3, 3, 3, 3), 0.1, np.float32)}
    nodes = [helper.make_node("Conv", ["x", "kernel"], ["y"], pads=[1, 1, 1, 1])]
    path = write(tmp_path / "blur.onnx", graph(nodes, sides=(512, 512), constants=kernel))
    network, picture = device.load(model_file(path, (1, 3, 512, 512))), images(1, (1, 3, 512, 512))
    shares = []
    for _ in range(5):  # threads of other tests may compute, too
        mine, all_of_us = time.thread_time(), time.process_time()
        for _ in range(20):
            network.infer(picture, alone=False)
        shares.append((time.thread_time() - mine) / (time.process_time() - all_of_us))
    assert max(shares) > 0.8 if shared_mib else min(shares) < 0.8, shares


@pytest.mark.parametrize(("lanes", "count"), [(0, 3), (2, 2), (1, 1)])
def test_lanes_of_a_device_that_divides_itself(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lanes: int, count: int
) -> None:
    """As a GPU does: here OpenVINO's device that distributes layers over others, which takes the same settings."""
    device = OpenVinoBackend(parse("openvino:CPU"))
    device._target, device._lanes = "HETERO:CPU", 3
    device._config = _config(parse("openvino:GPU"), "fp32")
    monkeypatch.setattr("hams_agents.backends.openvino._LEAST_GAIN", -100.0)  # batches are taken, however slow
    network = device.load(replace(model_file(means(tmp_path)), lanes=lanes))
    assert network.dynamic_batch
    assert isinstance(network._lane, Lanes)
    assert network._lane.count == count
    pictures = images(40)
    parts = [pictures[i : i + 1 + i % 9] for i in range(30)]
    with ThreadPoolExecutor(4) as pool:
        outputs = list(pool.map(lambda part: network.infer(part, alone=len(part) == 2)["y"], parts))
    for part, y in zip(parts, outputs, strict=True):
        np.testing.assert_allclose(y[:, :, 0, 0], part.mean((2, 3)), rtol=1e-5)


def test_a_device_is_asked_how_many_inferences_it_computes_at_a_time() -> None:
    assert _requests(Core(), "CPU") >= 1
    assert _requests(Core(), "GPU.7") == 1  # it is not there: what cannot be asked has one


def test_loading_beside_a_running_network(backend: Backend, tmp_path: Path) -> None:
    running = backend.load(model_file(means(tmp_path)))
    pictures = images(4)
    expected = running.infer(pictures)["y"]
    failures: list[str] = []
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            if not np.allclose(running.infer(pictures)["y"], expected):
                failures.append("wrong output")

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        for index in range(5):
            backend.load(model_file(means(tmp_path, name=f"m{index}"))).close()
    finally:
        stop.set()
        thread.join(30)
    assert not failures
