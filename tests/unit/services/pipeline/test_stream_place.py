"""The bookmarks of a file stream are bounded by the frames under way, whatever becomes of the frames read."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hams_services.pipeline.core import StreamCore
from hams_services.pipeline.flight import Send
from hams_services.pipeline.media_time import MediaTime
from hams_services.pipeline.stream_place import StreamPlace
from support.build import group_spec, output, plan

FRAMES = 10_000
SPEC = group_spec(nodes=("det",))
FPS = 25.0


def place_of(core: StreamCore) -> StreamPlace:
    core.route(plan(1, {"det": "h.b.one"}, SPEC), (), 0.0)
    flow = SimpleNamespace(core=core, series="r1")
    place = StreamPlace(cast("Any", flow), lambda: "file", lambda: False)
    place._identity = "film"
    return place


def answered(core: StreamCore, frame: int) -> None:
    """The frame is computed; its result waits to be published."""
    for command in core.submit(0.0, 0.0)[1]:
        assert isinstance(command, Send)
        core.output(output(command.id, "det", [[]], [0]), 0.0)


def published(core: StreamCore, frame: int) -> None:
    answered(core, frame)
    core.published(0.0)


def silent(core: StreamCore, frame: int) -> None:
    """No device answers: a newer frame replaces the one that waits."""
    core.submit(0.0, 0.0)


def still(core: StreamCore, frame: int) -> None:
    """The broker is away: one result waits for it. Nothing moves any more: no frame needs the window."""
    if frame < 40:
        published(core, frame)
    elif frame == 40:
        answered(core, frame)
    else:
        core.leave_out(frame / FPS)


@pytest.mark.parametrize(
    ("lossless", "step", "goes_on"),
    [
        (False, published, FRAMES),
        (False, silent, 0),
        (False, still, 40),
        (True, published, FRAMES),  # the broker is away, or slow: nobody asks for the position
        (True, still, 40),
    ],
)
def test_bookmarks_are_bounded(lossless: bool, step: Callable[[StreamCore, int], None], goes_on: int) -> None:
    core = StreamCore("cam", lossless=lossless, window=4, deadline_s=1e9)
    place, media, most = place_of(core), MediaTime(1 / FPS), 0
    for frame in range(FRAMES):
        media.next(frame / FPS, 0.0)
        assert place.read(frame / FPS, media)
        step(core, frame)
        most = max(most, len(place.bookmarks._marks))
    assert most <= 64
    core.validate()
    core.lossless = True  # a live stream may become lossless
    position = place.position()
    assert position is not None
    assert position.frame == goes_on
    if goes_on:
        assert position.mark is not None
        assert (position.mark.index, position.mark.at) == (goes_on, (goes_on - 1) / FPS)
    else:
        assert position.mark is None
