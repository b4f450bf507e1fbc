"""A network that makes its image smaller before it looks at it; in a job's process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from hams_services.optimizer.onnx_graph.opset import raise_opset
from hams_services.optimizer.onnx_graph.run_onnx import declare
from hams_services.optimizer.sandbox.reason import reason
from hams_shared.errors import UnsupportedModelError

OPSET = 11
"""The first whose Resize says where pixels lie."""
MULTIPLE = 8
"""Sides are multiples of it: networks halve the image several times."""
LEAST_SIDE = 16


def make(source: str, out: str, share: float, shape: tuple[int, ...], layout: str, along: str) -> dict[str, Any]:
    """Write the ONNX file `source` so that it looks at about `share` of its image's pixels.

    `shape` is that of one image, batch first. `along`: ``width`` leaves the height as it is, ``both`` makes both sides
    smaller. Returns ``files``, ``size`` (width and height it looks at), ``tools``.

    Raises:
        UnsupportedModelError: the network takes one size of image only.
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    axes = (2, 3) if layout == "nchw" else (1, 2)
    rows, columns = (shape[axis] for axis in axes)
    if columns <= LEAST_SIDE or (along == "both" and rows <= LEAST_SIDE):
        raise UnsupportedModelError(f"its image of {columns}×{rows} is as small as it gets")
    side = share if along == "width" else share**0.5
    smaller = (rows if along == "width" else _side(rows, side), _side(columns, side))
    model = raise_opset(onnx.load_model(source), OPSET)
    scales = np.ones(4, np.float32)
    for axis, now, before in zip(axes, smaller, (rows, columns), strict=True):
        scales[axis] = (now + 0.01) / before if now != before else 1.0  # of what this gives the whole pixels count
    _resize_first(model, scales)
    try:
        declare(model, np.zeros(shape, np.float32))
    except Exception as error:  # any kind: a size burnt into a layer
        raise UnsupportedModelError(f"it takes one size of image only: {reason(error)}") from error
    target = folder / "model.onnx"
    target.write_bytes(model.SerializeToString(deterministic=True))
    return {"files": [str(target)], "size": [smaller[1], smaller[0]], "tools": {"onnx": onnx.__version__}}


def _side(whole: int, part: float) -> int:
    """A multiple, the nearest to `part` of `whole`, and less than that."""
    return max(min(round(whole * part / MULTIPLE), (whole - 1) // MULTIPLE) * MULTIPLE, LEAST_SIDE)


def _resize_first(model: Any, scales: np.ndarray[Any, Any]) -> None:
    """Put a Resize (bilinear) between the one input and what reads it."""
    graph = model.graph
    name = graph.input[0].name
    for node in graph.node:
        node.input[:] = ["hams_smaller" if one == name else one for one in node.input]
    resize = helper.make_node(
        "Resize",
        [name, "hams_smaller_roi", "hams_smaller_scales"],
        ["hams_smaller"],
        name="hams_smaller",
        mode="linear",
        coordinate_transformation_mode="half_pixel",
    )
    nodes = list(graph.node)
    del graph.node[:], graph.value_info[:]
    graph.node.extend([resize, *nodes])
    graph.initializer.append(numpy_helper.from_array(np.zeros(0, np.float32), "hams_smaller_roi"))  # not used, wanted
    graph.initializer.append(numpy_helper.from_array(scales, "hams_smaller_scales"))
