"""The page as an ASGI application: static files, the views' endpoints, and errors as JSON."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Scope

from hams_services.web import api_deploy, api_nco, api_plan, api_session, api_state, api_timeline, api_upload
from hams_services.web.door import STATUS, Door
from hams_services.web.sessions import may
from hams_services.web.site import Endpoint, Site, answer, session_of
from hams_shared.errors import CredentialsError, HamsError, RefusedError, as_hams_error

log = logging.getLogger("hams.web")

STATIC = Path(__file__).parent / "static"

ENDPOINTS: tuple[Endpoint, ...] = (
    *api_session.ENDPOINTS,
    *api_state.ENDPOINTS,
    *api_plan.ENDPOINTS,
    *api_timeline.ENDPOINTS,
    *api_deploy.ENDPOINTS,
    *api_upload.ENDPOINTS,
    *api_nco.ENDPOINTS,
)
"""All of the views'. A view adds its own here."""


def build(site: Site, endpoints: Iterable[Endpoint] = ENDPOINTS) -> ASGIApp:
    """Return the application."""
    routes = [
        Route("/", _index),
        Route("/healthz", _health),
        Mount("/static", _Static(directory=STATIC)),
        *(Route(f"/api/{one.path}", _guarded(one, site), methods=[one.method]) for one in endpoints),
    ]
    return Door(Starlette(routes=routes, exception_handlers={HamsError: _on_error}), site)


class _Static(StaticFiles):
    """Files that a browser asks for again each time: their names do not change with their content."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        return response


async def _index(_: Request) -> Response:
    return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})


async def _health(_: Request) -> Response:
    return answer({"state": "alive"})


def _guarded(one: Endpoint, site: Site) -> Callable[[Request], Awaitable[Response]]:
    async def handle(request: Request) -> Response:
        session = session_of(request)
        if not may(session.right, one.need):
            if session.right == "none":
                raise CredentialsError("this needs a login", "choose your credentials file on the login page")
            who = session.role or "this role"
            raise RefusedError(f"{who} may not do this", "log in with credentials that may: see docs/security.md")
        try:
            return await one.handler(request, site)
        except HamsError:
            raise
        except Exception as error:
            log.exception("%s %s failed", one.method, one.path)
            raise as_hams_error(error) from None

    return handle


async def _on_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HamsError)
    return answer(error.to_wire(), STATUS.get(error.code, 400))
