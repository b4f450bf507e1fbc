"""TensorRT as far as that can be tested without an NVIDIA GPU: settings, keys, the bound, refusals."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from hams_agents.backends import cuda, tensorrt
from hams_agents.backends.base import ModelFile
from hams_agents.backends.registry import open_backend
from hams_agents.devices import parse
from hams_shared.errors import DeviceSpecError, ModelError, UnsupportedModelError

MODEL = ModelFile("detector", "ab" * 32, Path("detector.onnx"), (1, 3, 480, 640))
CARD = "NVIDIA L4 onnxruntime 1.31.1, driver 580.65, TensorRT 10.13.0"


def test_the_name_of_the_device() -> None:
    for text in ("onnxruntime:TensorRT:0", "onnxruntime:tensorrt"):
        assert (str(parse(text)), parse(text).unit) == ("onnxruntime:TensorRT:0", "tensorrt0")


def test_an_engine_is_kept_for_all_that_it_depends_on() -> None:
    key = tensorrt.engine_key(MODEL, {"n": 1}, CARD)
    others = [
        tensorrt.engine_key(replace(MODEL, digest="cd" * 32), {"n": 1}, CARD),
        tensorrt.engine_key(replace(MODEL, input_shape=(1, 3, 640, 640)), {"n": 1}, CARD),
        tensorrt.engine_key(MODEL, {"n": 4}, CARD),
        *(
            tensorrt.engine_key(MODEL, {"n": 1}, CARD.replace(*parts))
            for parts in (("L4", "T4"), ("580.65", "580.82"), ("10.13.0", "10.14.1"), ("1.31.1", "1.32.0"))
        ),
    ]
    assert len({key, *others}) == 1 + len(others)
    assert tensorrt.engine_key(replace(MODEL, name="other", path=Path("x.onnx")), {"n": 1}, CARD) == key


def test_its_settings(tmp_path: Path) -> None:
    known = tensorrt.settings(1, tmp_path)
    assert known["device_id"] == "1"
    assert known["trt_engine_cache_path"] == known["trt_timing_cache_path"] == str(tmp_path)
    assert (known["trt_fp16_enable"], known["trt_int8_enable"]) == ("0", "0")
    assert not any("cache" in key for key in tensorrt.settings(0, None))


def test_engines_that_were_not_used_for_longest_go_first(tmp_path: Path) -> None:
    for age, name in enumerate(("new", "middle", "old")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "engine").write_bytes(bytes(100))
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    tensorrt.prune(tmp_path, 250)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["middle", "new"]
    tensorrt.prune(tmp_path / "absent", 250)


class Session:
    def __init__(self, providers: list[str], took: list[str]) -> None:
        self.providers = providers
        self.took = took

    def get_providers(self) -> list[str]:
        return self.providers

    def get_provider_graph_assignment_info(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(ep_name=name) for name in self.took]


def test_a_session_without_tensorrt_is_refused() -> None:
    every = [tensorrt.PROVIDER, cuda.PROVIDER, "CPUExecutionProvider"]
    tensorrt.check_session(MODEL, Session(every, [tensorrt.PROVIDER, cuda.PROVIDER]))
    with pytest.raises(ModelError, match="TensorRT is gone") as caught:
        tensorrt.check_session(MODEL, Session(every[1:], [cuda.PROVIDER]))
    assert caught.value.hint
    with pytest.raises(UnsupportedModelError, match="TensorRT can run none of its operators"):
        tensorrt.check_session(MODEL, Session(every, [cuda.PROVIDER]))


def test_no_card_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    if cuda.has_card():
        pytest.skip("this host has an NVIDIA card")
    with pytest.raises(DeviceSpecError, match="there is no NVIDIA GPU 0"):
        open_backend(parse("onnxruntime:TensorRT:0"))


def test_a_tensorrt_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt, "_LIBRARY", "libnvinfer.so.nowhere")
    with pytest.raises(DeviceSpecError, match=r"TensorRT cannot be loaded: .* \(install TensorRT 10"):
        tensorrt.version()


def test_the_driver_is_part_of_the_runtime(tmp_path: Path) -> None:
    assert cuda.driver_version(tmp_path) == ""
    file = tmp_path / "sys/module/nvidia/version"
    file.parent.mkdir(parents=True)
    file.write_text("580.65.06\n")
    assert cuda.driver_version(tmp_path) == "580.65.06"


def test_an_engine_that_is_wanted_makes_others_go(tmp_path: Path) -> None:
    """An agent may run for months, and load one network after another."""
    for name, age_s in (("oldest", 200), ("older", 100)):
        (tmp_path / name).mkdir()
        with (tmp_path / name / "engine").open("wb") as file:
            file.truncate(tensorrt.MOST_BYTES - 1)  # sparse: it takes no room
        os.utime(tmp_path / name, (1e9 - age_s, 1e9 - age_s))
    assert tensorrt.engine_folder(tmp_path, "wanted") == tmp_path / "wanted"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["older", "wanted"]
