"""Networks as exporters write them now: deployed unedited, and run by both runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hams_agents.backends.base import Backend, ModelFile
from hams_agents.backends.registry import open_backend
from hams_agents.devices import parse
from hams_services.models import onnx_files
from hams_services.models.prepare import PreparedModel, prepare_model
from hams_shared.errors import ModelError, UnsupportedModelError
from hams_shared.group.spec import parse_group
from support.networks import images

FLOAT, HALF, BYTES, INT64 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8, TensorProto.INT64
SHAPE = (1, 3, 8, 8)


@pytest.fixture(scope="module", params=["openvino:CPU", "onnxruntime:CPU"])
def backend(request: pytest.FixtureRequest) -> Backend:
    return open_backend(parse(request.param))


def deployed(path: Path, folder: Path, shape: tuple[int, ...] = SHAPE, **input: Any) -> tuple[PreparedModel, ModelFile]:
    """A network as an agent gets it."""
    node = {"model": str(path), "input": {"size": [shape[-1], shape[-2]], **input}, "task": {"type": "raw"}}
    spec = parse_group({"name": "g", "nodes": {"n": node}})
    made = prepare_model("n", spec, folder, lambda what, done, total: None)
    takes = spec.nodes["n"].input
    target = folder / f"deployed{made.ref.parts[0].suffix}"
    target.write_bytes(made.parts[made.ref.digest])
    return made, ModelFile("n", made.ref.digest, target, takes.shape(), takes.dtype)


def model(*nodes: Any, kind: int = FLOAT, dims: Any = ("n", 3, 8, 8), **options: Any) -> onnx.ModelProto:
    """y of x."""
    out = options.pop("out", kind)
    weights = [numpy_helper.from_array(value, name) for name, value in options.pop("weights", {}).items()]
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", kind, dims)],
        [helper.make_tensor_value_info("y", out, None)],
        weights,
    )
    opset = options.pop("opset", 18)
    domains = [helper.make_opsetid("", opset), *(helper.make_opsetid(one, 1) for one in options.pop("domains", ()))]
    return helper.make_model(graph, opset_imports=domains, **{"ir_version": 10, **options})


def doubled(**options: Any) -> onnx.ModelProto:
    weights = {"w": np.full((1, 3, 8, 8), 2, np.float32)}
    return model(helper.make_node("Mul", ["x", "w"], ["y"]), weights=weights, **options)


def external(folder: Path, location: str = "net.onnx.data") -> Path:
    """As PyTorch writes it since 2.9: the weights beside the file."""
    path = folder / "net.onnx"
    onnx.save(doubled(), path, save_as_external_data=True, location=location, size_threshold=0)
    return path


@pytest.mark.parametrize("entries", [{"offset": "-1"}, {"length": "-5"}, {"offset": "x"}, {"length": "999999"}])
def test_weights_beyond_their_file_are_named(tmp_path: Path, entries: dict[str, str]) -> None:
    with pytest.raises(ModelError, match="'w' lie beyond the end of their file"):
        onnx_files.read_onnx(placed(external(tmp_path), entries))


def test_many_tensors_of_one_place_count_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of 1 MiB may hold a thousand weights that all lie there: 1 GiB."""
    path = external(tmp_path)
    whole = onnx.load(path, load_external_data=False)
    for number in range(9):
        whole.graph.initializer.add().CopyFrom(whole.graph.initializer[0])
        whole.graph.initializer[-1].name = f"w{number}"
    path.write_bytes(whole.SerializeToString())
    monkeypatch.setattr(onnx_files, "MAX_BYTES", 6 << 10)
    with pytest.raises(ModelError, match="with its weights, and ONNX files end at 2 GiB"):
        onnx_files.read_onnx(path)


def placed(path: Path, entries: dict[str, str]) -> Path:
    """The network with other places of its weights."""
    whole = onnx.load(path, load_external_data=False)
    del whole.graph.initializer[0].external_data[1:]
    for key, value in entries.items():
        entry = whole.graph.initializer[0].external_data.add()
        entry.key, entry.value = key, value
    path.write_bytes(whole.SerializeToString())
    return path


