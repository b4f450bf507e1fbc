"""A read that hangs is left behind when its stream gets another source: what it does later harms no frame."""

from __future__ import annotations

import threading
import time
from typing import Any

import cv2
import pytest

from hams_services.pipeline import stream
from support.world.stub import StubDevice
from support.world.system import System, light, picture, values


class Late:
    """A source whose second read writes into what it was given once it is released, for a while."""

    def __init__(self, source: Any) -> None:
        self.reads, self.released = threading.Event(), threading.Event()
        self.ended, self.alone = threading.Event(), True
        """Whether the late read has ended; whether nobody else wrote into its memory before that."""
        self._source = source

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def read(self, into: Any = None) -> Any:
        """Read the first frame, whose size is not known before; then hang."""
        if into is None:
            return self._source.read()
        self.reads.set()
        self.released.wait(60)
        for _ in range(200):
            into[:] = 240
            time.sleep(0.002)
            self.alone = self.alone and bool((into == 240).all())
        self.ended.set()
        return None


async def test_a_read_left_behind_writes_into_no_frame_of_another_source(
    world: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Any] = []
    really = stream.open_source

    def open_source(*args: Any) -> Any:
        opened.append(really(*args) if opened else Late(really(*args)))
        return opened[-1]

    monkeypatch.setattr(stream, "open_source", open_source)
    await world.box(a=StubDevice(fps=100))
    for number in (1, 2):
        folder = world.folder / str(number)
        folder.mkdir()
        cv2.imwrite(str(folder / "1.png"), picture(number))
        await world.deploy(light({"source": str(folder), "loop": True, "pace": "max"}))
        await world.until(lambda: opened[0].reads.is_set())
    await world.until(lambda: len(opened) == 2)
    results = await world.listen()
    await world.until(lambda: len(results.received) >= 10)
    opened[0].released.set()
    await world.until(lambda: opened[0].ended.is_set() and len(results.received) >= 300)
    assert set(values(results.received)) == {float(picture(2)[0, 0, 0])}
    assert opened[0].alone
