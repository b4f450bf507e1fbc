"""``hams-gateway``: runs a gateway until SIGTERM."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer

from hams_shared.errors import BadInputError
from hams_shared.runtime.lifecycle import run, setup_logging
from hams_shared.runtime.options import Credentials, Debug, address

HTTP, GRPC = "127.0.0.1:8000", "127.0.0.1:8001"

Http = Annotated[
    str, typer.Option(envvar="HAMS_GATEWAY_HTTP", help="Address and port of HTTP; not loopback: needs tokens.")
]
Grpc = Annotated[str, typer.Option(envvar="HAMS_GATEWAY_GRPC", help="Address and port of gRPC; `off`: no gRPC.")]
Nats = Annotated[
    str | None,
    typer.Option("--nats", envvar="HAMS_NATS_URL", help="Broker to use (default: that of the running `hams-ctl up`)."),
]
Tokens = Annotated[
    Path | None,
    typer.Option(
        envvar="HAMS_TOKENS",
        help="File of `hams-ctl token`; clients then need a token. Default: tokens.json in ~/.hams, if there is one.",
    ),
]
Certificate = Annotated[Path | None, typer.Option(help="Certificate chain, PEM: HTTP and gRPC use TLS.")]
Key = Annotated[Path | None, typer.Option(help="Its key, PEM.")]
RootPath = Annotated[str, typer.Option(help="Path below which a proxy serves this, for example /hams.")]
MaxBody = Annotated[float, typer.Option(min=0.001, max=256, help="Largest body of a request, MiB.")]
Origins = Annotated[
    list[str] | None, typer.Option(help="Origin of web pages that may use it, https://x.org; repeat for more.")
]


def command(
    http: Http = HTTP,
    grpc: Grpc = GRPC,
    nats: Nats = None,
    credentials: Credentials = None,
    tokens: Tokens = None,
    tls_cert: Certificate = None,
    tls_key: Key = None,
    root_path: RootPath = "",
    max_body: MaxBody = 32,
    allow_origin: Origins = None,
    debug: Debug = False,
) -> None:
    """Serve deployed groups over HTTP (KServe v2, REST, server-sent events, WebSocket) and gRPC (KServe v2)."""
    setup_logging("gateway", debug=debug)
    addresses = address(http, "--http", HTTP), None if grpc == "off" else address(grpc, "--grpc", HTTP)

    async def serve(stop: asyncio.Event) -> None:
        if tls_key is not None and tls_cert is None:
            raise BadInputError("--tls-key without --tls-cert", "give both, or neither")
        from hams_services.security.tokens import TokenFile, default_path, read

        service = _service()
        if tokens is not None:
            read(tokens)
        options = service.GatewayOptions(
            http=addresses[0],
            grpc=addresses[1],
            tokens=TokenFile(tokens or default_path(), required=tokens is not None),
            nats=nats,
            tls=(tls_cert, tls_key) if tls_cert is not None else None,
            root_path="/" + root_path.strip("/") if root_path.strip("/") else "",
            max_body=int(max_body * 2**20),
            origins=tuple(allow_origin or ()),
        )
        await service.serve(options, stop)

    raise typer.Exit(run(serve, debug=debug, tls=tls_cert is not None))


def _service() -> ModuleType:
    """Return the gateway's shell. Raises BadInputError: the extra is not installed."""
    try:
        from hams_services.gateway import service
    except ModuleNotFoundError as error:
        raise BadInputError(
            f"the gateway needs the package {(error.name or '').partition('.')[0]}",
            "install hams[gateway]: pip install 'hams[gateway]'",
        ) from None
    return service


def main() -> None:
    """Entry point."""
    typer.run(command)


if __name__ == "__main__":
    main()
