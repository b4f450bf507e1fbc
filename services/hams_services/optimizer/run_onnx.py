"""ONNX networks run on one core, to see what their layers say; in a job's process."""

from __future__ import annotations

from typing import Any

import onnxruntime


def one_core(model: Any, optimized: bool = True) -> Any:
    """A session of an ONNX model. Not `optimized`: kernels stay as the file has them, with the rounding it says."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
