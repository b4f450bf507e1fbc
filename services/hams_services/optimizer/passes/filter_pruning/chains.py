"""Where channels can be taken out of an ONNX network without a change elsewhere; in a job's process.

A *chain* is a convolution that makes the channels, what treats each of them by itself (activations, depthwise
convolutions, pooling, normalisation), and the one convolution that reads them all: the middle of an inverted residual
(Sandler et al., *MobileNetV2*, CVPR 2018) or of a bottleneck, a plain stack of layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from hams_services.optimizer.onnx_graph import graph
from hams_services.optimizer.passes.filter_pruning.saliency import Layer

LEAST = 16
"""Channels below which a layer stays as it is."""
LARGEST_PATCH = 2400
"""Numbers that one place of the reading convolution takes, at most: what is fitted has the square of it."""
# fmt: off
_UNARY = frozenset((
    "Abs", "Celu", "Clip", "Elu", "Erf", "Exp", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Mish", "Neg",
    "Relu", "Selu", "Sigmoid", "Softplus", "Softsign", "Sqrt", "Tanh", "ThresholdedRelu",
))
# fmt: on
_POOLING = frozenset(("AveragePool", "MaxPool"))
_BINARY = frozenset(("Add", "Div", "Mul", "Sub"))
_MAPPED = ("Conv", "ConvTranspose")
_KNOWN = _UNARY | _POOLING | _BINARY | {"BatchNormalization", "Conv", "PRelu"}


@dataclass(frozen=True)
class Chain:
    """Nodes of a network through which channels go from a `maker` to one `reader`."""

    maker: ir.Node
    """The convolution that makes the channels."""
    between: tuple[ir.Node, ...]
    """What treats each channel by itself."""
    reader: ir.Node
    channels: int

    @property
    def kernel(self) -> tuple[int, int]:
        """Rows and columns of the reader's kernel."""
        rows, columns = graph.weights_of(self.reader)[0].shape[2:]
        return rows, columns

    def take(self, kept: NDArray[np.integer], weight: NDArray[np.floating], bias: NDArray[np.floating]) -> None:
        """Leave the channels `kept` only; the reader gets `weight` (O×len(kept)×kH×kW) and `bias`."""
        for node in (self.maker, *self.between):
            first = node.op_type in ("Conv", "BatchNormalization")  # their weights have the channels first
            for value in node.inputs:
                values = graph.weight(value)
                if values is not None and (first or values.size == self.channels):
                    axis = 0 if first else values.shape.index(self.channels)
                    graph.set_constant(value, np.take(values, kept, axis))
            if node.op_type == "Conv" and node.attributes.get_int("group", 1) > 1:
                node.attributes["group"] = ir.AttrInt64("group", len(kept))
        reader, kind = self.reader, graph.weights_of(self.reader)[0].dtype
        graph.set_constant(reader.inputs[1], weight.astype(kind))
        if len(reader.inputs) < 3 or reader.inputs[2] is None:
            reader.resize_inputs(3)
            added = ir.Value(name=f"{reader.inputs[1].name}/bias", type=reader.inputs[1].type)
            graph.set_constant(added, bias.astype(kind))
            reader.graph.register_initializer(added)
            reader.replace_input_with(2, added)
        graph.set_constant(reader.inputs[2], bias.astype(kind))

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Undo at the end of the block what it took out of the chain."""
        nodes = (self.maker, *self.between, self.reader)
        weights = {value: graph.weight(value) for node in nodes for value in node.inputs}
        groups = [(node, group) for node in nodes if (group := node.attributes.get("group")) is not None]
        inputs = self.reader.inputs
        try:
            yield
        finally:
            bias = self.reader.inputs[2]
            self.reader.resize_inputs(len(inputs))
            for index, value in enumerate(inputs):
                self.reader.replace_input_with(index, value)
            if bias not in inputs:
                del self.reader.graph.initializers[bias.name]
            for value, values in weights.items():
                if values is not None:
                    graph.set_constant(value, values)
            for node, group in groups:
                node.attributes["group"] = group


def chains(model: ir.Model) -> list[Chain]:
    """Find all chains of a network, in its order."""
    return [found for node in model.graph if _is_dense(node) and (found := _follow(node)) is not None]


def layers(model: ir.Model, found: Sequence[Chain], sizes: Mapping[str, Sequence[int]]) -> list[Layer]:
    """Return what each layer of a network costs; `sizes`: shapes for one image of what :func:`mapped` names."""
    result = []
    for node in _with_weights(model):
        numbers = (i for i, one in enumerate(found) if node in (one.maker, *one.between, one.reader))
        places = np.prod(sizes[_map_of(node)][2:]) if node.op_type in _MAPPED else 1
        result.append(Layer(float(np.prod(node.inputs[1].const_value.shape) * places), tuple(numbers)))
    return result


def mapped(model: ir.Model) -> list[str]:
    """Return the tensors whose size is how often a convolution's weights are multiplied."""
    return [_map_of(node) for node in _with_weights(model) if node.op_type in _MAPPED]


