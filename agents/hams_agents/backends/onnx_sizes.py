"""Free sizes of the inputs of ONNX files, for runtimes that compile a network for fixed ones."""

from __future__ import annotations

from hams_agents.backends.base import ModelFile
from hams_shared.errors import ModelError


def free_sizes(model: ModelFile) -> dict[str, int]:
    """Return the axis of each free size of the image's input, by its name in the file; nameless ones are left out.

    The image's input is the one that has no initializer and is no further input. Of further inputs the number of images
    is fixed, too.

    Raises:
        ModelError: the file cannot be read.
    """
    import onnx

    try:
        graph = onnx.load(str(model.path), load_external_data=False).graph
    except Exception as error:  # of protobuf
        raise ModelError(
            f"model {model.name} cannot be read: {type(error).__name__}", "fetch or export it again"
        ) from error
    others = {tensor.name for tensor in graph.initializer} | {spec.name for spec in model.further}
    found: dict[str, int] = {}
    for port in graph.input:
        stated = port.type.tensor_type.shape.dim
        if port.name in {spec.name for spec in model.further if spec.batched} and stated and stated[0].dim_param:
            found.setdefault(stated[0].dim_param, 0)
        if port.name not in others and len(stated) == len(model.input_shape):
            found |= {size.dim_param: axis for axis, size in enumerate(stated) if size.dim_param}
    return found
