"""The gateway's shell: the broker on one side, servers of HTTP and gRPC on the other."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from hams_client import Hams, connect
from hams_services.gateway.app import make_app
from hams_services.gateway.directory import Directory
from hams_services.gateway.endpoints import Api
from hams_services.gateway.guard import Guard, check_listen
from hams_services.gateway.hub import Hub
from hams_services.gateway.inference import Inference
from hams_services.gateway.kserve import grpc
from hams_services.gateway.limits import MAX_BODY, Admission
from hams_services.gateway.web_server import GRACE_S, server
from hams_services.security.tokens import TokenFile
from hams_shared.runtime.listen import check_tls, host_port, listening

log = logging.getLogger("hams.gateway")

Address = tuple[str, int]


@dataclass(frozen=True)
class GatewayOptions:
    """Where and how the gateway serves."""

    http: Address
    grpc: Address | None
    tokens: TokenFile
    nats: str | None = None
    tls: tuple[Path, Path | None] | None = None
    """Certificate and key."""
    root_path: str = ""
    max_body: int = MAX_BODY
    origins: tuple[str, ...] = ()


def make_api(hams: Hams, options: GatewayOptions) -> Api:
    """Return what the servers work with."""
    directory = Directory(hams)
    return Api(
        directory=directory,
        inference=Inference(hams, directory),
        hub=Hub(hams),
        guard=Guard(options.tokens, options.origins),
        admission=Admission(),
        events=hams.events,
        max_body=options.max_body,
        root_path=options.root_path,
    )


async def serve(options: GatewayOptions, stop: asyncio.Event) -> None:
    """Serve until `stop` is set; then what is under way has `GRACE_S` to end.

    Raises:
        BadInputError: an address, or the certificate, cannot be used.
        BrokerError: no broker answers.
    """
    check_listen("--http", options.http[0], options.tokens)
    if options.grpc is not None:
        check_listen("--grpc", options.grpc[0], options.tokens)
    certificate, key = options.tls or (None, None)
    if certificate is not None and key is not None:
        check_tls(certificate, key)
    async with AsyncExitStack() as stack:
        listener = stack.enter_context(listening(*options.http, option="--http"))
        hams = await stack.enter_async_context(connect(options.nats))
        api = make_api(hams, options)
        web = server(make_app(api, options.origins), certificate, key)
        where = f"{'https' if certificate else 'http'}://{host_port(*listener.getsockname()[:2])}{options.root_path}"
        rpc = None
        if options.grpc is not None:
            rpc = grpc.server(api)
            port = grpc.listen(rpc, *options.grpc, certificate, key)
            await rpc.start()
            where += f", gRPC at {host_port(options.grpc[0], port)}"
        serving = asyncio.create_task(web.serve([listener]), name="HTTP")
        stack.push_async_callback(_end, web, serving, api, rpc)
        log.info("the gateway is ready: %s%s", where, "" if options.tokens.used else ", without tokens")
        stopped = asyncio.create_task(stop.wait())
        stack.callback(stopped.cancel)
        await asyncio.wait({serving, stopped}, return_when=asyncio.FIRST_COMPLETED)


async def _end(web: object, serving: asyncio.Task[None], api: Api, rpc: object) -> None:
    """Take no more, let what is under way end, and end."""
    api.hub.close()
    web.should_exit = True  # type: ignore[attr-defined]
    await asyncio.gather(serving, rpc.stop(GRACE_S) if rpc is not None else asyncio.sleep(0))  # type: ignore[attr-defined]
