"""Networks are cut at the tensors that a group file names: these become the outputs, and what follows is removed.

Exporters append post-processing that only their own runtime knows (TFLite_Detection_PostProcess), or that a task does
as well. ONNX stays ONNX; other formats become OpenVINO IR, which can run them anyway. The result is deterministic: the
same file and version of OpenVINO give the same digest.
"""

from __future__ import annotations

import difflib
import logging
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import onnx
import openvino as ov
from openvino.frontend import FrontEndManager

from hams_services.models import openvino_ir
from hams_services.models.onnx_files import read_onnx
from hams_shared.errors import ModelError
from hams_shared.runtime.openvino_tflite import real_outputs

log = logging.getLogger("hams.models")

FRONTENDS = {".tflite": "tflite", ".pb": "tf", ".pdmodel": "paddle"}

Files = list[tuple[str, bytes]]
"""Suffix and content; an IR's ``.xml`` comes before its ``.bin``."""


def cut(path: Path, outputs: Sequence[str]) -> Files:
    """Return the network in `path` with the tensors `outputs` as its outputs, in this order; unused inputs are removed.

    Raises:
        ModelError: the file cannot be read, or has no such tensor.
    """
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        model = read_onnx(path)
        cut_model(model, outputs)
        return [(suffix, model.SerializeToString(deterministic=True))]
    try:
        graph = _cut_ir(path, outputs) if suffix == ".xml" else _convert(path, suffix, outputs)
        return _saved(graph, path.stem, outputs)
    except ModelError:
        raise
    except Exception as error:  # OpenVINO has many kinds
        raise ModelError(f"{path.name} cannot be cut: {' '.join(str(error).split())[:300]}") from error


def cut_model(model: onnx.ModelProto, outputs: Sequence[str]) -> None:
    """Make the tensors `outputs` the outputs of `model`; see :func:`cut`."""
    makers = {name: node for node in model.graph.node for name in node.output}
    for name in outputs:
        if name not in makers:
            raise _unknown(name, makers)
    _keep_outputs(model, outputs)


def _keep_outputs(model: onnx.ModelProto, outputs: Sequence[str]) -> None:
    """Make the tensors `outputs` the outputs; remove nodes, weights and inputs on which they do not depend."""
    graph = model.graph
    makers = {name: node for node in graph.node for name in node.output}
    needed: set[str] = set()
    todo = list(outputs)
    while todo:
        name = todo.pop()
        if name in needed:
            continue
        needed.add(name)
        if name in makers:
            todo += _used(makers[name])
    known = {value.name: value for value in (*_inferred(model), *graph.output)}
    nodes = [node for node in graph.node if needed.intersection(node.output)]
    weights = [tensor for tensor in graph.initializer if tensor.name in needed]
    inputs = [value for value in graph.input if value.name in needed]
    ports = [known.get(name) or onnx.ValueInfoProto(name=name) for name in outputs]
    del graph.node[:], graph.initializer[:], graph.input[:], graph.output[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(weights)
    graph.input.extend(inputs)
    graph.output.extend(ports)


def _used(node: Any) -> list[str]:
    """Return the tensors a node reads, those of its inner graphs included."""
    names = list(node.input)
    for attribute in node.attribute:
        for inner in (attribute.g, *attribute.graphs):
            for each in inner.node:
                names += _used(each)
            names += [value.name for value in inner.output]
    return names


def _inferred(model: Any) -> Sequence[Any]:
    """Return types and shapes of inner tensors and outputs; nothing where they cannot be inferred."""
    try:
        graph = onnx.shape_inference.infer_shapes(model).graph
        return [*graph.value_info, *graph.output]
    except Exception as error:  # runtimes do without
        log.info("shapes of inner tensors cannot be inferred: %s", " ".join(str(error).split())[:300])
        return []


def _convert(path: Path, suffix: str, outputs: Sequence[str]) -> Any:
    """Read with the frontend of the file's format, which converts no further than `outputs`."""
    framework = FRONTENDS.get(suffix)
    if framework is None:
        raise ModelError(f"{path.name}: files of format {suffix or '(none)'} cannot be cut")
    frontend = FrontEndManager().load_by_framework(framework)
    source = frontend.load(str(path))
    places = []
    for name in outputs:
        place = source.get_place_by_tensor_name(name)
        if place is None:
            raise ModelError(f"{path.name} has no tensor {name!r}", "a viewer such as Netron shows their names")
        places.append(place)
    source.override_all_outputs(places)
    graph = frontend.convert(source)
    if framework == "tflite":
        real_outputs(graph)
    return graph


def _cut_ir(path: Path, outputs: Sequence[str]) -> Any:
    graph = ov.Core().read_model(path)
    ports = {name: port for op in graph.get_ordered_ops() for port in op.outputs() for name in port.get_names()}
    for name in outputs:
        if name not in ports:
            raise _unknown(name, ports)
    needed = _before([ports[name].get_node() for name in outputs])
    parameters = [one for one in graph.get_parameters() if one.get_friendly_name() in needed]
    return ov.Model([ports[name] for name in outputs], parameters)


def _before(ops: list[Any]) -> set[str]:
    """Return the names (unique in a network) of `ops` and all that they depend on."""
    names: set[str] = set()
    todo = list(ops)
    while todo:
        op = todo.pop()
        if op.get_friendly_name() not in names:
            names.add(op.get_friendly_name())
            todo += [port.get_source_output().get_node() for port in op.inputs()]
    return names


def _saved(graph: Any, name: str, outputs: Sequence[str]) -> Files:
    """Write as IR."""
    openvino_ir.rename(graph, name)
    for port, output in zip(graph.outputs, outputs, strict=True):
        port.tensor.set_names({output})
    with tempfile.TemporaryDirectory(prefix="hams-cut-") as folder:
        path = Path(folder) / "model.xml"
        ov.save_model(graph, path, compress_to_fp16=False)
        return [(suffix, path.with_suffix(suffix).read_bytes()) for suffix in (".xml", ".bin")]


def _unknown(name: str, known: Iterable[str]) -> ModelError:
    suggestions = difflib.get_close_matches(name, sorted(known), n=3)
    return ModelError(
        f"the network has no tensor {name!r}",
        f"did you mean {', '.join(suggestions)}?" if suggestions else "a viewer such as Netron shows their names",
    )
