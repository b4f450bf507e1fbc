"""Options that several hams-ctl commands share."""

from __future__ import annotations

from typing import Annotated, get_args

import typer

from hams_shared.runtime.options import Debug

__all__ = ["EACH", "Debug", "Devices", "GroupName", "Json", "Nats", "Strategy"]

EACH = "remove:each"
"""The what-if question that asks about the loss of each device."""

GroupName = Annotated[str, typer.Argument(help="The group's name.")]

Nats = Annotated[
    str | None,
    typer.Option("--nats", envvar="HAMS_NATS_URL", help="Broker to use (default: that of the running `hams-ctl up`)."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Strategy = Annotated[
    str | None,
    typer.Option(
        "--strategy",
        "-s",
        help="Strategy to use instead of the one in the group file.",
        callback=lambda text: check_strategy(text),
    ),
]
Devices = Annotated[
    list[str] | None,
    typer.Option(
        "--device",
        "-d",
        help="A device to serve; repeat for more: openvino:CPU@0, onnxruntime:CUDA:0, openvino:GPU, "
        "emulated:PROFILE.yaml. Default: all devices of this host.",
    ),
]


def address(text: str) -> tuple[str, int]:
    """Split HOST:PORT. Raises typer.BadParameter, which typer shows with the command's usage."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise typer.BadParameter(f"{text!r} is not HOST:PORT, for example 127.0.0.1:9464")
    return host.strip("[]"), int(port)


def check_strategy(text: str | None) -> str | None:
    """Check a strategy, as the callback of an option."""
    if text is None:
        return None
    from hams_shared.group.spec import StrategyName  # 0.1 s, with pydantic

    known = get_args(StrategyName)
    if text not in known:
        raise typer.BadParameter(f"there is no strategy {text!r}; there are {', '.join(known)}")
    return text


def check_address(text: str | None) -> str | None:
    """Check HOST:PORT, as the callback of an option."""
    if text is not None:
        address(text)
    return text
