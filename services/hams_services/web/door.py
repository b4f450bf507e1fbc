"""The door of the page: an ASGI middleware that each request passes, before any handler.

It strips the sub-path, limits how often a client may ask, finds the session, and refuses changing requests that do not
come from the page itself. Each answer carries the headers that protect the page.
"""

from __future__ import annotations

import logging
from http.cookies import CookieError, SimpleCookie

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hams_services.web import headers
from hams_services.web.sessions import Session, same
from hams_services.web.site import Site, json_bytes
from hams_shared.errors import HamsError, OverloadedError, RefusedError

log = logging.getLogger("hams.web")

SAFE = ("GET", "HEAD")
TOKEN = "x-csrf-token"


class Door:
    """Lets requests through to `app`, or refuses them."""

    def __init__(self, app: ASGIApp, site: Site) -> None:
        self._app, self._site = app, site

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        heads = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        secure = scope["scheme"] == "https"

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                more = (
                    [*headers.ALWAYS, (b"strict-transport-security", b"max-age=31536000")] if secure else headers.ALWAYS
                )
                message = {**message, "headers": [*message.get("headers", ()), *more]}
            await send(message)

        path = self._inside(scope["path"])
        if path is None:
            await _redirect(f"{self._site.options.root_path}/", sending)
            return
        try:
            self._admit(scope, heads)
            scope = {**scope, "path": path, "root_path": "", "hams.session": self._session(scope, heads)}
        except HamsError as error:
            await refuse(error, sending)
            return
        await self._app(scope, receive, sending)

    def _inside(self, path: str) -> str | None:
        """Return the path below the page's folder, stripped by a proxy or not; None: its slash is missing."""
        root = self._site.options.root_path
        if root and path == root:
            return None
        return path[len(root) :] if root and path.startswith(f"{root}/") else path

    def _admit(self, scope: Scope, heads: dict[str, str]) -> None:
        """Raise RefusedError for strangers, OverloadedError for who asks too often."""
        if not self._site.options.credentials:
            # A page of another site may point its name at this address, or a proxy may let strangers in.
            forwarded = any(name in heads for name in ("forwarded", "x-forwarded-for", "x-forwarded-host"))
            if forwarded or not headers.is_loopback(headers.host_of(heads.get("host", ""))):
                raise RefusedError(
                    "without credentials this page is for this machine only: open it as http://127.0.0.1",
                    "to reach it from elsewhere, start hams-web with --credentials",
                )
        if wait := self._site.requests.take(client_of(scope), self._site.now()):
            raise OverloadedError("too many requests", f"try again in {wait:.1f} s")

    def _session(self, scope: Scope, heads: dict[str, str]) -> Session:
        """Return the session of a request. Raises RefusedError when a changing one is not of the page."""
        id = cookie_of(heads.get("cookie", ""), self._site.options.cookie)
        session = (self._site.sessions.find(id, self._site.now()) if id else None) or self._site.anonymous()
        if scope["method"] not in SAFE:
            origin, host = heads.get("origin", ""), heads.get("host", "")
            of_page = headers.from_here(heads.get("sec-fetch-site", ""), origin, host)
            if not of_page or not same(heads.get(TOKEN, ""), session.csrf):
                raise RefusedError(
                    "this request does not come from the page, or its session has ended", "reload the page"
                )
        return session


def client_of(scope: Scope) -> str:
    """Return the address of the client; behind a proxy that is believed, of the one who asked it."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def cookie_of(header: str, name: str) -> str:
    """Return a cookie's value; empty when there is none."""
    try:
        morsel = SimpleCookie(header).get(name)
    except CookieError:
        return ""
    return morsel.value if morsel else ""


STATUS = {
    "bad-input": 400,
    "bad-group": 400,
    "too-large": 413,
    "credentials": 401,
    "not-found": 404,
    "deadline": 504,
    "overloaded": 429,
    "refused": 403,
    "broker": 502,
    "internal": 500,
}
"""HTTP status by code of error; others: 400."""


async def refuse(error: HamsError, send: Send) -> None:
    """Answer with an error."""
    body = json_bytes(error.to_wire())
    head = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    head += [(b"cache-control", b"no-store")]
    if error.code == "overloaded":
        head.append((b"retry-after", b"1"))
    await send({"type": "http.response.start", "status": STATUS.get(error.code, 400), "headers": head})
    await send({"type": "http.response.body", "body": body})


async def _redirect(where: str, send: Send) -> None:
    head = [(b"location", where.encode()), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 308, "headers": head})
    await send({"type": "http.response.body", "body": b""})
