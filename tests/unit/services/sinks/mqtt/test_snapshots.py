"""Pictures of events: bounded in pixels and bytes, with results drawn in, and taken only when something happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import cv2
import numpy as np
import pytest

from hams_client import Result
from hams_services.sinks.mqtt.core import BridgeCore
from hams_services.sinks.mqtt.snapshots import BYTES, SIZE, Snapshots, snapshot
from hams_services.sinks.mqtt.topics import Topics
from hams_shared.bus.memory.client import InMemoryBus
from hams_shared.bus.memory.server import MemoryServer
from hams_shared.bus.protocol import Message
from hams_shared.runtime.lifecycle import ended
from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.pipeline import FramePicture, PipelineView
from support.mqtt_site import happened, scheduler_view, stream_view, yard
from support.results import result
from support.wait import until

PERSON = {"box": [100.0, 50.0, 200.0, 300.0], "score": 0.9, "label": "person", "track": 3}


def made(frame: int = 0, stream: str = "s0") -> Result:
    return result(frame, 0.0, PERSON, stream=stream)


@pytest.mark.parametrize("size", [(48, 64), (480, 640), (2160, 3840), (3000, 200)])
def test_a_picture_is_small(size: tuple[int, int]) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (*size, 3)).astype(np.uint8)  # the worst for JPEG
    jpeg = snapshot(made(), noise, {})
    assert jpeg is not None
    assert len(jpeg) <= BYTES
    found = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert found is not None
    assert max(found.shape[:2]) <= SIZE


def test_results_and_zones_are_drawn() -> None:
    grey = np.full((480, 640, 3), 90, np.uint8)
    spec = yard()
    plain = snapshot(result(0, 0.0), grey, {})
    box = snapshot(made(), grey, {})
    zone = snapshot(made(stream="cam"), grey, spec.streams)
    assert len({plain, box, zone}) == 3


@asynccontextmanager
async def pipeline(bus: InMemoryBus, found: dict[str, Any] = PERSON) -> AsyncIterator[list[int]]:
    """Answers requests for pictures with frames, as a pipeline does; the list has the requests."""
    asked: list[int] = []

    async def wanted(_: Message) -> None:
        asked.append(len(asked))

    async def play() -> None:
        for number in range(10**6):
            if asked:
                jpeg = cv2.imencode(".jpg", np.full((48, 64, 3), 90, np.uint8))[1].tobytes()
                picture = FramePicture(stream="cam", frame=number, jpeg=jpeg)
                await bus.publish(subjects.picture("yard", "cam"), codec.encode(picture))
                data = {**result(number, 0.0, found, stream="cam").data, "group": "yard"}
                await bus.publish(subjects.result("yard", "cam"), codec.pack_json(data))
            await asyncio.sleep(0.01)

    await bus.subscribe(subjects.pictures_wanted("yard"), wanted)
    playing = asyncio.create_task(play())
    try:
        yield asked
    finally:
        await ended([playing])


async def test_what_cannot_be_drawn_does_not_end_the_bridge(caplog: pytest.LogCaptureFixture) -> None:
    core = BridgeCore(Topics(), kinds=("rule",))
    core.look(scheduler_view(yard()), PipelineView(streams=(stream_view(),)), 0.0)
    found = {**PERSON, "box": [5.0, 5.0, 40.0, 40.0], "own": {"score": 10**400}}
    async with InMemoryBus(MemoryServer()) as bus, pipeline(bus, found):
        snapshots = Snapshots(bus, core)
        running = asyncio.create_task(snapshots.run(lambda: None))
        snapshots.ask(happened("rule", 1, rule="stays"))
        await until(lambda: "no picture of yard/cam" in caplog.text or running.done(), what="a failure")
        assert not running.done()
        await ended([running])
    assert "OverflowError" in caplog.text


async def test_a_picture_is_taken_when_something_happens() -> None:
    core = BridgeCore(Topics(), kinds=("rule",))
    core.look(scheduler_view(yard()), PipelineView(streams=(stream_view(),)), 0.0)
    taken = asyncio.Event()
    async with InMemoryBus(MemoryServer()) as bus, pipeline(bus) as asked:
        snapshots = Snapshots(bus, core)
        running = asyncio.create_task(snapshots.run(taken.set))
        old = happened("rule", 1, rule="stays").model_copy(update={"captured": 1.0})
        snapshots.ask(old)  # read after a pause: what it shows is over
        with suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                await taken.wait()
        assert not asked
        snapshots.ask(happened("rule", 1, rule="stays"))
        async with asyncio.timeout(30):
            await taken.wait()
        first = core.desired(0.0)["hams/yard/cam/snapshot"]
        assert cv2.imdecode(np.frombuffer(first, np.uint8), cv2.IMREAD_COLOR) is not None
        requests = len(asked)
        snapshots.ask(happened("rule", 2, rule="stays"))  # at once after the first: no other picture
        await asyncio.sleep(0)
        assert len(asked) == requests
        await ended([running])


def test_which_events_have_pictures() -> None:
    core = BridgeCore(Topics())
    assert core.wants_picture(happened("rule", 1, rule="stays"))
    assert core.wants_picture(happened("zone_entered", 1, zone="entrance"))
    assert not core.wants_picture(happened("new", 1))
    assert not BridgeCore(Topics(), snapshots=False).wants_picture(happened("rule", 1))