def test_weights_in_another_file_are_taken_in(backend: Backend, tmp_path: Path) -> None:
    made, file = deployed(external(tmp_path), tmp_path)
    assert [part.suffix for part in made.ref.parts] == [".onnx"]
    np.testing.assert_allclose(backend.load(file).infer(images(2))["y"], 2 * images(2), rtol=1e-6)
    again, _ = deployed(external(tmp_path), tmp_path)
    assert again.ref == made.ref  # one file, of which the digest follows from its content


def test_weights_in_several_files(tmp_path: Path) -> None:
    path = external(tmp_path, "a.data")
    one = onnx.load_model(path, load_external_data=False)
    second = one.graph.initializer.add()
    second.CopyFrom(numpy_helper.from_array(np.ones((1, 3, 8, 8), np.float32), "b"))
    onnx.external_data_helper.set_external_data(second, "b.data", 0, len(second.raw_data))
    (tmp_path / "b.data").write_bytes(second.raw_data)
    second.ClearField("raw_data")
    path.write_bytes(one.SerializeToString())
    assert [file.name for file in onnx_files.external_files(path)] == ["a.data", "b.data"]
    _, file = deployed(path, tmp_path)
    assert len(onnx.load_model(file.path).graph.initializer) == 2


def test_a_data_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = external(tmp_path)
    (tmp_path / "net.onnx.data").unlink()
    with pytest.raises(ModelError, match=r"node n: net.onnx: its weights are in net.onnx.data, which is not there"):
        deployed(path, tmp_path)


def test_a_data_file_that_is_too_short(tmp_path: Path) -> None:
    path = external(tmp_path)
    (tmp_path / "net.onnx.data").write_bytes(bytes(4))
    with pytest.raises(ModelError, match="lie beyond the end of their file"):
        deployed(path, tmp_path)


def test_what_is_larger_than_an_onnx_file_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_files, "MAX_BYTES", 500)
    with pytest.raises(ModelError, match=r"ONNX files end at 2 GiB \(export it with float16 weights, or convert"):
        deployed(external(tmp_path), tmp_path)


def test_half_precision_in_and_out(backend: Backend, tmp_path: Path) -> None:
    path = tmp_path / "half.onnx"
    onnx.save(model(helper.make_node("Add", ["x", "x"], ["y"]), kind=HALF), path)
    _, file = deployed(path, tmp_path)
    found = backend.load(file).infer(images(3))["y"]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, 2 * images(3), rtol=2e-3)


def test_bytes_and_channels_last(backend: Backend, tmp_path: Path) -> None:
    path = tmp_path / "bytes.onnx"
    onnx.save(model(helper.make_node("Cast", ["x"], ["y"], to=INT64), kind=BYTES, dims=["b", 8, 8, 3], out=INT64), path)
    _, file = deployed(path, tmp_path, dtype="u8", layout="nhwc")
    pixels = np.arange(192, dtype=np.uint8).reshape(1, 8, 8, 3)
    found = backend.load(file).infer(pixels)["y"]
    assert found.dtype in (np.int64, np.int32)
    np.testing.assert_array_equal(found, pixels)


@pytest.mark.parametrize("dims", [("batch_size", 3, "h", "w"), ("s0", 3, "s1", "s2"), ("?", 3, "unk__1", "unk__2")])
def test_free_sizes_by_any_name(backend: Backend, tmp_path: Path, dims: Any) -> None:
    path = tmp_path / "free.onnx"
    onnx.save(model(helper.make_node("Relu", ["x"], ["y"]), dims=dims), path)
    _, file = deployed(path, tmp_path, (1, 3, 16, 24))
    assert backend.load(file).infer(images(3, (1, 3, 16, 24)))["y"].shape == (3, 3, 16, 24)


