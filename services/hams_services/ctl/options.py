"""Options that several hams-ctl commands share."""

from __future__ import annotations

from typing import Annotated, get_args

import typer

from hams_shared.runtime.options import Debug, address

__all__ = ["EACH", "Debug", "Devices", "GroupName", "Json", "Nats", "Strategy", "Timeout", "Wait"]

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
Wait = Annotated[bool, typer.Option(help="Wait until the group serves.")]
Timeout = Annotated[float, typer.Option(min=1, help="Seconds to wait.")]
Devices = Annotated[
    list[str] | None,
    typer.Option(
        "--device",
        "-d",
        help="A device to serve; repeat for more: openvino:CPU@0, onnxruntime:CUDA:0, openvino:GPU, "
        "emulated:PROFILE.yaml, BACKEND:TARGET of a plug-in. Default: all devices of this host.",
    ),
]


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


def share(text: str) -> float:
    """Return a share of the frames such as 10% or 0.1. Raises typer.BadParameter."""
    number, whole = (text[:-1], 100.0) if text.endswith("%") else (text, 1.0)
    try:
        found = float(number) / whole
    except ValueError:
        found = 0.0
    if not 0.0 < found <= 1.0:
        raise typer.BadParameter(f"{text!r} is not a share of the frames, for example 10%, 2.5% or 0.1")
    return found


def check_share(text: str | None) -> str | None:
    """Check a share of the frames, as the callback of an option."""
    if text is not None:
        share(text)
    return text


def kinds_of(text: str | None) -> tuple[str, ...]:
    """Return the kinds of events in `text`, separated by commas; None: all. Raises typer.BadParameter."""
    from hams_shared.wire.messages.events import EventKind  # 0.1 s, with pydantic

    return _kinds(text, get_args(EventKind), "event")


def history_kinds_of(text: str | None) -> tuple[str, ...]:
    """Return the kinds of entries of the history in `text`, as :func:`kinds_of` does."""
    from hams_shared.wire.messages.history import HistoryKind

    return _kinds(text, get_args(HistoryKind), "entry")


def _kinds(text: str | None, known: tuple[str, ...], what: str) -> tuple[str, ...]:
    kinds = known if text is None else tuple(part.strip() for part in text.split(","))
    for kind in kinds:
        if kind not in known:
            raise typer.BadParameter(f"there is no kind of {what} {kind!r}; there are {', '.join(known)}")
    return kinds


def check_kinds(text: str | None) -> str | None:
    """Check kinds of events, as the callback of an option."""
    if text is not None:
        kinds_of(text)
    return text


def check_history_kinds(text: str | None) -> str | None:
    """Check kinds of entries of the history, as the callback of an option."""
    if text is not None:
        history_kinds_of(text)
    return text
