"""Plug-in execution providers: names without imports, and real libraries where their wheels lie in a folder.

Set HAMS_TEST_PROVIDERS to a folder made by ``pip install --no-deps --target FOLDER onnxruntime-qnn
onnxruntime-ep-webgpu onnxruntime-ep-openvino``; they are too large to be installed for tests. Qualcomm's library
simulates its NPU on x86: there networks are really served by a provider that is not ONNX Runtime's own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from hams_agents.backends import ep_libraries, onnxruntime, plugin_ep
from hams_agents.backends.contract import samples
from hams_agents.backends.onnx_sizes import free_sizes
from hams_agents.backends.onnxruntime import OnnxRuntimeBackend
from hams_agents.backends.plugin_ep import PluginUnit
from hams_agents.devices import DeviceSpec, parse
from hams_shared.errors import DeviceSpecError, UnsupportedModelError

FOLDER = os.environ.get("HAMS_TEST_PROVIDERS", "")
wheels = pytest.mark.skipif(not Path(FOLDER or "/nowhere").is_dir(), reason="HAMS_TEST_PROVIDERS names no folder")


def wheel(folder: Path, name: str, module: str, text: str) -> None:
    """Install a package as those of providers are."""
    (folder / module).mkdir()
    (folder / module / "__init__.py").write_text(text)
    info = folder / f"{name.replace('-', '_')}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (info / "RECORD").write_text(f"{module}/__init__.py,,\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    path = "def get_library_path():\n    return {!r}\n"
    boom = "raise RuntimeError('imported too early')\n"
    wheel(
        folder,
        "onnxruntime-ep-abacus",
        "onnxruntime_ep_abacus",
        f"N = 'AbacusExecutionProvider'\n{path.format('/no.so')}{boom}",
    )
    wheel(folder, "onnxruntime-nolib", "onnxruntime_nolib", f"N = 'NoLibExecutionProvider'\n{path.format('/no.so')}")
    wheel(folder, "onnxruntime-tools", "onnxruntime_tools", "def other(): pass\n")
    yield folder
    for name in ("onnxruntime_ep_abacus", "onnxruntime_nolib"):
        sys.modules.pop(name, None)


def test_providers_are_known_by_name_without_importing_their_packages(site: Path) -> None:
    known = ep_libraries.installed()
    assert known["abacus"] == ep_libraries.Library("Abacus", "onnxruntime_ep_abacus", "onnxruntime-ep-abacus 1.2")
    assert "tools" not in known
    for text in ("onnxruntime:ABACUS:1", "onnxruntime:abacus:1@0"):
        assert (parse(text).target, parse(text).unit) == ("Abacus:1", "abacus1")
    assert str(parse("onnxruntime:abacus")) == "onnxruntime:Abacus:0"
    with pytest.raises(DeviceSpecError, match=r"no unit 'Sundial:0' \(use CPU, CUDA:0, TensorRT:0, Abacus:0, NoLib:0"):
        parse("onnxruntime:Sundial:0")


def test_a_library_that_does_not_load_is_named_with_its_wheel(site: Path) -> None:
    with pytest.raises(
        DeviceSpecError, match=r"onnxruntime-nolib 1.2 cannot be loaded: .*/no.so: cannot open"
    ) as caught:
        onnxruntime.OnnxRuntimeBackend(parse("onnxruntime:NoLib:0"))
    assert caught.value.hint
    with pytest.raises(DeviceSpecError, match="abacus 1.2 cannot be imported: RuntimeError: imported too early"):
        onnxruntime.OnnxRuntimeBackend(parse("onnxruntime:Abacus:0"))


@pytest.fixture
def own_cpu(monkeypatch: pytest.MonkeyPatch) -> OnnxRuntimeBackend:
    """ONNX Runtime's CPU as a device of a provider, through all that a plug-in's goes through."""
    [device] = [one for one in ort.get_ep_devices() if one.ep_name == "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "open_unit", lambda target, cache: PluginUnit(device))
    return OnnxRuntimeBackend(DeviceSpec("onnxruntime", "Own:0", "own0"))


def test_a_device_of_a_provider_serves(own_cpu: OnnxRuntimeBackend, tmp_path: Path) -> None:
    able = own_cpu.capabilities
    assert (able.kind, able.lanes, able.compile_apart) == ("cpu", 1, True)
    assert able.runtime == f"onnxruntime {ort.__version__}, CPUExecutionProvider {ort.__version__}"
    sample = samples.scaled(tmp_path)
    assert free_sizes(sample.model) == {"n": 0}
    network = own_cpu.load(sample.model)
    images = np.random.default_rng(0).random((3, *samples.SHAPE[1:]), np.float32)
    outputs = network.infer(images)
    assert sample.expected is not None
    for name, value in sample.expected(images).items():
        assert np.allclose(outputs[name], value, atol=1e-6)


def test_what_is_left_to_the_cpu_is_refused(
    own_cpu: OnnxRuntimeBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a provider that takes nothing: ONNX Runtime itself refuses, and says which operators are left over."""
    monkeypatch.setattr(own_cpu._unit, "provider", "AbacusExecutionProvider")
    monkeypatch.setattr(own_cpu._unit, "_own_cpu", False)
    monkeypatch.setattr(ort.SessionOptions, "add_provider_for_devices", lambda *args: None)
    model = samples.scaled(tmp_path).model
    with pytest.raises(UnsupportedModelError, match="leaves GlobalAveragePool, Mul to the CPU") as caught:
        own_cpu.load(model)
    assert caught.value.hint


