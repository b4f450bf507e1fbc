"""Unused outputs and classes of an ONNX network are removed; in a job's process.

Detectors know 80 or 90 classes, of which a node names four: the layers of the others are a sixth of a MobileNet-SSD.
From an output's last axis the classes are followed back to the layers whose channels they are, through operators that
move numbers or change each for itself. An output that cannot be followed stays whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import ShapeInferencePass

from hams_services.optimizer.onnx_graph import graph
from hams_shared.errors import UnsupportedModelError

OPSET = 13
_EACH = "Cast Clip Elu Exp HardSigmoid HardSwish Identity LeakyRelu Relu Sigmoid Softplus Tanh"
EACH = frozenset(_EACH.split())
"""Change each number for itself."""
LEAST = 0.1
"""More than this share of an output's numbers must be unused: less is not worth putting the others in their places."""
WITH = frozenset(["Add", "Div", "Mul", "Sub"])
"""Change each number by one of a constant's."""


def drop_outputs(source: str, out: str, used: Mapping[str, Sequence[int] | None]) -> dict[str, Any]:
    """Write the ONNX file `source` so that it computes only the outputs that `used` names.

    Of an output with numbers, only these of its last axis are computed; the others are 0. Returns ``files`` (none where
    all is used), ``dropped`` (what is not computed, in words), ``tools``.

    Raises:
        UnsupportedModelError: the task uses none of its outputs, or its operator set cannot be raised.
    """
    model = graph.load(source, OPSET)
    outputs = model.graph.outputs
    dropped = [value.name for value in outputs if value.name not in used]
    kept = [value for value in outputs if value.name in used]
    if not kept:
        raise UnsupportedModelError("the task uses none of its outputs")
    outputs[:] = kept
    graph.remove_unused(model)
    ShapeInferencePass(check_type=False, strict_mode=False, data_prop=False)(model)
    for value in kept:
        wanted = used[value.name]
        if wanted is not None and (size := _restrict(model, value, sorted(wanted))):
            dropped.append(f"{size - len(wanted)} of {size} numbers of {value.graph.outputs[kept.index(value)].name}")
    graph.remove_unused(model)  # the weights that were narrowed go
    files = [graph.save(model, out)] if dropped else []
    return {"files": files, "dropped": ", ".join(dropped), "tools": {"onnx": onnx.__version__}}


def _restrict(model: ir.Model, output: ir.Value, wanted: list[int]) -> int:
    """Compute only the numbers `wanted` of the output's last axis. Return how many it has; 0: it is left as it is."""
    shape = graph.sides(output) or ()
    if not shape or shape[-1] - len(wanted) <= LEAST * shape[-1]:
        return 0
    trace = _Trace()
    if not trace.follow(output, len(shape) - 1, wanted):
        return 0
    trace.narrow(model)
    name = output.name
    places = np.full(shape[-1], len(wanted), np.int64)  # an unused number is the column of zeros behind the others
    places[wanted] = np.arange(len(wanted))
    pads = np.array([0] * (2 * len(shape) - 1) + [1], np.int64)
    padded = graph.new_node("Pad", [output, graph.constant(model, f"hams_pads/{name}", pads)], f"hams_padded/{name}")
    indices = graph.constant(model, f"hams_places/{name}", places)
    placed = graph.new_node("Gather", [padded.outputs[0], indices], f"hams_placed/{name}", axis=-1)
    model.graph.extend([padded, placed])
    graph.replace_output(output, placed.outputs[0], f"hams_used/{name}")
    return int(shape[-1])


