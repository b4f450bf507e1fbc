"""ONNX networks run on one core, to see what their layers output; in a job's process."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import onnx
import onnxruntime


def one_core(model: Any, optimized: bool = True) -> Any:
    """Return a session of an ONNX model on one core; unless `optimized`, kernels round as the file states."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def with_intermediate_outputs(model: Any, inner: Iterable[str]) -> Any:
    """Return a session on one core that also outputs `inner` tensors, after the network's own; changes `model`."""
    known = {value.name for value in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inner if name not in known)
    return one_core(model)
