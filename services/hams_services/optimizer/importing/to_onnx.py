"""Converts a network that OpenVINO has read to ONNX, by onnxifier (``hams[nco]``); in a job's process."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13
from openvino._offline_transformations import apply_moc_transformations

from hams_services.models.onnx_dims import constants_to_initializers
from hams_services.optimizer.importing.onnx_file import number_names
from hams_services.optimizer.onnx_graph import run_onnx, run_openvino
from hams_services.optimizer.sandbox.reason import reason
from hams_shared.errors import UnsupportedModelError

LACKING = frozenset(
    ("CTCGreedyDecoder", "CTCGreedyDecoderSeqLen", "DetectionOutput", "PSROIPooling", "Proposal", "RegionYolo")
)
"""Operators of OpenVINO without a counterpart in ONNX: known, so that nothing is converted in vain."""
PASSES = ("fold_constant", "eliminate_dead_nodes", "eliminate_identity")
"""Of onnxifier's own optimizations."""
TOLERANCE = 1e-3
"""How much an answer may differ from OpenVINO's, as a part of the output's largest number."""
SMALL = 1e-2
"""What counts as the largest number where all are smaller: chances of one in a thousand may be anything."""
SAMPLES = 2


def to_onnx(graph: Any, work: Path, shape: Sequence[int] | None = None) -> onnx.ModelProto:
    """Return the network `graph` as ONNX, with the same names and order of inputs and outputs; `graph` stays as it is.

    OpenVINO's own transformations come first: normalisation written as subtraction and division is folded into the
    convolutions, constants are computed. The result is compared with OpenVINO on random numbers; `shape` is that
    of the input where `graph` leaves it open. Files are written into the folder `work`.

    Raises:
        UnsupportedModelError: onnxifier is not installed, cannot convert the network, or gives it other answers.
    """
    try:
        from onnxifier import convert
    except ImportError as error:
        raise UnsupportedModelError(f"onnxifier is not installed ({error.name})", "pip install 'hams[nco]'") from error
    if lacking := sorted({op.get_type_name() for op in graph.get_ops()} & LACKING):
        raise UnsupportedModelError(f"ONNX has no operator {', '.join(lacking)}")
    try:
        path, inputs, outputs = _prepared(graph, work)
        logging.getLogger("O2O").setLevel(logging.CRITICAL)  # it logs what each of its passes cannot do
        with contextlib.redirect_stdout(io.StringIO()):
            model = constants_to_initializers(convert(str(path), passes=PASSES, print_passes=False))
    except MemoryError:
        raise
    except Exception as error:  # any kind: it has no errors of its own
        text = reason(error, 300) or type(error).__name__
        raise UnsupportedModelError(f"onnxifier cannot convert it: {text}") from error
    if unknown := sorted({n.op_type for n in model.graph.node if not onnx.defs.has(n.op_type, n.domain)}):
        raise UnsupportedModelError(f"ONNX has no operator {', '.join(unknown)}")
    _order(model.graph.input, inputs)
    _order(model.graph.output, outputs)
    number_names(model, dict((*inputs, *outputs)))
    _compare(graph, model, shape)
    return model


def _prepared(graph: Any, work: Path) -> tuple[Path, list[tuple[str, str]], list[tuple[str, str]]]:
    """Write a folded copy of the network; return its file, and new and old names of its inputs and its outputs."""
    plain = graph.clone()
    apply_moc_transformations(plain, cf=True)
    _in_full(plain)
    _write_sizes(plain)
    inputs = [_named(op, f"in{i}") for i, op in enumerate(plain.get_parameters())]
    outputs = [_named(op, f"out{i}") for i, op in enumerate(plain.get_results())]
    path = work / "to_onnx.xml"
    ov.save_model(plain, path, compress_to_fp16=False)
    return path, inputs, outputs


def _in_full(graph: Any) -> None:
    """Make fp32 of weights that lie in the file as fp16 for its size."""
    for op in graph.get_ops():
        source = op.input_value(0).get_node() if op.get_type_name() == "Convert" else None
        if source is not None and source.get_type_name() == "Constant" and source.get_element_type() == ov.Type.f16:
            values = source.data.astype(op.get_element_type().to_dtype())
            op.output(0).replace(opset13.constant(values).output(0))


