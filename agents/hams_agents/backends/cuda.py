"""NVIDIA GPUs under ONNX Runtime: does CUDA really load, and how much memory is in use.

Asked for CUDA, ONNX Runtime uses the CPU without a warning when a library or the driver is missing. So a device
counts only after a session on it reports the provider.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from hams_agents.backends.base import ModelFile
from hams_shared.errors import DeviceSpecError, ModelError

PROVIDER = "CUDAExecutionProvider"
REQUESTS = 4
"""Inferences at a time: all run in one session, which gives each its own CUDA stream and holds the weights once.

The driver reports no number. A small network does not fill a GPU, and while one inference copies, others compute.
"""
_SIDE = 8
_NAMELESS = "NVIDIA GPU"
_HINT = "install NVIDIA's driver and the CUDA libraries: pip install 'hams[cuda]'"
_NO_CARD = "for other devices see `hams-ctl devices --discover`"
_NVIDIA = "0x10de"
"""Vendor in the PCI list."""
_DEVICES = ("proc/driver/nvidia/version", "dev/nvidiactl", "dev/nvhost-gpu", "dev/dxg")
"""Device files of the drivers of cards, of Jetson's GPU and of Windows' subsystem for Linux."""
_NO_SUCH_GPU = "onnxruntime:CUDA:0 is the first"


def provider(index: int) -> tuple[str, dict[str, str]]:
    """Return the provider with its settings for the GPU `index`.

    Full float32, the same numbers as on other devices; convolution algorithms by search, which takes no longer than
    the heuristic and does not pick one that takes 20 ms and 4 GB for a kernel of 1×3; memory is taken as needed, so
    that what a network uses can be seen.
    """
    return PROVIDER, {
        "device_id": str(index),
        "use_tf32": "0",
        "cudnn_conv_algo_search": "EXHAUSTIVE",
        "arena_extend_strategy": "kSameAsRequested",
    }


class CudaUnit:
    """One NVIDIA GPU through CUDA; see :class:`hams_agents.backends.onnxruntime.Unit`.

    Raises:
        DeviceSpecError: CUDA does not work there.
    """

    kind = "gpu"
    precision = "fp32"
    requests = REQUESTS
    batches = True
    static = False
    apart = False

    def __init__(self, index: int) -> None:
        check(index)
        self._index = index
        self.name = name(index)
        driver = driver_version()
        self.runtime = f"onnxruntime {ort.__version__}" + (f", driver {driver}" if driver else "")

    def memory_mib(self) -> tuple[float, float] | None:
        """Return used and total memory, MiB; None: not known."""
        return memory_mib(self._index)

    def open(self, model: ModelFile, options: Any, sizes: Mapping[str, int]) -> Any:
        """Open a session on the GPU.

        Raises:
            ModelError: CUDA is gone.
            Exception: of ONNX Runtime: it cannot read or compile the model.
        """
        providers = [provider(self._index)]
        session = ort.InferenceSession(str(model.path), options, providers=providers, enable_fallback=0)
        if PROVIDER not in session.get_providers():
            raise ModelError(f"model {model.name}: CUDA is gone, ONNX Runtime would use the CPU", "restart the agent")
        return session


def driver_version(root: Path = Path("/")) -> str:
    """Return the version of NVIDIA's kernel driver; empty: not known. `root` is that of the host's files."""
    return _first_line(root / "sys/module/nvidia/version")


def check(index: int) -> None:
    """Run a tiny network on the GPU `index`: a convolution and a product, since cuDNN is loaded only by the first.

    Raises:
        DeviceSpecError: it does not run there; the text is the runtime's reason.
    """
    if PROVIDER not in ort.get_available_providers():
        raise DeviceSpecError("the installed ONNX Runtime has no CUDA", "install onnxruntime-gpu")
    _preload()
    options = ort.SessionOptions()
    options.log_severity_level = 3
    with _stderr() as printed:
        ort.set_default_logger_severity(3)
        try:
            session = ort.InferenceSession(_tiny_network(), options, providers=[provider(index)], enable_fallback=0)
            reason = "" if PROVIDER in session.get_providers() else "ONNX Runtime would use the CPU instead"
            if not reason:
                session.run(None, {"x": np.ones((1, _SIDE, _SIDE, _SIDE), np.float32)})
        except Exception as error:
            reason = str(error)
        finally:
            ort.set_default_logger_severity(4)
    if reason and not has_card():
        raise DeviceSpecError(f"there is no NVIDIA GPU {index}: this host shows no NVIDIA card at all", _NO_CARD)
    if reason:
        hint = _NO_SUCH_GPU if "Invalid device ID" in reason else _HINT
        raise DeviceSpecError(f"CUDA does not work on GPU {index}: {_reason(printed, reason)}", hint)


def has_card(root: Path = Path("/")) -> bool:
    """Return whether the host shows an NVIDIA card, with or without a driver; `root` is that of its files."""
    if any((root / device).exists() for device in _DEVICES):
        return True
    vendors = (root / "sys/bus/pci/devices").glob("*/vendor")
    return any(_first_line(vendor) == _NVIDIA and _is_display(vendor.parent) for vendor in vendors)


def _is_display(device: Path) -> bool:
    return _first_line(device / "class").startswith("0x03")


def _first_line(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def count() -> int:
    """Return how many NVIDIA GPUs the driver reports; 1 where it reports no number."""
    return max(1, len(_driver_folders()))


def name(index: int) -> str:
    """Return the GPU's own name, by the driver: it counts GPUs as CUDA does, hidden ones included."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return _NAMELESS
    gpu, text = ctypes.c_int(), ctypes.create_string_buffer(256)
    if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(gpu), index) or driver.cuDeviceGetName(text, len(text), gpu):
        return _NAMELESS
    return text.value.decode(errors="replace")


