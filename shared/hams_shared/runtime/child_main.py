"""The child's side of :mod:`hams_shared.runtime.child_process`: reads requests from a socket, runs them, answers.

    python -m hams_shared.runtime.child_main FD '{"folder": …, "limits": …, "blame": …, "parent": …}'

A message is its length in 4 bytes and msgpack. To ``{"function", "arguments"}`` the child answers any number of
``{"progress"}``, then ``{"result"}`` or ``{"error"}``.
"""

from __future__ import annotations

import ctypes
import importlib
import inspect
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack

from hams_shared.errors import HamsError, ModelError, NoSpaceError, as_hams_error
from hams_shared.runtime.child_limits import Limits, apply

HEAD_BYTES = 4
_PR_SET_PDEATHSIG = 1
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
    settings = json.loads(argv[1])
    _end_with_parent(settings["parent"])
    confined = apply(Limits(**settings["limits"]), Path(settings["folder"]))
    channel.sendall(pack({"confined": confined}))
    while (head := _exactly(channel, HEAD_BYTES)) and (body := _exactly(channel, int.from_bytes(head, "big"))):
        channel.sendall(_answer(channel, unpack(body), settings["blame"]))
    return 0


def pack(message: dict[str, Any]) -> bytes:
    """Return a message as it travels."""
    data: bytes = msgpack.packb(message, unicode_errors="surrogatepass")
    return len(data).to_bytes(HEAD_BYTES, "big") + data


def unpack(data: bytes) -> dict[str, Any]:
    """Return the message of `data`, without its length."""
    message: dict[str, Any] = msgpack.unpackb(data, unicode_errors="surrogatepass", strict_map_key=False)
    return message


def _end_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent dies (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before
            os._exit(1)


def _answer(channel: socket.socket, request: dict[str, Any], blame: str) -> bytes:
    def progress(*values: Any) -> None:
        channel.sendall(pack({"progress": values}))

    try:
        module, _, name = request["function"].partition(":")
        function: Callable[..., Any] = getattr(importlib.import_module(module), name)
        extra = {"progress": progress} if "progress" in inspect.signature(function).parameters else {}
        return pack({"result": function(**request["arguments"], **extra)})
    except Exception as error:
        known = as_model_error(error) if blame == ModelError.code else as_hams_error(error)
        return pack({"error": known.to_wire()})


def as_model_error(error: BaseException) -> HamsError:
    """Return what a tool raised while it read a foreign file as a named error."""
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


def _exactly(channel: socket.socket, count: int) -> bytes:
    """Read `count` bytes; nothing where the parent has closed the socket."""
    found = bytearray()
    while len(found) < count:
        part = channel.recv(min(count - len(found), 1 << 20))
        if not part:
            return b""
        found += part
    return bytes(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
