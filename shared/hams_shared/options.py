"""Command-line options that every HAMS process has, with their environment variables."""

from __future__ import annotations

from typing import Annotated

import typer

DEFAULT_NATS = "nats://127.0.0.1:4222"

Nats = Annotated[
    str,
    typer.Option("--nats", envvar="HAMS_NATS_URL", help="Broker to use, e.g. nats://box1:4222; several by commas."),
]
Debug = Annotated[bool, typer.Option("--debug", envvar="HAMS_DEBUG", help="Show tracebacks and debug logs.")]
