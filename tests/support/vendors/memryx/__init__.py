"""Stands in for MemryX's SDK: its ``SyncAccl``, which gives outputs in the order in which it was given frames.

Written to the SDK's ``memryx/runtime/accl.py`` (2.x).
"""

from __future__ import annotations

import queue

import numpy as np
from vendor_network import Network

MAGIC = b"DFP6"


class SyncAccl:
    def __init__(self, dfp: str, device_ids: list[int] | int = [0], local_mode: bool = False) -> None:  # noqa: B006
        try:
            self._network = Network(dfp, MAGIC)
        except ValueError as error:
            raise RuntimeError("Unsupported DFP version: legacy, please recompile to the latest version") from error
        self.models = [self._network]
        self._frames: queue.Queue[np.ndarray] = queue.Queue(16)
        self._open = True

    def inport_assignment(self, model_idx: int = 0) -> dict[int, str]:
        return dict(enumerate(self._network.inputs))

    def outport_assignment(self, model_idx: int = 0) -> dict[int, str]:
        return dict(enumerate(self._network.outputs))

    def send(self, data: np.ndarray, model_idx: int = 0, timeout: int | None = None) -> None:
        [shape] = self._network.inputs.values()
        if not self._open or data.shape != shape or data.dtype != np.float32:
            raise RuntimeError(f"Model 0 expected {shape} float32, got: {data.shape} {data.dtype}")
        try:
            self._frames.put(data, timeout=None if timeout is None else timeout / 1e3)
        except queue.Full:
            raise TimeoutError from None

    def receive(self, model_idx: int = 0, timeout: int | None = None) -> np.ndarray | tuple[np.ndarray, ...]:
        try:
            frame = self._frames.get(timeout=None if timeout is None else timeout / 1e3)
        except queue.Empty:
            raise TimeoutError from None
        outputs = tuple(self._network.run(frame).values())
        return outputs[0] if len(outputs) == 1 else outputs

    def shutdown(self) -> None:
        self._open = False
