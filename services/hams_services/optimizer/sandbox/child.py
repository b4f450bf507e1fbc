"""What runs in a job's process: reads requests from a socket, does them, answers.

    python -m hams_services.optimizer.sandbox.child FD '{"folder": …, "limits": …}'

A message is a length of 4 bytes and JSON. The answer to ``{"do", "arguments"}`` is ``{"result"}`` or ``{"error"}``.
"""

from __future__ import annotations

import importlib
import json
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hams_services.optimizer.sandbox.limits import Limits, apply
from hams_shared.errors import BadInputError, HamsError, ModelError, NoSpaceError, as_hams_error

JOBS = {
    "import": "hams_services.optimizer.importing.convert:import_file",
    "variant": "hams_services.optimizer.passes.precision:make_variant",
    "quantize-openvino": "hams_services.optimizer.passes.quantization.nncf_ir:quantize",
    "quantize-onnx": "hams_services.optimizer.passes.quantization.qdq:quantize",
    "prune-look": "hams_services.optimizer.passes.filter_pruning.channel_statistics:look",
    "prune-make": "hams_services.optimizer.passes.filter_pruning.make:make",
    "trim": "hams_services.optimizer.passes.drop_outputs.make:make",
    "rectangle": "hams_services.optimizer.passes.crop_input.make:make",
    "shrink": "hams_services.optimizer.passes.downscale_input.make:make",
    "rank-openvino": "hams_services.optimizer.passes.quantization.nncf_ir:rank",
    "rank-onnx": "hams_services.optimizer.passes.quantization.qdq:rank",
}
"""What may be asked: function of JSON values that returns a JSON object; paths it is given are absolute."""

_MEMORY = (
    "bad alloc",
    "std::bad_alloc",
    "cannot allocate memory",
    "can't allocate memory",
    "failed to allocate",
    "out of memory",
)


def main(argv: list[str]) -> int:
    """Serve one parent until it closes the socket."""
    channel = socket.socket(fileno=int(argv[0]))
    given = json.loads(argv[1])
    confined = apply(Limits(**given["limits"]), Path(given["folder"]))
    _send(channel, {"confined": confined})
    while True:
        head = _exactly(channel, 4)
        if head is None:
            return 0
        body = _exactly(channel, int.from_bytes(head, "big"))
        if body is None:
            return 0
        _send(channel, _answer(json.loads(body)))


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"result": _function(request["do"])(**request["arguments"])}
    except Exception as error:
        return {"error": as_job_error(error).to_wire()}


def as_job_error(error: BaseException) -> HamsError:
    """Give what a tool raised a name."""
    if isinstance(error, HamsError):
        return error
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or any(mark in text.lower() for mark in _MEMORY):
        return ModelError("it needs more memory than a job may have", "raise the job's memory limit")
    if isinstance(error, OSError) and isinstance(known := as_hams_error(error), NoSpaceError):
        return known
    if isinstance(error, RecursionError):
        return ModelError("it is nested too deeply")
    return ModelError(f"{type(error).__name__}: {text[:400] or 'no reason given'}", "is the file whole?")


def _function(do: str) -> Callable[..., dict[str, Any]]:
    if do not in JOBS:
        raise BadInputError(f"no job {do!r}", f"known: {', '.join(JOBS)}")
    module, _, name = JOBS[do].partition(":")
    found: Callable[..., dict[str, Any]] = getattr(importlib.import_module(module), name)
    return found


def _send(channel: socket.socket, message: dict[str, Any]) -> None:
    data = json.dumps(message).encode()
    channel.sendall(len(data).to_bytes(4, "big") + data)


def _exactly(channel: socket.socket, count: int) -> bytes | None:
    found = bytearray()
    while len(found) < count:
        part = channel.recv(min(count - len(found), 1 << 20))
        if not part:
            return None
        found += part
    return bytes(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
