"""Backends of other packages: found by entry point, and a broken one is an error of its own devices only."""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hams_agents import backend_types, discover
from hams_agents.backends.guard import GuardedBackend, GuardedNetwork
from hams_agents.backends.registry import open_backend
from hams_agents.devices import parse
from hams_shared.errors import DeviceSpecError, ModelError
from support.networks import SHAPE, means, model_file

WORKS = """
from hams_agents.backends import host
from hams_agents.backends.base import Capabilities
from hams_agents.backends.built_in import OnnxRuntime
from hams_agents.devices import DeviceSpec
from hams_shared.errors import DeviceSpecError
from dataclasses import replace

class Abacus:
    note = "made of wood"

    @staticmethod
    def parse(target):
        if not target.isalpha():
            raise DeviceSpecError(f"abacus has no {target!r}", "use abacus:BEADS")
        return target.upper(), target.lower()

    @staticmethod
    def targets():
        return ["BEADS", "STONES"]

    @staticmethod
    def open(spec, cache=None):
        if spec.target == "STONES":
            raise DeviceSpecError("there are no stones", "collect some")
        return Abacus(spec)

    def __init__(self, spec):
        cpu = OnnxRuntime.open(DeviceSpec("onnxruntime", "CPU", "cpu"))
        self.load, self.close = cpu.load, cpu.close
        about = dict(backend="abacus", unit=spec.unit, kind="vpu", name="An abacus", runtime="wood 1")
        self.capabilities = replace(cpu.capabilities, **about)
"""


def package(folder: Path, name: str, code: str, points: str = "") -> None:
    """Install a package with one module, and its entry point, into `folder`."""
    (folder / f"{name}_backend.py").write_text(code)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[hams.backends]\n{points or f'{name} = {name}_backend:Backend'}\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages, for this process and its children."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", ":".join(sys.path))
    package(tmp_path, "abacus", WORKS, "Abacus = abacus_backend:Abacus")
    yield tmp_path
    for name in [name for name in sys.modules if name.endswith("_backend")]:
        del sys.modules[name]


def test_a_device_of_a_plugin_serves_like_others(site: Path, tmp_path: Path) -> None:
    spec = parse("ABACUS:beads@0")
    assert (str(spec), spec.device_id("box")) == ("abacus:BEADS@0", "box.abacus.beads")
    device = open_backend(spec)
    assert isinstance(device, GuardedBackend)
    network = device.load(model_file(means(tmp_path)))
    images = np.ones((2, *SHAPE[1:]), np.float32)
    assert all(len(value) == 2 for value in network.infer(images).values())
    network.close()
    device.close()


def test_discovery_lists_plugins_and_why_others_are_not_used(site: Path) -> None:
    package(site, "gone", "import no_such_runtime\n")
    package(site, "dies", "import os\nos.abort()\n")
    package(site, "sly", "class Backend: pass\n", "openvino = sly_backend:Backend")
    package(site, "bare", "class Backend: pass\n")
    known = discover.discover()
    found = {one.device: one for one in known.found}
    assert found["abacus:BEADS"].note == "made of wood"
    assert "openvino:CPU" in found
    skipped = {one.device: f"{one.reason} ({one.hint})" for one in known.skipped}
    assert skipped["abacus:STONES"] == "there are no stones (collect some)"
    assert "gone_backend:Backend (gone) of backend gone cannot be loaded: ModuleNotFoundError" in skipped["gone"]
    assert "crashed (SIGABRT)" in skipped["dies"]
    assert "it has no parse, no targets, no open" in skipped["bare"]
    assert "sly_backend:Backend (sly) has the name of HAMS's own backend" in skipped["openvino"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("abacus:1", "device 'abacus:1': abacus has no '1' (use abacus:BEADS)"),
        ("gone:CPU", "backend gone cannot be loaded: ModuleNotFoundError: No module named 'no_such_runtime'"),
        ("slow:CPU", "backend slow cannot read 'CPU': ZeroDivisionError: division by zero"),
        ("odd:CPU", "gives 'CPU' the unit 'Odd One', which is no subject token"),
        (
            "none:CPU",
            "emulated, litert, hailo, rknn, memryx, abacus, gone, odd, slow",
        ),
    ],
)
def test_errors_name_the_package(site: Path, text: str, says: str) -> None:
    package(site, "gone", "import no_such_runtime\n")
    rest = "    targets = open = staticmethod(lambda *args: [])\n"
    package(site, "slow", f"class Backend:\n    parse = staticmethod(lambda target: 1 / 0)\n{rest}")
    package(site, "odd", f"class Backend:\n    parse = staticmethod(lambda target: (target, 'Odd One'))\n{rest}")
    with pytest.raises(DeviceSpecError) as caught:
        parse(text)
    assert says in str(caught.value)
    assert caught.value.hint
    assert "\n" not in str(caught.value)


def test_two_packages_of_one_name_are_an_error(site: Path) -> None:
    package(site, "other", WORKS, "abacus = other_backend:Abacus")
    with pytest.raises(DeviceSpecError, match="abacus is offered more than once: .*remove all but one"):
        parse("abacus:BEADS")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("raise ValueError('no bead')", "backend abacus raised ValueError: no bead"),
        ("return [1]", "backend abacus gave list instead of outputs by name"),
        ("return {'y': images[0]}", "gave output 'y' as .*, not with 2 images first"),
        ("return {'y': 3}", "gave output 'y' as int instead of an array of numbers"),
        ("return {}", "gave dict instead of outputs by name"),
    ],
)
def test_what_a_plugin_does_wrong_is_an_error_of_the_model(site: Path, tmp_path: Path, body: str, says: str) -> None:
    code = WORKS.replace("self.load, self.close = cpu.load, cpu.close", "self.load = lambda model: Bad()")
    package(site, "bad", code + f"\nclass Bad:\n    def infer(self, images, *, alone=True):\n        {body}\n")
    info = site / "abacus-1.0.dist-info" / "entry_points.txt"
    info.write_text("[hams.backends]\nabacus = bad_backend:Abacus\n")
    (site / "bad-1.0.dist-info" / "entry_points.txt").write_text("")
    network = open_backend(parse("abacus:BEADS")).load(model_file(means(tmp_path)))
    with pytest.raises(ModelError, match=says):
        network.infer(np.ones((2, *SHAPE[1:]), np.float32))


def test_a_network_that_is_dropped_is_closed_and_a_closed_one_not_again() -> None:
    closed: list[str] = []
    for dropped in (True, False):
        inner: Any = SimpleNamespace(close=lambda: closed.append("x"))
        network: Any = GuardedNetwork(inner, "net", "abacus", "abacus_backend")
        if not dropped:
            network.close()
            network.close()
        del network
        gc.collect()
    assert closed == ["x", "x"]


def test_our_own_are_registered_the_same_way() -> None:
    assert backend_types.names()[:3] == ("openvino", "onnxruntime", "emulated")
    for name in backend_types.names()[:3]:
        assert not backend_types.missing(backend_types.find(name))
