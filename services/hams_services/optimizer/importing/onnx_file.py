"""ONNX files: inner names are numbered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx


def number_names(model: onnx.ModelProto, ports: Mapping[str, str]) -> None:
    """Rename inputs and outputs of a flat graph by `ports`, and number nodes and inner tensors.

    Converters count names through the life of a process; numbers follow from the graph alone.
    """
    graph = model.graph
    graph.name = "model"
    order = _from_outputs(graph)
    del graph.node[:]
    graph.node.extend(order)
    names = {value.name: ports.get(value.name, value.name) for value in (*graph.input, *graph.output)}
    for value in (*graph.input, *graph.output):
        value.name = names[value.name]
    weights = {tensor.name: tensor for tensor in graph.initializer}
    used: list[str] = []
    for index, node in enumerate(graph.node):
        for name in node.input:
            if name and name not in names:
                names[name] = f"w{len(used)}" if name in weights else f"t{index}_{name}"
                used.append(name)
        for position, name in enumerate(node.output):
            if name:
                names.setdefault(name, f"t{index}_{position}")
        node.name = f"{node.op_type}_{index}"
        node.input[:] = [names[name] if name else "" for name in node.input]
        node.output[:] = [names[name] if name else "" for name in node.output]
    kept = [weights[name] for name in used if name in weights]
    for tensor in kept:
        tensor.name = names[tensor.name]
    del graph.value_info[:], graph.initializer[:]
    graph.initializer.extend(kept)
    model.doc_string = graph.doc_string = ""


def _from_outputs(graph: Any) -> list[Any]:
    """Return the nodes that the outputs need, in an order that follows from the graph alone."""
    makers = {output: index for index, node in enumerate(graph.node) for output in node.output}
    order: list[int] = []
    done: set[int] = set()
    todo = [(makers[value.name], False) for value in reversed(graph.output) if value.name in makers]
    while todo:
        index, read = todo.pop()
        if index in done:
            continue
        if read:
            done.add(index)
            order.append(index)
            continue
        todo.append((index, True))
        todo += [(makers[name], False) for name in reversed(graph.node[index].input) if name in makers]
    return [onnx.NodeProto.FromString(graph.node[index].SerializeToString()) for index in order]
