"""Where channels can be taken out of an ONNX network without anything else noticing. Pure.

A *chain* is a convolution that makes the channels, what treats each of them by itself (activations, depthwise
convolutions, pooling, normalisation), and the one convolution that reads them all: the middle of an inverted residual
(Sandler et al., *MobileNetV2*, CVPR 2018) or of a bottleneck, a plain stack of layers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

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
    """Positions of nodes in ``graph.node``, and names of tensors."""

    maker: int
    """The convolution that makes the channels."""
    between: tuple[int, ...]
    """What treats each channel by itself."""
    reader: int
    read: str
    """What the reader takes, N×C×H×W."""
    channels: int


@dataclass(frozen=True)
class Layer:
    """What has weights."""

    cost: float
    """Multiplications for one image."""
    chains: tuple[int, ...]
    """Those whose channels it makes, passes on or reads: with each of them it gets narrower."""


def chains(model: Any) -> list[Chain]:
    """Find all chains of a network, in its order."""
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    outputs = {value.name for value in graph.output}
    readers: dict[str, list[int]] = defaultdict(list)
    for index, node in enumerate(graph.node):
        for name in node.input:
            readers[name].append(index)
    shared = {name for name, where in readers.items() if name in weights and len(where) > 1}
    found = []
    for index, node in enumerate(graph.node):
        if _is_dense(node, weights) and not shared.intersection(node.input):
            chain = _follow(graph.node, index, readers, weights, outputs, shared)
            if chain is not None:
                found.append(chain)
    return found


def attribute(node: Any, name: str, default: Any) -> Any:
    """An attribute's value."""
    return next((onnx.helper.get_attribute_value(one) for one in node.attribute if one.name == name), default)


def array(model: Any, name: str) -> NDArray[np.float32]:
    """A weight."""
    tensor = next(one for one in model.graph.initializer if one.name == name)
    values: NDArray[np.float32] = numpy_helper.to_array(tensor)
    return values


def put(model: Any, name: str, values: NDArray[np.floating]) -> None:
    """Replace a weight."""
    tensor = next(one for one in model.graph.initializer if one.name == name)
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values, np.float32), name))


def take(model: Any, chain: Chain, kept: NDArray[np.integer], weight: NDArray[Any], bias: NDArray[Any]) -> None:
    """Leave the channels `kept` of a chain only; the reader gets `weight` (O×len(kept)×kH×kW) and `bias`."""
    nodes = model.graph.node
    for index in (chain.maker, *chain.between):
        node = nodes[index]
        for name in _per_channel(node):
            put(model, name, array(model, name)[kept])
        if node.op_type == "PRelu" or node.op_type in _BINARY:
            for name in node.input:
                if _is_weight(model, name) and array(model, name).size == chain.channels:
                    put(model, name, _along_channels(array(model, name), chain.channels, kept))
        for one in node.attribute:
            if node.op_type == "Conv" and one.name == "group" and one.i > 1:
                one.i = len(kept)
    reader = nodes[chain.reader]
    put(model, reader.input[1], weight)
    if len(reader.input) < 3:
        reader.input.append(f"{reader.input[1]}/bias")
        model.graph.initializer.add().name = reader.input[2]
    put(model, reader.input[2], bias)


def layers(model: Any, found: Sequence[Chain], sizes: Mapping[str, Sequence[int]]) -> list[Layer]:
    """What each layer of a network costs; `sizes`: the shapes of what :func:`mapped` names, for one image."""
    weights = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    of: dict[int, list[int]] = defaultdict(list)
    for number, one in enumerate(found):
        for index in (one.maker, *one.between, one.reader):
            of[index].append(number)
    result = []
    for index, node in enumerate(model.graph.node):
        if len(node.input) > 1 and node.input[1] in weights and node.op_type in (*_MAPPED, "Gemm", "MatMul"):
            places = np.prod(sizes[_map_of(node)][2:]) if node.op_type in _MAPPED else 1
            result.append(Layer(float(np.prod(weights[node.input[1]]) * places), tuple(of[index])))
    return result


