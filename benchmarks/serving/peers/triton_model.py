"""A node as a model of Triton's Python backend; see triton.py.

Tensors go in and out by DLPack: the backend's own ``as_numpy`` and ``Tensor(name, array)`` are built for numpy 1, and
with numpy 2 they silently take every tensor for an empty one.
"""

from __future__ import annotations

import json
from typing import Any

import msgpack
import numpy as np
import triton_python_backend_utils as pb  # type: ignore[import-not-found]

from benchmarks.serving.case import Case, Crops, Node, open_device, pin, whole
from benchmarks.serving.peers.common import plain
from hams_agents.tasks.input import IDENTITY

NONE = -1
"""Source of the crop that stands for none: the backend takes no empty tensors."""


def tensor(name: str, array: Any) -> Any:
    """Return an output."""
    return pb.Tensor.from_dlpack(name, array)


class TritonPythonModel:
    """One instance, one process, pinned to the node's device."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the network."""
        case = Case.load(json.loads(args["model_config"])["parameters"]["case"]["string_value"])
        name = args["model_name"]
        device = case.devices[case.device(name)]
        pin(device)
        self._root = name == case.spec().root
        self._node = Node(case, name, open_device(device))

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer every request."""
        return [pb.InferenceResponse(self._run(request)) for request in requests]

    def _run(self, request: Any) -> list[Any]:
        def value(name: str) -> Any:
            return np.from_dlpack(pb.get_input_tensor_by_name(request, name))

        if self._root:
            frame = value("images")
            crops = whole(frame)
        else:
            frame = None
            sources = [one for one in value("sources").tolist() if one != NONE]
            count = len(sources)
            crops = Crops(value("images")[:count], value("to_frame")[:count], sources)
        items, cuts = self._node.run(crops, frame)
        answer = msgpack.packb((plain(items), list(crops.sources)))
        outputs = [tensor("answer", np.frombuffer(answer, np.uint8).copy())]
        for child, one in cuts.items():
            width, height = self._node.children[child].input.size
            images = one.images or [np.zeros((height, width, 3), np.uint8)]
            to_frame = one.to_frame or [IDENTITY]
            outputs += [
                tensor(f"{child}_images", np.stack(images)),
                tensor(f"{child}_to_frame", np.stack(to_frame)),
                tensor(f"{child}_sources", np.array(one.sources or [NONE], np.int32)),
            ]
        return outputs
