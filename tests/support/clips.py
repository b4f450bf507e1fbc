"""Frames and events for clips: what a stream of 10 frames/s gives."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from hams_client import Event, Result
from hams_services.sinks.clip_core import Clip, ClipCore, Frame
from hams_shared.wire.messages.events import EventKind
from support.events import event
from support.results import result

FPS = 10
LEVEL = 6


def frame(number: int, *, run: str = "r1", size: int = 100, time: float | None = None) -> Frame:
    """Frame `number` of a run, with a JPEG of `size` bytes."""
    return Frame(run, number, number / FPS if time is None else time, bytes(size))


def at(
    number: int,
    track: int = 1,
    *,
    sequence: int = 0,
    kind: EventKind = "rule",
    captured: float | None = None,
    **more: Any,
) -> Event:
    """An event at frame `number`."""
    more = {"rule": "stays", **more} if kind == "rule" else more
    made = event(kind, track, number=number, media_time_s=number / FPS, **more)
    if captured is not None:
        made = made.model_copy(update={"captured": captured})
    return Event(**made.model_dump(), sequence=sequence or number + 1)


def taken(core: ClipCore, clip: Clip) -> list[int]:
    """The numbers of all frames that a clip has now and did not have before."""
    found = []
    while (one := core.take(clip)) is not None:
        found.append(one.number)
    return found


def shown(
    number: int, *objects: dict[str, Any], run: str = "r1", size: tuple[int, int] = (64, 48)
) -> tuple[Result, bytes]:
    """A result and its picture as they come: grey of value LEVEL × number."""
    made = result(number, number / FPS, *objects, captured=1_700_000_000.0 + number / FPS)
    image = np.full((size[1], size[0], 3), number * LEVEL % 240, np.uint8)
    return Result({**made.data, "run": run}), cv2.imencode(".jpg", image)[1].tobytes()  # type: ignore[typeddict-item]
