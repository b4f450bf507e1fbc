from __future__ import annotations

import os
from pathlib import Path

import pytest

from hams_agents import discover
from hams_agents.backends import cuda
from hams_agents.backends.built_in import OnnxRuntime, OpenVino
from hams_agents.backends.registry import open_backend
from hams_agents.devices import DeviceSpec, parse
from hams_shared.errors import DeviceSpecError
from hams_shared.runtime.child_process import run_in_child


async def test_discovery_in_a_child_process() -> None:
    answer = await run_in_child("hams_agents.discover:describe_devices", {}, what="discovery", timeout=110)
    cpus = [device for device in answer["found"] if device["kind"] == "cpu"]
    assert [device["device"] for device in cpus] == ["openvino:CPU"]
    assert all(parse(device["device"]) for device in answer["found"])
    listed = {device["device"] for device in answer["found"]}
    assert all(other["reason"] and other["device"] not in listed for other in answer["skipped"])


def test_the_cpu_is_listed_without_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> list[str]:
        raise ImportError("No module named 'openvino'")

    monkeypatch.setattr(OpenVino, "targets", staticmethod(missing))
    monkeypatch.setattr(OnnxRuntime, "targets", staticmethod(lambda: ["CPU"]))
    result = discover.discover()
    assert [found.device for found in result.found] == ["onnxruntime:CPU"]
    assert result.skipped[0].reason == "cannot be imported: No module named 'openvino'"


def test_cuda_that_does_not_load_is_an_error_and_no_silent_cpu(capfd: pytest.CaptureFixture[str]) -> None:
    if any(found.device == "onnxruntime:CUDA:0" for found in discover.discover().found):
        pytest.skip("CUDA loads on this host")
    capfd.readouterr()
    with pytest.raises(DeviceSpecError, match="CUDA|no NVIDIA card") as caught:
        open_backend(parse("onnxruntime:CUDA:0"))
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    assert capfd.readouterr() == ("", "")


def test_a_silent_fall_back_to_the_cpu_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Session:
        def __init__(self, *args: object, **options: object) -> None:
            os.write(2, b"\x1b[31m[E:onnxruntime] Failed to load library x.so with error: libq.so: no such file\n")

        def get_providers(self) -> list[str]:
            return ["CPUExecutionProvider"]

    monkeypatch.setattr(cuda.ort, "get_available_providers", lambda: [cuda.PROVIDER])
    monkeypatch.setattr(cuda.ort, "InferenceSession", Session)
    monkeypatch.setattr(cuda, "has_card", lambda: True)
    with pytest.raises(DeviceSpecError, match=r"^CUDA does not work on GPU 0: libq.so: no such file \("):
        cuda.check(0)
    monkeypatch.setattr(cuda, "has_card", lambda: False)
    with pytest.raises(DeviceSpecError, match="^there is no NVIDIA GPU 0: this host shows no NVIDIA card at all"):
        cuda.check(0)


def test_whether_there_is_a_card(tmp_path: Path) -> None:
    assert not cuda.has_card(tmp_path)
    for name, vendor, kind in (("0", "0x10de", "0x040300"), ("1", "0x8086", "0x030000")):  # its sound; another's GPU
        device = tmp_path / "sys/bus/pci/devices" / name
        device.mkdir(parents=True)
        (device / "vendor").write_text(vendor + "\n")
        (device / "class").write_text(kind + "\n")
    assert not cuda.has_card(tmp_path)
    (tmp_path / "sys/bus/pci/devices/0/class").write_text("0x030200\n")
    assert cuda.has_card(tmp_path)


def test_a_device_openvino_does_not_find() -> None:
    with pytest.raises(DeviceSpecError, match=r"OpenVINO finds no GPU.7 on this host \(it finds .*CPU"):
        open_backend(parse("openvino:GPU.7"))


def test_a_backend_that_does_not_exist() -> None:
    with pytest.raises(DeviceSpecError, match="no backend 'abacus'"):
        open_backend(DeviceSpec("abacus", "CPU", "cpu"))
