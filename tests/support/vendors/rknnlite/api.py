"""The calls that HAMS makes, as RKNN-Toolkit-Lite2 documents them: codes instead of errors, and None for a failure."""

from __future__ import annotations

import threading

import numpy as np
from vendor_network import Network

MAGIC = b"RKNN"


class RKNNLite:
    NPU_CORE_AUTO = 0
    NPU_CORE_0 = 1
    NPU_CORE_1 = 2
    NPU_CORE_2 = 4
    NPU_CORE_0_1_2 = 7

    def __init__(self, verbose: bool = False, verbose_file: str | None = None) -> None:
        self._network: Network | None = None
        self._core: int | None = None
        self._busy = threading.Lock()

    def load_rknn(self, path: str) -> int:
        try:
            self._network = Network(path, MAGIC)
        except (OSError, ValueError):
            return -1
        return 0

    def init_runtime(self, target: str | None = None, core_mask: int = NPU_CORE_AUTO) -> int:
        if self._network is None or core_mask not in (0, 1, 2, 4, 3, 7):
            return -1
        self._core = core_mask
        return 0

    def inference(self, inputs: list[np.ndarray], data_format: list[str] | None = None) -> list[np.ndarray] | None:
        if self._network is None or self._core is None:
            return None
        if not self._busy.acquire(blocking=False):
            raise AssertionError("two threads in one context")
        try:
            [shape] = self._network.inputs.values()
            if inputs[0].shape != shape:
                return None
            return list(self._network.run(inputs[0]).values())
        finally:
            self._busy.release()

    def release(self) -> int:
        self._network = self._core = None
        return 0
