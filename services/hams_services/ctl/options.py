"""Options that several hams-ctl commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from hams_shared.options import Debug

__all__ = ["Debug", "Devices", "Json", "Nats", "Strategy"]

Nats = Annotated[
    str | None,
    typer.Option("--nats", envvar="HAMS_NATS_URL", help="Broker to use (default: that of the running `hams-ctl up`)."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Strategy = Annotated[str | None, typer.Option("--strategy", "-s", help="Overrides the group file's.")]
Devices = Annotated[
    list[str] | None,
    typer.Option(
        "--device",
        "-d",
        help="A device to serve; repeat for more: openvino:CPU@0, onnxruntime:CUDA:0, openvino:GPU, "
        "emulated:PROFILE.yaml. Without it, what this host has.",
    ),
]
