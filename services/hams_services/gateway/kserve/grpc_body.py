"""Inference over gRPC: messages to requests, outputs to messages. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from hams_services.gateway.kserve.messages import MESSAGES
from hams_services.gateway.kserve.model import VERSION, Call
from hams_services.gateway.kserve.tensors import InputTensor, OutputTensor
from hams_shared.errors import BadInputError

CONTENTS = {"BYTES": "bytes_contents", "UINT8": "uint_contents"}
"""Where the elements of an input are that is not sent as raw bytes, by datatype."""


def call_of(request: Any) -> Call:
    """Return a ``ModelInferRequest`` as a request. Raises BadInputError: inputs and raw contents do not fit."""
    return Call(
        inputs=list(_inputs(request)),
        id=request.id,
        outputs=[one.name for one in request.outputs],
        parameters=_parameters(request.parameters),
    )


def _inputs(request: Any) -> Iterator[InputTensor]:
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise BadInputError(f"{len(raw)} raw_input_contents for {len(request.inputs)} inputs")
    for number, one in enumerate(request.inputs):
        known = (one.name, one.datatype, tuple(one.shape))
        parameters = _parameters(one.parameters)
        if raw:
            if one.HasField("contents"):
                raise BadInputError(f"input {one.name[:64]} has contents beside raw_input_contents")
            yield InputTensor(*known, raw=raw[number], parameters=parameters)
        else:
            place = CONTENTS.get(one.datatype)
            yield InputTensor(*known, items=getattr(one.contents, place) if place else (), parameters=parameters)


def _parameters(parameters: Any) -> dict[str, Any]:
    found = {}
    for name, value in parameters.items():
        choice = value.WhichOneof("parameter_choice")
        if choice is not None:
            found[name] = getattr(value, choice)
    return found


def answer(group: str, call: Call, outputs: Sequence[OutputTensor]) -> Any:
    """Return the ``ModelInferResponse``; all outputs are raw, as of Triton."""
    response = MESSAGES["ModelInferResponse"](model_name=group, model_version=VERSION, id=call.id)
    for one in outputs:
        response.outputs.add(name=one.name, datatype=one.datatype, shape=one.shape)
        response.raw_output_contents.append(one.raw())
    return response
