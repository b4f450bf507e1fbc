"""NVIDIA's TensorRT under ONNX Runtime: the same GPUs as CUDA, networks compiled for the card.

Building the engine of a network takes seconds to minutes, so engines are kept in a folder per network, card, driver and
TensorRT version. What TensorRT cannot run, CUDA does, on the same GPU; a network of which it runs nothing is refused.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import shutil
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import onnxruntime as ort

from hams_agents.backends import cuda
from hams_agents.backends.base import ModelFile
from hams_shared.errors import DeviceSpecError, ModelError, UnsupportedModelError

PROVIDER = "TensorrtExecutionProvider"
MOST_BYTES = 4 << 30
"""Of all engines of a host; the longest unused go first."""
_LIBRARY = "libnvinfer.so.10"
_HINT = "install TensorRT 10: pip install 'tensorrt-cu13-libs<11'; or use onnxruntime:CUDA:0"


class TensorRtUnit(cuda.CudaUnit):
    """One NVIDIA GPU through TensorRT; see :class:`hams_agents.backends.onnxruntime.Unit`.

    Raises:
        DeviceSpecError: TensorRT or CUDA does not work here.
    """

    static = True

    def __init__(self, index: int, cache: Path | None) -> None:
        super().__init__(index)
        if PROVIDER not in ort.get_available_providers():
            raise DeviceSpecError("the installed ONNX Runtime has no TensorRT", "install onnxruntime-gpu")
        self._version = version()
        self._folder = None if cache is None else cache / "tensorrt"
        self.runtime = f"{self.runtime}, TensorRT {self._version}"
        if self._folder is not None:
            prune(self._folder)

    def open(self, model: ModelFile, options: Any, sizes: Mapping[str, int]) -> Any:
        """Open a session of which TensorRT runs at least a part, and CUDA the rest; builds the engine at need.

        Raises:
            UnsupportedModelError: TensorRT runs none of it.
            ModelError: TensorRT is gone, ONNX Runtime would go on without it.
            Exception: of ONNX Runtime: it cannot read or compile the model.
        """
        for name, size in sizes.items():
            options.add_free_dimension_override_by_name(name, size)
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        folder = None if self._folder is None else engine_folder(self._folder, self.engine_key(model, sizes))
        providers = [(PROVIDER, settings(self._index, folder)), cuda.provider(self._index)]
        session = ort.InferenceSession(str(model.path), options, providers=providers, enable_fallback=0)
        check_session(model, session)
        return session

    def engine_key(self, model: ModelFile, sizes: Mapping[str, int]) -> str:
        """Return the name of the folder of a network's engine: all that an engine depends on."""
        return engine_key(model, sizes, f"{self.name} {self.runtime}")


def engine_key(model: ModelFile, sizes: Mapping[str, int], device: str) -> str:
    """Return 32 hex digits of a network, the sizes it is compiled for, and card, driver and versions as text."""
    about = f"{model.digest} {model.input_shape} {sorted(sizes.items())} {device}"
    return hashlib.sha256(about.encode()).hexdigest()[:32]


def settings(index: int, folder: Path | None) -> dict[str, str]:
    """Return the provider's settings; in `folder` it keeps engine and timings, without one nothing.

    Full float32 numbers, as on other devices; no CUDA graph, which would pin the address of the input.
    """
    known = {"device_id": str(index), "trt_fp16_enable": "0", "trt_int8_enable": "0", "trt_cuda_graph_enable": "0"}
    if folder is None:
        return known
    return {
        **known,
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(folder),
    }


def check_session(model: ModelFile, session: Any) -> None:
    """Raise UnsupportedModelError where TensorRT runs nothing, ModelError where it is not there at all."""
    if PROVIDER not in session.get_providers():
        raise ModelError(
            f"model {model.name}: TensorRT is gone, ONNX Runtime would run it without", "restart the agent"
        )
    parts = session.get_provider_graph_assignment_info()
    if not any(part.ep_name == PROVIDER for part in parts):
        raise UnsupportedModelError(
            f"model {model.name}: TensorRT can run none of its operators", "use onnxruntime:CUDA"
        )


def version() -> str:
    """Return the version of the TensorRT that is installed, as a wheel or in the system; loads it.

    Raises:
        DeviceSpecError: there is none that ONNX Runtime can use.
    """
    spec = find_spec("tensorrt_libs")
    folders = [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
    reason = ""
    for name in (*(str(folder / _LIBRARY) for folder in folders), _LIBRARY):
        try:
            library = ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)
            number = int(library.getInferLibVersion())
        except (OSError, AttributeError) as error:
            reason = " ".join(str(error).split())
            continue
        return f"{number // 10000}.{number // 100 % 100}.{number % 100}"
    raise DeviceSpecError(f"TensorRT cannot be loaded: {reason}", _HINT)


def engine_folder(cache: Path, key: str) -> Path:
    """Return the folder of an engine that is wanted now; others make room for it."""
    folder = cache / key
    folder.mkdir(parents=True, exist_ok=True)
    os.utime(folder)
    prune(cache)
    return folder


def prune(folder: Path, most_bytes: int = MOST_BYTES) -> None:
    """Delete engines, those unused for longest first, until at most `most_bytes` are left."""
    with contextlib.suppress(OSError):  # another agent does the same
        kept = 0
        for one in sorted(folder.iterdir(), key=lambda path: -path.stat().st_mtime):
            kept += sum(file.stat().st_size for file in one.rglob("*") if file.is_file())
            if kept > most_bytes:
                shutil.rmtree(one, ignore_errors=True)
