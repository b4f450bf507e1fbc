"""The protocol over HTTP."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from hams_services.gateway.endpoints import DEADLINE_S, JSON, Api, Endpoint, body_of, json_answer, span_of
from hams_services.gateway.guard import Caller
from hams_services.gateway.kserve import http_body, model
from hams_services.gateway.kserve.tensors import images_of, outputs_of, wanted_outputs
from hams_shared.errors import BadInputError, HamsError

BINARY = "application/octet-stream"


async def live(api: Api, request: Request, caller: Caller) -> Response:
    """It answers, so it lives."""
    return json_answer({"live": True})


async def ready(api: Api, request: Request, caller: Caller) -> Response:
    """Whether broker and pipeline answer."""
    try:
        await api.directory.all()
    except HamsError as error:
        return json_answer({"ready": False, "error": str(error)}, 503)
    return json_answer({"ready": True})


async def server(api: Api, request: Request, caller: Caller) -> Response:
    """What this server is."""
    return json_answer(model.server_metadata())


async def index(api: Api, request: Request, caller: Caller) -> Response:
    """All groups."""
    with api.admission.request() as grow:
        body = await body_of(request, 1 << 16, grow)
    try:
        wanted = msgspec.json.decode(body) if body.strip() else {}
    except (msgspec.DecodeError, RecursionError):
        wanted = None
    if not isinstance(wanted, dict):
        raise BadInputError("the body is not a JSON object", 'send nothing, or {"ready": true}')
    known = [one for one in await api.directory.all() if caller.sees(one.name)]
    return json_answer(model.index(known, wanted.get("ready") is True))


def _group(request: Request) -> str:
    group = str(request.path_params["group"])
    model.check_version(group, request.path_params.get("version", ""))
    return group


async def metadata(api: Api, request: Request, caller: Caller) -> Response:
    """A group's inputs and outputs."""
    return json_answer(model.metadata(await api.directory.get(_group(request))))


async def model_ready(api: Api, request: Request, caller: Caller) -> Response:
    """Whether a group serves."""
    group = await api.directory.get(_group(request))
    return json_answer({"name": group.name, "ready": group.serving}, 200 if group.serving else 503)


async def infer(api: Api, request: Request, caller: Caller) -> Response:
    """Images through a group."""
    group = _group(request)
    with api.admission.request() as grow:
        body = await body_of(request, api.max_body, grow)
        asked = http_body.parse(body, request.headers.get(http_body.HEADER))
        names = wanted_outputs(asked.call.outputs)
        images = images_of(asked.call.inputs, asked.call.order)
        results = await api.inference.run(group, images, asked.call.deadline(DEADLINE_S), span_of(request))
    data, size = http_body.answer(group, asked, outputs_of(results, names))
    if size is None:
        return Response(data, media_type=JSON)
    return Response(data, headers={http_body.HEADER: str(size)}, media_type=BINARY)


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


_TEXT = {"type": "string"}
_TEXTS = {"type": "array", "items": _TEXT}
_INTEGERS = {"type": "array", "items": {"type": "integer"}}
_TENSOR = _object(name=_TEXT, datatype=_TEXT, shape=_INTEGERS)
_DATA = {"description": "elements, in row-major order", "type": "array"}
_PARAMETERS = {"type": "object"}
_METADATA = _object(
    name=_TEXT,
    versions=_TEXTS,
    platform=_TEXT,
    inputs={"type": "array", "items": _TENSOR},
    outputs={"type": "array", "items": _TENSOR},
)
_WITH_DATA = {**_TENSOR, "properties": {**_TENSOR["properties"], "data": _DATA, "parameters": _PARAMETERS}}
_REQUEST = {
    **_object(inputs={"type": "array", "items": _WITH_DATA}),
    "description": "in JSON an image is base64; with Inference-Header-Content-Length tensors follow as bytes",
}
_ANSWER = _object(model_name=_TEXT, model_version=_TEXT, outputs={"type": "array", "items": _WITH_DATA})
_BYTES = {"description": "JSON, then the bytes of tensors: the extension binary_tensor_data"}
_READY = _object(ready={"type": "boolean"})
_NAMED_READY = _object(name=_TEXT, ready={"type": "boolean"})
_INDEX = {"type": "array", "items": _object(name=_TEXT, version=_TEXT, state=_TEXT, reason=_TEXT)}


def _of_model(path: str) -> list[Endpoint]:
    return [
        Endpoint("GET", path, metadata, "Inputs and outputs of a group", gives={JSON: _METADATA}),
        Endpoint("GET", f"{path}/ready", model_ready, "Does it serve?", gives={JSON: _NAMED_READY}),
        Endpoint(
            "POST",
            f"{path}/infer",
            infer,
            "Images through a group",
            "app",
            takes={JSON: _REQUEST, BINARY: _BYTES},
            gives={JSON: _ANSWER, BINARY: _BYTES},
            also=(413, 504),
        ),
    ]


ENDPOINTS = [
    Endpoint("GET", "/v2/health/live", live, "Does it run?", None, gives={JSON: _object(live={"type": "boolean"})}),
    Endpoint("GET", "/v2/health/ready", ready, "Do broker and pipeline answer?", None, gives={JSON: _READY}),
    Endpoint("GET", "/v2", server, "What this is", gives={JSON: _object(name=_TEXT, version=_TEXT, extensions=_TEXTS)}),
    Endpoint(
        "POST", "/v2/repository/index", index, "All groups", takes={JSON: {"type": "object"}}, gives={JSON: _INDEX}
    ),
    *_of_model("/v2/models/{group}"),
    *_of_model("/v2/models/{group}/versions/{version}"),
]