def mapped(model: Any) -> list[str]:
    """The tensors whose size says how often a convolution's weights are multiplied."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [_map_of(node) for node in model.graph.node if node.op_type in _MAPPED and node.input[1] in weights]


def _map_of(node: Any) -> str:
    return str(node.output[0] if node.op_type == "Conv" else node.input[0])


def _is_dense(node: Any, weights: Mapping[str, Any]) -> bool:
    """Whether a node is a convolution of all channels into all, with weights that lie in the file."""
    inside = len(node.input) > 1 and all(name in weights for name in node.input[1:] if name)
    return node.op_type == "Conv" and attribute(node, "group", 1) == 1 and inside


def _follow(
    nodes: Sequence[Any],
    maker: int,
    readers: Mapping[str, list[int]],
    weights: Mapping[str, Any],
    outputs: set[str],
    shared: set[str],
) -> Chain | None:
    channels = int(weights[nodes[maker].input[1]].dims[0])
    if channels < LEAST:
        return None
    inside = {nodes[maker].output[0]}
    between: list[int] = []
    ends: list[int] = []
    todo = list(inside)
    while todo:
        name = todo.pop()
        if name in outputs or not readers.get(name):
            return None
        for index in readers[name]:
            node = nodes[index]
            if _is_dense(node, weights) and node.input[0] == name:
                ends.append(index)
            elif node.op_type not in _KNOWN:
                return None
            elif index not in between:
                between.append(index)
                inside.add(node.output[0])
                todo.append(node.output[0])
    between.sort()
    apart = (_each_by_itself(nodes[i], channels, inside, weights, shared) for i in between)
    if len(ends) != 1 or shared.intersection(nodes[ends[0]].input) or not all(apart):
        return None
    reader = nodes[ends[0]]
    dims = weights[reader.input[1]].dims
    padded = attribute(reader, "auto_pad", b"NOTSET") == b"NOTSET"
    if len(dims) != 4 or int(np.prod(dims[1:])) > LARGEST_PATCH or not padded:
        return None
    return Chain(maker, tuple(between), ends[0], reader.input[0], channels)


def _each_by_itself(node: Any, channels: int, inside: set[str], weights: Mapping[str, Any], shared: set[str]) -> bool:
    """Whether a node treats each of N×C×H×W by itself, and nothing comes in from outside of the chain."""
    others = [name for name in node.input if name and name not in inside]
    if len(node.output) != 1 or any(name not in weights or name in shared for name in others):
        return False
    sizes = [int(np.prod(weights[name].dims)) for name in others]
    match node.op_type:
        case "Conv":
            group = attribute(node, "group", 1)
            return bool(group == channels and weights[node.input[1]].dims[0] == channels and node.input[0] in inside)
        case "BatchNormalization":
            return node.input[0] in inside and sizes == [channels] * 4
        case "PRelu":
            return node.input[0] in inside and all(_fits(weights[name].dims, channels) for name in others)
        case kind if kind in _BINARY:
            return all(_fits(weights[name].dims, channels) for name in others)
        case kind:
            return kind in _UNARY or kind in _POOLING


def _fits(dims: Sequence[int], channels: int) -> bool:
    """Whether a weight is one number, or one per channel of N×C×H×W."""
    return int(np.prod(dims)) == 1 or (len(dims) in (3, 4) and dims[-3] == channels and int(np.prod(dims)) == channels)


def _per_channel(node: Any) -> list[str]:
    """The weights of a node that have its channels first."""
    if node.op_type == "Conv":
        return [name for name in node.input[1:] if name]
    return list(node.input[1:]) if node.op_type == "BatchNormalization" else []


def _is_weight(model: Any, name: str) -> bool:
    return any(one.name == name for one in model.graph.initializer)


def _along_channels(values: NDArray[np.float32], channels: int, kept: NDArray[np.integer]) -> NDArray[np.float32]:
    axis = list(values.shape).index(channels)
    return np.take(values, kept, axis)
