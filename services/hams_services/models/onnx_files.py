"""ONNX files as exporters write them: with weights in other files, functions of their own, and numbers of versions that
are newer than what runtimes read. Deploying makes one plain file of each.

Weights are read from the file's own folder only. The result is deterministic: the same files give the same digest.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import onnx
import onnx.inliner
import onnx.numpy_helper
from onnx.external_data_helper import _get_all_tensors, load_external_data_for_model, uses_external_data

from hams_services.models.files import mib
from hams_shared.errors import ModelError

MAX_BYTES = (1 << 31) - (1 << 20)
"""Largest ONNX file with its weights inside: protobuf ends at 2 GiB."""
READ_IR, PLAIN_IR = 13, 10
"""Newest IR version that ONNX Runtime 1.31 reads, and the one that a newer file gets if it holds nothing newer."""
READ_OPSET = 26
"""Newest operator set that it reads."""
_PLAIN_TYPES = frozenset(range(onnx.TensorProto.INT4 + 1))
"""Element types of IR version 10."""


def read_onnx(path: Path) -> onnx.ModelProto:
    """Read a file with its external weights.

    Raises:
        ModelError: it is damaged, its weights lie outside of its folder, or all is larger than 2 GiB.
    """
    return parse_onnx(path.read_bytes(), path)[0]


def parse_onnx(data: bytes, path: Path) -> tuple[onnx.ModelProto, bool]:
    """Return the network in `data`, which is the content of `path`, and whether its weights came from other files.

    Raises as :func:`read_onnx`.
    """
    model = _parsed(data, path)
    if not model.graph.node or not model.graph.output:
        raise ModelError(f"{path.name} is an ONNX file without a network in it", "export it again")
    external = [tensor for tensor in _get_all_tensors(model) if uses_external_data(tensor)]
    if not external:
        return model, False
    folder = path.parent.resolve()
    size = len(data) + sum(_external_bytes(tensor, folder, path.name) for tensor in external)
    if size > MAX_BYTES:
        raise ModelError(
            f"{path.name} has {mib(size)} with its weights, and ONNX files end at 2 GiB",
            "export it with float16 weights, or convert it to OpenVINO IR, whose weights have no limit: ovc MODEL.onnx",
        )
    try:
        load_external_data_for_model(model, str(path.parent))
    except Exception as error:  # ValueError, OSError and ONNX's own
        raise ModelError(
            f"{path.name}: its external weights cannot be read: {error}", "copy both files again"
        ) from None
    for tensor in external:
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]
    return model, True


def _parsed(data: bytes, path: Path) -> onnx.ModelProto:
    """Parse the content of `path`. Raises MemoryError, and ModelError: it is damaged."""
    try:
        return onnx.load_model_from_string(data)
    except Exception as error:  # protobuf's own DecodeError, which mostly says the same where there is no memory
        if "alloc" in str(error) or not _is_room(2 * len(data)):
            raise MemoryError(str(error)) from error
        raise ModelError(
            f"{path.name} is not an ONNX file: {error}", "check its source, and export it again"
        ) from error


def _is_room(size: int) -> bool:
    try:
        return len(bytearray(size)) == size
    except MemoryError:
        return False


def external_files(path: Path) -> list[Path]:
    """Return the files that hold weights of the network in `path`, in order of their names. Raises ModelError."""
    model = _parsed(path.read_bytes(), path)
    folder = path.parent.resolve()
    return sorted({_external_file(t, folder, path.name) for t in _get_all_tensors(model) if uses_external_data(t)})


def _external_bytes(tensor: Any, folder: Path, name: str) -> int:
    """Return how many bytes a tensor takes in: several may lie at one place. Raises as :func:`_external_file`."""
    whole = _external_file(tensor, folder, name).stat().st_size
    stated = {entry.key: entry.value for entry in tensor.external_data}
    try:
        offset = int(stated.get("offset", 0))
        length = int(stated.get("length", whole - offset))
    except ValueError:
        offset = length = -1
    if offset < 0 or length < 0 or offset + length > whole:
        raise ModelError(
            f"{name}: the weights {tensor.name!r} lie beyond the end of their file", "copy both files again"
        )
    return length


def _external_file(tensor: Any, folder: Path, name: str) -> Path:
    """Return the file that holds a tensor, in `folder` or below. Raises ModelError: it is elsewhere, or not there."""
    location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
    place = PurePosixPath(location.replace("\\", "/"))
    if not location or place.is_absolute() or ".." in place.parts or ":" in location:
        raise ModelError(f"{name}: the weights {tensor.name!r} lie at {location!r}, outside of the network's folder")
    target = folder / place
    if target.resolve() != target:
        raise ModelError(f"{name}: the weights {tensor.name!r} lie behind a link, {location!r}")
    if not target.is_file():
        raise ModelError(
            f"{name}: its weights are in {location}, which is not there",
            f"keep {location} next to {name}, under that name; of an https source: …/{name}#{location}=SHA256",
        )
    return target


def check_mode(model: onnx.ModelProto) -> None:
    """Raise ModelError where it was exported in training mode: its Dropout would make each answer another one."""
    constant = {tensor.name: tensor for tensor in model.graph.initializer}
    constant |= {
        node.output[0]: attribute.t
        for node in model.graph.node
        for attribute in node.attribute
        if node.op_type == "Constant" and attribute.name == "value"
    }
    for node in model.graph.node:
        mode = constant.get(node.input[2]) if node.op_type == "Dropout" and len(node.input) > 2 else None
        if mode is not None and onnx.numpy_helper.to_array(mode).any():
            raise ModelError(
                f"it was exported in training mode: Dropout {node.name or node.output[0]} drops values at random",
                "call model.eval() before torch.onnx.export",
            )


def simplify(model: onnx.ModelProto) -> bool:
    """Inline functions, and lower version numbers where nothing in the file needs them; return whether it changed.

    OpenVINO does not read functions of the file's own. Numbers stay where the content is as new as they are; a runtime
    that does not read it gives that as its reason.
    """
    inlined = bool(model.functions)
    if inlined:
        try:
            model.CopyFrom(onnx.inliner.inline_local_functions(model))
        except Exception as error:  # ONNX has many kinds
            raise ModelError(f"its functions cannot be inlined: {error}", "export it without functions") from None
    lowered = _lower_opset(model)
    return _lower_ir(model) or lowered or inlined


def _lower_ir(model: onnx.ModelProto) -> bool:
    newer = any(node.device_configurations for node in model.graph.node) or not _types(model) <= _PLAIN_TYPES
    if model.ir_version <= READ_IR or newer:
        return False
    model.ir_version = PLAIN_IR
    del model.configuration[:]
    return True


def _types(model: onnx.ModelProto) -> set[int]:
    """Return the element types of weights, inputs, outputs and inner tensors, and those that Cast makes."""
    values = (*model.graph.input, *model.graph.output, *model.graph.value_info)
    found = {tensor.data_type for tensor in _get_all_tensors(model)} | {v.type.tensor_type.elem_type for v in values}
    return found | {
        a.i for n in _nodes(model.graph) if n.op_type.startswith("Cast") for a in n.attribute if a.name == "to"
    }


def _lower_opset(model: onnx.ModelProto) -> bool:
    """Lower the number of the operator set where all operators are the same in the one that is read."""
    newest = [one for one in model.opset_import if one.domain in ("", "ai.onnx") and one.version > READ_OPSET]
    operators = {node.op_type for node in _nodes(model.graph) if node.domain in ("", "ai.onnx")}
    if not newest or not all(_same(name, newest[0].version) for name in operators):
        return False
    for one in newest:
        one.version = READ_OPSET
    return True


def _same(operator: str, version: int) -> bool:
    try:
        return bool(onnx.defs.get_schema(operator, version).since_version <= READ_OPSET)
    except Exception:  # SchemaError: not known here
        return False


def _nodes(graph: Any) -> Iterable[Any]:
    """Yield all nodes, those of inner graphs too."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)
