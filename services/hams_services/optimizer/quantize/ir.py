"""INT8 for OpenVINO by NNCF, in a job's process."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from hams_services.optimizer import ir
from hams_services.optimizer.quantize.rank import own_errors, relative_error
from hams_shared.errors import ModelError, UnsupportedModelError

MAX_RANKED = 4
"""Samples that layers are ranked by."""


def quantize(
    source: str,
    out: str,
    tensors: str,
    kept: tuple[str, ...] = (),
    preset: str = "mixed",
    compute: str = "",
    shape: tuple[int, ...] = (),
) -> dict[str, Any]:
    """Quantise the IR `source` and write it into the folder `out`.

    `tensors` is an ``.npy`` file of inputs N×…; `kept` are operations, by name in `source`, that stay as they are;
    `preset` is NNCF's: performance (symmetric activations) or mixed. `compute` is what the rest is computed in.

    Raises:
        UnsupportedModelError: NNCF is not installed.
        ModelError: nothing in the network can be quantised.
    """
    try:
        import nncf
    except ImportError as error:
        raise UnsupportedModelError("NNCF is not installed", "pip install 'hams[nco]'") from error
    logging.getLogger("nncf").setLevel(logging.ERROR)
    graph = ov.Core().read_model(source)
    inputs = np.load(tensors, mmap_mode="r")
    graph.reshape({graph.inputs[0]: [1, *inputs.shape[1:]]})
    quantised = nncf.quantize(
        graph,
        nncf.Dataset([np.ascontiguousarray(inputs[i : i + 1]) for i in range(len(inputs))]),
        subset_size=len(inputs),
        preset=nncf.QuantizationPreset(preset),
        ignored_scope=nncf.IgnoredScope(names=list(kept), validate=False) if kept else None,
    )
    layers = _quantised(quantised)
    if not layers:
        raise ModelError("nothing in this network can be quantised")
    batch = _free_batch(quantised)
    if quantised.has_rt_info("nncf"):
        quantised.set_rt_info(nncf.__version__, ["nncf"])
    ir.compute_in(quantised, compute)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    # Renaming for the file only: ranking asks by the source's names, which NNCF keeps.
    named = folder / "named.xml"
    ir.save(quantised, named)
    again = ov.Core().read_model(named)
    ir.rename(again, "model")
    files = ir.save(again, folder / "model.xml")
    return {
        "files": [str(part) for part in files],
        "named": str(named),
        "batch": batch,
        "layers": layers,
        "tools": {"openvino": ov.__version__.partition("-")[0], "nncf": nncf.__version__},
    }


def rank(source: str, quantised: str, tensors: str) -> dict[str, Any]:
    """Return the quantised ``layers``, the one that adds most error first, and each one's ``errors``."""
    core = ov.Core()
    plain, coarse = core.read_model(source), core.read_model(quantised)
    inputs = np.load(tensors, mmap_mode="r")[:MAX_RANKED]
    for graph in (plain, coarse):
        graph.reshape({graph.inputs[0]: [1, *inputs.shape[1:]]})
    layers = _quantised(coarse)
    known = {op.get_friendly_name() for op in plain.get_ops()}
    layers = [name for name in layers if name in known]
    before = {name: _measured_before(plain, name, set(layers)) for name in layers}
    first, second = _outputs(core, plain, layers, inputs), _outputs(core, coarse, layers, inputs)
    errors = {name: relative_error(first[name], second[name]) for name in layers}
    ranked = own_errors(errors, before)
    return {"layers": [name for name, _ in ranked], "errors": dict(ranked)}


def _quantised(graph: Any) -> list[str]:
    """Return the operations whose activations are quantised, in order."""
    return [
        op.get_friendly_name()
        for op in graph.get_ordered_ops()
        if op.get_type_name() not in ("FakeQuantize", "Result")
        and op.inputs()
        and op.input(0).get_source_output().get_node().get_type_name() == "FakeQuantize"
    ]


def _free_batch(graph: Any) -> str:
    port = graph.inputs[0]
    shape = list(port.get_partial_shape())
    try:
        graph.reshape({port: ov.PartialShape([ov.Dimension(-1), *shape[1:]])})
        return "dynamic"
    except RuntimeError:  # the batch is burnt in
        graph.reshape({port: ov.PartialShape(shape)})
        return "static"


def _measured_before(graph: Any, name: str, measured: set[str]) -> list[str]:
    """Return the nearest of `measured` that the operation `name` depends on."""
    start = next(op for op in graph.get_ops() if op.get_friendly_name() == name)
    found: list[str] = []
    seen: set[str] = set()
    todo = [port.get_source_output().get_node() for port in start.inputs()]
    while todo:
        op = todo.pop()
        at = op.get_friendly_name()
        if at in seen:
            continue
        seen.add(at)
        if at in measured:
            found.append(at)
        else:
            todo += [port.get_source_output().get_node() for port in op.inputs()]
    return found


def _outputs(core: Any, graph: Any, layers: list[str], inputs: Any) -> dict[str, list[Any]]:
    """Run, and return what each of `layers` gives, one array per sample."""
    by_name = {op.get_friendly_name(): op for op in graph.get_ops()}
    results = [op.get_friendly_name() for op in graph.get_results()]
    graph.add_outputs([by_name[name].output(0) for name in layers])
    compiled = core.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1})
    found: dict[str, list[Any]] = {name: [] for name in layers}
    for index in range(len(inputs)):
        outputs = compiled(inputs[index : index + 1])
        for offset, name in enumerate(layers):
            found[name].append(np.array(outputs[len(results) + offset]))
    return found
