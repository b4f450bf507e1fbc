"""INT8 for ONNX by ONNX Runtime's quantiser, as QuantizeLinear and DequantizeLinear nodes; in a job's process."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from hams_services.optimizer.onnx_graph.opset import raise_opset
from hams_services.optimizer.onnx_graph.run_onnx import one_core
from hams_services.optimizer.passes.quantization.layer_ranking import by_error, errors_without, output_error
from hams_services.optimizer.passes.quantization.nncf_ir import MAX_RANKED
from hams_shared.errors import ModelError

OPSET = 13
"""The first whose quantised weights may have a scale per channel."""
_MAY_STAY = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def quantize(
    source: str, out: str, tensors: str, kept: tuple[str, ...] = (), scope: str = "all", **_: Any
) -> dict[str, Any]:
    """Quantise the ONNX file `source`; see `nncf_ir.quantize`."""
    logging.getLogger().setLevel(logging.ERROR)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    prepared = folder / "named.onnx"
    _prepare(Path(source), prepared)
    model = _quantize(prepared, np.load(tensors, mmap_mode="r"), kept, scope)
    layers = _quantised(model)
    if not layers:
        raise ModelError("nothing in this network can be quantised")
    target = folder / "model.onnx"
    target.write_bytes(model.SerializeToString(deterministic=True))
    dims = model.graph.input[0].type.tensor_type.shape.dim
    return {
        "files": [str(target)],
        "named": str(target),
        "prepared": str(prepared),
        "batch": "static" if len(dims) and dims[0].HasField("dim_value") else "dynamic",
        "layers": layers,
        "tools": {"onnxruntime": onnxruntime.__version__, "onnx": onnx.__version__},
    }


def _quantize(prepared: Path, inputs: Any, kept: Sequence[str], scope: str) -> Any:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    name = onnx.load_model(prepared).graph.input[0].name
    samples = ({name: np.ascontiguousarray(inputs[index : index + 1])} for index in range(len(inputs)))

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, Any] | None:
            return next(samples, None)

    coarse = prepared.with_name("coarse.onnx")
    quantize_static(
        str(prepared),
        str(coarse),
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=list(kept),
        op_types_to_quantize=list(_MAY_STAY) if scope == "layers" else None,
    )
    model = onnx.load_model(coarse)
    coarse.unlink()
    return model


def rank(source: str, quantised: str, tensors: str) -> dict[str, Any]:
    """Return the quantised ``layers`` and ``errors``; see `nncf_ir.rank`.

    `source` is what `quantize` prepared: its nodes have the names that `kept` goes by.
    """
    plain, coarse = onnx.load_model(source), onnx.load_model(quantised)
    inputs = np.load(tensors, mmap_mode="r")[:MAX_RANKED]
    reference = _outputs(plain, inputs)
    weights = {tensor.name: tensor for tensor in plain.graph.initializer}
    before = {node.name: node for node in plain.graph.node}
    from_integers = {n.output[0]: n.input[0] for n in coarse.graph.node if n.op_type == "DequantizeLinear"}
    integers = {node.output[0]: node.input[0] for node in coarse.graph.node if node.op_type == "QuantizeLinear"}
    nodes = {node.name: node for node in coarse.graph.node}

    def error_of(names: Sequence[str]) -> float:
        taken = {name: list(nodes[name].input) for name in names}
        weights_before = len(coarse.graph.initializer)
        for name in names:
            for index, tensor in enumerate(taken[name]):
                origin = from_integers.get(tensor, "")
                if origin in integers:  # an activation: as it was before it was rounded
                    nodes[name].input[index] = integers[origin]
                elif origin and (plainly := before[name].input[index]) in weights:
                    nodes[name].input[index] = f"restored/{name}/{index}"
                    coarse.graph.initializer.add().CopyFrom(weights[plainly])
                    coarse.graph.initializer[-1].name = f"restored/{name}/{index}"
        left = output_error(reference, _outputs(coarse, inputs))
        for name in names:
            nodes[name].input[:] = taken[name]
        del coarse.graph.initializer[weights_before:]
        return left

    errors = errors_without([name for name in _quantised(coarse) if name in before], error_of)
    return {"layers": by_error(errors), "errors": errors}


def _prepare(source: Path, target: Path) -> None:
    """Infer shapes, fold what can be folded, name all nodes, and raise the operator set where it is too old."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    model = raise_opset(onnx.load_model(source), OPSET)
    for index, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{index}"
    plain = target.with_name("plain.onnx")
    plain.write_bytes(model.SerializeToString(deterministic=True))
    try:
        quant_pre_process(str(plain), str(target), skip_symbolic_shape=True)
    finally:
        plain.unlink()


def _quantised(model: Any) -> list[str]:
    """Return the nodes that compute whose first input is quantised, in order."""
    from_integers = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    return [n.name for n in model.graph.node if n.op_type in _MAY_STAY and n.input and n.input[0] in from_integers]


def _outputs(model: Any, inputs: Any) -> list[list[Any]]:
    """Run `model` and return each output, one array per sample."""
    session = one_core(model, optimized=False)  # rounding is taken as it stands: fused kernels would hide it in part
    name = session.get_inputs()[0].name
    answers = [session.run(None, {name: inputs[index : index + 1]}) for index in range(len(inputs))]
    return [list(samples) for samples in zip(*answers, strict=True)]
