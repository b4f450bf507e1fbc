"""ONNX networks as graphs (onnx-ir): read, changed and written; in a job's process."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes import common

from hams_services.optimizer.onnx_graph.opset import raise_opset
from hams_services.optimizer.onnx_graph.run_onnx import one_core, with_intermediate_outputs

Array = NDArray[np.generic]


def load(path: str | Path, opset: int = 0) -> ir.Model:
    """Read an ONNX file, with all constants as initializers and at least the operator set `opset`.

    Raises:
        UnsupportedModelError: its operator set is older, and cannot be raised.
    """
    model = ir.from_proto(raise_opset(onnx.load_model(path), opset))
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    common.RemoveInitializersFromInputsPass()(model)
    model.ir_version = max(model.ir_version, 4)  # before, initializers had to be inputs
    return model


def save(model: ir.Model, folder: str | Path) -> str:
    """Write ``model.onnx`` into `folder`, which may be new; the same model gives the same bytes. Return its path.

    Shapes of inner tensors are left out: they may have changed.
    """
    _forget_inner_shapes(model)
    path = Path(folder) / "model.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(ir.to_proto(model).SerializeToString(deterministic=True))
    return str(path)


def constant(model: ir.Model, name: str, values: Array) -> ir.Value:
    """Return a new initializer."""
    values = np.asarray(values)
    tensor = ir.tensor(np.ascontiguousarray(values).reshape(values.shape), name=name)
    value = ir.Value(name=name, shape=ir.Shape(values.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    model.graph.register_initializer(value)
    return value


def set_constant(value: ir.Value, values: Array) -> None:
    """Replace the numbers of an initializer; their shape may change."""
    value.const_value = ir.tensor(np.ascontiguousarray(values).reshape(np.shape(values)), name=value.name)
    value.shape = ir.Shape(np.shape(values))


def weight(value: ir.Value | None) -> Array | None:
    """Return the numbers of an initializer; None for any other tensor."""
    return value.const_value.numpy() if value is not None and value.is_initializer() else None


def weights_of(node: ir.Node) -> list[Array]:
    """Return the initializers among a node's inputs, after the first input."""
    return [values for value in node.inputs[1:] if (values := weight(value)) is not None]


def sides(value: ir.Value) -> tuple[int, ...] | None:
    """Return a tensor's shape, 0 for a side that may differ; None where its rank is not known."""
    return None if value.shape is None else tuple(side if isinstance(side, int) else 0 for side in value.shape)


def new_node(kind: str, inputs: list[ir.Value | None], output: str, **attributes: Any) -> ir.Node:
    """Return a node of one output, which also gives it its name; it is in no graph yet."""
    return ir.node(kind, inputs, attributes, outputs=[ir.Value(name=output)], name=output)


def replace_output(value: ir.Value, by: ir.Value, inner: str) -> None:
    """Make `by` the graph's output in place of `value`; `by` takes its name, `value` is called `inner` from now on."""
    outputs = value.graph.outputs
    name, index = value.name, next(index for index, one in enumerate(outputs) if one is value)
    value.name = inner
    by.name, by.type, by.shape = name, value.type, value.shape
    outputs[index] = by


def remove_unused(model: ir.Model) -> None:
    """Remove nodes, initializers and inputs on which no output depends."""
    common.RemoveUnusedNodesPass()(model)
    for value in [one for one in model.graph.inputs if not one.uses() and not one.is_graph_output()]:
        model.graph.inputs.remove(value)


def forget_shapes(model: ir.Model) -> None:
    """Forget what the file states of the shapes of inner tensors and outputs, and of the input but for its batch."""
    _forget_inner_shapes(model)
    for value in model.graph.outputs:
        value.shape = None
    given = model.graph.inputs[0]
    given.shape = ir.Shape([given.shape[0], *(None for _ in given.shape[1:])])


def _forget_inner_shapes(model: ir.Model) -> None:
    for value in (one for node in model.graph for one in node.outputs if not one.is_graph_output()):
        value.type = value.shape = None


def declare_shapes(model: ir.Model, image: Array) -> None:
    """Write the shapes of input and outputs into the network, by running it on one `image`; the batch stays free.

    Raises any kind of error where the network does not run on this image.
    """
    given, outputs = model.graph.inputs[0], model.graph.outputs
    given.shape = ir.Shape([given.shape[0], *image.shape[1:]])
    for output in outputs:
        output.shape = None
    found = one_core(ir.to_proto(model)).run(None, {given.name: image})
    for output, values in zip(outputs, found, strict=True):
        batch = [given.shape[0]] if values.shape[:1] == image.shape[:1] else list(values.shape[:1])
        output.shape = ir.Shape([*batch, *values.shape[1:]])


def session(model: ir.Model, inner: Iterable[str] = ()) -> Any:
    """Return a session on one core that also outputs the `inner` tensors."""
    return with_intermediate_outputs(ir.to_proto(model), inner)
