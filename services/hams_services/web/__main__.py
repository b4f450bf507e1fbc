"""``hams-web``: serves the page until SIGTERM."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hams_shared.errors import BadInputError
from hams_shared.runtime.lifecycle import run, setup_logging
from hams_shared.runtime.listen import check_tls, listening
from hams_shared.runtime.options import DEFAULT_NATS, Credentials, Debug, Nats

if TYPE_CHECKING:
    from hams_services.web.options import WebOptions

Folders = Annotated[
    list[Path] | None,
    typer.Option(help="Folder whose files group files of the page may name (several times); default: none."),
]
UploadMib = Annotated[int, typer.Option(min=1, max=2048, help="Largest network that people may upload, MiB.")]


def command(
    listen: Annotated[
        str, typer.Option(envvar="HAMS_WEB_LISTEN", help="HOST:PORT to serve the page on.")
    ] = "127.0.0.1:8090",
    nats: Nats = DEFAULT_NATS,
    credentials: Credentials = None,
    root_path: Annotated[
        str,
        typer.Option(envvar="HAMS_WEB_ROOT_PATH", help="Folder of the page's address behind a reverse proxy: /hams."),
    ] = "",
    public_view: Annotated[
        bool, typer.Option("--public-view", help="Everybody who reaches the page may view it without login.")
    ] = False,
    behind_proxy: Annotated[
        str,
        typer.Option(
            envvar="HAMS_WEB_BEHIND_PROXY",
            help="Addresses or networks, by commas, of the reverse proxy that ends TLS; its X-Forwarded-* is believed.",
        ),
    ] = "",
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate (PEM) to serve the page by https.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key (PEM).")] = None,
    files: Folders = None,
    upload_mib: UploadMib = 512,
    debug: Debug = False,
) -> None:
    """Serve the page of HAMS: overview, placement, timeline, deploy, optimizer. Needs the extra `web`."""
    setup_logging("web", debug=debug)

    async def main(stop: asyncio.Event) -> None:
        from hams_services.web.options import WebOptions, listen_address, prefix
        from hams_shared.runtime.credentials import of_environment

        host, port = listen_address(listen)
        proxies = tuple(part.strip() for part in behind_proxy.split(",") if part.strip())
        secured = of_environment() is not None
        where = (host, port, prefix(root_path), secured, public_view, proxies, tls_cert, tls_key)
        await _serve(WebOptions(*where, tuple(files or ()), upload_mib), nats, stop)

    raise typer.Exit(run(main, debug=debug))


async def _serve(options: WebOptions, nats: str, stop: asyncio.Event) -> None:
    """Serve until `stop` is set. Raises BadInputError for options that do not go together."""
    from hams_services.web.options import check
    from hams_shared.bus.nats.client import NatsBus

    check(options)
    try:
        from hams_services.web.service import WebService
    except ImportError as error:
        raise BadInputError(
            f"the page needs packages that are not installed: {error.name}", "install hams[web]"
        ) from None
    if options.tls_cert is not None and options.tls_key is not None:
        check_tls(options.tls_cert, options.tls_key)
    sock = listening(options.host, options.port, dual_stack=True)
    options = dataclasses.replace(options, port=sock.getsockname()[1])
    async with NatsBus(nats, name="hams-web") as bus:
        await WebService(bus, nats, options).run(stop, sock)


def main() -> None:
    """Entry point."""
    typer.run(command)


if __name__ == "__main__":
    main()