def memory_mib(index: int) -> tuple[float, float] | None:
    """Return used and total memory of the GPU, MiB, all processes together; None: unknown.

    Asks the CUDA runtime that ONNX Runtime has loaded into this process.
    """
    runtime = _cuda_runtime()
    if runtime is None:
        return None
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    if runtime.cudaSetDevice(index) or runtime.cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total)):
        return None
    return (total.value - free.value) / 2**20, total.value / 2**20


def _driver_folders() -> list[Path]:
    return sorted(Path("/proc/driver/nvidia/gpus").glob("*"))


@cache
def _preload() -> None:
    """Load CUDA libraries that came as wheels. Those missing are named on stdout; the session names them
    again."""
    if hasattr(ort, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(OSError):
            ort.preload_dlls()


def _cuda_runtime() -> Any:
    try:
        mapped = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(r"\s(/\S*libcudart[^\s/]*)", mapped)
    return ctypes.CDLL(found[1]) if found else None


def _tiny_network() -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    sides = [1, _SIDE, _SIDE, _SIDE]
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "kernel"], ["c"], pads=[1] * 4),
            helper.make_node("MatMul", ["c", "matrix"], ["y"]),
        ],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, sides)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, sides)],
        [
            numpy_helper.from_array(np.ones((_SIDE, _SIDE, 3, 3), np.float32), "kernel"),
            numpy_helper.from_array(np.eye(_SIDE, dtype=np.float32), "matrix"),
        ],
    )
    opset = [helper.make_opsetid("", 13)]
    content: bytes = helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()
    return content


@contextlib.contextmanager
def _stderr() -> Iterator[list[str]]:
    """Catch what C++ code writes to stderr into the yielded list, which is filled at the end.

    ONNX Runtime writes there, and nowhere else, why CUDA did not load. Used before any work is taken.
    """
    lines: list[str] = []
    with tempfile.TemporaryFile() as file:
        kept = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield lines
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            lines += file.read().decode(errors="replace").splitlines()


def _reason(printed: list[str], otherwise: str) -> str:
    """The useful end of ONNX Runtime's log: which library is missing, or the driver's error."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(printed))
    for pattern in (
        r"with error: (.+)",
        r"(Invalid device ID: .+?)\.?\s*$",
        r"(cuDNN is unavailable.+)",
        r"(CUDA failure \d+:[^;]+)",
    ):
        found = re.search(pattern, plain) or re.search(pattern, otherwise)
        if found:
            return found[1].strip()
    return " ".join(otherwise.split())[:300]
