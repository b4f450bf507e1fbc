"""Bodies of inference over HTTP: JSON, and tensors behind it where a client sends them as bytes. Pure.

The extension "binary tensor data": the header ``Inference-Header-Content-Length`` tells where the JSON ends; the bytes
of the inputs that have a parameter ``binary_data_size`` follow, in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from hams_services.gateway.kserve.model import VERSION, Call
from hams_services.gateway.kserve.tensors import InputTensor, OutputTensor
from hams_shared.errors import BadInputError

HEADER = "Inference-Header-Content-Length"
MAX_JSON = 8 << 20
"""Of the JSON of a request, bytes: it is parsed while nothing else runs."""


class _Input(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, Any] | None = None
    data: list[Any] | None = None


class _Output(msgspec.Struct):
    name: str
    parameters: dict[str, Any] | None = None


class _Request(msgspec.Struct):
    inputs: list[_Input]
    id: str = ""
    parameters: dict[str, Any] | None = None
    outputs: list[_Output] | None = None


_decode = msgspec.json.Decoder(_Request).decode


@dataclass(frozen=True)
class HttpCall:
    """A request, and which outputs the client wants as bytes."""

    call: Call
    binary: frozenset[str] | bool
    """Their names; True: all; False: none."""

    def is_binary(self, name: str) -> bool:
        """Whether the output `name` is sent as bytes."""
        return self.binary if isinstance(self.binary, bool) else name in self.binary


def parse(body: bytes, header_length: str | None) -> HttpCall:
    """Read a request; `header_length` is the value of :data:`HEADER`, if there is one.

    Raises:
        BadInputError: it is no request of the protocol, with the place where it is wrong.
    """
    size = _length(header_length, len(body))
    if size > MAX_JSON:
        raise BadInputError(f"JSON of {size >> 20} MiB: {MAX_JSON >> 20} are the most", "send the image as binary data")
    try:
        request = _decode(memoryview(body)[:size])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInputError(f"not an inference request: {str(error)[:200]}") from None
    wanted = request.outputs or []
    default = (request.parameters or {}).get("binary_data_output") is True
    binary = {one.name for one in wanted if (one.parameters or {}).get("binary_data", default) is True}
    call = Call(
        inputs=_inputs(request.inputs, memoryview(body)[size:]),
        id=request.id,
        outputs=[one.name for one in wanted],
        parameters=request.parameters or {},
    )
    return HttpCall(call, frozenset(binary) if wanted else default)


def _length(text: str | None, whole: int) -> int:
    if text is None:
        return whole
    if not (text.isascii() and text.isdecimal()) or len(text) > 12 or int(text) > whole:
        raise BadInputError(f"{HEADER} is {text[:32]!r}", f"it is the size of the JSON, in a body of {whole} bytes")
    return int(text)


def _inputs(inputs: Sequence[_Input], rest: memoryview) -> list[InputTensor]:
    """Give each input that is sent as bytes its part of `rest`."""
    found: list[InputTensor] = []
    at = 0
    for one in inputs:
        parameters = one.parameters or {}
        size = parameters.get("binary_data_size")
        raw: memoryview | None = None
        if size is not None:
            if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(rest) - at:
                raise BadInputError(
                    f"input {one.name[:64]}: binary_data_size is {size!r}, {len(rest) - at} bytes follow"
                )
            raw, at = rest[at : at + size], at + size
        elif one.data is None:
            raise BadInputError(f"input {one.name[:64]} has neither data nor binary_data_size")
        found.append(InputTensor(one.name, one.datatype, tuple(one.shape), raw, one.data, parameters))
    if at != len(rest):
        raise BadInputError(f"{len(rest) - at} bytes follow the inputs", "see binary_data_size")
    return found


def answer(group: str, request: HttpCall, outputs: Sequence[OutputTensor]) -> tuple[bytes, int | None]:
    """Return the body of an answer, and the size of its JSON where bytes follow."""
    described: list[dict[str, Any]] = []
    parts: list[bytes] = []
    for one in outputs:
        entry: dict[str, Any] = {"name": one.name, "datatype": one.datatype, "shape": one.shape}
        if request.is_binary(one.name):
            parts.append(one.raw())
            entry["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            entry["data"] = [v.decode() for v in one.values] if one.datatype == "BYTES" else one.values
        described.append(entry)
    head = {"model_name": group, "model_version": VERSION, "outputs": described}
    if request.call.id:
        head["id"] = request.call.id
    json = msgspec.json.encode(head)
    return (b"".join((json, *parts)), len(json)) if parts else (json, None)
