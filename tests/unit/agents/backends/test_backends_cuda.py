"""NVIDIA GPUs as far as that can be tested without one."""

from __future__ import annotations

from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from hams_agents.backends import cuda
from hams_agents.backends import onnxruntime as backends
from hams_agents.backends.network import Array
from hams_agents.backends.registry import open_backend
from hams_agents.devices import parse
from hams_shared.errors import DeviceSpecError
from support.networks import SHAPE, means, model_file

INVALID = (
    "/src/info.cc:63 static FromProviderOptions [ONNXRuntimeError] : 1 : FAIL : options.h:187 Parse Failed to parse "
    'provider option "device_id": info.cc:71 operator() Invalid device ID: 1, must be between 0 (inclusive) and 1 '
    "(exclusive).\n"
)
NO_CUDNN = (
    "[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : Non-zero status code returned while running Conv node. Name:'' Status "
    "Message: kernel.h:296 RequireCudnnHandle(cudnnHandle_t) [ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : cuDNN is "
    "unavailable or disabled for CUDA Execution Provider: dlopen failed for libcudnn.so: no such file\n"
)


@pytest.mark.parametrize(
    ("opening", "running", "said"),
    [
        (INVALID, "", r"GPU 0: Invalid device ID: 1, must be .+ \(exclusive\) \(onnxruntime:CUDA:0 is the first\)$"),
        ("", NO_CUDNN, r"GPU 0: cuDNN is unavailable .+: dlopen failed for libcudnn.so: no such file \(install "),
    ],
)
def test_why_cuda_does_not_work(monkeypatch: pytest.MonkeyPatch, opening: str, running: str, said: str) -> None:
    class Session:
        def __init__(self, *args: object, **options: object) -> None:
            if opening:
                raise RuntimeError(opening)

        def get_providers(self) -> list[str]:
            return [cuda.PROVIDER]

        def run(self, *args: object) -> None:
            raise RuntimeError(running)

    monkeypatch.setattr(cuda.ort, "get_available_providers", lambda: [cuda.PROVIDER])
    monkeypatch.setattr(cuda.ort, "InferenceSession", Session)
    monkeypatch.setattr(cuda, "has_card", lambda: True)
    with pytest.raises(DeviceSpecError, match=said):
        cuda.check(0)


def test_a_session_meets_images_of_one_number_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    met: dict[backends._Session, set[int]] = defaultdict(set)  # holds them: an id would be given again
    call = backends._Session.__call__

    def watched(self: backends._Session, batch: Array) -> list[Array]:
        met[self].add(len(batch))
        return call(self, batch)

    monkeypatch.setattr(cuda, "check", lambda index: None)
    monkeypatch.setattr(cuda, "PROVIDER", "CPUExecutionProvider")
    monkeypatch.setattr(cuda, "provider", lambda index: ("CPUExecutionProvider", {}))
    monkeypatch.setattr(backends._Session, "__call__", watched)
    monkeypatch.setattr(backends, "_LEAST_GAIN_BY_SIZE", -100.0)  # batches are taken, however slow
    network = open_backend(parse("onnxruntime:CUDA:0")).load(model_file(means(tmp_path)))
    assert network.dynamic_batch
    batch = np.random.default_rng(1).random((13, *SHAPE[1:]), np.float32)
    for count in (1, 2, 3, 8, 13, 1):
        (out,) = network.infer(batch[:count]).values()
        assert np.allclose(out, batch[:count].mean((2, 3), keepdims=True), atol=1e-5)
    assert sorted(map(sorted, met.values())) == [[1], [2], [4], [8]]


def test_all_lanes_use_the_same_sessions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    opened: list[object] = []
    opens = backends.OnnxRuntimeBackend._open

    def watched(self: backends.OnnxRuntimeBackend, *what: object) -> object:
        opened.append(opens(self, *what))  # type: ignore[arg-type]
        return opened[-1]

    monkeypatch.setattr(cuda, "check", lambda index: None)
    monkeypatch.setattr(cuda, "PROVIDER", "CPUExecutionProvider")
    monkeypatch.setattr(cuda, "provider", lambda index: ("CPUExecutionProvider", {}))
    monkeypatch.setattr(backends, "request_lanes", lambda requests, threads: requests)
    monkeypatch.setattr(backends, "_LEAST_GAIN_BY_SIZE", -100.0)
    monkeypatch.setattr(backends.OnnxRuntimeBackend, "_open", watched)
    device = open_backend(parse("onnxruntime:CUDA:0"))
    assert device.capabilities.lanes == 4
    network = device.load(model_file(means(tmp_path)))
    batch = np.random.default_rng(1).random((8, *SHAPE[1:]), np.float32)
    with ThreadPoolExecutor(4) as pool:
        for count, y in pool.map(lambda n: (n, network.infer(batch[:n], alone=False)["y"]), [8, 4, 2, 1] * 8):
            assert np.allclose(y, batch[:count].mean((2, 3), keepdims=True), atol=1e-5)
    assert len(opened) == 4