def _with_weights(model: ir.Model) -> list[ir.Node]:
    kinds = (*_MAPPED, "Gemm", "MatMul")
    nodes = (node for node in model.graph if node.op_type in kinds and len(node.inputs) > 1)
    return [node for node in nodes if graph.weight(node.inputs[1]) is not None]


def _map_of(node: ir.Node) -> str:
    return str((node.outputs[0] if node.op_type == "Conv" else node.inputs[0]).name)


def _is_dense(node: ir.Node) -> bool:
    """Return whether a node is a convolution of all channels into all, with weights of its own in the file."""
    return (
        node.op_type == "Conv"
        and len(node.inputs) > 1
        and node.attributes.get_int("group", 1) == 1
        and all(_is_own_weight(value) for value in node.inputs[1:] if value is not None)
    )


def _is_own_weight(value: ir.Value) -> bool:
    """Return whether a tensor is an initializer that no other node reads."""
    return graph.weight(value) is not None and len(value.uses()) == 1


def _follow(maker: ir.Node) -> Chain | None:
    channels = maker.inputs[1].const_value.shape[0]
    if channels < LEAST:
        return None
    inside = {maker.outputs[0]}
    between: list[ir.Node] = []
    readers: list[ir.Node] = []
    todo = list(inside)
    while todo:
        value = todo.pop()
        if value.is_graph_output() or not value.uses():
            return None
        for node, index in value.uses():
            if _is_dense(node) and not index:
                readers.append(node)
            elif node.op_type not in _KNOWN or node.graph is not maker.graph:
                return None
            elif node not in between:
                between.append(node)
                inside.add(node.outputs[0])
                todo.append(node.outputs[0])
    if len(readers) != 1 or not all(_keeps_channels_apart(node, channels, inside) for node in between):
        return None
    shape, padded = readers[0].inputs[1].const_value.shape, readers[0].attributes.get_string("auto_pad", "NOTSET")
    if len(shape) != 4 or int(np.prod(shape[1:])) > LARGEST_PATCH or padded != "NOTSET":
        return None
    return Chain(maker, tuple(between), readers[0], channels)


def _keeps_channels_apart(node: ir.Node, channels: int, inside: set[ir.Value]) -> bool:
    """Return whether a node treats each of N×C×H×W by itself, and reads nothing from outside of the chain."""
    others = [value for value in node.inputs if value is not None and value not in inside]
    if len(node.outputs) != 1 or not all(_is_own_weight(value) for value in others):
        return False
    shapes = [value.const_value.shape for value in others]
    first = node.inputs[0] in inside
    match node.op_type:
        case "Conv":
            return bool(first and node.attributes.get_int("group", 1) == channels == shapes[0][0])
        case "BatchNormalization":
            return first and [int(np.prod(shape)) for shape in shapes] == [channels] * 4
        case "PRelu":
            return first and all(_fits(shape, channels) for shape in shapes)
        case kind if kind in _BINARY:
            return all(_fits(shape, channels) for shape in shapes)
        case kind:
            return kind in _UNARY or kind in _POOLING


def _fits(shape: Sequence[int], channels: int) -> bool:
    """Return whether a weight is one number, or one per channel of N×C×H×W."""
    size = int(np.prod(shape))
    return size == 1 or (len(shape) in (3, 4) and shape[-3] == channels == size)
