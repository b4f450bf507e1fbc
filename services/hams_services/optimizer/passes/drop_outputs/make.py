"""A network that computes only what is read of it; in a job's process.

Detectors know 80 or 90 classes, of which a node names four: the layers that say the others are a sixth of a
MobileNet-SSD. From an output's last axis the classes are followed back, through what moves numbers or changes each for
itself, to the layers whose channels they are. What is not followed stays whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from hams_services.models.cut import inferred, keep_outputs, used
from hams_services.models.onnx_dims import hoist
from hams_services.optimizer.onnx_graph.opset import raise_opset
from hams_shared.errors import UnsupportedModelError

OPSET = 13
_EACH = "Cast Clip Elu Exp HardSigmoid HardSwish Identity LeakyRelu Relu Sigmoid Softplus Tanh"
EACH = frozenset(_EACH.split())
"""Change each number for itself."""
LEAST = 0.1
"""More than this share of an output's numbers must be unread: less is not worth putting the others in their places."""
WITH = frozenset(["Add", "Div", "Mul", "Sub"])
"""Change each number by one of a constant's."""


def make(source: str, out: str, reads: Mapping[str, Sequence[int] | None]) -> dict[str, Any]:
    """Write the ONNX file `source` so that it computes only the outputs that `reads` names.

    Of an output with numbers, only these of its last axis are computed; the others are 0. Returns ``files`` (none where
    nothing can be left out), ``words`` (what is not computed), ``tools``.

    Raises:
        UnsupportedModelError: the task reads none of its outputs, or its operator set cannot be raised.
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    model = hoist(raise_opset(onnx.load_model(source), OPSET))
    outputs = [value.name for value in model.graph.output]
    kept, words = [name for name in outputs if name in reads], [name for name in outputs if name not in reads]
    if not kept:
        raise UnsupportedModelError("the task reads none of its outputs")
    keep_outputs(model, kept)
    for name, wanted in reads.items():
        if wanted is not None and (size := _narrow_output(model, name, sorted(wanted))):
            words.append(f"{size - len(wanted)} of {size} numbers of {name}")
    tools = {"onnx": onnx.__version__}
    if not words:
        return {"files": [], "words": "", "tools": tools}
    keep_outputs(model, kept)  # the weights that were narrowed go
    target = folder / "model.onnx"
    target.write_bytes(model.SerializeToString(deterministic=True))
    return {"files": [str(target)], "words": ", ".join(words), "tools": tools}


def _narrow_output(model: onnx.ModelProto, name: str, wanted: list[int]) -> int:
    """Compute only the numbers `wanted` of the output's last axis. Return how many it has; 0: it is left as it is."""
    trace = _Trace(model)
    shape = trace.shapes.get(name, ())
    if not shape or shape[-1] - len(wanted) <= LEAST * shape[-1] or not trace.follow(name, len(shape) - 1, wanted):
        return 0
    trace.narrow()
    graph, small, padded = model.graph, f"hams_read/{name}", f"hams_padded/{name}"
    places = np.full(shape[-1], len(wanted), np.int64)  # what is not read is the column of zeros behind the others
    places[wanted] = np.arange(len(wanted))
    pads = np.array([0] * (2 * len(shape) - 1) + [1], np.int64)
    for what, values in (("hams_pads", pads), ("hams_places", places)):
        graph.initializer.append(numpy_helper.from_array(values, f"{what}/{name}"))
    last = trace.makers[name]
    last.output[:] = [small if one == name else one for one in last.output]
    graph.node.append(helper.make_node("Pad", [small, f"hams_pads/{name}"], [padded], padded))
    again = helper.make_node("Gather", [padded, f"hams_places/{name}"], [name], f"hams_placed/{name}", axis=-1)
    graph.node.append(again)
    return int(shape[-1])


