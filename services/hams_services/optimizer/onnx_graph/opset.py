"""ONNX files in a newer operator set, where theirs is too old for what is to be done."""

from __future__ import annotations

from typing import Any

from onnx import version_converter

from hams_services.optimizer.sandbox.reason import reason
from hams_shared.errors import UnsupportedModelError


def raise_opset(model: Any, least: int) -> Any:
    """Return `model` with at least the operator set `least`. Raises UnsupportedModelError: it cannot be raised."""
    default = next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 0)
    if default >= least:
        return model
    try:
        return version_converter.convert_version(model, least)
    except Exception as error:
        raise UnsupportedModelError(
            f"its operator set is {default}, {least} is needed, and it cannot be raised: {reason(error)}"
        ) from error
