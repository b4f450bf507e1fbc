"""A network with as many channels as a share of its multiplications allows; in a job's process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from hams_services.models.onnx_dims import hoist
from hams_services.optimizer.passes.filter_pruning.chains import Layer, chains
from hams_services.optimizer.passes.filter_pruning.channel_statistics import narrow
from hams_services.optimizer.passes.filter_pruning.saliency import Elimination, Loss, allocate, left


def make(source: str, look: str, out: str, share: float) -> dict[str, Any]:
    """Write the ONNX file `source` with `share` of its multiplications left, from what :func:`look` wrote.

    Returns ``files``, ``share`` (what is left in truth), ``tools``.
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    model = hoist(onnx.load_model(source))
    found = chains(model)
    known = np.load(look)
    eliminations = [Elimination(known[f"order{i}"], known[f"error{i}"]) for i in range(len(found))]
    costs = [
        Layer(float(cost), tuple(np.flatnonzero(inside).tolist()))
        for cost, inside in zip(known["costs"], known["chains"], strict=True)
    ]
    losses = [Loss(known[f"counts{i}"], known[f"factors{i}"]) for i in range(len(found))]
    lost = allocate(eliminations, losses, costs, share)
    for index, (chain, one, count) in enumerate(zip(found, eliminations, lost, strict=True)):
        if count:
            narrow(model, chain, known[f"gram{index}"], one.kept(count))
    del model.graph.value_info[:]
    target = folder / "model.onnx"
    target.write_bytes(model.SerializeToString(deterministic=True))
    return {
        "files": [str(target)],
        "share": left(costs, [one.channels for one in found], lost),
        "tools": {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__, "numpy": np.__version__},
    }
