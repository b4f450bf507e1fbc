"""Reads ONNX files, without their weights in other files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import onnx

from hams_agents.inspect.facts import Facts
from hams_agents.tasks.base import TensorInfo
from hams_shared.errors import ModelError


def read(path: Path) -> Facts:
    """Return what is in the file. Raises ModelError: it is no ONNX file, or holds no network."""
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's own DecodeError
        raise ModelError(
            f"{path.name} is no ONNX file: {' '.join(str(error).split())[:200]}", "export it again"
        ) from None
    if not model.graph.output:
        raise ModelError(f"{path.name} holds no network", "export it again")
    weights = {tensor.name for tensor in model.graph.initializer}
    tensors = list(_tensors(model.graph))
    return Facts(
        format="ONNX",
        inputs=[_info(value) for value in model.graph.input if value.name not in weights],
        outputs=[_info(value) for value in model.graph.output],
        parameters=sum(_size(tensor) for tensor in tensors),
        operators=Counter(_operators(model)),
        made_by=f"{model.producer_name} {model.producer_version}".strip(),
        versions={
            "IR": str(model.ir_version),
            **{one.domain or "opset": str(one.version) for one in model.opset_import},
        },
        files={path.name: path.stat().st_size, **_external(path, tensors)},
        metadata={entry.key: entry.value for entry in model.metadata_props},
    )


def _info(value: Any) -> TensorInfo:
    tensor = value.type.tensor_type
    dims = tuple(dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in tensor.shape.dim)
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    except KeyError:  # a sequence, a map, a text
        dtype = "none"
    return TensorInfo(value.name, dims, dtype)


def _operators(model: Any) -> Iterator[str]:
    """Yield each operator; those of other domains than ONNX's with their domain."""
    for graph in (model.graph, *model.functions):
        for node in _nodes(graph.node):
            if node.op_type != "Constant":
                yield f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type


def _nodes(nodes: Iterable[Any]) -> Iterator[Any]:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner.node)


def _tensors(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for node in _nodes(graph.node):
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield attribute.t


def _size(tensor: Any) -> int:
    size = 1
    for dim in tensor.dims:
        size *= max(0, dim)
    return size


def _external(path: Path, tensors: Iterable[Any]) -> dict[str, int]:
    """Return the files that hold weights, with their sizes; a name that leads out of the folder counts as missing."""
    found: dict[str, int] = {}
    for tensor in tensors:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            name = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
            file = path.parent / name
            inside = bool(name) and not Path(name).is_absolute() and ".." not in Path(name).parts
            found[name] = file.stat().st_size if inside and file.is_file() else -1
    return found
