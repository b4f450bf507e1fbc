"""api/session: who is logged in, login with a credentials file, logout."""

from __future__ import annotations

import logging
import secrets

from starlette.requests import Request
from starlette.responses import Response

import hams_shared
from hams_services.web.door import client_of
from hams_services.web.headers import is_loopback
from hams_services.web.sessions import Session, right_of
from hams_services.web.site import Endpoint, Site, answer, body_of, session_of
from hams_shared.bus.nats.client import NatsBus
from hams_shared.errors import CredentialsError, OverloadedError, RefusedError
from hams_shared.runtime.credentials import Credentials, parse

log = logging.getLogger("hams.web")

FILE_BYTES = 64 * 1024
"""Most bytes of a credentials file."""
CONNECT_S = 5.0
"""Deadline of a session's connection to the broker, s."""


async def who(request: Request, site: Site) -> Response:
    """Answer who is logged in, what that allows, and the token of changing requests."""
    return answer(_shown(session_of(request), site, request))


async def login(request: Request, site: Site) -> Response:
    """Begin a session with the credentials file in the body: the broker decides whether its key has its name."""
    if refusal := refused(site, request):
        raise RefusedError(refusal, "open the page by https")
    client = client_of(request.scope)
    if wait := max(site.logins.take(client, site.now()), site.all_logins.take("", site.now())):
        raise OverloadedError("too many logins", f"try again in {wait:.0f} s")
    try:
        text = (await body_of(request, FILE_BYTES)).decode()
    except UnicodeDecodeError:
        raise CredentialsError("this file is no credentials file", "choose a .creds file of `hams-ctl init`") from None
    identity = parse(text, "this file")
    right_of(identity.user)
    await end(site, session_of(request).id)
    bus = await _proven(site.url, identity)
    try:
        session = site.sessions.begin(secrets.token_urlsafe(32), secrets.token_urlsafe(24), identity.user, site.now())
    except BaseException:
        await bus.__aexit__(None, None, None)
        raise
    site.connections[session.id] = bus
    log.info("%s has logged in from %s (%d sessions)", session.user, client, len(site.sessions))
    response = answer(_shown(session, site, request))
    response.set_cookie(
        site.options.cookie,
        session.id,
        path=f"{site.options.root_path}/",
        secure=request.scope["scheme"] == "https",
        httponly=True,
        samesite="strict",
    )
    return response


async def _proven(url: str, identity: Credentials) -> NatsBus:
    """Return a connection of `identity`, whose name the broker has proven.

    The file states the name, and its key alone connects. Only the user of that name, and the admin, who has all rights,
    may listen on the inbox of that name: a message to ourselves arrives for nobody else.

    Raises:
        BrokerError, DeadlineError: the broker does not answer.
        CredentialsError: the broker does not know the key, or it is another user's.
    """
    bus = NatsBus(url, name=f"hams-web {identity.user}", credentials=identity, connect_timeout=CONNECT_S)
    await bus.__aenter__()
    try:
        with bus.allowed("log in"):
            await bus.flush(CONNECT_S)
    except CredentialsError:
        await bus.__aexit__(None, None, None)
        raise CredentialsError(
            f"the key in this file is not that of {identity.user}", "choose the file as `hams-ctl` wrote it"
        ) from None
    except BaseException:
        await bus.__aexit__(None, None, None)
        raise
    return bus


async def logout(request: Request, site: Site) -> Response:
    """End the session."""
    await end(site, session_of(request).id)
    response = answer(_shown(site.anonymous(), site, request))
    response.delete_cookie(site.options.cookie, path=f"{site.options.root_path}/", httponly=True, samesite="strict")
    return response


async def end(site: Site, id: str) -> None:
    """End a session and its connection; no error when there is none."""
    site.sessions.end(id)
    bus = site.connections.pop(id, None)
    if bus is not None:
        await bus.__aexit__(None, None, None)


async def expire(site: Site) -> None:
    """End the sessions whose time is over."""
    for id in site.sessions.expire(site.now()):
        await end(site, id)


def refused(site: Site, request: Request) -> str:
    """Return why this request may not carry credentials; empty: it may."""
    if request.scope["scheme"] == "https" or is_loopback(client_of(request.scope)):
        return ""
    if site.options.proxies and "x-forwarded-proto" not in request.headers:
        return ""  # the proxy ends TLS; it does not say so
    return "over plain http credentials can be read on the way: this page takes none"


def _shown(session: Session, site: Site, request: Request) -> dict[str, object]:
    return {
        "login": site.options.credentials,
        "user": session.user,
        "role": session.role,
        "right": session.right,
        "csrf": session.csrf,
        "refused": refused(site, request) if site.options.credentials else "",
        "version": hams_shared.__version__,
    }


ENDPOINTS = (
    Endpoint("GET", "session", "none", who),
    Endpoint("POST", "session", "none", login),
    Endpoint("DELETE", "session", "none", logout),
)
