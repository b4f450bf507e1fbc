"""Networks with several inputs, on real runtimes: each image meets its own values, in batches and alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from onnx import TensorProto, helper

from hams_agents.backends.base import Backend, TensorSpec
from hams_agents.backends.further import examples
from hams_agents.backends.registry import open_backend
from hams_agents.devices import parse
from hams_agents.profiling.measurement import SamplerLimits, profile
from hams_shared.errors import ModelError, UnsupportedModelError
from support.networks import images, model_file, write

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


@pytest.fixture(scope="module", params=["openvino:CPU", "onnxruntime:CPU"])
def backend(request: pytest.FixtureRequest) -> Backend:
    return open_backend(parse(request.param))


def scaled_means(folder: Path, size: list[int | str], first: bool = False) -> Path:
    """y = mean of each channel, N×3, times the first number of the further input `size` (int64)."""
    ports = [
        helper.make_tensor_value_info("x", FLOAT, ["n", 3, 8, 8]),
        helper.make_tensor_value_info("size", INT64, size),
    ]
    nodes = [
        helper.make_node("Constant", [], ["zero"], value_ints=[0]),
        helper.make_node("Cast", ["size"], ["numbers"], to=FLOAT),
        helper.make_node("Gather", ["numbers", "zero"], ["one"], axis=len(size) - 1),
        helper.make_node("GlobalAveragePool", ["x"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["means"]),
        helper.make_node("Mul", ["means", "one"], ["y"]),
    ]
    y = helper.make_tensor_value_info("y", FLOAT, ["n", 3])
    return write(folder / "sized.onnx", helper.make_graph(nodes, "g", ports[::-1] if first else ports, [y]))


def spec(**changes: object) -> TensorSpec:
    return replace(TensorSpec("size", (1, 2), "int64", example=(64.0, 48.0)), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [0, 1, 2, 13])
@pytest.mark.parametrize("first", [False, True])
def test_each_image_meets_its_own_values(backend: Backend, tmp_path: Path, count: int, first: bool) -> None:
    file = replace(model_file(scaled_means(tmp_path, ["n", 2], first)), further=(spec(),))
    network = backend.load(file)
    pictures = images(count)
    sizes = np.arange(2 * count).reshape(count, 2)
    expected = pictures.mean((2, 3)) * sizes[:, :1]
    np.testing.assert_allclose(network.infer(pictures, further={"size": sizes})["y"], expected, rtol=1e-5)
    values = {"size": sizes.astype(np.float64)}  # cast to what the network takes
    np.testing.assert_allclose(network.infer(pictures, further=values, alone=False)["y"], expected, rtol=1e-5)


def test_an_input_without_batch_axis(backend: Backend, tmp_path: Path) -> None:
    network = backend.load(replace(model_file(scaled_means(tmp_path, [2])), further=(spec(batched=False),)))
    assert not network.dynamic_batch
    pictures, sizes = images(3), np.array([[1, 0], [2, 0], [3, 0]])
    expected = pictures.mean((2, 3)) * sizes[:, :1]
    np.testing.assert_allclose(network.infer(pictures, further={"size": sizes})["y"], expected, rtol=1e-5)


def test_it_is_measured_with_its_examples(backend: Backend, tmp_path: Path) -> None:
    file = replace(model_file(scaled_means(tmp_path, ["n", 2])), further=(spec(),))
    limits = SamplerLimits(min_runs=2, min_s=0.0, max_s=0.01, warm_up_s=0.0)
    assert profile(backend.load(file), file, limits=limits).fps > 0


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({}, "takes the further inputs size, and was given none"),
        ({"size": np.zeros((1, 2)), "pad": np.zeros((1, 1))}, "was given pad, size"),
        ({"size": np.zeros((1, 3))}, "input size takes 1×2, and was given 1×3"),
        ({"size": np.zeros((2, 2))}, "input size takes 1×2, and was given 2×2"),
    ],
)
def test_values_that_do_not_fit(backend: Backend, tmp_path: Path, given: dict[str, np.ndarray], text: str) -> None:
    network = backend.load(replace(model_file(scaled_means(tmp_path, ["n", 2])), further=(spec(),)))
    with pytest.raises(ModelError, match=text):
        network.infer(images(1), further=given)


def test_inputs_that_nothing_feeds_and_inputs_that_are_not_there(backend: Backend, tmp_path: Path) -> None:
    file = model_file(scaled_means(tmp_path, ["n", 2]))
    with pytest.raises(UnsupportedModelError, match=r"2 inputs that nothing but an image could feed \(x, size\)"):
        backend.load(file)
    with pytest.raises(UnsupportedModelError, match="has no input sizes"):
        backend.load(replace(file, further=(spec(name="sizes"),)))


@pytest.mark.parametrize(
    ("shape", "example", "expected"),
    [
        ((1, 2), (), [[0, 0]]),
        ((1,), (1.0,), [1]),
        ((1, -1, 2), (1.0, 2.0, 3.0, 4.0), [[[1, 2], [3, 4]]]),
        ((1, -1, 2), (7.0,), [[[7, 7]]]),
        ((1, 2, 2), (5.0,), [[[5, 5], [5, 5]]]),
    ],
)
def test_examples(shape: tuple[int, ...], example: tuple[float, ...], expected: object) -> None:
    file = replace(model_file(Path("none.onnx")), further=(TensorSpec("z", shape, "int64", example=example),))
    value = examples(file, 2)["z"]
    assert value.dtype == np.int64
    assert value.tolist() == [*expected, *expected]  # type: ignore[misc]


@pytest.mark.parametrize("run", ["onnxruntime", "none"])
def test_an_emulated_device_takes_them_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: str) -> None:
    monkeypatch.setenv("HAMS_CACHE", str(tmp_path / "cache"))
    profile = {"name": "s", "kind": "vpu", "memory_mib": 512, "fps": {"*": 5000}, "run": run}
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(profile))
    device = open_backend(parse(f"emulated:{tmp_path / 'p.yaml'}"))
    network = device.load(replace(model_file(scaled_means(tmp_path, ["n", 2])), further=(spec(),)))
    pictures, sizes = images(2), np.array([[3, 0], [5, 0]])
    expected = pictures.mean((2, 3)) * sizes[:, :1] * (run != "none")
    for _ in range(2):  # the second time from the record
        np.testing.assert_allclose(network.infer(pictures, further={"size": sizes})["y"], expected, rtol=1e-5)
    again = network.infer(pictures, further={"size": sizes + 1})["y"]  # the same images with other values
    assert run == "none" or not np.allclose(again, expected)
