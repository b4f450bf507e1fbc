"""The gateway as an ASGI application."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from hams_services.gateway import openapi, rest
from hams_services.gateway.endpoints import JSON, Api, Endpoint, json_answer
from hams_services.gateway.guard import Caller
from hams_services.gateway.kserve import http
from hams_services.gateway.kserve.http_body import HEADER
from hams_services.gateway.streaming import websocket_route

HTML = "text/html"


async def _document(api: Api, request: Request, caller: Caller) -> Response:
    return json_answer(openapi.document(ENDPOINTS, api.root_path))


async def _page(api: Api, request: Request, caller: Caller) -> Response:
    return HTMLResponse(
        openapi.page(ENDPOINTS), headers={"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
    )


async def _start(api: Api, request: Request, caller: Caller) -> Response:
    return RedirectResponse(f"{api.root_path}/docs")


ENDPOINTS = [
    *rest.ENDPOINTS,
    *http.ENDPOINTS,
    Endpoint("GET", "/openapi.json", _document, "This, for programs", None, gives={JSON: {"type": "object"}}),
    Endpoint("GET", "/docs", _page, "This, for people", None, gives={HTML: {"type": "string"}}),
]


class UnderRoot:
    """Serves below a path, whether a proxy takes the path away or leaves it."""

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self._app = app
        self._root = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if self._root and scope["type"] in ("http", "websocket"):
            path = scope["path"]
            whole = path if path == self._root or path.startswith(f"{self._root}/") else self._root + path
            scope = {**scope, "path": whole, "root_path": self._root}
        await self._app(scope, receive, send)


def make_app(api: Api, origins: Sequence[str] = ()) -> ASGIApp:
    """Return the application; pages of `origins` may use it."""
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it logs each form that is wrong
    cors = Middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=["GET", "POST"],
        allow_headers=["Authorization", "Content-Type", "Last-Event-ID", HEADER],
        expose_headers=[HEADER],
    )
    start = Endpoint("GET", "/", _start, "", None)
    app = Starlette(
        routes=[*(one.route(api) for one in (*ENDPOINTS, start)), websocket_route(api)],
        middleware=[cors] if origins else [],
        exception_handlers={HTTPException: _no_route},
    )
    app.router.redirect_slashes = False
    return UnderRoot(app, api.root_path)


async def _no_route(request: Request, error: Exception) -> Response:
    """A path or method that there is not."""
    assert isinstance(error, HTTPException)
    text = {404: "there is no such path", 405: f"this path has no {request.method}"}.get(
        error.status_code, error.detail
    )
    code = {404: "not-found", 405: "bad-input"}.get(error.status_code, "error")
    hint = f"see {request.scope.get('root_path', '')}/docs"
    return json_answer({"error": f"{text} ({hint})", "code": code, "hint": hint}, error.status_code, error.headers)
