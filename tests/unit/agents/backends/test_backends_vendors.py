"""The adapters of Hailo, Rockchip and MemryX keep the contract of backends, on stand-ins for the vendors' runtimes.

None of them was ever run on hardware. The stand-ins are written to the vendors' sources and documentation.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from hams_agents import backend_types
from hams_agents.backends import compiled, hailo, memryx, rknn
from hams_agents.backends.base import Backend, ModelFile, TensorSpec
from hams_agents.backends.contract import kit
from hams_agents.backends.contract.samples import Sample, digest
from hams_agents.backends.registry import open_backend
from hams_agents.devices import allowed_cores, parse
from hams_agents.discover import discover
from hams_shared.errors import DeviceSpecError, ModelError, UnsupportedModelError
from support.networks import images
from support.vendors import FOLDER

SHAPE = (1, 8, 8, 3)
STAND_INS = ("hailo_platform", "rknnlite", "memryx", "vendor_network")
VENDORS = {
    "hailo": ("hams_agents.backends.hailo:Hailo", ".hef", b"\x01HEF", ("twice", "means")),
    "rknn": ("hams_agents.backends.rknn:Rknn", ".rknn", b"RKNN", ("0", "1")),
    "memryx": ("hams_agents.backends.memryx:Memryx", ".dfp", b"DFP6", ("twice", "means")),
}


@pytest.fixture(params=VENDORS)
def vendor(request: pytest.FixtureRequest, runtimes: None) -> str:
    name: str = request.param
    return name


@pytest.fixture
def runtimes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The stand-ins are installed, and each finds its hardware."""
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(FOLDER), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("FAKE_HAILO", "2")
    monkeypatch.setenv("FAKE_HARDWARE", str(tmp_path))  # of processes that a test starts
    (tmp_path / "compatible").write_bytes(b"radxa,rock-5b\0rockchip,rk3588\0")
    monkeypatch.setattr(rknn, "COMPATIBLE", tmp_path / "compatible")
    (tmp_path / "dev").mkdir()
    for name in ("memx0", "memx0_feature", "memx3"):
        (tmp_path / "dev" / name).touch()
    monkeypatch.setattr(memryx, "DEV", tmp_path / "dev")
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] in STAND_INS]:
        del sys.modules[name]


def model_file(folder: Path, vendor: str, dtype: str = "f32", content: bytes | None = None) -> ModelFile:
    import vendor_network

    _, suffix, magic, _ = VENDORS[vendor]
    path = vendor_network.write(folder / f"net{suffix}", magic, onnx() if content is None else content)
    return ModelFile("net", digest(path), path, SHAPE, dtype)


