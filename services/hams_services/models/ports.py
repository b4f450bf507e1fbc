"""Networks as agents get them, and the inputs that they have; ONNX files become one plain file."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import openvino as ov
from openvino.frontend import FrontEndManager

from hams_services.models.cut import FRONTENDS, Files, cut_model
from hams_services.models.further_inputs import Port
from hams_services.models.onnx_dims import normalize
from hams_services.models.onnx_files import check_mode, parse_onnx, simplify
from hams_shared.errors import ModelError


def onnx_network(path: Path, outputs: Sequence[str], shape: Sequence[int]) -> tuple[bytes, tuple[Port, ...]]:
    """Return the ONNX file `path` as agents get it, and its inputs; the same bytes where nothing has to change.

    It is cut at `outputs` if there are any, and takes an image of `shape`.

    Raises:
        ModelError: it is damaged or incomplete, has no such tensors, or cannot take such an image.
    """
    data = path.read_bytes()
    model, changed = parse_onnx(data, path)
    if outputs:
        cut_model(model, outputs)
        changed = True
    changed = simplify(model) or changed
    check_mode(model)
    changed = normalize(model, shape) or changed
    ports = tuple(_onnx_port(value) for value in model.graph.input)
    return (model.SerializeToString(deterministic=True) if changed else data), ports


def _onnx_port(value: Any) -> Port:
    kind = value.type.tensor_type
    try:
        name = str(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name)
    except (KeyError, TypeError, ValueError):
        name = "no tensor"
    if kind.elem_type == onnx.TensorProto.STRING:
        name = "text"
    if not kind.HasField("shape"):
        return Port(value.name, None, name)
    dims = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim)
    return Port(value.name, dims, name)


def ports_of(files: Files) -> tuple[Port, ...]:
    """Return the inputs of a network in another format, read by OpenVINO. Raises ModelError."""
    with tempfile.TemporaryDirectory(prefix="hams-ports-") as folder:
        for suffix, content in files:
            (Path(folder) / f"model{suffix}").write_bytes(content)
        path = Path(folder) / f"model{files[0][0]}"
        try:
            framework = FRONTENDS.get(path.suffix)
            if framework is None:
                graph = ov.Core().read_model(path)
            else:
                frontend = FrontEndManager().load_by_framework(framework)
                graph = frontend.convert(frontend.load(str(path)))
        except Exception as error:  # OpenVINO has many kinds
            raise ModelError(f"its inputs cannot be read: {' '.join(str(error).split())[:300]}") from error
        return tuple(_port(port, index) for index, port in enumerate(graph.inputs))


def _port(port: Any, index: int) -> Port:
    shape = port.get_partial_shape()
    dims = tuple(int(d.get_length()) if d.is_static else None for d in shape) if shape.rank.is_static else None
    try:
        name = str(port.get_element_type().to_dtype().name)
    except Exception:  # RuntimeError: a type that NumPy does not have
        name = str(port.get_element_type().get_type_name())
    return Port(min(port.get_names(), default=f"{index}"), dims, name)
