"""Command-line options that every HAMS process has, with their environment variables."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from hams_shared.runtime.credentials import VARIABLE

DEFAULT_NATS = "nats://127.0.0.1:4222"

Nats = Annotated[
    str,
    typer.Option("--nats", envvar="HAMS_NATS_URL", help="Broker to use, e.g. nats://box1:4222; several by commas."),
]
Host = Annotated[str | None, typer.Option("--host", envvar="HAMS_HOST", help="This host's name in device ids.")]
Cache = Annotated[
    Path | None,
    typer.Option("--cache", envvar="HAMS_CACHE", help="Folder for what is fetched or made (default: ~/.cache/hams)."),
]
Debug = Annotated[bool, typer.Option("--debug", envvar="HAMS_DEBUG", help="Show tracebacks and debug logs.")]


def _use(path: Path | None) -> Path | None:
    if path is not None:
        os.environ[VARIABLE] = str(path)  # for this process's connections, and for the parts it starts
    return path


Credentials = Annotated[
    Path | None,
    typer.Option(
        "--credentials",
        envvar=VARIABLE,
        callback=_use,
        help="Credentials file from `hams-ctl init`. The connection then uses TLS.",
    ),
]


def address(text: str, option: str | None = None, example: str = "127.0.0.1:9464") -> tuple[str, int]:
    """Split HOST:PORT, the value of `option`. Raises typer.BadParameter, which typer shows with the command's usage."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise typer.BadParameter(f"{text!r} is not HOST:PORT, for example {example}", param_hint=option)
    return host.strip("[]"), int(port)