def _write_sizes(graph: Any) -> None:
    """Write padding and the size of resized maps as numbers where the sizes are known.

    ONNX Runtime fails on resized maps whose size is given for some axes only, once it has moved a transpose past them.
    """
    for op in graph.get_ops():
        attributes = op.get_attributes()
        known = all(port.get_partial_shape().is_static for port in (*op.inputs(), *op.outputs()))
        if known and attributes.get("auto_pad", "explicit") in ("same_upper", "same_lower", "valid"):
            op.set_attribute("auto_pad", "explicit")
        if known and op.get_type_name() == "Interpolate" and attributes.get("shape_calculation_mode") == "sizes":
            sizes = list(op.output(0).get_shape())
            for index, values in ((1, sizes), (len(op.inputs()) - 1, list(range(len(sizes))))):
                op.input(index).replace_source_output(opset13.constant(np.array(values, np.int64)).output(0))
    graph.validate_nodes_and_infer_types()


def _named(op: Any, name: str) -> tuple[str, str]:
    """Give an input or output the friendly `name`; return it and the name that the network knows it by."""
    op.set_friendly_name(name)
    port = op.output(0) if op.get_type_name() == "Parameter" else op.input(0).get_source_output()
    names = port.get_names()
    return name, min(names) if names else name


def _order(values: Any, wanted: Sequence[tuple[str, str]]) -> None:
    """Bring a graph's inputs or outputs into order."""
    by_name = {value.name: value for value in values}
    if by_name.keys() != {name for name, _ in wanted}:
        raise UnsupportedModelError("onnxifier leaves inputs or outputs of it out")
    ordered = [onnx.ValueInfoProto.FromString(by_name[name].SerializeToString()) for name, _ in wanted]
    del values[:]
    values.extend(ordered)


def _compare(graph: Any, model: onnx.ModelProto, shape: Sequence[int] | None) -> None:
    """Raise UnsupportedModelError where ONNX Runtime does not run `model`, or its outputs differ from OpenVINO's."""
    rng = np.random.default_rng(0)
    try:
        session = run_onnx.one_core(model)
        compiled = run_openvino.one_core(graph)
        for _ in range(SAMPLES):
            fed = [_random_input(port, shape, rng) for port in graph.inputs]
            found = session.run(None, dict(zip((one.name for one in session.get_inputs()), fed, strict=True)))
            wanted = compiled(fed)
            for port, answer in zip(compiled.outputs, found, strict=True):
                _compare_output(wanted[port], answer)
    except (UnsupportedModelError, MemoryError):
        raise
    except Exception as error:  # both have many kinds
        raise UnsupportedModelError(
            f"ONNX Runtime cannot run what onnxifier makes of it: {reason(error, 300)}"
        ) from error


def _compare_output(wanted: NDArray[Any], found: NDArray[Any]) -> None:
    if wanted.shape != found.shape:
        raise UnsupportedModelError(f"onnxifier gives an output the shape {found.shape}, it was {wanted.shape}")
    off = np.abs(found.astype(np.float64) - wanted).max(initial=0.0) / max(np.abs(wanted).max(initial=0.0), SMALL)
    if not off <= TOLERANCE:
        raise UnsupportedModelError(f"the converted network differs from the original by {off:.1%}")


def _random_input(port: Any, shape: Sequence[int] | None, rng: np.random.Generator) -> NDArray[Any]:
    """Return random numbers for an input."""
    dims = port.get_partial_shape()
    if dims.is_static:
        sizes = list(dims.to_shape())
    elif shape is not None:
        sizes = list(shape)
    else:
        raise UnsupportedModelError("its input has no fixed size: state one to have it as ONNX, --shape 1,3,224,224")
    numbers = rng.uniform(0, 255, sizes) if port.get_element_type().is_integral() else rng.standard_normal(sizes)
    return numbers.astype(port.get_element_type().to_dtype())
