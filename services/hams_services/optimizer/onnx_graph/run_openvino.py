"""Networks run by OpenVINO on one core, in full precision; in a job's process."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray


def one_core(graph: Any, core: ov.Core | None = None) -> Any:
    """Compile a network for one core; by default OpenVINO computes in the processor's fastest precision."""
    return (core or ov.Core()).compile_model(
        graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    )


def outputs_of(network: Any, inputs: NDArray[np.generic]) -> list[list[NDArray[np.float32]]]:
    """Run a compiled network on each of `inputs`, N×…; return each output, one array per sample."""
    answers = [network(inputs[index : index + 1]) for index in range(len(inputs))]
    return [[np.array(answer[port], np.float32) for answer in answers] for port in range(len(network.outputs))]