class _Trace:
    """Follows numbers of an output back to the channels of layers, and narrows all that lies between."""

    def __init__(self, model: onnx.ModelProto) -> None:
        graph = self._graph = model.graph
        self._weights = {tensor.name: tensor for tensor in graph.initializer}
        by_nodes = [name for node in graph.node for name in used(node)]
        self._reads = Counter([*by_nodes, *(value.name for value in graph.output)])
        self._edits: list[tuple[onnx.NodeProto, int, NDArray[np.generic]]] = []
        """Node, which of its inputs, and the constant that it is to be."""
        self._todo: list[tuple[str, int, list[int]]] = []
        self.makers = {name: node for node in graph.node for name in node.output}
        self.shapes = {
            value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
            for value in (*graph.input, *inferred(model))
        }
        """0: a side that may differ."""

    def follow(self, name: str, axis: int, wanted: list[int]) -> bool:
        """Whether it is known, all the way, what of the tensor's `axis` comes from where."""
        self._todo = [(name, axis, wanted)]
        while self._todo:
            name, axis, wanted = self._todo.pop()
            known = name in self.makers and self._reads[name] == 1 and axis < len(self.shapes.get(name, ()))
            if not known or not self._step(name, axis, wanted):
                return False
        return True

    def narrow(self) -> None:
        """Do what following has found out."""
        for number, (node, index, values) in enumerate(self._edits):
            node.input[index] = f"hams_narrow/{number}/{node.input[index]}"
            self._graph.initializer.append(numpy_helper.from_array(values, node.input[index]))

    def _step(self, name: str, axis: int, wanted: list[int]) -> bool:
        """One node further back: to its inputs, or to the channels of a layer, where it ends."""
        node = self.makers[name]
        attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
        rank = len(self.shapes[name])
        match node.op_type:
            case op if op in EACH:
                self._todo.append((node.input[0], axis, wanted))
            case op if op in WITH:
                return self._with_constant(node, self.shapes[name], axis, wanted)
            case "Transpose":
                order = attributes.get("perm", range(rank)[::-1])
                self._todo.append((node.input[0], order[axis], wanted))
            case "Concat" if attributes["axis"] % rank != axis:
                self._todo += [(one, axis, wanted) for one in node.input]
            case "Reshape":
                return self._reshape(node, name, axis, wanted)
            case "Conv" if axis == 1 and attributes.get("group", 1) == 1:
                return self._layer(node, 0, wanted)
            case "Gemm" if axis == 1:
                return self._layer(node, 0 if attributes.get("transB") else 1, wanted)
            case "MatMul" if axis == rank - 1:
                return self._layer(node, -1, wanted)
            case _:
                return False
        return True

    def _layer(self, node: onnx.NodeProto, axis: int, wanted: list[int]) -> bool:
        """A layer with the channels `wanted` only: of its weights' `axis`, and of its bias."""
        given = [(index, one) for index, one in enumerate(node.input) if index and one]
        if any(one not in self._weights for _, one in given):
            return False
        for index, one in given:
            values = numpy_helper.to_array(self._weights[one])
            along = axis if index == 1 else values.ndim - 1
            if index == 1 or (values.ndim and values.shape[along] > 1):
                self._edits.append((node, index, values.take(wanted, along)))
        return True

    def _with_constant(self, node: onnx.NodeProto, shape: tuple[int, ...], axis: int, wanted: list[int]) -> bool:
        """A number per channel, or one for all."""
        constants = [index for index, one in enumerate(node.input) if one in self._weights]
        other = node.input[1 - constants[0]] if len(constants) == 1 else ""
        before = self.shapes.get(other, ())
        if len(before) != len(shape) or before[axis] != shape[axis]:
            return False
        values = numpy_helper.to_array(self._weights[node.input[constants[0]]])
        along = axis - len(shape)  # axes are matched from the last one on
        if values.ndim >= -along and values.shape[along] > 1:
            self._edits.append((node, constants[0], values.take(wanted, along)))
        self._todo.append((other, axis, wanted))
        return True

    def _reshape(self, node: onnx.NodeProto, name: str, axis: int, wanted: list[int]) -> bool:
        """The last axis, of so many numbers, was the inner part of the channels before."""
        shape, before = self.shapes[name], self.shapes.get(node.input[0], ())
        target = self._weights.get(node.input[1])
        inner = len(before) - 1
        while inner > 0 and before[inner] == 1:
            inner -= 1
        size = shape[-1]
        if (
            target is None
            or axis != len(shape) - 1
            or not before
            or not size
            or before[inner] % size
            or before[inner] < size
        ):
            return False
        sizes = numpy_helper.to_array(target).copy()
        if sizes[-1] == size:
            sizes[-1] = len(wanted)
        self._edits.append((node, 1, sizes))
        outer = before[inner] // size
        self._todo.append((node.input[0], inner, [start * size + one for start in range(outer) for one in wanted]))
        return True
