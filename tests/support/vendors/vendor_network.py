"""What the stand-ins for vendors' runtimes share: a "compiled" file is a magic number, an ONNX file and its digest.

The folder of this file goes on ``sys.path`` (``PYTHONPATH`` for processes), as the vendors' packages would.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnxruntime


def write(path: Path, magic: bytes, onnx: bytes) -> Path:
    path.write_bytes(magic + hashlib.sha256(onnx).digest() + onnx)
    return path


class Network:
    """A read file. Raises ValueError: it is none, or damaged."""

    def __init__(self, path: str, magic: bytes) -> None:
        content = Path(path).read_bytes()
        digest, onnx = content[len(magic) : len(magic) + 32], content[len(magic) + 32 :]
        if not content.startswith(magic) or hashlib.sha256(onnx).digest() != digest:
            raise ValueError("not a compiled network, or damaged")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        self._session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
        self.inputs = {port.name: tuple(port.shape) for port in self._session.get_inputs()}
        self.outputs = {port.name: tuple(port.shape) for port in self._session.get_outputs()}

    def run(self, image: np.ndarray) -> dict[str, np.ndarray]:
        [name] = self.inputs
        found = self._session.run(None, {name: image.astype(np.float32)})
        return dict(zip(self.outputs, found, strict=True))
