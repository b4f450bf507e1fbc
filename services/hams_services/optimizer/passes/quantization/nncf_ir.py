"""INT8 for OpenVINO by NNCF, in a job's process."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from hams_services.models import openvino_ir
from hams_services.optimizer.onnx_graph.run_openvino import one_core, outputs_of
from hams_services.optimizer.passes.quantization.layer_ranking import by_error, errors_without, output_error
from hams_shared.errors import ModelError, UnsupportedModelError

MAX_RANKED = 4
"""Samples that layers are ranked by."""
_WITH_WEIGHTS = frozenset(
    {"Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData", "MatMul",
     "LSTMSequence", "GRUSequence", "Constant", "Convert", "Parameter", "Result"}
)  # fmt: skip


def quantize(
    source: str,
    out: str,
    tensors: str,
    kept: tuple[str, ...] = (),
    scope: str = "all",
    compute: str = "",
) -> dict[str, Any]:
    """Quantise the IR `source` and write it into the folder `out`.

    `tensors` is an ``.npy`` file of inputs N×…; `kept` are operations, by name in `source`, that stay as they are.
    With the `scope` ``layers`` only those that have weights are quantised, not what lies between. `compute` is what the
    rest is computed in.

    Ranges are the least and greatest value of all samples: NNCF's usual mean over samples cuts off what is rare, and
    in a detector the objects are.

    Raises:
        UnsupportedModelError: NNCF is not installed.
        ModelError: nothing in the network can be quantised.
    """
    try:
        import nncf
    except ImportError as error:
        raise UnsupportedModelError("NNCF is not installed", "pip install 'hams[nco]'") from error
    logging.getLogger("nncf").setLevel(logging.ERROR)
    quantised = _quantize(ov.Core().read_model(source), np.load(tensors, mmap_mode="r"), kept, scope)
    layers = _quantised(quantised)
    if not layers:
        raise ModelError("nothing in this network can be quantised")
    batch = _free_batch(quantised)
    if quantised.has_rt_info("nncf"):
        quantised.set_rt_info(nncf.__version__, ["nncf"])
    openvino_ir.compute_in(quantised, compute)
    tools = {"openvino": ov.__version__.partition("-")[0], "nncf": nncf.__version__}
    return {**_write(quantised, Path(out)), "batch": batch, "layers": layers, "tools": tools}


def _write(quantised: Any, folder: Path) -> dict[str, Any]:
    """Write the network under deterministic names, and as ``named`` under the source's, which NNCF keeps."""
    folder.mkdir(parents=True, exist_ok=True)
    named = folder / "named.xml"
    openvino_ir.save(quantised, named)
    again = ov.Core().read_model(named)
    openvino_ir.rename(again, "model")
    files = openvino_ir.save(again, folder / "model.xml")
    return {"files": [str(part) for part in files], "named": str(named)}


def _quantize(graph: Any, inputs: Any, kept: Sequence[str], scope: str) -> Any:
    import nncf
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    graph.reshape({graph.inputs[0]: [1, *inputs.shape[1:]]})
    return nncf.quantize(
        graph,
        nncf.Dataset([np.ascontiguousarray(inputs[i : i + 1]) for i in range(len(inputs))]),
        subset_size=len(inputs),
        preset=nncf.QuantizationPreset.MIXED,
        ignored_scope=nncf.IgnoredScope(
            names=list(kept), types=_between(graph) if scope == "layers" else [], validate=False
        ),
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX
        ),
    )


def rank(source: str, quantised: str, tensors: str) -> dict[str, Any]:
    """Return the quantised ``layers``, the one that costs most accuracy first, and each one's ``errors``.

    A layer's error is that of the outputs with all layers quantised but this one: the lower, the more the layer costs
    (:func:`hams_services.optimizer.passes.quantization.layer_ranking.errors_without`).
    """
    core = ov.Core()
    plain, coarse = core.read_model(source), core.read_model(quantised)
    inputs = np.load(tensors, mmap_mode="r")[:MAX_RANKED]
    for graph in (plain, coarse):
        graph.reshape({graph.inputs[0]: [1, *inputs.shape[1:]]})
    reference = outputs_of(one_core(plain, core), inputs)
    before = {op.get_friendly_name(): op for op in plain.get_ops()}
    layers = {
        op.get_friendly_name(): op
        for op in coarse.get_ordered_ops()
        if op.get_friendly_name() in before and _is_quantised(op)
    }

    def error_of(names: Sequence[str]) -> float:
        with ExitStack() as restored:
            for name in names:
                restored.enter_context(_restored(layers[name], before[name]))
            return output_error(reference, outputs_of(one_core(coarse, core), inputs))

    errors = errors_without(list(layers), error_of)
    return {"layers": by_error(errors), "errors": errors}


def _between(graph: Any) -> list[str]:
    """The types of operations that have no weights."""
    return sorted({op.get_type_name() for op in graph.get_ops()} - _WITH_WEIGHTS)


@contextmanager
def _restored(op: Any, before: Any) -> Iterator[None]:
    """Undo the quantisation of the inputs of `op` while the block runs; `before`: the same operation of the source."""
    taken = [(port, port.get_source_output()) for port in op.inputs()]
    for port, output in taken:
        maker = output.get_node()
        if maker.get_type_name() == "FakeQuantize":
            port.replace_source_output(maker.input(0).get_source_output())
        elif port.get_index() < len(before.inputs()):
            weights = _constant(before.input(port.get_index()).get_source_output().get_node())
            if weights is not None and list(weights.shape) == list(output.get_shape()):
                port.replace_source_output(ov.opset13.constant(weights).output(0))
    try:
        yield
    finally:
        for port, output in taken:
            port.replace_source_output(output)


def _constant(op: Any) -> NDArray[np.float32] | None:
    """The weights that `op` gives, if it does; they may lie there in fp16."""
    if op.get_type_name() == "Convert":
        op = op.input(0).get_source_output().get_node()
    if op.get_type_name() != "Constant" or op.output(0).get_element_type() not in (ov.Type.f32, ov.Type.f16):
        return None
    return np.asarray(op.data, np.float32)


def _quantised(graph: Any) -> list[str]:
    """Return the operations whose activations are quantised, in order."""
    return [op.get_friendly_name() for op in graph.get_ordered_ops() if _is_quantised(op)]


def _is_quantised(op: Any) -> bool:
    if op.get_type_name() in ("FakeQuantize", "Result") or not op.inputs():
        return False
    return bool(op.input(0).get_source_output().get_node().get_type_name() == "FakeQuantize")


def _free_batch(graph: Any) -> str:
    port = graph.inputs[0]
    shape = list(port.get_partial_shape())
    try:
        graph.reshape({port: ov.PartialShape([ov.Dimension(-1), *shape[1:]])})
        return "dynamic"
    except RuntimeError:  # the batch is burnt in
        graph.reshape({port: ov.PartialShape(shape)})
        return "static"
