"""Input down-scaling: the network makes its image smaller by a first layer of its own, so that all else stays.

For networks that take an image of any size and whose outputs are no places in it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hams_services.optimizer.passes.share import SharePass
from hams_services.optimizer.passes.trial import Trial, TrialContext
from hams_services.optimizer.sandbox.reason import reason
from hams_shared.errors import UnsupportedModelError
from hams_shared.group.node_spec import NodeSpec

OPSET = 11
"""The first whose Resize defines where pixels lie."""
MULTIPLE = 8
"""Sides are multiples of it: networks halve the image several times."""
LEAST_SIDE = 16
ALONG = {"text": "width", "classification": "both", "attributes": "both", "regression": "both", "embedding": "both"}
"""Tasks whose outputs are no places, and the sides along which their image may be smaller; text keeps its height."""


class DownscaleInput(SharePass):
    """The setting is the share of the image's pixels."""

    name = "downscale-input"
    form = "downscaled"

    def why_not(self, node: NodeSpec) -> str:
        """Return why not: outputs that are places would be scaled, too."""
        return "" if node.task.type in ALONG else f"the outputs of task {node.task.type} are places in the image"

    def make(self, context: TrialContext, setting: float) -> Trial:
        """Down-scale to one share."""
        given = context.input
        answer = context.call(
            "hams_services.optimizer.passes.downscale_input:downscale_input",
            share=setting,
            shape=given.shape(),
            layout=given.layout,
            along=ALONG[context.samples.node.task.type],
        )
        size = "×".join(map(str, answer["size"]))
        settings = {self.form: f"{setting:g}", "size": size, "floor": f"{context.floor:g}"}
        return context.add(answer, f"an image of {size}", settings)


def downscale_input(
    source: str, out: str, share: float, shape: tuple[int, ...], layout: str, along: str
) -> dict[str, Any]:
    """Write the ONNX file `source` with a bilinear Resize to about `share` of its image's pixels; in a job's process.

    `shape` is that of one image, batch first. `along`: ``width`` leaves the height as it is, ``both`` makes both sides
    smaller. Returns ``files``, ``size`` (width and height after the Resize), ``tools``.

    Raises:
        UnsupportedModelError: the network takes one size of image only.
    """
    import onnx

    from hams_services.optimizer.onnx_graph import graph

    axes = (2, 3) if layout == "nchw" else (1, 2)
    rows, columns = (shape[axis] for axis in axes)
    if columns <= LEAST_SIDE or (along == "both" and rows <= LEAST_SIDE):
        raise UnsupportedModelError(f"its image of {columns}×{rows} is as small as it gets")
    side = share if along == "width" else share**0.5
    smaller = (rows if along == "width" else _side(rows, side), _side(columns, side))
    scales = np.ones(4, np.float32)
    for axis, now, before in zip(axes, smaller, (rows, columns), strict=True):
        scales[axis] = (now + 0.01) / before if now != before else 1.0  # of what this gives the whole pixels count
    model = graph.load(source, OPSET)
    graph.forget_shapes(model)
    image = model.graph.inputs[0]
    bare = graph.constant(model, "hams_smaller_roi", np.zeros(0, np.float32))  # not used, but required
    inputs = [image, bare, graph.constant(model, "hams_smaller_scales", scales)]
    options = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    resize = graph.new_node("Resize", inputs, "hams_smaller", **options)
    image.replace_all_uses_with(resize.outputs[0])
    resize.replace_input_with(0, image)
    model.graph.insert_before(model.graph[0], resize)
    try:
        graph.declare_shapes(model, np.zeros(shape, np.float32))
    except Exception as error:  # any kind: a size burnt into a layer
        raise UnsupportedModelError(f"it takes one size of image only: {reason(error)}") from error
    size = [smaller[1], smaller[0]]
    return {"files": [graph.save(model, out)], "size": size, "tools": {"onnx": onnx.__version__}}


def _side(whole: int, part: float) -> int:
    """Return the multiple nearest to `part` of `whole`, and less than that."""
    return max(min(round(whole * part / MULTIPLE), (whole - 1) // MULTIPLE) * MULTIPLE, LEAST_SIDE)
