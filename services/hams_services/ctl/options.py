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


UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def duration_s(text: str) -> float:
    """Return a duration such as 90s, 10m, 2h or 1d in seconds; without a unit it is seconds.

    Raises typer.BadParameter.
    """
    number, unit = (text[:-1], text[-1]) if text[-1:] in UNITS_S else (text, "s")
    if not number.replace(".", "", 1).isdecimal() or not number.isascii():
        raise typer.BadParameter(f"{text!r} is not a duration, for example 90s, 10m, 2h or 1d")
    return float(number) * UNITS_S[unit]


def check_duration(text: str | None) -> str | None:
    """Check a duration, as the callback of an option."""
    if text is not None:
        duration_s(text)
    return text


def kinds_of(text: str | None) -> tuple[str, ...]:
    """Return the kinds of events in `text`, separated by commas; None: all. Raises typer.BadParameter."""
    from hams_shared.wire.messages.events import EventKind  # 0.1 s, with pydantic

    known = get_args(EventKind)
    kinds = known if text is None else tuple(part.strip() for part in text.split(","))
    for kind in kinds:
        if kind not in known:
            raise typer.BadParameter(f"there is no kind of event {kind!r}; there are {', '.join(known)}")
    return kinds


def check_kinds(text: str | None) -> str | None:
    """Check kinds of events, as the callback of an option."""
    if text is not None:
        kinds_of(text)
    return text
