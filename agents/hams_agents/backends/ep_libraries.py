"""Execution providers that wheels bring as libraries for ONNX Runtime: which are installed, and their names.

Such a wheel (``onnxruntime-ep-webgpu``, ``onnxruntime-ep-openvino``, ``onnxruntime-ep-nv-tensorrt-rtx-cu13``,
``onnxruntime-qnn``) has one package with the functions ``get_library_path`` and ``get_ep_name``. Importing it loads
libraries of a vendor, so that names are read from its text: a device name is parsed before any runtime is loaded.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from importlib.metadata import Distribution
from pathlib import Path

SUFFIX = "ExecutionProvider"
_BEGIN = "onnxruntime"
_NAME = re.compile(rf"""["'](\w+){SUFFIX}["']""")


@dataclass(frozen=True)
class Library:
    """The package of a wheel that brings an execution provider."""

    name: str
    """Of the provider, without its ending: ``WebGpu``, ``OpenVINO``, ``NvTensorRTRTX``, ``QNN``."""
    module: str
    wheel: str
    """The wheel's name and version: ``onnxruntime-ep-webgpu 0.4.0``."""

    @property
    def provider(self) -> str:
        """The provider's full name, as ONNX Runtime has it."""
        return self.name + SUFFIX


def installed() -> dict[str, Library]:
    """Return what is installed, by the provider's name in small letters; imports nothing."""
    found: dict[str, Library] = {}
    for folder in dict.fromkeys(sys.path):  # looking through all packages would take a second
        for info in sorted(Path(folder or ".").glob(f"{_BEGIN}*.dist-info")):
            library = _library(Distribution.at(info))
            if library is not None:
                found.setdefault(library.name.lower(), library)
    return dict(sorted(found.items()))


def _library(wheel: Distribution) -> Library | None:
    """Return the package with ``get_library_path``; None: the wheel brings no provider (as ``onnxruntime`` itself)."""
    for file in wheel.files or ():
        if len(file.parts) != 2 or file.parts[1] != "__init__.py" or file.parts[0] == _BEGIN:
            continue
        try:
            text = Path(str(file.locate())).read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        if "def get_library_path" in text:
            module = file.parts[0]
            stated = _NAME.search(text)
            short = stated[1] if stated else re.sub(rf"^{_BEGIN}_(ep_)?", "", module)
            return Library(short, module, f"{str(wheel.metadata['Name']).lower()} {wheel.version}")
    return None