def test_an_index_that_is_not_there_lists_those_that_are(monkeypatch: pytest.MonkeyPatch) -> None:
    library = ep_libraries.Library("Own", "own", "onnxruntime-own 1.0")
    monkeypatch.setattr(ep_libraries, "installed", lambda: {"own": library})
    monkeypatch.setattr(plugin_ep, "devices", lambda library: ort.get_ep_devices()[:1])
    with pytest.raises(DeviceSpecError, match=r"has no device 3 \(Own:0 is .+\)"):
        plugin_ep.find("Own:3")


REAL = """
import sys
from hams_agents.backends.registry import open_backend
from hams_agents.devices import parse
from hams_shared.errors import DeviceSpecError
try:
    print("opens:", open_backend(parse(sys.argv[1])).capabilities.runtime)
except DeviceSpecError as error:
    print("refused:", error)
"""


def run(*argv: str) -> str:
    paths = os.pathsep.join([FOLDER, *sys.path])
    done = subprocess.run(
        [sys.executable, *argv], env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, timeout=250
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


@wheels
@pytest.mark.parametrize(
    ("device", "says"),
    [
        ("onnxruntime:webgpu:0", "refused: WebGpuExecutionProvider of onnxruntime-ep-webgpu"),
        ("onnxruntime:OpenVINO:0", "refused: OpenVINOExecutionProvider of onnxruntime-ep-openvino"),
    ],
)
def test_a_real_provider_without_a_device_is_refused_by_name(device: str, says: str) -> None:
    said = run("-c", REAL, device)
    assert says in said or "opens: onnxruntime" in said  # on a host that has such a device


@wheels
@pytest.mark.slow
def test_a_real_provider_keeps_the_contract() -> None:
    """Qualcomm's, which simulates its NPU on x86."""
    said = run("-m", "hams_agents.backends.contract", "hams_agents.backends.built_in:OnnxRuntime", "--device", "QNN:0")
    assert " 0 failed" in said, said


@wheels
def test_a_real_provider_refuses_what_it_would_leave_to_the_cpu(tmp_path: Path) -> None:
    code = """
import sys, pathlib
from hams_agents.backends.onnxruntime import OnnxRuntimeBackend
from hams_agents.backends.base import ModelFile
from hams_agents.devices import parse
from hams_shared.errors import UnsupportedModelError
model = ModelFile("m", "0" * 64, pathlib.Path(sys.argv[1]), (1, 3, 8, 8))
try:
    OnnxRuntimeBackend(parse("onnxruntime:QNN:0")).load(model)
except UnsupportedModelError as error:
    print(error)
"""
    path = samples._write(
        tmp_path / "m.onnx",
        [("Relu", ["image"], ["y"], {}), ("NonZero", ["y"], ["places"], {})],
        [("image", "float32", samples.SHAPE)],
        [("y", "float32", samples.SHAPE), ("places", "int64", (4, "k"))],
        {},
    )
    assert "QNNExecutionProvider leaves NonZero to the CPU" in run("-c", code, str(path))
