"""Networks run by OpenVINO on one core, in full precision; in a job's process."""

from __future__ import annotations

from typing import Any

import openvino as ov


def one_core(graph: Any, core: ov.Core | None = None) -> Any:
    """Compile a network for one core; by default OpenVINO computes in the processor's fastest precision."""
    return (core or ov.Core()).compile_model(
        graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    )
