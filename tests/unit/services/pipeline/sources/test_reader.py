"""The thread of a source."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from hams_services.pipeline.sources import reader as module
from hams_services.pipeline.sources.base import Picture
from hams_services.pipeline.sources.files import Video
from hams_services.pipeline.sources.reader import Reader
from hams_shared.errors import SourceError
from support.media import cut, every, number_of, video
from support.sources import opened
from support.wait import until


async def test_a_call_that_hangs_holds_up_only_its_own_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STOP_S", 0.2)
    begun, hung, closed = threading.Event(), threading.Event(), threading.Event()

    class Hanging(Video):
        def __init__(self) -> None: ...

        def read(self, into: object = None) -> None:
            begun.set()
            hung.wait(30)

        def close(self) -> None:
            closed.set()

    reader = Reader("test")
    await reader.open(Hanging)
    reading = asyncio.create_task(reader.read())
    assert await asyncio.to_thread(begun.wait, 10)
    reading.cancel()
    start, ends = asyncio.get_running_loop().time(), list[bool]()
    reader.when_ended(lambda: ends.append(closed.is_set()))
    await reader.stop()
    assert 0.15 <= asyncio.get_running_loop().time() - start < 25
    assert not closed.is_set()
    assert ends == []  # it may still write into the memory that it was given
    hung.set()  # at last
    assert await asyncio.to_thread(closed.wait, 10)  # it is closed all the same
    await until(lambda: ends)
    reader.when_ended(lambda: ends.append(True))
    assert ends == [True, True]
    await reader.stop()


async def test_sources_are_opened_read_and_closed_in_turn(tmp_path: Path) -> None:
    whole = video(tmp_path / "whole.avi", every(0.04, 30), codec="mjpeg", pixel_format="yuvj420p", noise=20, ticks=25)
    short = cut(whole)
    reader = Reader("test")
    numbers = []
    try:
        source = await reader.open(lambda: opened(short))
        assert source.fps == 25
        with pytest.raises(SourceError, match=r"truncated or corrupt: it ends after \d+ frames"):
            while shots := await reader.read([None, None, None]):
                numbers += [number_of(shot.pixels) for shot in shots]
        assert numbers[:-1] == list(range(len(numbers) - 1))
        await reader.open(lambda: opened(whole))  # closes the one before
        for _ in range(2):
            for number in range(0, 30, 2):
                shots = await reader.read([None, None])
                assert [number_of(shot.pixels) for shot in shots] == [number, number + 1]
            assert await reader.read() == []
            await reader.rewind()
        assert reader.cpu_s > 0
    finally:
        await reader.stop()


@pytest.mark.parametrize("endless", [False, True])
async def test_how_long_a_frame_took_is_told_where_that_is_asked_for(endless: bool) -> None:
    """Of a live source it is the CPU time: the camera is waited for."""

    class Slow(Video):
        def __init__(self) -> None:
            self.endless = endless

        def read(self, into: object = None) -> Picture:
            time.sleep(0.05)
            return Picture(np.zeros((1, 1, 3), np.uint8))

        def close(self) -> None: ...

    reader = Reader("test")
    try:
        await reader.open(Slow)
        [untold] = await reader.read()
        reader.timed = True
        told = await reader.read([None, None])
    finally:
        await reader.stop()
    assert untold.read_s is None
    assert all((picture.read_s < 0.045) == endless for picture in told if picture.read_s is not None)
    assert not any(picture.read_s is None for picture in told)
