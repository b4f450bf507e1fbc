"""What the teacher says: its outputs for images, by OpenVINO on one core, in f32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from hams_services.optimizer.onnx_graph.run_openvino import one_core
from hams_shared.errors import ModelError


class Teacher:
    """The network of `path`, for images of `shape`, without the batch. Raises ModelError when it cannot be run."""

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        core = ov.Core()
        try:
            model = core.read_model(path)
            self._element = model.input(0).element_type.to_dtype()
            model.reshape([1, *shape])
            self._compiled = one_core(model, core)
        except RuntimeError as error:
            raise ModelError(f"the teacher cannot be run: {' '.join(str(error).split())[:300]}") from None
        self.names = tuple(_name(port, index) for index, port in enumerate(self._compiled.outputs))

    def says(self, samples: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Output → N×…, asked one sample at a time."""
        rows: list[list[NDArray[np.float32]]] = [[] for _ in self.names]
        for sample in samples:
            answer = self._compiled([sample[None].astype(self._element)])
            for index, row in enumerate(rows):
                row.append(np.asarray(answer[index], np.float32)[0])
        return {name: np.stack(row) for name, row in zip(self.names, rows, strict=True)}


def _name(port: Any, index: int) -> str:
    names = sorted(port.get_names())
    return str(names[0]) if names else f"output{index}"
