"""What the protocol tells of the server and of a group as a model. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import hams_shared
from hams_client import GroupSummary
from hams_services.gateway.kserve.tensors import INPUT, OUTPUTS, TAKES, InputTensor
from hams_shared.errors import BadInputError, NotFoundError

SERVER = "hams"
VERSION = "1"
"""A group has one version: that which is deployed."""
EXTENSIONS = ("binary_tensor_data", "model_repository")
MAX_DEADLINE_S = 600.0
MAX_TIMEOUT_US = round(MAX_DEADLINE_S * 1e6)


@dataclass(frozen=True)
class Call:
    """A request to infer, of HTTP or gRPC."""

    inputs: Sequence[InputTensor]
    id: str = ""
    outputs: Sequence[str] = ()
    """Names; empty: all."""
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def order(self) -> str:
        """Order of the colours of pixels: the parameter ``pixel_order`` of the request, or of an input."""
        own = next((one.parameters["pixel_order"] for one in self.inputs if "pixel_order" in one.parameters), None)
        return str(own if own is not None else self.parameters.get("pixel_order", "bgr"))

    def deadline(self, default: float) -> float:
        """Seconds to wait: the parameter ``deadline_s``, or Triton's ``timeout`` in µs. Raises BadInputError."""
        if "deadline_s" in self.parameters:
            return check_deadline(self.parameters["deadline_s"])
        timeout = self.parameters.get("timeout", 0)
        if not isinstance(timeout, int) or timeout <= 0:
            return default
        return check_deadline(min(timeout, MAX_TIMEOUT_US + 1) / 1e6)


def check_deadline(value: object) -> float:
    """Return `value` as seconds to wait. Raises BadInputError."""
    try:
        seconds = float(value) if isinstance(value, int | float | str) else 0.0
    except (ValueError, OverflowError):
        seconds = 0.0
    if not 0 < seconds <= MAX_DEADLINE_S:
        raise BadInputError(
            f"a deadline of {str(value)[:32]} s", f"it is more than 0, and {MAX_DEADLINE_S:g} s at most"
        )
    return seconds


def check_version(group: str, version: str) -> None:
    """Raise NotFoundError unless `version` is empty or the one there is."""
    if version not in ("", VERSION):
        raise NotFoundError(f"group {group} has no version {version[:32]!r}", f"it has {VERSION}")


def server_metadata() -> dict[str, Any]:
    """Return what ``/v2`` answers."""
    return {"name": SERVER, "version": hams_shared.__version__, "extensions": list(EXTENSIONS)}


def metadata(group: GroupSummary) -> dict[str, Any]:
    """Return what ``/v2/models/GROUP`` answers; `properties` is text about the tensors."""
    tasks = ", ".join(f"{node.name} ({node.task})" for node in group.nodes)
    return {
        "name": group.name,
        "versions": [VERSION],
        "platform": "hams",
        "inputs": [{"name": INPUT, "datatype": "BYTES", "shape": [-1]}],
        "outputs": [
            {"name": name, "datatype": datatype, "shape": list(shape)} for name, (datatype, shape, _) in OUTPUTS.items()
        ],
        "properties": {
            INPUT: f"{TAKES}; the colours of pixels are B, G, R, or the parameter pixel_order is rgb",
            **{name: about for name, (_, _, about) in OUTPUTS.items()},
            "nodes": tasks,
        },
    }


def index(groups: Sequence[GroupSummary], ready: bool) -> list[dict[str, str]]:
    """Return what ``/v2/repository/index`` answers; with `ready` only the groups that serve."""
    return [
        {
            "name": one.name,
            "version": VERSION,
            "state": "READY" if one.serving else "UNAVAILABLE",
            "reason": "" if one.serving else "no device serves it",
        }
        for one in groups
        if one.serving or not ready
    ]
