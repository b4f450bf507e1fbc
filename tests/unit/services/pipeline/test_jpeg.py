"""Pictures and previews of frames whose sides are longer than those of a JPEG."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Any

import cv2
import numpy as np
import pytest

from hams_services.pipeline.previews import Previews, small_jpeg
from hams_services.pipeline.taps import Taps
from hams_shared.bus.memory.client import InMemoryBus
from hams_shared.bus.protocol import Message
from hams_shared.runtime.clock import SystemClock
from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.pipeline import FramePicture, FramePreview, PreviewWanted
from support.wait import until

LOG = logging.LoggerAdapter(logging.getLogger("hams.pipeline"), {})


def frame(width: int, height: int) -> np.ndarray:
    return np.full((height, width, 3), 90, np.uint8)


async def received(bus: InMemoryBus, subject: str, kind: type[Any]) -> list[Any]:
    """What is published from now on."""
    found: list[Any] = []

    async def take(message: Message) -> None:
        found.append(codec.decode(kind, message.data))

    await bus.subscribe(subject, take)
    return found


@pytest.mark.parametrize("size", [(65_501, 2), (2, 65_501)])
async def test_a_picture_that_jpeg_cannot_hold_is_named_and_left_out(
    size: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    async with InMemoryBus() as bus:
        found = await received(bus, subjects.picture("g", "s"), FramePicture)
        taps = Taps(bus, SystemClock(), "g", "s", ["det"], LOG)
        taps.show(90)
        await taps.publish_picture(0, frame(*size))
        await taps.publish_picture(1, frame(8, 65_500))
        await until(lambda: found)
    assert [one.frame for one in found] == [1]
    assert f"a JPEG cannot have {size[0]}×{size[1]} pixels" in caplog.text


@pytest.mark.parametrize(
    ("size", "small"),
    [((640, 70_000), (599, 65_500)), ((1280, 960), (640, 480)), ((1, 140_000), (1, 65_500)), ((320, 10), (320, 10))],
)
def test_previews_are_bounded_in_both_directions(size: tuple[int, int], small: tuple[int, int]) -> None:
    jpeg, _ = small_jpeg(frame(*size), 640, 80)
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    assert (image.shape[1], image.shape[0]) == small


async def test_a_preview_that_cannot_be_made_ends_no_stream(caplog: pytest.LogCaptureFixture) -> None:
    dropped: list[int] = []
    async with InMemoryBus() as bus:
        found = await received(bus, subjects.preview("g", "s"), FramePreview)
        previews = Previews(bus, SystemClock(), "g", "s", LOG)
        previews.want(PreviewWanted(stream="s", fps=1, width=640, quality=80))
        running = asyncio.create_task(previews.run(dropped.append))
        for number, pixels in enumerate((frame(0, 0), frame(64, 48))):
            previews.offer(number, pixels, b"")
            await until(partial(dropped.__contains__, number))
        await until(lambda: found)
        assert not running.done()
        running.cancel()
    assert dropped == [0, 1]
    assert [one.frame for one in found] == [1]
    assert "stream s: no preview of frame 0" in caplog.text