def test_functions_of_the_file_are_inlined(backend: Backend, tmp_path: Path) -> None:
    body = [helper.make_node("Add", ["a", "a"], ["c"])]
    twice = helper.make_function("own", "Twice", ["a"], ["c"], body, [helper.make_opsetid("", 18)])
    path = tmp_path / "functions.onnx"
    call = helper.make_node("Twice", ["x"], ["y"], domain="own")
    onnx.save(model(call, domains=["own"], functions=[twice]), path)
    _, file = deployed(path, tmp_path)
    np.testing.assert_allclose(backend.load(file).infer(images(1))["y"], 2 * images(1), rtol=1e-6)


def test_versions_newer_than_runtimes_read_are_lowered_where_nothing_needs_them(
    backend: Backend, tmp_path: Path
) -> None:
    path = tmp_path / "newest.onnx"
    newest = onnx.defs.onnx_opset_version()
    onnx.save(doubled(ir_version=onnx.IR_VERSION, opset=newest), path)
    _, file = deployed(path, tmp_path)
    found = onnx.load_model(file.path)
    assert found.ir_version <= onnx_files.READ_IR
    assert found.opset_import[0].version <= onnx_files.READ_OPSET
    np.testing.assert_allclose(backend.load(file).infer(images(1))["y"], 2 * images(1), rtol=1e-6)


def test_a_version_that_the_content_needs_stays() -> None:
    four_bits = model(helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT4E2M1), ir_version=14)
    assert not onnx_files.simplify(four_bits)
    assert four_bits.ir_version == 14
    plain = doubled()
    assert not onnx_files.simplify(plain)


def test_an_operator_that_a_runtime_lacks_is_named(backend: Backend, tmp_path: Path) -> None:
    path = tmp_path / "own.onnx"
    onnx.save(model(helper.make_node("Frobnicate", ["x"], ["y"], domain="own"), domains=["own"]), path)
    _, file = deployed(path, tmp_path)
    with pytest.raises(UnsupportedModelError, match="Frobnicate"):
        backend.load(file)


def test_an_operator_of_one_runtime_only(tmp_path: Path) -> None:
    """The inverse of matrices is Microsoft's: ONNX Runtime has it, OpenVINO names it."""
    path = tmp_path / "contributed.onnx"
    onnx.save(model(helper.make_node("Inverse", ["x"], ["y"], domain="com.microsoft"), domains=["com.microsoft"]), path)
    _, file = deployed(path, tmp_path)
    assert open_backend(parse("onnxruntime:CPU")).load(file).infer(images(1))["y"].shape == SHAPE
    with pytest.raises(UnsupportedModelError, match="Inverse"):
        open_backend(parse("openvino:CPU")).load(file)


def test_a_file_that_is_fine_stays_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "fine.onnx"
    onnx.save(model(helper.make_node("Relu", ["x"], ["y"])), path)
    _, file = deployed(path, tmp_path)
    assert file.path.read_bytes() == path.read_bytes()


@pytest.mark.slow
def test_an_export_of_pytorch(backend: Backend, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.GELU(), torch.nn.Conv2d(4, 2, 1)).eval()
    path = tmp_path / "export.onnx"
    batch = torch.export.Dim("batch", min=1, max=64)
    torch.onnx.export(
        net, (torch.zeros(2, 3, 8, 8),), str(path), dynamo=True, external_data=True, dynamic_shapes=({0: batch},)
    )
    assert path.with_name("export.onnx.data").exists()
    _, file = deployed(path, tmp_path)
    (found,) = backend.load(file).infer(images(3)).values()
    np.testing.assert_allclose(found, net(torch.from_numpy(images(3))).detach().numpy(), atol=1e-4)


@pytest.mark.parametrize("training", [True, False])
def test_a_network_in_training_mode_is_refused(tmp_path: Path, training: bool) -> None:
    """As PyTorch's exporter by torch.export writes a network without model.eval()."""
    weights = {"ratio": np.array(0.1, np.float32), "mode": np.array(training)}
    path = tmp_path / "net.onnx"
    onnx.save(model(helper.make_node("Dropout", ["x", "ratio", "mode"], ["y"]), weights=weights), path)
    if not training:
        assert deployed(path, tmp_path)
        return
    with pytest.raises(ModelError, match="node n: .*training mode: Dropout y") as caught:
        deployed(path, tmp_path)
    assert "model.eval()" in caught.value.hint
