"""ONNX files are normalised for runtimes: weights are no inputs, the batch is free, the input has the wanted size.

Exporters write the shape of the traced example into the file. Many networks take any batch, and fully convolutional
ones any image. Dimensions are freed only where every operator of the graph is known to take any size; where the batch
stays fixed, agents serve one image at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx
from onnx import numpy_helper

from hams_shared.errors import ModelError

BATCH = "N"

_SPATIAL = """
    Abs Add AveragePool BatchNormalization Cast Ceil Clip Constant Conv ConvTranspose DepthToSpace Div Dropout Elu Erf
    Exp Floor Gelu GlobalAveragePool GlobalMaxPool HardSigmoid HardSwish Identity InstanceNormalization LRN LeakyRelu
    Log Max MaxPool Min Mish Mul Neg PRelu Pad Pow Reciprocal Relu Round Selu Sigmoid Softplus Softsign SpaceToDepth
    Sqrt Sub Sum Tanh Upsample
"""
SPATIAL_FREE = frozenset(_SPATIAL.split())
"""Operators that take any batch, height and width; :func:`_by_attributes` decides on those for which it depends."""

BATCH_FREE = SPATIAL_FREE | {"Gemm"}
"""Operators that take any batch."""


def normalize_onnx(data: bytes, input_shape: Sequence[int] | None = None) -> bytes:
    """Return the ONNX file `data` with free dimensions; the same bytes where nothing has to change.

    `input_shape` is what one image will have, e.g. (1, 3, 480, 640). Height and width are freed only when it differs
    from what the file declares. The result is deterministic: the same input gives the same digest.

    Raises:
        ModelError: not an ONNX file, its weights are in other files, or it cannot take `input_shape`.
    """
    model = _read(data)
    if not normalize(model, input_shape):
        return data
    result: bytes = model.SerializeToString(deterministic=True)
    return result


def normalize(model: onnx.ModelProto, input_shape: Sequence[int] | None = None) -> bool:
    """Do to `model` what :func:`normalize_onnx` does; return whether something changed. Raises as there.

    Dimensions are freed of networks with one input only: of further ones nothing is known.
    """
    graph = model.graph
    changed = _drop_weights(model)
    if len(graph.input) == 1:
        changed |= _free(graph, graph.input[0], input_shape)
    if changed:
        del graph.value_info[:]
    return changed


def constants_to_initializers(model: onnx.ModelProto) -> onnx.ModelProto:
    """Turn constants into initializers: some exporters write all weights as constants (Paddle2ONNX). Return `model`."""
    graph = model.graph
    outputs = {value.name for value in graph.output}
    nodes = list(graph.node)
    del graph.node[:]
    for node in nodes:
        values = next((one.t for one in node.attribute if one.name == "value"), None)
        if node.op_type != "Constant" or values is None or node.output[0] in outputs:
            graph.node.append(node)
        else:
            graph.initializer.add().CopyFrom(values)
            graph.initializer[-1].name = node.output[0]
    model.ir_version = max(model.ir_version, 4)  # before, weights had to be inputs
    return model


def _drop_weights(model: onnx.ModelProto) -> bool:
    """Remove weights from the inputs, and unused ones altogether; return whether there were any."""
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if len(inputs) == len(graph.input):
        return False
    used = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    nested = any(
        a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for n in graph.node for a in n.attribute
    )
    kept = [tensor for tensor in graph.initializer if nested or tensor.name in used]
    del graph.input[:], graph.initializer[:]
    graph.input.extend(inputs)
    graph.initializer.extend(kept)
    model.ir_version = max(model.ir_version, 4)  # before, weights had to be inputs
    return True


def _read(data: bytes) -> onnx.ModelProto:
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf's own DecodeError
        raise ModelError(f"not an ONNX file: {error}", "check its source, and export it again") from error
    if not model.graph.node or not model.graph.output:
        raise ModelError("this ONNX file has no network", "check its source, and export it again")
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        raise ModelError(
            "this ONNX file has its weights in other files", "save it as one: onnx.save(onnx.load(PATH), NEW_PATH)"
        )
    return model


def _free(graph: Any, source: Any, wanted: Sequence[int] | None) -> bool:
    """Free the batch, and height and width where `wanted` needs it; return whether something changed."""
    dims = source.type.tensor_type.shape.dim
    if len(dims) != 4 or (wanted is not None and len(wanted) != 4):
        return False  # agents report what they cannot serve
    fixed = [dim.dim_value if dim.HasField("dim_value") else 0 for dim in dims]
    resize = wanted is not None and any(f and f != w for f, w in zip(fixed[1:], wanted[1:], strict=True))
    batch = fixed[0] != 0 and _indifferent(graph, BATCH_FREE)
    if resize:
        assert wanted is not None
        if fixed[1] and fixed[1] != wanted[1]:
            raise ModelError(
                f"the network takes {_text(fixed)}, not {_text(wanted)}",
                "correct size, color and layout of the node's input in the group file",
            )
        if not _indifferent(graph, SPATIAL_FREE):
            raise ModelError(
                f"the network takes {_text(fixed)}, not {_text(wanted)}, and is not fully convolutional",
                "use its own size in the group file, or export it with dynamic axes",
            )
    if not (batch or resize):
        return False
    if batch:
        dims[0].dim_param = BATCH
    if resize:
        dims[2].dim_param, dims[3].dim_param = "H", "W"
    for output in graph.output:
        _free_output(output, batch, resize)
    return True


def _free_output(output: Any, batch: bool, resize: bool) -> None:
    """Free the dimensions of an output that come from the traced example."""
    dims = output.type.tensor_type.shape.dim
    if batch and len(dims):
        dims[0].dim_param = BATCH
    if resize:
        for axis in range(2, len(dims)):
            dims[axis].dim_param = f"{output.name}_{axis}"


def _indifferent(graph: Any, operators: frozenset[str]) -> bool:
    """Return whether every node takes any size of the axes for which `operators` take any."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    spatial = operators is SPATIAL_FREE
    return all(
        node.domain in ("", "ai.onnx") and (node.op_type in operators or _by_attributes(node, constants, spatial))
        for node in graph.node
    )


def _by_attributes(node: Any, constants: dict[str, Any], spatial: bool) -> bool:
    """Return whether a node takes any size, for the operators where that depends on attributes."""
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    match node.op_type:
        case "Concat":
            return attributes.get("axis") == 1 if spatial else attributes.get("axis") != 0
        case "Resize":
            return len(node.input) < 4 or not node.input[3]  # by scales, not to sizes
        case "Flatten":
            return not spatial and attributes.get("axis", 1) == 1
        case "Softmax" | "LogSoftmax":
            axis = attributes.get("axis", 1)
            return axis == 1 or (not spatial and axis != 0)
        case "Transpose":
            return not spatial and list(attributes.get("perm", ())[:1]) == [0]
        case "Reshape":
            shape = constants.get(node.input[1])
            return not spatial and shape is not None and _free_lead(numpy_helper.to_array(shape).tolist())
        case "MatMul":
            return not spatial and node.input[1] in constants
        case _:
            return False


def _free_lead(shape: list[int]) -> bool:
    """Return whether a Reshape to `shape` keeps any batch."""
    return bool(shape) and (shape[0] == 0 or (shape[0] == -1 and 0 not in shape))


def _text(shape: Sequence[int]) -> str:
    return "×".join(str(size) if size else "?" for size in shape)
