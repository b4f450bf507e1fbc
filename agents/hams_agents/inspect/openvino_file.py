"""Reads what OpenVINO reads: its own IR, TFLite, TensorFlow, Paddle. Operators are those that it makes of them."""

from __future__ import annotations

import math
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import openvino as ov
import yaml
from openvino.frontend import FrontEndManager

from hams_agents.backends.openvino import FRONTENDS
from hams_agents.inspect.facts import Facts
from hams_agents.tasks.base import TensorInfo
from hams_shared.errors import ModelError
from hams_shared.runtime.openvino_errors import unknown_operators

_NAMES = {".xml": "OpenVINO IR", ".tflite": "TensorFlow Lite", ".pb": "TensorFlow", ".pdmodel": "Paddle"}
_WEIGHTS = {".xml": ".bin", ".pdmodel": ".pdiparams"}
_NO_WEIGHTS = frozenset({"Constant", "Parameter", "Result"})
_SIDE_BYTES = 1 << 20
"""Most of a file of metadata or labels that is read."""


def read(path: Path) -> Facts:
    """Return what is in the file. Raises ModelError: it cannot be read."""
    suffix = path.suffix.lower()
    try:
        graph = _graph(path, suffix)
    except Exception as error:  # OpenVINO has many kinds
        why = unknown_operators(error) or " ".join(str(error).split())[-300:]
        raise ModelError(f"{path.name} cannot be read: {why}", "is it whole? export it again") from None
    ops = list(graph.get_ops())
    files = [path, *([path.with_suffix(_WEIGHTS[suffix])] if suffix in _WEIGHTS else [])]
    metadata = _metadata(graph)
    return Facts(
        format=_NAMES[suffix],
        inputs=[_info(port, index) for index, port in enumerate(graph.inputs)],
        outputs=[_info(port, index) for index, port in enumerate(graph.outputs)],
        parameters=sum(math.prod(op.output(0).shape) for op in ops if op.get_type_name() == "Constant"),
        operators=Counter(op.get_type_name() for op in ops if op.get_type_name() not in _NO_WEIGHTS),
        made_by=metadata.pop("Runtime_version", metadata.pop("MO_version", "")),
        files={one.name: one.stat().st_size if one.is_file() else -1 for one in files},
        metadata={**metadata, **_beside(path), **_inside(path)},
    )


def _graph(path: Path, suffix: str) -> Any:
    if suffix == ".xml":
        return ov.Core().read_model(path)
    frontend = FrontEndManager().load_by_framework(FRONTENDS[suffix])
    return frontend.convert(frontend.load(str(path)))


def _info(port: Any, index: int) -> TensorInfo:
    shape = port.get_partial_shape()
    dims = tuple(int(d.get_length()) if d.is_static else None for d in shape) if shape.rank.is_static else ()
    return TensorInfo(min(port.get_names(), default=f"{index}"), dims, port.get_element_type().to_dtype().name)


def _metadata(graph: Any) -> dict[str, str]:
    """What converters wrote into an IR; that of OpenVINO's Model API with the prefix ``model_info:``."""
    found: dict[str, str] = {}
    for key, entry in graph.get_rt_info().items():
        value = getattr(entry, "value", entry)
        if isinstance(value, dict) and key in ("model_info", "framework"):
            prefix = "model_info:" if key == "model_info" else ""
            found |= {f"{prefix}{name}": str(getattr(one, "value", one)) for name, one in value.items()}
        elif isinstance(value, str):
            found[key] = value
    return found


def _beside(path: Path) -> dict[str, str]:
    """Ultralytics' ``metadata.yaml`` in the folder of an IR."""
    file = path.with_name("metadata.yaml")
    if path.suffix.lower() != ".xml" or not file.is_file() or file.stat().st_size > _SIDE_BYTES:
        return {}
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
        return {}
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}


def _inside(path: Path) -> dict[str, str]:
    """Files that are packed behind a TFLite network: labels, one a line, or Ultralytics' metadata."""
    if path.suffix.lower() != ".tflite" or not zipfile.is_zipfile(path):
        return {}
    found: dict[str, str] = {}
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist()[:16]:
            if entry.file_size > _SIDE_BYTES or not entry.filename.endswith((".txt", ".json", ".yaml")):
                continue
            try:
                text = archive.read(entry).decode()
                value = yaml.safe_load(text) if text.lstrip().startswith("{") else text.splitlines()
            except (yaml.YAMLError, ValueError, RecursionError, zipfile.BadZipFile):
                continue
            if isinstance(value, dict):
                found |= {str(key): str(one) for key, one in value.items()}
            elif isinstance(value, list):
                found["names"] = str([str(one) for one in value])
    return found
