"""PyTorch programs: TorchScript and torch.export. Imports torch, so that it is imported only where that is installed.

Neither is unpickled by Python: TorchScript has a reader of its own that knows a few types, and what torch.export keeps
as pickles is read with ``weights_only`` (forced for the whole process by its environment).
"""

from __future__ import annotations

import os
from typing import Any

import openvino as ov
import torch

from hams_services.models.onnx_dims import normalize_onnx
from hams_services.optimizer.importing.formats import Format, Source
from hams_shared.errors import BadInputError, InternalError, ModelError


def read(source: Source) -> tuple[Any, bytes | None]:
    """Return the network for OpenVINO, and as ONNX where that can be written.

    Raises:
        ModelError: PyTorch or OpenVINO cannot read it.
        BadInputError: TorchScript does not say the shape of its input, and the source neither.
    """
    if os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD") != "1":
        raise InternalError("PyTorch files are read only where TORCH_FORCE_WEIGHTS_ONLY_LOAD is 1")
    path, shape, exported = source.path, source.shape, source.format is Format.TORCH_EXPORT
    source.tools["torch"] = torch.__version__
    try:
        program: Any = torch.export.load(str(path)) if exported else torch.jit.load(str(path), map_location="cpu")
    except Exception as error:
        raise ModelError(f"PyTorch cannot read {path.name}: {' '.join(str(error).split())[:300]}") from error
    if exported:
        graph = ov.convert_model(program)
        return graph, _export(program, (), source, None)
    if shape is None:
        raise BadInputError(f"{path.name}: TorchScript does not say the shape of its input", "--shape 1,3,224,224")
    program.eval()
    example = torch.zeros(shape)
    graph = ov.convert_model(program, input=[list(shape)], example_input=example)
    return graph, _export(program, (example,), source, shape)


def _export(program: Any, example: tuple[Any, ...], source: Source, shape: tuple[int, ...] | None) -> bytes | None:
    target = source.work / "torch.onnx"
    try:
        if example:
            torch.onnx.export(program, example, str(target), dynamo=False, opset_version=17)
        else:
            torch.onnx.export(program, (), str(target), dynamo=True, external_data=False)
    except Exception as error:  # any kind: IR is there all the same
        source.skipped["onnx"] = f"PyTorch cannot write it as ONNX: {' '.join(str(error).split())[:300]}"
        return None
    return normalize_onnx(target.read_bytes(), shape)
