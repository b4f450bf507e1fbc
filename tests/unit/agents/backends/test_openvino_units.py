"""OpenVINO's units: the right one of several, and its driver in what a measurement holds for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hams_agents.backends.base import Backend
from hams_agents.backends.openvino import check_target, with_driver
from hams_agents.device_record import device_record
from hams_agents.devices import parse
from hams_shared.errors import DeviceSpecError
from hams_shared.wire.messages.agents import profile_key_begin, profile_key_end

NAMES = {"GPU.0": "Intel UHD 770 (iGPU)", "GPU.1": "Intel Arc A380 (dGPU)", "GPU": "Intel UHD 770", "NPU": "Intel AI"}


@pytest.mark.parametrize(
    ("target", "available"),
    [
        ("CPU", ["CPU"]),
        ("GPU", ["CPU", "GPU"]),
        ("GPU", ["CPU", "GPU.0"]),
        ("GPU.0", ["CPU", "GPU"]),
        ("GPU.0", ["CPU", "GPU.0", "GPU.1"]),
        ("GPU.1", ["CPU", "GPU.0", "GPU.1"]),
        ("NPU", ["CPU", "NPU"]),
    ],
)
def test_a_unit_that_is_there(target: str, available: list[str]) -> None:
    check_target(target, available, NAMES.__getitem__)


@pytest.mark.parametrize(
    ("target", "available", "says"),
    [
        (
            "GPU",
            ["CPU", "GPU.0", "GPU.1"],
            "openvino:GPU could be any of 2 devices of this host (openvino:GPU.0 is Intel UHD 770 (iGPU), "
            "openvino:GPU.1 is Intel Arc A380 (dGPU))",
        ),
        ("GPU", ["CPU"], "OpenVINO finds no GPU on this host (it finds CPU)"),
        ("GPU.1", ["CPU", "GPU"], "OpenVINO finds no GPU.1 on this host (it finds CPU, GPU)"),
        ("GPU.1", ["CPU", "GPU.10"], "OpenVINO finds no GPU.1 on this host (it finds CPU, GPU.10)"),
        ("NPU", [], "OpenVINO finds no NPU on this host (it finds nothing)"),
    ],
)
def test_a_unit_that_is_not_there_or_not_the_only_one(target: str, available: list[str], says: str) -> None:
    with pytest.raises(DeviceSpecError) as caught:
        check_target(target, available, NAMES.__getitem__)
    assert str(caught.value) == says


class Core:
    """Answers as the driver of a GPU and an NPU."""

    def get_property(self, target: str, name: str) -> str:
        return {
            "GPU.1": {"GPU_DRIVER_VERSION": "25.18.33578"},
            "NPU": {"NPU_DRIVER_VERSION": "1716", "NPU_COMPILER_VERSION": "7.2"},
        }[target][name]


@pytest.mark.parametrize(
    ("target", "runtime"),
    [
        ("CPU", "openvino 2026.4"),
        ("GPU.1", "openvino 2026.4, driver 25.18.33578"),
        ("NPU", "openvino 2026.4, driver 1716, compiler 7.2"),
        ("GPU.0", "openvino 2026.4"),  # it does not report it
    ],
)
def test_the_driver_is_part_of_the_runtime(target: str, runtime: str) -> None:
    assert with_driver("openvino 2026.4", Core(), target) == runtime


def test_an_update_of_the_driver_is_measured_again(onnxruntime: Backend) -> None:
    class Updated:
        def __init__(self, driver: str) -> None:
            self.capabilities = replace(onnxruntime.capabilities, runtime=f"onnxruntime 1.31.1, driver {driver}")
            self.load, self.close = onnxruntime.load, onnxruntime.close

    def key(driver: str) -> str:
        record = device_record(Updated(driver), "box")
        return (
            f"{profile_key_begin('ab' * 32, (1, 3, 8, 8))}."
            f"{profile_key_end(record.fingerprint, record.runtime, record.precisions[0])}"
        )

    assert key("580.65") == key("580.65")
    assert key("580.65") != key("580.82")


def test_an_npu_is_named_like_others(tmp_path: Path) -> None:
    assert parse("openvino:npu").unit == "npu"
    assert (parse("openvino:GPU.1").target, parse("openvino:GPU.1").unit) == ("GPU.1", "gpu1")
