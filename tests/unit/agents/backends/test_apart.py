"""A driver that aborts, or hangs, on compiling a network costs that pair, not the agent."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from hams_agents.backends import apart
from hams_agents.backends.apart import ApartBackend
from hams_agents.backends.base import Backend, ModelFile, TensorSpec
from hams_agents.backends.registry import open_backend
from hams_agents.devices import DeviceSpec, parse
from hams_agents.runtime.device_faults import may_pass
from hams_agents.runtime.failures import names_device
from hams_shared.errors import ModelError, UnsupportedModelError
from support.networks import means, model_file

CPU = DeviceSpec("onnxruntime", "CPU", "cpu")
HERE = "support.compiling"


@pytest.fixture(autouse=True)
def children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))


def test_what_aborts_the_process_is_the_reason_of_an_unsupported_model(onnxruntime: Backend, tmp_path: Path) -> None:
    device = ApartBackend(onnxruntime, CPU, tmp_path, f"{HERE}:aborts")
    model = model_file(means(tmp_path))
    for _ in range(2):  # the next time, too: nothing was noted
        with pytest.raises(UnsupportedModelError, match=r"compiling means for onnxruntime:CPU.*SIGABRT.*driver says"):
            device.load(model)


def test_what_never_ends_is_ended(onnxruntime: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "COMPILE_S", 1.0)
    with pytest.raises(UnsupportedModelError, match="took longer than 1 s and was ended .*driver"):
        ApartBackend(onnxruntime, CPU, None, f"{HERE}:hangs").load(model_file(means(tmp_path)))


def test_a_child_that_the_system_killed_may_compile_another_time(onnxruntime: Backend, tmp_path: Path) -> None:
    """It was killed for want of memory: that says nothing of the network."""
    with pytest.raises(ModelError, match="memory runs out") as caught:
        ApartBackend(onnxruntime, CPU, None, f"{HERE}:is_killed").load(model_file(means(tmp_path)))
    assert may_pass(caught.value)
    assert names_device(caught.value.text)  # so a benchmark keeps no record of it


def test_errors_of_the_model_stay_as_they_are(onnxruntime: Backend, tmp_path: Path) -> None:
    device = ApartBackend(onnxruntime, CPU, None)
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"\x08\x08no network")
    with pytest.raises(ModelError, match="^model broken cannot be read") as caught:
        device.load(model_file(path))
    assert not isinstance(caught.value, UnsupportedModelError)


def test_what_was_compiled_once_needs_no_child(onnxruntime: Backend, tmp_path: Path) -> None:
    model = model_file(means(tmp_path))
    device = ApartBackend(onnxruntime, CPU, tmp_path)
    device.load(model).close()
    after = ApartBackend(onnxruntime, CPU, tmp_path, f"{HERE}:aborts")  # a child would abort
    after.load(model).close()
    for other in (replace(model, digest="1" * 64), replace(model, further=(TensorSpec("size", (1, 2)),))):
        with pytest.raises(UnsupportedModelError, match="SIGABRT"):
            after.load(other)


def test_devices_that_ask_for_it_compile_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert not isinstance(open_backend(parse("onnxruntime:CPU")), ApartBackend)
    from hams_agents.backends.onnxruntime import OnnxRuntimeBackend

    able = OnnxRuntimeBackend(CPU).capabilities
    monkeypatch.setattr(
        OnnxRuntimeBackend, "capabilities", property(lambda self: replace(able, compile_apart=True)), raising=True
    )
    assert isinstance(open_backend(parse("onnxruntime:CPU"), tmp_path), ApartBackend)


def test_a_model_travels_whole() -> None:
    model = ModelFile("m", "ab" * 32, Path("/x/m.onnx"), (1, 3, 8, 8), "u8", 2)
    assert apart.model_of(apart._MODEL.dump_python(model, mode="json")) == model
