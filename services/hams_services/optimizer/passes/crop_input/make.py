"""A network on the rectangle of its image that is filled; in a job's process.

A letterboxed image of 320×320 that shows a frame of 1280×544 is empty from row 136 on, and a detector spends half of
its time there. Here the network is given fewer rows (or columns). Its layers compute that much less; where a layer
mixes places (a reshape, an attention), the rows that are missing are put back as what the network says there on
average, so that all that follows, and all outputs, are as before (:mod:`.narrow`). Means over the image are corrected
alike. All constants are fitted to samples one after another, by least squares: each also makes up for what is still
wrong before (:mod:`.fit`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx

from hams_services.models.cut import keep_outputs
from hams_services.models.onnx_dims import hoist
from hams_services.optimizer.onnx_graph.opset import raise_opset
from hams_services.optimizer.onnx_graph.run_onnx import declare
from hams_services.optimizer.passes.crop_input.axis_crop import Narrowed
from hams_services.optimizer.sandbox.reason import reason
from hams_shared.errors import HamsError, UnsupportedModelError

OPSET = 13
SAMPLES = 50
"""Most samples that the constants are fitted to."""


def make(source: str, out: str, size: list[int], layout: str, tensors: str) -> dict[str, Any]:
    """Write the ONNX file `source` for images of `size` (width, height), the top left part of those it takes.

    `tensors` is a file of N images as it takes them (.npy), whole ones. Its outputs keep their shapes and what they
    mean. Returns ``files``, ``tools``.

    Raises:
        UnsupportedModelError: its operator set cannot be raised, or it does not run so.
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    model = hoist(raise_opset(onnx.load_model(source), OPSET))
    del model.graph.value_info[:]
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    for dim in model.graph.input[0].type.tensor_type.shape.dim[1:]:
        dim.Clear()
    given = np.load(tensors, mmap_mode="r")
    images = given[:: -(-len(given) // SAMPLES)]
    height, width = (2, 3) if layout == "nchw" else (1, 2)
    try:
        for axis, count in ((height, size[1]), (width, size[0])):
            if count < images.shape[axis]:
                Narrowed(model, axis, count, images).write()
                images = images.take(range(count), axis)
        keep_outputs(model, [value.name for value in model.graph.output])
        declare(model, np.ascontiguousarray(images[:1]))
    except HamsError:
        raise
    except Exception as error:  # ONNX Runtime has many kinds
        raise UnsupportedModelError(f"it cannot be put on a part of its image: {reason(error)}") from error
    target = folder / "model.onnx"
    target.write_bytes(model.SerializeToString(deterministic=True))
    return {"files": [str(target)], "tools": {"onnx": onnx.__version__}}
