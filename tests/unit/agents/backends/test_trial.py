"""Hostile networks cost an agent nothing but their own cell: a named error, no file, no socket, no lost process."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from hams_agents.backends.apart import ApartBackend
from hams_agents.backends.base import Backend
from hams_agents.backends.registry import open_backend
from hams_agents.backends.trial import TRUST, trial
from hams_agents.devices import parse
from hams_shared.errors import ModelError, UnsupportedModelError
from hams_shared.wire.frame_pool import FOLDER
from support.networks import means, model_file


@pytest.fixture(autouse=True)
def _untrusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TRUST, raising=False)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))


@pytest.fixture
def opened(tmp_path: Path) -> Callable[[str], Backend]:
    return lambda device: open_backend(parse(device), tmp_path / "cache")


def test_an_unknown_network_is_compiled_in_the_sandbox_first(
    opened: Callable[[str], Backend], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = opened("onnxruntime:CPU")
    assert isinstance(device, ApartBackend)
    network = device.load(model_file(means(tmp_path)))
    assert len(network.infer(np.zeros((2, 3, 8, 8), np.float32))) > 0
    monkeypatch.setenv(TRUST, "1")
    assert not isinstance(opened("onnxruntime:CPU"), ApartBackend)


def test_the_sandbox_of_an_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "net.onnx").write_bytes(b"n")
    (tmp_path / "secret").write_bytes(b"s")
    read = [str(tmp_path / "cache" / "net.onnx"), str(tmp_path / "secret"), "/etc/passwd", "/etc/shadow"]
    write = [str(tmp_path / "new"), str(tmp_path / "cache" / "net.onnx")]
    with trial(tmp_path / "cache" / "net.onnx", parse("onnxruntime:CPU"), confined=True) as child:
        found = child.run("support.confined:tries", {"read": read, "write": write})
        if not child.confined:
            pytest.skip("this kernel has no Landlock")
    assert {name for name, what in found.items() if what == "yes"} == {f"read {read[0]}", "socketpair", "list"}


def test_the_sandbox_hides_the_folder_of_the_start_and_the_memory_of_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``python -m hams_agents`` puts the folder in which it was started first on Python's path."""
    home, model = tmp_path / "home", tmp_path / "cache" / "net.onnx"
    for path in (home / "secrets" / "key", model):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"s")
    monkeypatch.chdir(home)
    monkeypatch.setattr(sys, "path", [str(home), *sys.path])
    frames = FOLDER / f"hams-test-{os.getpid()}"
    frames.write_bytes(b"f")
    try:
        with trial(model, parse("onnxruntime:CPU"), confined=True) as child:
            names = {"read": [str(home / "secrets" / "key"), str(frames)], "write": [str(frames)]}
            found = child.run("support.confined:tries", names)
            if not child.confined:
                pytest.skip("this kernel has no Landlock")
        assert frames.read_bytes() == b"f"
    finally:
        frames.unlink()
    assert {name for name, what in found.items() if what == "yes"} == {"socketpair", "list"}


def weights_at(location: str, shape: tuple[int, ...] = (3, 8)) -> Callable[[Path], Path]:
    """A network whose weights lie in another file."""

    def make(folder: Path) -> Path:
        weight = numpy_helper.from_array(np.zeros(shape, np.float32), "w")
        weight.ClearField("raw_data")
        weight.data_location = TensorProto.EXTERNAL
        entries = {"location": location, "offset": "0", "length": str(4 * int(np.prod(shape)))}
        for key, value in entries.items():
            entry = weight.external_data.add()
            entry.key, entry.value = key, value
        return saved(folder, [helper.make_node("Add", ["x", "w"], ["y"])], [weight])

    return make


def claims(*dims: int) -> Callable[[Path], Path]:
    """A network with a constant that is far larger than the file."""

    def make(folder: Path) -> Path:
        sizes = numpy_helper.from_array(np.array(dims, np.int64), "sizes")
        nodes = [
            helper.make_node("ConstantOfShape", ["sizes"], ["big"]),
            helper.make_node("ReduceSum", ["big"], ["sum"], keepdims=0),
            helper.make_node("Add", ["x", "sum"], ["y"]),
        ]
        return saved(folder, nodes, [sizes])

    return make


def saved(folder: Path, nodes: list[Any], weights: list[Any]) -> Path:
    tensor = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 8, 8]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", tensor[:1], tensor[1:], weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path = folder / "net.onnx"
    path.write_bytes(made.SerializeToString())
    return path


def torn(folder: Path) -> Path:
    path = means(folder)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


HOSTILE = {
    "a path that leads out": weights_at("../../../../../../etc/passwd", (1, 3, 8, 8)),
    "an absolute path": weights_at("/etc/passwd", (1, 3, 8, 8)),
    "no such file": weights_at("weights.bin", (1, 3, 8, 8)),
    "a torn file": torn,
    "a constant of 8 TiB": claims(1 << 21, 1 << 20),
    "sizes that overflow": claims(1 << 62, 8),
}


@pytest.mark.parametrize(
    ("device", "what"),
    [*(("onnxruntime:CPU", what) for what in HOSTILE), *(("openvino:CPU", what) for what in list(HOSTILE)[::4])],
)
def test_a_hostile_network_is_a_named_error(
    opened: Callable[[str], Backend], tmp_path: Path, what: str, device: str, capfd: pytest.CaptureFixture[str]
) -> None:
    backend = opened(device)
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    model = model_file(HOSTILE[what](folder))
    with pytest.raises((ModelError, UnsupportedModelError)) as caught:
        backend.load(model)
    assert "Traceback" not in str(caught.value)
    assert "root:" not in str(caught.value) + "".join(capfd.readouterr())