def onnx(more_inputs: tuple[str, ...] = (), nms: np.ndarray | None = None) -> bytes:
    """Twice the image, N×H×W×C, and the means of its channels."""
    port = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Mul", ["image", "two"], ["twice"]),
        helper.make_node("ReduceMean", ["image"], ["means"], axes=[1, 2], keepdims=0),
    ]
    outputs = [port("twice", TensorProto.FLOAT, SHAPE), port("means", TensorProto.FLOAT, (1, 3))]
    constants = [numpy_helper.from_array(np.float32(2), "two")]
    if nms is not None:
        nodes, outputs = [helper.make_node("Identity", ["boxes"], ["nms"])], [port("nms", TensorProto.FLOAT, nms.shape)]
        constants = [numpy_helper.from_array(nms, "boxes")]
    inputs = [port(name, TensorProto.FLOAT, SHAPE) for name in ("image", *more_inputs)]
    graph = helper.make_graph(nodes, "net", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()


def expected(given: np.ndarray, names: tuple[str, ...]) -> Mapping[str, np.ndarray]:
    real = given.astype(np.float32)
    return dict(zip(names, (2 * real, real.mean((1, 2))), strict=True))


def opened(vendor: str) -> Backend:
    return open_backend(parse(f"{vendor}:NPU"))


def test_the_contract_of_backends(vendor: str, tmp_path: Path) -> None:
    where, _, _, names = VENDORS[vendor]
    sample = Sample(model_file(tmp_path, vendor), lambda given: expected(given, names), onnx=False)
    results = list(kit.run(where, f"{vendor}:NPU", tmp_path, sample))
    assert [result for result in results if result.ok is False] == []
    assert sum(result.ok is True for result in results) >= 15


def test_bytes(vendor: str, tmp_path: Path) -> None:
    given = (images(3, SHAPE) * 255).astype(np.uint8)
    outputs = opened(vendor).load(model_file(tmp_path, vendor, "u8")).infer(given)
    for name, value in expected(given, VENDORS[vendor][3]).items():
        np.testing.assert_allclose(outputs[name], value, rtol=1e-5)


def test_networks_that_it_does_not_run(vendor: str, tmp_path: Path) -> None:
    device, model = opened(vendor), model_file(tmp_path, vendor)
    with pytest.raises(ModelError, match="8×8×3|does not run|failed on 1×3×8×8"):
        device.load(ModelFile("net", model.digest, model.path, (1, 3, 8, 8)))
    with pytest.raises(UnsupportedModelError, match="is given one input"):
        device.load(ModelFile("net", model.digest, model.path, SHAPE, further=(TensorSpec("size", (1, 2)),)))
    with pytest.raises(ModelError, match="cannot be read|is compiled"):
        path = model.path.with_name(f"hailo15{model.path.suffix}")
        path.write_bytes(b"????" + model.path.read_bytes())
        device.load(ModelFile("net", model.digest, path, SHAPE))
    if vendor != "rknn":  # which does not tell, and fails at the first inference
        with pytest.raises(UnsupportedModelError, match="inputs"):
            device.load(model_file(tmp_path, vendor, content=onnx(("mask",))))


def test_a_network_that_is_dropped_frees_its_part_of_the_device(vendor: str, tmp_path: Path) -> None:
    """The agent forgets a network whose last node goes, and what is under way may still use it."""
    model, freed = model_file(tmp_path, vendor), []
    read = compiled.Compiled(np.float32, None, ("y",), [lambda given: [given]], lambda: freed.append(vendor))
    for dropped in (True, False):
        network = compiled.CompiledNetwork(model, read, read.names)
        if not dropped:
            network.close()
            network.close()
        del network
        gc.collect()
    assert freed == [vendor] * 2


def test_devices_are_found_and_called_never_run(runtimes: None) -> None:
    devices = discover()
    found = {one.device: one for one in devices.found if one.device.partition(":")[0] in VENDORS}
    assert [one for one in devices.skipped if one.device.partition(":")[0] in VENDORS] == []
    assert sorted(found) == ["hailo:NPU:0", "hailo:NPU:1", "memryx:NPU:0", "memryx:NPU:3", "rknn:NPU:0"]
    assert {backend_types.find(name).note for name in VENDORS} == {compiled.NEVER_RUN}
    assert found["hailo:NPU:0"].name == "HAILO-8 AI ACC M.2 M KEY"
    assert found["rknn:NPU:0"].name == "Rockchip RK3588"
    lanes = open_backend(parse("rknn:NPU")).capabilities.lanes
    assert lanes == min(3, len(allowed_cores()))


@pytest.mark.parametrize("text", ["hailo:GPU", "rknn:NPU:1", "memryx:NPU:x", "hailo:CPU"])
def test_no_such_unit(text: str) -> None:
    with pytest.raises(DeviceSpecError, match="has no unit"):
        parse(text)


@pytest.mark.parametrize(("text", "why"), [("hailo:NPU:2", "does not find it"), ("memryx:NPU:1", "there is no")])
def test_no_such_device(runtimes: None, text: str, why: str) -> None:
    with pytest.raises(DeviceSpecError, match=why) as caught:
        open_backend(parse(text))
    assert "NPU:0" in str(caught.value.hint)


def test_without_the_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No device node: nothing is said. A node without its package: what to install."""
    monkeypatch.setattr(memryx, "DEV", tmp_path)
    assert hailo.Hailo.targets() == rknn.Rknn.targets() == memryx.Memryx.targets() == []
    (tmp_path / "memx0").touch()
    with pytest.raises(DeviceSpecError, match="no package memryx"):
        memryx.Memryx.targets()
    for name in VENDORS:
        with pytest.raises(DeviceSpecError, match="cannot be imported"):
            open_backend(parse(f"{name}:NPU"))


def test_hailos_suppression_is_yolos_end_to_end(runtimes: None, tmp_path: Path) -> None:
    """HailoRT: classes×5×boxes of y0, x0, y1, x1, score in 0..1. Here: 8×8 pixels."""
    boxes = np.zeros((2, 5, 4), np.float32)
    boxes[0, :, 0] = 0.25, 0.5, 0.75, 1.0, 0.6
    boxes[1, :, 0] = 0.0, 0.125, 0.5, 0.25, 0.9
    network = opened("hailo").load(model_file(tmp_path, "hailo", content=onnx(nms=boxes)))
    found = network.infer(images(2, SHAPE))["nms"]
    assert found.shape == (2, hailo.ROWS, 6)
    wanted: Any = [[1, 0, 2, 4, 0.9, 1], [4, 2, 8, 6, 0.6, 0]]
    np.testing.assert_allclose(found[1, :2], wanted, rtol=1e-6)
    assert not found[:, 2:].any()


def test_a_frame_that_nobody_takes_out_ends_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next frame would wait for it in vain, as would all others."""
    monkeypatch.setattr(memryx, "WAIT_MS", 50)
    slow, came = threading.Event(), threading.Event()

    class Accelerator:
        def send(self, data: object, timeout: int) -> None: ...

        def receive(self, timeout: int) -> np.ndarray:
            came.set()
            assert slow.wait(10)
            return np.zeros(1)

    stream = memryx._Stream(Accelerator())
    first = threading.Thread(target=stream, args=(np.zeros(SHAPE, np.float32),))
    first.start()
    assert came.wait(10)
    with pytest.raises(TimeoutError, match="did not come out"):
        stream(np.zeros(SHAPE, np.float32))
    slow.set()
    first.join(10)
    with pytest.raises(RuntimeError, match="lost its order"):
        stream(np.zeros(SHAPE, np.float32))


def test_a_stream_that_lost_a_frame_is_not_used_again() -> None:
    """Its outputs would be those of other frames."""

    class Accelerator:
        def send(self, data: object, timeout: int) -> None: ...

        def receive(self, timeout: int) -> None:
            raise TimeoutError

    stream = memryx._Stream(Accelerator())
    with pytest.raises(TimeoutError):
        stream(np.zeros(SHAPE, np.float32))
    with pytest.raises(RuntimeError, match="lost its order"):
        stream(np.zeros(SHAPE, np.float32))
