"""The shell of hams-web: its socket, the HTTP server in this event loop, the reader, the answer to health checks."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import uvicorn
from starlette.types import ASGIApp

import hams_shared
from hams_services.web import api_session
from hams_services.web.app import build
from hams_services.web.costs import Costs
from hams_services.web.live import Live
from hams_services.web.options import WebOptions
from hams_services.web.pictures import Pictures
from hams_services.web.site import Site
from hams_shared.bus.protocol import MACHINE, Bus, Message
from hams_shared.runtime.http_protocol import LOOPBACK, Bounds, bounded
from hams_shared.runtime.lifecycle import Jobs, ended
from hams_shared.runtime.process import machine

log = logging.getLogger("hams.web")

PING = "$SRV.PING.hams-web"
"""Health checks ask here, as any NATS micro service; the dashboard's rights include no other."""
EXPIRE_S = 20.0
"""How often sessions are looked at, s."""
CONNECTIONS = 256
"""Most connections at a time; beyond, clients get 503."""
OF_ONE = 64
"""Most connections of one address that is not this host's, nor a named proxy's."""
BODY_BYTES = 1 << 20
"""An upload may take longer than a minute while so much of it comes in each, bytes."""
GRACE_S = 1
"""How long answers may take to end once hams-web stops, s."""


class _Server(uvicorn.Server):
    """uvicorn without signal handlers: the process has its own."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


class WebService:
    """One hams-web on `bus`, which is its own connection; sessions connect to the broker at `url`."""

    def __init__(self, bus: Bus, url: str, options: WebOptions) -> None:
        self._bus, self._url, self._options = bus, url, options

    async def run(self, stop: asyncio.Event, sock: socket.socket) -> None:
        """Serve on `sock` until `stop` is set."""
        async with self.site() as site, asyncio.TaskGroup() as owner:
            server = _Server(self._config(build(site)))
            serving = owner.create_task(server.serve([sock]))
            subscription = await self._bus.subscribe(PING, self._on_ping)
            log.info("the page is at %s", self._options.url)
            await stop.wait()
            server.should_exit = True
            await asyncio.wait({serving}, timeout=GRACE_S + 5)
            await ended({serving})
            await subscription.unsubscribe()

    @asynccontextmanager
    async def site(self) -> AsyncIterator[Site]:
        """Read for viewers and let sessions expire while the block runs; then end all sessions."""
        costs = Costs()
        async with asyncio.TaskGroup() as owner:
            jobs = Jobs(owner)
            live, pictures = Live(self._bus, costs), Pictures(self._bus, costs, jobs)
            site = Site(self._options, self._bus, live, pictures, self._url, costs=costs)
            jobs.start(live.run())
            jobs.start(_expire(site))
            try:
                yield site
            finally:
                await jobs.end(0.0)
                for id in list(site.connections):
                    await api_session.end(site, id)

    def _config(self, app: ASGIApp) -> uvicorn.Config:
        options = self._options
        more: dict[str, Any] = {}
        if options.tls_cert is not None:
            more = {"ssl_certfile": str(options.tls_cert), "ssl_keyfile": str(options.tls_key)}
        bounds = Bounds(CONNECTIONS, OF_ONE, (*LOOPBACK, *options.proxies), body_bytes=BODY_BYTES)
        return uvicorn.Config(
            app,
            http=bounded(bounds),
            loop="none",
            lifespan="off",
            ws="none",
            log_config=None,
            log_level=logging.WARNING,
            access_log=False,
            server_header=False,
            proxy_headers=bool(options.proxies),
            forwarded_allow_ips=list(options.proxies),
            timeout_keep_alive=int(bounds.idle_s),
            timeout_graceful_shutdown=GRACE_S,
            **more,
        )

    async def _on_ping(self, message: Message) -> None:
        answer = {"name": "hams-web", "version": hams_shared.__version__, "metadata": {MACHINE: machine()}}
        await message.respond(json.dumps({**answer, "type": "io.nats.micro.v1.ping_response"}).encode())


async def _expire(site: Site) -> None:
    while True:
        await asyncio.sleep(EXPIRE_S)
        await api_session.expire(site)
