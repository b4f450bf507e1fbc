"""The OpenAPI 3.1 document, from the table of endpoints. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import hams_shared
from hams_services.gateway.endpoints import JSON, Endpoint
from hams_services.gateway.streaming import WS_PATH

_STATUS = {
    400: "what was sent is wrong",
    401: "a token is needed",
    403: "the token does not allow it",
    404: "there is no such group",
    413: "the body is too large",
    503: "overloaded, or a part of HAMS is away",
    504: "no result in time",
}
_ERROR = {
    "type": "object",
    "required": ["error", "code", "hint"],
    "properties": {
        "error": {"type": "string", "description": "what is wrong, and what to do"},
        "code": {"type": "string", "description": "for programs: not-found, bad-input, overloaded …"},
        "hint": {"type": "string"},
    },
}


def document(endpoints: Iterable[Endpoint], root_path: str = "") -> dict[str, Any]:
    """Return the document."""
    schemas: dict[str, Any] = {"Error": _ERROR}
    paths: dict[str, Any] = {}
    for one in endpoints:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "HAMS gateway",
            "version": hams_shared.__version__,
            "description": f"Deployed groups over HTTP. Results also come over a WebSocket at {WS_PATH}: each message "
            'is a result, or {"lost": n} where the client was too slow.',
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": root_path or "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "hams-ctl token add"}},
        },
    }


def _operation(one: Endpoint, schemas: dict[str, Any]) -> dict[str, Any]:
    name = re.sub(r"[^a-zA-Z0-9]+", "_", f"{one.method.lower()}{one.path}").strip("_")
    statuses = (400, 503, *one.also) if one.role is None else (400, 401, 403, 404, 503, *one.also)
    operation: dict[str, Any] = {
        "operationId": name,
        "summary": one.summary,
        "tags": ["KServe v2" if one.path.startswith("/v2") else "HAMS"],
        "parameters": [
            *(
                {"name": found, "in": "path", "required": True, "schema": {"type": "string"}}
                for found in re.findall(r"\{(\w+)\}", one.path)
            ),
            *(
                {"name": query, "in": "query", "description": about, "schema": {"type": "string"}}
                for query, about in one.query.items()
            ),
        ],
        "responses": {
            "200": {"description": "it worked", "content": _content(one.gives, schemas)},
            **{
                str(status): {
                    "description": _STATUS[status],
                    "content": {JSON: {"schema": {"$ref": "#/components/schemas/Error"}}},
                }
                for status in sorted(statuses)
            },
        },
        "security": [] if one.role is None else [{}, {"token": []}],
    }
    if one.role is not None:
        operation["description"] = f"Where tokens are used, one with the role {one.role} is needed."
    if one.takes:
        operation["requestBody"] = {"content": _content(one.takes, schemas)}
    return operation


def _content(bodies: Mapping[str, Mapping[str, Any]], schemas: dict[str, Any]) -> dict[str, Any]:
    """Return bodies by content type; what their schemas define goes to the document's own."""
    content = {}
    for kind, schema in bodies.items():
        inner = _moved(schema, schemas)
        content[kind] = {"schema": inner}
    return content


def _moved(schema: Any, schemas: dict[str, Any]) -> Any:
    if isinstance(schema, list):
        return [_moved(one, schemas) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    for name, inner in schema.get("$defs", {}).items():
        schemas[name] = _moved(inner, schemas)
    moved = {key: _moved(value, schemas) for key, value in schema.items() if key != "$defs"}
    if isinstance(moved.get("$ref"), str):
        moved["$ref"] = moved["$ref"].replace("#/$defs/", "#/components/schemas/")
    return moved


def page(endpoints: Iterable[Endpoint]) -> str:
    """Return a page that lists the endpoints; it needs nothing from elsewhere."""
    rows = "".join(
        f"<tr><td>{one.method}<td><code>{one.path}</code><td>{one.role or '–'}<td>{one.summary}" for one in endpoints
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        "<title>HAMS gateway</title><style>:root{color-scheme:light dark}body{font:16px/1.5 system-ui;margin:2rem auto;"
        "max-width:70rem;padding:0 1rem}table{border-collapse:collapse}td,th{text-align:left;vertical-align:top;"
        "padding:.3rem 1rem .3rem 0;border-bottom:1px solid #8885}code{overflow-wrap:anywhere}</style>"
        "<h1>HAMS gateway</h1><p>Deployed groups over HTTP. The same for programs: "
        '<a href="openapi.json">openapi.json</a> (OpenAPI 3.1).</p><table><thead><tr><th>method<th>path<th>role<th>'
        f"</thead>{rows}<tr><td>WebSocket<td><code>{WS_PATH}</code><td>viewer<td>Results as they come</table></html>"
    )
