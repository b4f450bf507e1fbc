"""An ONNX file read with care: its weights inside the folder and as long as they say, its shapes sane."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import onnx

from hams_services.optimizer.importing.shapes import check_dims
from hams_shared.errors import ModelError

MAX_DEPTH = 16
"""Of graphs inside graphs."""
_TYPED = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 14: 8, 15: 16, 16: 2}
"""Bytes per element by TensorProto.DataType; those not here are shorter than a byte or texts."""


def read_onnx(path: Path) -> onnx.ModelProto:
    """Read, check, and take external data in.

    Raises:
        ModelError: damaged, or it says of itself what cannot be.
    """
    try:
        model = onnx.load_model_from_string(path.read_bytes())
    except Exception as error:  # protobuf's own DecodeError
        if "alloc" in str(error):
            raise MemoryError(str(error)) from error
        raise ModelError(f"{path.name} is a damaged ONNX file: {error}", "fetch or export it again") from error
    if not model.graph.node or not model.graph.output:
        raise ModelError(f"{path.name} is an ONNX file without a network in it", "export it again")
    for tensor in tensors(model):
        _check_tensor(tensor, path)
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        if any(size < 0 for size in dims):
            raise ModelError(f"{value.name!r} has a negative size")
        check_dims(f"{value.name!r}", dims)
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in tensors(model)):
        onnx.external_data_helper.load_external_data_for_model(model, str(path.parent))
        for tensor in tensors(model):
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                tensor.data_location = onnx.TensorProto.DEFAULT
                del tensor.external_data[:]
            _check_length(tensor)
    return model


def number_names(model: onnx.ModelProto) -> None:
    """Name nodes and inner tensors of a flat graph by their order; converters count through the life of the process."""
    graph = model.graph
    graph.name = "model"
    order = _from_outputs(graph)
    del graph.node[:]
    graph.node.extend(order)
    names = {value.name: value.name for value in (*graph.input, *graph.output)}
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


def rename_tensors(model: onnx.ModelProto, names: Mapping[str, str]) -> None:
    """Rename tensors of a flat graph, its inputs and outputs included."""
    for value in (*model.graph.input, *model.graph.output):
        value.name = names.get(value.name, value.name)
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]


def _from_outputs(graph: Any) -> list[Any]:
    """Return the nodes that the outputs need, each after those it reads; the order follows from the graph alone."""
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


def tensors(model: onnx.ModelProto) -> Iterator[Any]:
    """Yield all weights, those of inner graphs and functions included."""
    yield from _of_graph(model.graph, 0)
    for function in model.functions:
        for node in function.node:
            yield from _of_node(node, 0)


def _of_graph(graph: Any, depth: int) -> Iterator[Any]:
    if depth > MAX_DEPTH:
        raise ModelError(f"graphs are nested more than {MAX_DEPTH} deep")
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield sparse.values
        yield sparse.indices
    for node in graph.node:
        yield from _of_node(node, depth)


def _of_node(node: Any, depth: int) -> Iterator[Any]:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        for graph in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
            yield from _of_graph(graph, depth + 1)


def _check_tensor(tensor: Any, path: Path) -> None:
    if any(size < 0 for size in tensor.dims):
        raise ModelError(f"the weights {tensor.name!r} have a negative size")
    check_dims(f"the weights {tensor.name!r}", tensor.dims)
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        _check_external(tensor, path)
    else:
        _check_length(tensor)


def _check_length(tensor: Any) -> None:
    size = _TYPED.get(tensor.data_type)
    if tensor.raw_data and size is not None:
        wanted = check_dims(f"the weights {tensor.name!r}", tensor.dims) * size
        wanted = 0 if 0 in tensor.dims else wanted
        if len(tensor.raw_data) != wanted:
            raise ModelError(
                f"the weights {tensor.name!r} have {len(tensor.raw_data)} bytes, their shape needs {wanted}"
            )


def _check_external(tensor: Any, path: Path) -> None:
    """Weights in another file: it must be a plain one in the same folder or below, and long enough."""
    said = {entry.key: entry.value for entry in tensor.external_data}
    location = said.get("location", "")
    place = PurePosixPath(location.replace("\\", "/"))
    if not location or place.is_absolute() or ".." in place.parts or ":" in location:
        raise ModelError(
            f"the weights {tensor.name!r} are said to lie at {location!r}, outside of the network's folder"
        )
    folder = path.parent.resolve()
    target = folder / place
    if not target.resolve().is_relative_to(folder) or any(
        p.is_symlink() for p in (target, *target.parents) if p != folder and folder in p.parents
    ):
        raise ModelError(f"the weights {tensor.name!r} lie behind a link, {location!r}")
    try:
        available = target.stat().st_size
        offset, length = int(said.get("offset", "0")), int(said.get("length", "0"))
    except (OSError, ValueError) as error:
        raise ModelError(f"the weights {tensor.name!r} at {location!r} cannot be read: {error}") from None
    if not target.is_file() or offset < 0 or length < 0 or offset + length > available:
        raise ModelError(f"the weights {tensor.name!r} reach from {offset} to {offset + length} of {available} bytes")
