"""Variants that need no calibration, in a job's process.

Half-precision weights, another precision to compute in, fixed batch, the node's pre-processing moved into the graph.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino as ov
from onnx import TensorProto, helper, numpy_helper
from openvino.preprocess import ColorFormat, PrePostProcessor

from hams_services.models import openvino_ir
from hams_shared.errors import UnsupportedModelError
from hams_shared.group.node_spec import InputSpec


def convert(
    source: str,
    out: str,
    format: str,
    precision: str,
    batch: str = "",
    compute: str = "",
    embed: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Write a variant of the IR or ONNX file `source` into `out`; return its ``files``, ``tools``, ``batch``.

    `precision` is fp32, fp16 (weights) or bf16 (computed in it; OpenVINO only). `batch` is static, dynamic, or empty:
    as the source's. `embed` is the node's input, whose pre-processing the graph is to do: it then takes bytes.

    Raises:
        UnsupportedModelError: the format has no such variant.
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    spec = InputSpec.model_validate(embed) if embed is not None else None
    if format == "openvino":
        return _ir(Path(source), folder, precision, batch, compute, spec)
    return _onnx(Path(source), folder, precision, batch, spec)


def _ir(source: Path, folder: Path, precision: str, batch: str, compute: str, spec: InputSpec | None) -> dict[str, Any]:
    graph = ov.Core().read_model(source)
    if spec is not None:
        graph = _embed_ir(graph, spec)
    batch = _batch_ir(graph, batch)
    openvino_ir.compute_in(graph, "bf16" if precision == "bf16" else compute)
    openvino_ir.rename(graph, "model")
    files = openvino_ir.save(graph, folder / "model.xml", half=precision == "fp16")
    return {
        "files": [str(part) for part in files],
        "batch": batch,
        "tools": {"openvino": ov.__version__.partition("-")[0]},
    }


def _batch_ir(graph: Any, batch: str) -> str:
    """Fix or free the batch; what stays fixed is static. Return which it is."""
    port = graph.inputs[0]
    shape = port.get_partial_shape()
    if batch and shape.rank.is_static:
        wanted = [ov.Dimension(1 if batch == "static" else -1), *list(shape)[1:]]
        before = shape
        try:
            graph.reshape({port: ov.PartialShape(wanted)})
        except RuntimeError:  # a Reshape with the batch burnt in
            graph.reshape({port: before})
    now = graph.inputs[0].get_partial_shape()
    return "static" if now.rank.is_static and len(now) and now[0].is_static else "dynamic"


def _embed_ir(graph: Any, spec: InputSpec) -> Any:
    steps = PrePostProcessor(graph)
    given = steps.input()
    given.tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    if spec.color == "rgb":
        given.tensor().set_color_format(ColorFormat.BGR)
    given.model().set_layout(ov.Layout(spec.layout.upper()))
    given.preprocess().convert_element_type(ov.Type.f32)
    if spec.color == "rgb":
        given.preprocess().convert_color(ColorFormat.RGB)
    if spec.mean:
        given.preprocess().mean(list(spec.mean) if len(spec.mean) > 1 else spec.mean[0])
    if spec.scale:
        given.preprocess().scale(list(spec.scale) if len(spec.scale) > 1 else spec.scale[0])
    return steps.build()


def _onnx(source: Path, folder: Path, precision: str, batch: str, spec: InputSpec | None) -> dict[str, Any]:
    if precision == "bf16":
        raise UnsupportedModelError("ONNX Runtime's processors compute no network in bf16", "use the OpenVINO variant")
    model = onnx.load_model(source)
    tools = {"onnx": onnx.__version__}
    if precision == "fp16":
        import onnxruntime
        from onnxruntime.transformers.float16 import convert_float_to_float16

        model = convert_float_to_float16(model, keep_io_types=True)
        tools["onnxruntime"] = onnxruntime.__version__
    if spec is not None:
        _embed_onnx(model, spec)
    dims = model.graph.input[0].type.tensor_type.shape.dim
    if batch == "static" and len(dims):
        for value in (*model.graph.input, *model.graph.output):
            of = value.type.tensor_type.shape.dim
            if len(of) and of[0].dim_param == dims[0].dim_param and not of[0].HasField("dim_value"):
                of[0].dim_value = 1
    target = folder / "model.onnx"
    target.write_bytes(model.SerializeToString(deterministic=True))
    fixed = bool(len(dims)) and dims[0].HasField("dim_value")
    return {"files": [str(target)], "batch": "static" if fixed else "dynamic", "tools": tools}


def _embed_onnx(model: onnx.ModelProto, spec: InputSpec) -> None:
    """Put cast, channel order, mean, scale and layout before the network's one input."""
    graph = model.graph
    port = graph.input[0]
    inner, outer = port.name, f"{port.name}_bytes"
    nodes = [helper.make_node("Cast", [outer], ["hams_float"], name="hams_cast", to=TensorProto.FLOAT)]
    weights = []
    last = "hams_float"

    def step(kind: str, name: str, operand: np.ndarray[Any, Any] | None = None, **attributes: Any) -> None:
        nonlocal last
        given = [last]
        if operand is not None:
            weights.append(numpy_helper.from_array(operand, f"hams_{name}_values"))
            given.append(f"hams_{name}_values")
        nodes.append(helper.make_node(kind, given, [f"hams_{name}"], name=f"hams_{name}_step", **attributes))
        last = f"hams_{name}"

    if spec.color == "rgb":
        step("Gather", "rgb", np.array([2, 1, 0], np.int64), axis=3)
    if spec.mean:
        step("Sub", "mean", np.array(spec.mean, np.float32))
    if spec.scale:
        step("Div", "scale", np.array(spec.scale, np.float32))
    if spec.layout == "nchw":
        step("Transpose", "layout", perm=[0, 3, 1, 2])
    nodes[-1].output[0] = inner
    old = list(port.type.tensor_type.shape.dim)
    dims = [dim.dim_value or dim.dim_param for dim in old]
    if spec.layout == "nchw":
        dims = [dims[0], dims[2], dims[3], dims[1]]
    graph.input[0].CopyFrom(helper.make_tensor_value_info(outer, TensorProto.UINT8, dims))
    former = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *former])
    graph.initializer.extend(weights)
