"""ONNX networks run on one core, to see what their layers say; in a job's process."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import onnx
import onnxruntime


def one_core(model: Any, optimized: bool = True) -> Any:
    """A session of an ONNX model. Not `optimized`: kernels stay as the file has them, with the rounding it says."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def tapped(model: Any, inner: Iterable[str]) -> Any:
    """A session on one core that also says `inner` tensors; what is not asked for is not computed."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    known = {value.name for value in copy.graph.output}
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inner if name not in known)
    return one_core(copy)


def declare(model: Any, image: Any) -> None:
    """Write the sizes of input and outputs into an ONNX model, from what it says of one `image`; the batch stays."""
    graph = model.graph
    given = graph.input[0].type.tensor_type.shape.dim
    for dim, count in zip(given[1:], image.shape[1:], strict=True):
        dim.dim_value = count
    for output in graph.output:
        output.type.tensor_type.ClearField("shape")
    for output, values in zip(graph.output, one_core(model).run(None, {graph.input[0].name: image}), strict=True):
        dims = output.type.tensor_type.shape.dim
        for count in values.shape:
            dims.add().dim_value = count
        if values.shape[:1] == image.shape[:1]:
            dims[0].CopyFrom(given[0])