class _Trace:
    """Follows numbers of an output back to the channels of layers, and narrows all that lies between."""

    def __init__(self) -> None:
        self._edits: list[tuple[ir.Node, int, NDArray[np.generic]]] = []
        """Node, which of its inputs, and the constant that it is to be."""
        self._todo: list[tuple[ir.Value, int, list[int]]] = []

    def follow(self, value: ir.Value, axis: int, wanted: list[int]) -> bool:
        """Return whether it is known, all the way, which numbers of the tensor's `axis` come from where."""
        self._todo = [(value, axis, wanted)]
        while self._todo:
            value, axis, wanted = self._todo.pop()
            used_once = len(value.uses()) + value.is_graph_output() == 1
            known = value.producer() is not None and used_once and axis < len(graph.sides(value) or ())
            if not known or not self._step(value, axis, wanted):
                return False
        return True

    def narrow(self, model: ir.Model) -> None:
        """Change the constants that were found."""
        for number, (node, index, values) in enumerate(self._edits):
            name = f"hams_narrow/{number}/{node.inputs[index].name}"
            node.replace_input_with(index, graph.constant(model, name, values))

    def _step(self, value: ir.Value, axis: int, wanted: list[int]) -> bool:
        """Go one node further back: to its inputs, or to the channels of a layer, where it ends."""
        node, rank = value.producer(), len(value.shape)
        get_int = node.attributes.get_int
        match node.op_type:
            case op if op in EACH:
                self._todo.append((node.inputs[0], axis, wanted))
            case op if op in WITH:
                return self._with_constant(node, graph.sides(value) or (), axis, wanted)
            case "Transpose":
                order = node.attributes.get_ints("perm", range(rank)[::-1])
                self._todo.append((node.inputs[0], order[axis], wanted))
            case "Concat" if get_int("axis") % rank != axis:
                self._todo += [(one, axis, wanted) for one in node.inputs]
            case "Reshape":
                return self._reshape(node, graph.sides(value) or (), axis, wanted)
            case "Conv" if axis == 1 and get_int("group", 1) == 1:
                return self._layer(node, 0, wanted)
            case "Gemm" if axis == 1:
                return self._layer(node, 0 if get_int("transB", 0) else 1, wanted)
            case "MatMul" if axis == rank - 1:
                return self._layer(node, -1, wanted)
            case _:
                return False
        return True

    def _layer(self, node: ir.Node, axis: int, wanted: list[int]) -> bool:
        """Keep the channels `wanted` of a layer: of its weights' `axis`, and of its bias."""
        for index, value in enumerate(node.inputs):
            if not index or value is None:
                continue
            values = graph.weight(value)
            if values is None:
                return False
            along = axis if index == 1 else values.ndim - 1
            if index == 1 or (values.ndim and values.shape[along] > 1):
                self._edits.append((node, index, values.take(wanted, along)))
        return True

    def _with_constant(self, node: ir.Node, shape: tuple[int, ...], axis: int, wanted: list[int]) -> bool:
        """Follow a tensor that is changed by one number per channel, or by one for all."""
        constants = [index for index, one in enumerate(node.inputs) if graph.weight(one) is not None]
        if len(constants) != 1:
            return False
        index, other = constants[0], node.inputs[1 - constants[0]]
        before, values = graph.sides(other) or (), graph.weight(node.inputs[index])
        if values is None or len(before) != len(shape) or before[axis] != shape[axis]:
            return False
        along = axis - len(shape)  # axes are matched from the last one on
        if values.ndim >= -along and values.shape[along] > 1:
            self._edits.append((node, index, values.take(wanted, along)))
        self._todo.append((other, axis, wanted))
        return True

    def _reshape(self, node: ir.Node, shape: tuple[int, ...], axis: int, wanted: list[int]) -> bool:
        """Follow a last axis that was the inner part of the channels before."""
        before, target, size = graph.sides(node.inputs[0]) or (), graph.weight(node.inputs[1]), shape[-1]
        inner = max((index for index, side in enumerate(before) if side != 1), default=0)
        if target is None or axis != len(shape) - 1 or not before or not size:
            return False
        if before[inner] % size or before[inner] < size:
            return False
        sizes = target.copy()
        if sizes[-1] == size:
            sizes[-1] = len(wanted)
        self._edits.append((node, 1, sizes))
        outer = before[inner] // size
        self._todo.append((node.inputs[0], inner, [start * size + one for start in range(outer) for one in wanted]))
        return True
