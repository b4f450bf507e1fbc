"""ONNX files: external weights are read from the file's own folder only; inner names are numbered."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import onnx
from onnx.external_data_helper import _get_all_tensors, load_external_data_for_model, uses_external_data

from hams_shared.errors import ModelError


def read_onnx(path: Path) -> onnx.ModelProto:
    """Read a file with its external weights.

    Raises:
        ModelError: it is damaged, or its weights lie outside of its folder.
    """
    try:
        model = onnx.load_model_from_string(path.read_bytes())
    except Exception as error:  # protobuf's own DecodeError
        if "alloc" in str(error):
            raise MemoryError(str(error)) from error
        raise ModelError(f"{path.name} is a damaged ONNX file: {error}", "fetch or export it again") from error
    if not model.graph.node or not model.graph.output:
        raise ModelError(f"{path.name} is an ONNX file without a network in it", "export it again")
    external = [tensor for tensor in _get_all_tensors(model) if uses_external_data(tensor)]
    for tensor in external:
        _check_external(tensor, path.parent.resolve())
    if external:
        try:
            load_external_data_for_model(model, str(path.parent))
        except Exception as error:  # ValueError, OSError and ONNX's own
            raise ModelError(f"{path.name}: its external weights cannot be read: {error}") from None
    for tensor in external:
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]
    return model


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


def _check_external(tensor: Any, folder: Path) -> None:
    """Check that weights in another file lie in the same folder or below. Raises ModelError."""
    location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
    place = PurePosixPath(location.replace("\\", "/"))
    if not location or place.is_absolute() or ".." in place.parts or ":" in location:
        raise ModelError(f"the weights {tensor.name!r} lie at {location!r}, outside of the network's folder")
    target = folder / place
    if target.resolve() != target:
        raise ModelError(f"the weights {tensor.name!r} lie behind a link, {location!r}")
    if not target.is_file():
        raise ModelError(f"the weights {tensor.name!r} at {location!r} are no file")
